// The page of one camera: picture, facts, codec doctor, feedback, the last hour, what happened, name and notes.

import { Chart } from './charts.js';
import { h, isCameraId, setText, stateLine } from './dom.js';
import { ago, bitrate, duration, exactTime, milliseconds, number, percent, sentence, timeOf } from './format.js';
import { Tile, nameOf, onlineWords, pictureState } from './tile.js';
import { text } from './text.js';

const words = text.camera;
const REFRESH_MS = 5_000;
const GATHER_MS = 150;
// What a camera said of the time since its start was true then.
const REPORT_FRESH_MS = 120_000;

export class CameraPage {
  node;
  #id;
  #store;
  #api;
  #config;
  #parts = {};
  #charts;
  #tile = null;
  #timer;
  #over = new AbortController();
  #onTitle;

  constructor({ id, store, api, config, onTitle }) {
    this.#id = id;
    this.#store = store;
    this.#api = api;
    this.#config = config;
    this.#onTitle = onTitle;
    this.#charts = [
      new Chart({ name: words.charts.bitrate, get: (point) => point.bitrate, format: bitrate, least: 1e5 }),
      new Chart({ name: words.charts.loss, get: (point) => point.loss, format: percent, least: 0.01 }),
      new Chart({ name: words.charts.jitter, get: (point) => point.jitter_ms, format: (value) => (value === 0 ? '0 ms' : milliseconds(value)), least: 10 }),
      new Chart({ name: words.charts.remb, get: (point) => point.remb_kbps * 1000, format: bitrate, least: 1e5 }),
      new Chart({ name: words.charts.viewers, get: (point) => point.viewers, format: (value) => number(value), least: 2 }),
    ];
    this.#build();
    const { signal } = this.#over;
    store.addEventListener('change', () => this.#drawTile(), { signal });
    store.addEventListener('event', ({ detail }) => {
      if (detail.camera_id === id) this.#plan(GATHER_MS);
    }, { signal });
    window.addEventListener('pagehide', () => this.#tile?.leave(), { signal });
    document.addEventListener('visibilitychange', () => {
      this.#tile?.show(true, 'always');
      if (!document.hidden) this.#refresh();
    }, { signal });
    this.#drawTile();
    this.#refresh();
  }

  /** The picture's connection, for another of the same camera. */
  give(id) {
    return id === this.#id ? this.#tile?.give() ?? null : null;
  }

  /** Another page is shown. */
  close() {
    this.#over.abort();
    clearTimeout(this.#timer);
    this.#tile?.leave();
  }

  #build() {
    const parts = this.#parts;
    parts.title = h('h1', { tabindex: '-1', class: 'id' }, this.#id);
    parts.notice = h('p', { class: 'notice', role: 'alert', hidden: true });
    parts.picture = h('ul', { class: 'tiles single' });
    for (const name of ['facts', 'doctor', 'feedback', 'changes', 'events', 'viewers']) parts[name] = h('div', { class: 'box-body' });
    parts.charts = h('div', { class: 'charts' }, this.#charts.map((chart) => chart.node));
    parts.chartsNone = h('p', { class: 'quiet' }, words.historyNone);
    parts.name = h('input', { id: 'label-name', maxlength: '100', autocomplete: 'off' });
    parts.notes = h('textarea', { id: 'label-notes', rows: '3' });
    parts.saved = h('p', { class: 'quiet', role: 'status' });
    const form = h('form', { class: 'box-body labels needs-control', onsubmit: (event) => this.#save(event), oninput: () => { parts.form.dataset.touched = 'true'; setText(parts.saved, ''); } },
      h('label', { for: 'label-name', class: 'field-label' }, words.name), parts.name,
      h('label', { for: 'label-notes', class: 'field-label' }, words.notes), parts.notes,
      h('div', { class: 'actions' }, h('button', { type: 'submit', class: 'primary' }, words.save), parts.saved));
    parts.form = form;
    this.node = h('div', { class: 'camera-page' },
      h('p', { class: 'ways' }, h('a', { href: '#/' }, `← ${words.back}`)), parts.title, parts.notice,
      // Shown when it is filled, so that nothing jumps.
      h('div', { class: 'columns', hidden: true },
        h('div', { class: 'column' }, parts.picture, box(words.labels, form, 'needs-control'), box(words.facts, parts.facts)),
        h('div', { class: 'column' }, box(words.history, h('div', { class: 'box-body' }, parts.chartsNone, parts.charts)), box(words.doctor, parts.doctor), box(words.feedback, parts.feedback)),
        h('div', { class: 'column' }, box(words.changes, parts.changes), box(words.events, parts.events), box(words.viewers, parts.viewers))));
  }

  #drawTile() {
    const camera = this.#store.cameras.get(this.#id);
    if (!camera) return;
    if (!this.#tile) {
      this.#tile = new Tile({ camera, api: this.#api, config: this.#config, on: { toggle: () => this.#toggle(), group() {}, move: () => false, grab() {} } });
      this.#parts.picture.append(this.#tile.node);
      this.#tile.show(true, 'always');
    } else this.#tile.update(camera);
    setText(this.#parts.title, nameOf(camera));
    this.#parts.title.classList.toggle('id', !camera.name);
    this.#onTitle(nameOf(camera));
  }

  async #toggle() {
    const runs = this.#tile.node.querySelector('.toggle').dataset.runs === 'true';
    this.#tile.setBusy(true);
    await this.#try(() => (runs ? this.#api.stop(this.#id) : this.#api.start(this.#id)));
    this.#tile.setBusy(false);
    await this.#store.refresh();
    this.#refresh();
  }

  async #save(event) {
    event.preventDefault();
    const { name, notes, saved, form } = this.#parts;
    const done = await this.#try(() => this.#api.label(this.#id, { name: name.value.trim() || null, notes: notes.value.trim() || null }));
    if (!done) return;
    form.dataset.touched = '';
    setText(saved, words.saved);
    await this.#store.refresh();
  }

  async #try(call) {
    const { notice } = this.#parts;
    notice.hidden = true;
    try {
      await call();
      return true;
    } catch (error) {
      notice.hidden = false;
      setText(notice, sentence(error.message));
      return false;
    }
  }

  #plan(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { if (!document.hidden) this.#refresh(); }, ms);
  }

  async #refresh() {
    clearTimeout(this.#timer);
    const { signal } = this.#over;
    if (signal.aborted) return;
    await this.#store.known;
    try {
      const known = this.#store.cameras.has(this.#id) || !this.#store.loaded;
      const [history, camera, stream] = await Promise.all([
        this.#api.history(this.#id, signal), known && isCameraId(this.#id) ? this.#api.camera(this.#id, signal) : null, this.#api.stream(this.#id, signal),
      ]);
      this.#drawHistory(history);
      this.#drawCamera(camera, stream);
    } catch (error) {
      if (signal.aborted) return;
      // That the server is away is said at the top already.
      if (error.status !== 0) {
        this.#parts.notice.hidden = false;
        setText(this.#parts.notice, error.status === 404 ? words.unknown : sentence(error.message));
      }
    }
    this.node.querySelector('.columns').hidden = false;
    this.#plan(REFRESH_MS);
  }

  #drawHistory({ points, changes, now }) {
    this.#parts.chartsNone.hidden = points.length > 0;
    this.#parts.charts.hidden = points.length === 0;
    this.#charts.forEach((chart) => chart.draw(points, now));
    const rows = changes.toReversed().map((change) => logRow(change.at, text.camera.what[change.what] ?? change.what, valueWords(change), sentence(change.text), mood(change)));
    fill(this.#parts.changes, words.changes, rows, words.changesNone);
  }

  #drawCamera(camera, stream) {
    const media = stream?.media;
    if (camera) {
      const { name, notes, form } = this.#parts;
      if (!form.dataset.touched) {
        name.value = camera.name ?? '';
        notes.value = camera.notes ?? '';
      }
      const keepalive = stream?.keepalive_stats;
      const state = pictureState({ ...camera, streamInfo: camera.stream });
      this.#parts.facts.replaceChildren(list([
        [words.state, text.states[state]],
        [words.since, stream?.state === 'active' ? duration(stream.duration_seconds) : null],
        [words.connection, onlineWords(camera, state)],
        [words.lastSeen, state === 'live' ? words.now : camera.last_seen && `${ago(camera.last_seen)} (${timeOf(camera.last_seen)})`],
        [words.battery, typeof camera.battery_percent === 'number' ? `${Math.round(camera.battery_percent)} %` : null],
        [words.signal, typeof camera.signal === 'number' ? text.signal(camera.signal) : null], [words.temperature, typeof camera.temperature === 'number' ? `${camera.temperature} °C` : null],
        [words.uptime, typeof camera.uptime === 'number' && Date.now() - new Date(camera.last_seen).getTime() < REPORT_FRESH_MS ? duration(camera.uptime) : null],
        [words.firmware, camera.software_version], [words.hardware, camera.hardware_version], [words.serial, camera.serial_number],
        [words.address, camera.ip], [words.mac, camera.mac],
        [words.plays, stream?.manager_stats?.plays],
        [words.keepalives, keepalive && `${number(keepalive.keepalive_count)}${keepalive.error_count ? ` (${words.failed(keepalive.error_count)})` : ''}`],
        [words.id, camera.camera_id],
        [words.notes, document.documentElement.dataset.role === 'view' ? camera.notes : null],
      ]));
      const events = (camera.events ?? []).map((event) => logRow(event.received_at ?? event.at, event.activity_type, '', event.confidence === null ? '' : words.sure(event.confidence), 'none'));
      fill(this.#parts.events, words.events, events, words.eventsNone);
    }
    this.#drawDoctor(media);
    this.#drawFeedback(media?.feedback);
    this.#drawViewers(stream?.viewers ?? []);
  }

  #drawDoctor(media) {
    const codec = media?.video?.codec;
    if (!codec) return this.#parts.doctor.replaceChildren(h('p', { class: 'quiet' }, words.doctorNone));
    const advice = media.advice ?? [];
    const repair = media.video.repair ?? {};
    return this.#parts.doctor.replaceChildren(
      advice.length === 0 ? stateLine('live', words.doctorFine) : h('ul', { class: 'advice' }, advice.map((one) => h('li', {}, one.text))),
      list([
        [words.profile, codec.profile && `${codec.profile} (${codec.profile_level_id})`], [words.level, codec.level],
        [words.size, codec.width && `${codec.width} × ${codec.height}`],
        [words.rate, codec.frame_rate && `${text.units.fps(codec.frame_rate)}, ${codec.frame_rate_steady ? words.steady : words.unsteady}`],
        [words.gop, codec.gop_seconds && `${codec.gop_seconds} s (${codec.gop_frames})`],
        [words.bframes, codec.b_frames ? text.yes : text.no],
        [words.undecodable, codec.undecodable_keyframes || null], [words.oversize, codec.oversize_packets || null],
        [words.reordered, repair.reordered || null], [words.completed, repair.completed_keyframes || null],
      ]));
  }

  #drawFeedback(feedback) {
    if (!feedback?.sent) return this.#parts.feedback.replaceChildren(h('p', { class: 'quiet' }, words.feedbackNone));
    const yesNo = (value) => (value === null || value === undefined ? text.unknown : value ? text.yes : text.no);
    return this.#parts.feedback.replaceChildren(
      feedback.warning ? stateLine('warning', sentence(feedback.warning)) : stateLine('live', words.feedbackFine),
      list([
        [words.sent, number(feedback.sent)], [words.lastSent, feedback.last_at && ago(feedback.last_at)], [words.remb, bitrate(feedback.remb_kbps * 1000)],
        [words.follows, yesNo(feedback.follows_remb)], [words.answers, yesNo(feedback.answers_pli)], [words.plis, number(feedback.plis_sent)], [words.nacks, number(feedback.nacks_sent)],
      ]));
  }

  #drawViewers(viewers) {
    const rows = viewers.map((viewer) => h('li', {}, h('span', {}, `${words.viewer.since} ${timeOf(viewer.created_at)}`),
      h('span', { class: 'quiet' }, [viewer.stats?.remote, viewer.stats?.rtt_ms && milliseconds(viewer.stats.rtt_ms), viewer.stats?.fraction_lost ? percent(viewer.stats.fraction_lost) : null].filter(Boolean).join(' · '))));
    fill(this.#parts.viewers, words.viewers, rows, words.viewersNone);
  }
}

function box(title, body, more = '') {
  return h('section', { class: `box ${more}`.trim() }, h('h2', {}, title), body);
}

/** Pairs without a value are left out. */
export function list(pairs) {
  return h('dl', { class: 'facts-list' }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([label, value]) => h('div', {}, h('dt', {}, label), h('dd', {}, String(value)))));
}

/** What is new only: a list that is rewritten would be read aloud again, and lose its place. */
export function fill(node, label, rows, none) {
  const key = rows.map((row) => row.textContent).join('\n');
  if (node.dataset.key === key && node.childElementCount > 0) return;
  node.dataset.key = key;
  node.replaceChildren(rows.length ? h('ol', { class: 'rows', tabindex: '0', 'aria-label': label }, rows) : h('p', { class: 'quiet' }, none));
}

export function logRow(at, what, value, why, state) {
  return h('li', {}, h('time', { datetime: at, title: exactTime(at) }, timeOf(at)),
    h('span', { class: 'row-what', 'data-state': state }, h('span', { class: 'dot', 'aria-hidden': 'true' }), value ? `${what}: ${value}` : what), why ? h('span', { class: 'quiet' }, why) : null);
}

export function valueWords({ what, value }) {
  if (what === 'state') return text.states[value] ?? value;
  const shown = value.replaceAll('_', ' ').replaceAll(',', ', ');
  return shown.charAt(0).toUpperCase() + shown.slice(1);
}

export function mood({ what, value }) {
  if (['ok', 'online', 'active'].includes(value)) return 'live';
  if (what === 'state') return value;
  if (what === 'online') return 'error';
  return ['no_stream', 'stopped'].includes(value) ? 'none' : 'warning';
}
