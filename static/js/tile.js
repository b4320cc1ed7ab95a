// One camera of the dashboard: its picture while it is on the screen, and what there is to know at a glance.

import { h, icon, iconButton, setData, setText } from './dom.js';
import { ago, bitrate, sentence } from './format.js';
import { Picture } from './picture.js';
import { Player } from './player.js';
import { text } from './text.js';

const words = text.tile;
// Scrolling past is no reason to connect.
const SETTLE_MS = 50;
const RELEASE_MS = 1_000;
// Connections of all tiles take the time that their first pictures need; a still may take so long before it is not waited for.
const STILL_MS = 400;

/** The name that people gave, or the id. */
export const nameOf = (camera) => camera.name || camera.camera_id;

/** `live`, `silent` (it runs without a picture), `starting`, `stopping`, `error` or `none`. */
export function pictureState(camera) {
  const stream = camera.streamInfo;
  const code = camera.why_no_picture?.code;
  if (stream?.state === 'starting' || stream?.state === 'stopping') return stream.state;
  if (stream?.state === 'active') return code === 'ok' ? 'live' : 'silent';
  return ['no_stream', 'camera_offline', 'broker_unreachable', 'stopped', undefined].includes(code) ? 'none' : 'error';
}

export class Tile {
  node;
  camera;
  #api;
  #picture = new Picture();
  #player;
  #parts = {};
  #visible = false;
  #wanted = false;
  #mode = 'always';
  // Until when its first still is waited for.
  #stillBy = null;
  #timer;

  /** `on`: `toggle(camera)`, `group(camera)`, `move(camera, key)`, `grab(event, tile)`. */
  constructor({ camera, api, config, on }) {
    this.#api = api;
    this.camera = camera;
    this.#player = new Player({ video: this.#picture.video, api, config, camera: camera.camera_id, hooks: this.#picture.hooks, audio: false, starts: false });
    this.#player.addEventListener('change', () => this.#drawPicture());
    this.#build(on);
    this.update(camera);
  }

  get id() {
    return this.camera.camera_id;
  }

  get state() {
    return this.#player.running ? this.#player.snapshot.state : 'idle';
  }

  /** On the screen or not; `mode` is `always` or `click`. */
  show(visible, mode) {
    this.#visible = visible;
    this.#mode = mode;
    if (!visible) this.#wanted = false;
    this.#decide();
  }

  /** Its connection, for a larger picture of the camera; `null` if it has none that is live. */
  give() {
    clearTimeout(this.#timer);
    const given = this.#player.give();
    this.#showStill();
    return given;
  }

  /** Goes on with the connection of a larger picture. */
  take(early) {
    clearTimeout(this.#timer);
    this.#visible = true;
    this.#player.start(null, early);
  }

  /** The page goes away. */
  leave() {
    clearTimeout(this.#timer);
    this.#player.leave();
  }

  update(camera) {
    this.camera = camera;
    const parts = this.#parts;
    const name = nameOf(camera);
    setText(parts.name, name);
    parts.name.classList.toggle('id', !camera.name);
    label(parts.name, words.details(name));
    label(parts.watch, words.watch(name));
    label(parts.move, words.move(name));
    label(parts.group, words.groupOf(name));
    label(parts.live, words.live(name));
    const state = pictureState(camera);
    setData(this.node, 'state', state);
    const runs = ['live', 'silent', 'starting', 'stopping'].includes(state);
    setText(parts.toggle, runs ? words.stopStream : words.startStream);
    parts.toggle.dataset.runs = String(runs);
    label(parts.toggle, runs ? words.stop(name) : words.start(name));
    setData(parts.online, 'state', camera.online === true ? 'online' : camera.online === false ? (state === 'live' ? 'warning' : 'error') : 'none');
    setText(parts.onlineText, onlineWords(camera, state));
    const stream = camera.streamInfo;
    setText(parts.numbers, stream ? [text.viewers(stream.viewer_count), stream.media?.bitrate ? bitrate(stream.media.bitrate) : ''].filter(Boolean).join(' · ') : '');
    setText(parts.facts, facts(camera));
    setText(parts.event, camera.last_activity ? words.event(camera.last_activity.activity_type, ago(camera.last_activity.received_at)) : '');
    this.#showStill();
    this.#drawPicture();
    this.#decide();
  }

  /** Elsewhere on the page, without a break of the picture where the browser can do that. */
  moveTo(list, before) {
    if (list.moveBefore && this.node.isConnected && list.isConnected) list.moveBefore(this.node, before);
    else list.insertBefore(this.node, before);
    const { video } = this.#picture;
    if (video.srcObject && video.paused) video.play().catch(() => {});
  }

  setBusy(busy) {
    this.#parts.toggle.disabled = busy;
  }

  focus() {
    this.#parts.watch.focus({ preventScroll: true });
  }

  focusMove() {
    this.#parts.move.focus();
  }

  #build(on) {
    const parts = this.#parts;
    parts.badge = h('span', { class: 'badge' });
    parts.why = h('p', { class: 'why' });
    parts.watch = h('a', { class: 'open', href: `#/watch/${this.id}` }, h('span', { class: 'enlarge' }, icon('full')));
    parts.live = iconButton('play', '', () => { this.#wanted = true; this.#decide(); }, { class: 'icon-button play', hidden: true });
    parts.name = h('a', { class: 'name', href: `#/camera/${this.id}` });
    parts.onlineText = h('span');
    parts.online = h('p', { class: 'state-line' }, h('span', { class: 'dot', 'aria-hidden': 'true' }), parts.onlineText);
    parts.numbers = h('p', { class: 'numbers' });
    parts.facts = h('p', { class: 'facts' });
    parts.event = h('p', { class: 'facts' });
    parts.toggle = h('button', { type: 'button', class: 'toggle needs-control', onclick: () => on.toggle(this) });
    parts.group = h('button', { type: 'button', class: 'icon-button bare', onclick: () => on.group(this) }, icon('group'));
    parts.move = h('button', {
      type: 'button', class: 'icon-button bare grip', 'aria-describedby': 'move-hint',
      onkeydown: (event) => { if (on.move(this, event.key)) event.preventDefault(); },
      onpointerdown: (event) => on.grab(event, this),
    }, icon('move'));
    this.node = h('li', { class: 'tile', 'data-camera': this.id },
      h('div', { class: 'screen' }, this.#picture.node, parts.why, parts.badge, parts.watch, parts.live),
      h('div', { class: 'foot' },
        parts.name, h('div', { class: 'foot-tools' }, parts.toggle, parts.group, parts.move),
        h('div', { class: 'foot-text' }, parts.online, parts.numbers, parts.facts, parts.event)));
  }

  // Connects when there is something to see and somebody to see it; lets go otherwise.
  #decide() {
    clearTimeout(this.#timer);
    const stream = this.camera.streamInfo;
    const wants = this.#visible && !document.hidden && stream?.state === 'active' && (this.#mode === 'always' || this.#wanted);
    if (wants === this.#player.running) return;
    const settle = Math.max(SETTLE_MS, (this.#stillBy ?? 0) - performance.now());
    this.#timer = setTimeout(() => (wants ? this.#player.start(this.camera.streamInfo?.stream_id) : this.#release()), wants ? settle : RELEASE_MS);
  }

  #release() {
    this.#player.release();
    this.#showStill();
  }

  #showStill() {
    if (!this.camera.streamInfo?.media?.last_keyframe_at) return;
    this.#stillBy ??= performance.now() + STILL_MS;
    this.#picture.showStill(this.#api.stillUrl(this.id), true).then(() => {
      if (this.#stillBy === 0) return;
      this.#stillBy = 0;
      this.#decide();
    });
  }

  #drawPicture() {
    const parts = this.#parts;
    const state = this.node.dataset.state;
    const { running } = this.#player;
    const { snapshot } = this.#player;
    const shown = running ? snapshot.state : 'idle';
    setData(this.node, 'picture', shown);
    let badge = text.states[state];
    let why = '';
    // What is seen counts for more than what was last heard from the server.
    if (shown === 'live' && state === 'silent') badge = text.states.live;
    else if (state !== 'live') why = sentence(this.camera.why_no_picture?.text);
    else if (shown === 'live') badge = text.states.live;
    else if (shown === 'frozen') [badge, why] = [words.frozen(snapshot.frozenSeconds), snapshot.detail];
    else if (running) [badge, why] = [words.connecting, shown === 'connecting' ? '' : snapshot.detail];
    else badge = text.states.active;
    setText(parts.badge, badge);
    setData(parts.badge, 'state', running && (state === 'live' || shown === 'live') ? shown : state);
    setText(parts.why, why);
    parts.live.hidden = this.#mode === 'always' || this.#wanted || state !== 'live';
  }
}

/** `state`: of its picture, as `pictureState` says it. A camera whose picture comes is not away, whatever the broker has said. */
export function onlineWords(camera, state) {
  if (camera.online === false && state === 'live') return words.noBroker;
  const said = text.online[String(camera.online ?? null)];
  if (camera.online === true || !camera.last_seen) return said;
  return `${said} · ${words.seen(ago(camera.last_seen))}`;
}

function facts(camera) {
  const parts = [];
  if (typeof camera.battery_percent === 'number') parts.push(words.battery(camera.battery_percent));
  if (typeof camera.signal === 'number') parts.push(words.signal(camera.signal));
  if (camera.software_version) parts.push(words.firmware(camera.software_version));
  return parts.join(' · ');
}

function label(node, name) {
  if (node.getAttribute('aria-label') === name) return;
  node.setAttribute('aria-label', name);
  if (node.tagName === 'BUTTON') node.title = name;
}
