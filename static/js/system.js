// The system page and the activity page.

import { fill, list, logRow } from './camera.js';
import { h, stateLine } from './dom.js';
import { ago, bitrate, duration, exactTime, number, percent, sentence, timeOf } from './format.js';
import { text } from './text.js';

const words = text.system;
const REFRESH_MS = 5_000;
const LEAST_AVERAGED_S = 60;

export class SystemPage {
  node;
  #store;
  #api;
  #session;
  #parts = {};
  #timer;
  #load = [];
  #over = new AbortController();

  constructor({ store, api, session }) {
    this.#store = store;
    this.#api = api;
    this.#session = session;
    const parts = this.#parts;
    for (const name of ['reasons', 'facts', 'sources', 'dropped']) parts[name] = h('div', { class: `box-body ${name}` });
    this.node = h('div', { class: 'camera-page' }, h('h1', { tabindex: '-1' }, words.title),
      // Shown when it is filled, so that nothing jumps.
      h('div', { class: 'columns two', hidden: true },
        h('div', { class: 'column' }, h('section', { class: 'box' }, h('h2', {}, words.facts), parts.reasons, parts.facts)),
        h('div', { class: 'column needs-admin needs-all' }, h('section', { class: 'box' }, h('h2', {}, words.sources), h('p', { class: 'quiet' }, words.sourcesHint), parts.sources),
          h('section', { class: 'box' }, h('h2', {}, words.dropped), h('p', { class: 'quiet' }, words.droppedHint), parts.dropped))));
    store.addEventListener('change', () => this.#draw(), { signal: this.#over.signal });
    this.#draw();
    this.#refresh();
  }

  close() {
    this.#over.abort();
    clearTimeout(this.#timer);
  }

  #draw() {
    const { health, error, cameras } = this.#store;
    const { reasons, facts } = this.#parts;
    if (error) return reasons.replaceChildren(stateLine('unreachable', sentence(error.message)));
    if (!health) return reasons.replaceChildren(stateLine('connecting', text.health.asking));
    reasons.replaceChildren(...(health.reasons?.length ? health.reasons.map((reason) => stateLine('degraded', sentence(reason))) : [stateLine('healthy', words.fine)]));
    const total = [...cameras.values()].reduce((sum, camera) => sum + (camera.streamInfo?.media?.bitrate ?? 0), 0);
    facts.replaceChildren(list([
      [words.version, health.version],
      [words.engine, health.kurento_connected ? words.up : words.down],
      [words.broker, health.mqtt_connected ? words.connected : words.notConnected],
      [words.streams, number(health.active_streams)], [words.viewers, number(health.total_viewers)], [words.bitrate, bitrate(total)],
      [words.known, number(health.cameras_known ?? cameras.size)], [words.onlineNow, health.cameras_online],
      [words.store, storeWords(health.camera_store)],
      [words.tls, health.certificate && (health.certificate.failure ? words.tlsFailed(health.certificate.failure) : words.tlsReloads(exactTime(health.certificate.loaded_at), health.certificate.reloads))],
      [words.tlsUntil, health.certificate?.not_after && `${exactTime(health.certificate.not_after)} (${ago(health.certificate.not_after)})`],
      ...this.#load,
      [words.checked, timeOf(health.timestamp)],
    ]));
    return undefined;
  }

  // Of the process. Its processor time is counted in whole seconds: a share of a short time would be none.
  async #measure(signal) {
    const metrics = await this.#api.metrics(signal).catch(() => null);
    if (!metrics || signal.aborted) return;
    const { process_cpu_seconds_total: used, process_resident_memory_bytes: bytes, process_start_time_seconds: start, process_open_fds: files } = metrics;
    const now = Date.now() / 1000;
    this.#load = [
      [words.uptime, Number.isFinite(start) ? duration(now - start) : null],
      [words.cpu, now - start > LEAST_AVERAGED_S ? words.ofCore(percent(used / (now - start))) : null],
      [words.memory, Number.isFinite(bytes) ? `${number(Math.round(bytes / 2 ** 20))} MiB` : null],
      [words.files, Number.isFinite(files) ? number(files) : null],
    ];
    this.#draw();
  }

  async #refresh() {
    const { signal } = this.#over;
    const { role, all_cameras: all } = await this.#session;
    if (all) await this.#measure(signal);
    // Not everybody is told of strangers.
    if (role === 'admin' && all) await this.#drawSources(signal);
    if (signal.aborted) return;
    await this.#store.known;
    this.node.querySelector('.columns').hidden = false;
    this.#timer = setTimeout(() => this.#refresh(), REFRESH_MS);
  }

  async #drawSources(signal) {
    try {
      const [{ sources, dropped }] = await Promise.all([this.#api.sources(signal), this.#store.known]);
      const row = (source) => h('tr', {}, h('td', {}, source.address), h('td', {}, reasonWords(source.reason)), h('td', { class: 'number' }, number(source.packets)),
        h('td', {}, h('time', { datetime: source.last_seen, title: exactTime(source.last_seen) }, timeOf(source.last_seen))),
        h('td', {}, source.nearest_camera_id ? h('a', { href: `#/camera/${source.nearest_camera_id}` }, this.#store.cameras.get(source.nearest_camera_id)?.name || source.nearest_camera_id.slice(0, 8)) : '–'));
      const heads = [words.source.address, words.source.reason, words.source.packets, words.source.last, words.source.camera];
      this.#parts.sources.replaceChildren(sources.length === 0 ? h('p', { class: 'quiet' }, words.sourcesNone)
        : h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': words.sources },
          h('table', {}, h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))), h('tbody', {}, sources.map(row)))));
      const some = Object.entries(dropped).filter(([, count]) => count > 0);
      this.#parts.dropped.replaceChildren(some.length === 0 ? h('p', { class: 'quiet' }, words.droppedNone) : list(some.map(([reason, count]) => [reasonWords(reason), number(count)])));
    } catch {
      // That the server is away is said by the store.
    }
  }
}

function reasonWords(reason) {
  return words.reasons[reason] ?? reason.replaceAll('_', ' ');
}

function storeWords(store) {
  if (!store) return words.storeMemory;
  if (store.last_failure) return words.storeFailed(store.last_failure);
  return store.unsaved ? words.storePending : words.storeFine;
}

// Of so many cameras, those that reported last, more than the last event is asked for.
const ASKED_CAMERAS = 16;
const SHOWN_EVENTS = 100;

/** The last events of all cameras, the newest first. */
export class ActivityPage {
  node;
  #store;
  #api;
  #list = h('div', { class: 'box-body' });
  // By camera: what it has reported, where that was asked for.
  #events = new Map();
  #over = new AbortController();

  constructor({ store, api }) {
    this.#store = store;
    this.#api = api;
    this.node = h('div', { class: 'camera-page' }, h('h1', { tabindex: '-1' }, text.activity.title), h('p', { class: 'quiet' }, text.activity.live), h('section', { class: 'box' }, this.#list));
    const { signal } = this.#over;
    store.addEventListener('change', () => this.#draw(), { signal });
    store.addEventListener('event', ({ detail }) => { if (detail.what === 'activity') this.#ask([detail.camera_id]); }, { signal });
    store.known.then(() => this.#ask(this.#latest().slice(0, ASKED_CAMERAS).map((camera) => camera.camera_id)));
    this.#draw();
  }

  close() {
    this.#over.abort();
  }

  #latest() {
    return [...this.#store.cameras.values()].filter((camera) => camera.last_activity)
      .sort((one, other) => other.last_activity.received_at.localeCompare(one.last_activity.received_at));
  }

  async #ask(ids) {
    const { signal } = this.#over;
    await Promise.all(ids.map(async (id) => {
      const camera = await this.#api.camera(id, signal).catch(() => null);
      if (camera?.events) this.#events.set(id, camera.events);
    }));
    if (!signal.aborted) this.#draw();
  }

  #draw() {
    if (!this.#store.loaded) return;
    const rows = this.#latest().flatMap((camera) => (this.#events.get(camera.camera_id) ?? [camera.last_activity]).map((event) => ({ ...event, camera })))
      .sort((one, other) => other.received_at.localeCompare(one.received_at)).slice(0, SHOWN_EVENTS)
      .map(({ received_at: at, activity_type: type, confidence, camera }) => {
        const row = logRow(at, type.charAt(0).toUpperCase() + type.slice(1), '', typeof confidence === 'number' ? text.camera.sure(confidence) : '', 'none');
        row.append(h('a', { href: `#/camera/${camera.camera_id}` }, camera.name || camera.camera_id));
        return row;
      });
    fill(this.#list, text.activity.title, rows, text.activity.none);
  }
}
