// One camera of the viewer page: picture, what it says about itself, controls, figures.

import { announce, h, iconButton, relabel, setData, setText } from './dom.js';
import { sentence } from './format.js';
import { Picture } from './picture.js';
import { Player } from './player.js';
import { recall, remember } from './prefs.js';
import { NO_STATS, describe, quality } from './stats.js';
import { text } from './text.js';
import { Zoom } from './zoom.js';

const words = text.viewer;
const NOTE_MS = 4_000;

export class Pane {
  node;
  camera;
  player;
  #picture;
  #stage;
  #zoom;
  #parts = {};
  #before = { state: 'idle', detail: '', stats: NO_STATS };
  #noteTimer;
  #link;
  #onChange;
  #over = new AbortController();

  /** `link`: where others see it. `main`: the only pane, or the first: its parts have the page's ids. */
  constructor({ camera, name, api, config, log, link, main, starts, onChange = () => {} }) {
    this.camera = camera;
    this.#link = link;
    this.#onChange = onChange;
    this.#picture = new Picture({ id: main ? 'video' : undefined });
    this.#build(main);
    this.rename(name);
    const { video } = this.#picture;
    this.player = new Player({ video, api, config, camera, log, hooks: this.#picture.hooks, starts });
    this.player.addEventListener('change', () => this.#draw(), { signal: this.#over.signal });
    this.#zoom = new Zoom(this.#stage, this.#picture.node, (scale) => {
      this.#parts.zoomReset.disabled = scale === 1;
      this.#parts.zoomOut.disabled = scale === 1;
    });
    video.volume = recall('volume', 1, (value) => value >= 0 && value <= 1);
    this.#parts.volume.value = String(video.volume);
    video.addEventListener('volumechange', () => this.#drawSound());
    this.#draw();
    this.#picture.showStill(api.stillUrl(camera));
  }

  /** `early`: what was begun for it before; `streamId`: the stream that runs, for whom that is known. */
  start(early = null, streamId = null) {
    this.player.start(streamId, early);
  }

  focus() {
    this.#stage.focus({ preventScroll: true });
  }

  /** It is shown no more. */
  close() {
    this.#over.abort();
    clearTimeout(this.#noteTimer);
    this.player.leave();
  }

  rename(name) {
    this.name = name || this.camera;
    setText(this.#parts.name, this.name);
    this.node.setAttribute('aria-label', this.name);
    this.#stage.setAttribute('aria-label', words.stage(this.name));
  }

  #build(main) {
    const id = (name) => (main ? name : undefined);
    const parts = this.#parts;
    const { video } = this.#picture;
    parts.name = h('span', { class: 'pane-name' });
    parts.bars = h('span', { class: 'bars', role: 'img' }, [1, 2, 3, 4].map(() => h('i')));
    parts.mode = h('span', { class: 'chip', hidden: true, title: words.fallbackWhy });
    parts.spinner = h('span', { class: 'spinner', 'aria-hidden': 'true' });
    parts.title = h('p', { class: 'veil-title' });
    parts.detail = h('p', { class: 'veil-detail' });
    parts.again = h('button', { type: 'button', class: 'primary', hidden: true, onclick: () => this.#again() }, words.again);
    parts.veil = h('div', { class: 'veil' }, parts.spinner, parts.title, parts.detail, parts.again);
    parts.figures = h('dl', { class: 'figures', hidden: true, tabindex: '0', 'aria-label': words.figures });
    parts.note = h('p', { class: 'note', role: 'status', hidden: true });
    this.#stage = h('div', {
      class: 'stage', id: id('stage'), role: 'group', tabindex: '0', 'data-zoomed': 'false', onkeydown: (event) => this.#onKey(event),
    }, this.#picture.node, parts.veil, parts.note);

    parts.status = h('span', { id: id('status-text') });
    parts.statusLine = h('p', { class: 'status', id: id('status') }, h('span', { class: 'dot', 'aria-hidden': 'true' }), parts.status, parts.bars, parts.mode);
    parts.sound = iconButton('muted', words.soundOn, () => { video.muted = !video.muted; }, { class: 'icon-button primary', id: id('sound') });
    parts.volume = h('input', {
      type: 'range', min: '0', max: '1', step: '0.05', class: 'volume', 'aria-label': words.volume,
      oninput: () => {
        video.volume = Number(parts.volume.value);
        video.muted = video.volume === 0;
        remember('volume', video.volume);
      },
    });
    parts.zoomIn = iconButton('plus', words.zoomIn, () => this.#zoom.in());
    parts.zoomOut = iconButton('minus', words.zoomOut, () => this.#zoom.out(), { disabled: true });
    parts.zoomReset = iconButton('reset', words.zoomReset, () => this.#zoom.reset(), { disabled: true });
    parts.snapshot = iconButton('snapshot', words.snapshot, () => this.#snapshot());
    parts.copy = iconButton('link', words.copy, () => this.#copy());
    parts.stats = iconButton('stats', words.figures, () => this.#toggleFigures(), { 'aria-pressed': 'false' });
    parts.pip = iconButton('pip', words.pip, () => this.#pip(), { hidden: !document.pictureInPictureEnabled });
    parts.full = iconButton('full', words.full, () => this.#full(), { id: id('fullscreen'), hidden: !this.node?.requestFullscreen && !document.fullscreenEnabled && !video.webkitEnterFullscreen });
    parts.stop = iconButton('stop', words.stop, () => this.player.stop(), { id: id('stop') });
    const controls = h('div', { class: 'controls' }, parts.sound, parts.volume, parts.zoomOut, parts.zoomReset, parts.zoomIn, parts.snapshot, parts.stats, parts.copy, parts.pip, parts.full, parts.stop);
    this.node = h('section', { class: 'pane', 'data-state': 'connecting', 'data-mode': 'webrtc' },
      this.#stage, h('div', { class: 'bar' }, h('div', { class: 'bar-text' }, parts.name, parts.statusLine), controls), parts.figures);
    document.addEventListener('fullscreenchange', () => relabel(parts.full, document.fullscreenElement === this.node ? words.fullEnd : words.full), { signal: this.#over.signal });
  }

  #draw() {
    const { snapshot } = this.player;
    const { state, detail, frozenSeconds, stats, mode } = snapshot;
    const before = this.#before;
    const parts = this.#parts;
    const { video } = this.#picture;
    const shown = state === 'frozen' ? words.frozenFor(frozenSeconds) : words.states[state];
    const ended = state === 'stopped' || state === 'error';
    const needsPlay = state === 'connecting' && video.paused && video.srcObject !== null && detail === text.player.press;
    setData(this.node, 'state', state);
    setData(this.node, 'mode', mode);
    setData(parts.statusLine, 'state', state);
    setText(parts.status, shown);
    setText(parts.title, shown);
    setText(parts.detail, detail);
    parts.spinner.hidden = ended || needsPlay || state === 'frozen';
    parts.again.hidden = !ended && !needsPlay;
    setText(parts.again, needsPlay ? words.play : words.again);
    parts.stop.disabled = ended;
    parts.mode.hidden = mode === 'webrtc';
    if (!parts.mode.hidden) setText(parts.mode, words.fallback[mode]);
    const bars = quality(state, stats);
    setData(parts.bars, 'level', String(bars));
    const label = words.quality.label(words.quality[bars]);
    if (parts.bars.title !== label) {
      parts.bars.title = label;
      parts.bars.setAttribute('aria-label', label);
    }
    // Spoken once per state, not once per second of a freeze.
    if (state !== before.state) announce(`${this.name}: ${state === 'frozen' ? words.frozenSpoken : `${words.states[state]}. ${detail}`}`);
    if (stats !== before.stats && !parts.figures.hidden) this.#drawFigures();
    this.#before = snapshot;
    this.#onChange(this);
  }

  #drawFigures() {
    const { stats, mode } = this.player.snapshot;
    describe(stats, mode).forEach(([label, value], index) => {
      const cell = this.#parts.figures.children[index]
        ?? this.#parts.figures.appendChild(h('div', {}, h('dt', {}, label), h('dd')));
      setText(cell.lastChild, value);
    });
  }

  #drawSound() {
    const { video } = this.#picture;
    // The label says what a press does.
    relabel(this.#parts.sound, video.muted ? words.soundOn : words.soundOff, video.muted ? 'muted' : 'sound');
    this.#parts.sound.classList.toggle('primary', video.muted);
    if (!video.muted) this.player.withSound().catch((error) => this.#note(words.soundNone(sentence(error.message))));
  }

  #again() {
    const { video } = this.#picture;
    if (video.srcObject && video.paused) video.play().catch((error) => this.#note(error.message));
    else this.player.start();
  }

  #onKey(event) {
    if (event.target !== this.#stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      m: () => this.#parts.sound.click(), f: () => this.#full(), s: () => this.#snapshot(), i: () => this.#toggleFigures(),
    };
    const action = actions[event.key.toLowerCase()];
    if (action) action();
    else if (!this.#zoom.key(event)) return;
    event.preventDefault();
  }

  #toggleFigures() {
    const { figures, stats } = this.#parts;
    figures.hidden = !figures.hidden;
    stats.setAttribute('aria-pressed', String(!figures.hidden));
    if (!figures.hidden) this.#drawFigures();
  }

  #full() {
    const { video } = this.#picture;
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.node.requestFullscreen) this.node.requestFullscreen().catch((error) => this.#note(error.message));
    else video.webkitEnterFullscreen?.();
  }

  #pip() {
    const { video } = this.#picture;
    const change = document.pictureInPictureElement === video ? document.exitPictureInPicture() : video.requestPictureInPicture();
    change.catch((error) => this.#note(error.message));
  }

  async #snapshot() {
    const blob = await this.#picture.frame();
    if (!blob) return this.#note(words.snapshotNone);
    const stamp = new Date().toLocaleString('sv').replaceAll(':', '-').replace(' ', '_');
    const file = `${this.name.replaceAll(/[^\p{L}\p{N}-]+/gu, '_')}_${stamp}.png`;
    const link = h('a', { href: URL.createObjectURL(blob), download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    return this.#note(words.saved(file));
  }

  async #copy() {
    const { href } = this.#link;
    try {
      await navigator.clipboard.writeText(href);
      this.#note(words.copied);
    } catch {
      this.#note(words.copyFailed(href));
    }
  }

  #note(message) {
    const { note } = this.#parts;
    note.hidden = false;
    setText(note, message);
    clearTimeout(this.#noteTimer);
    this.#noteTimer = setTimeout(() => { note.hidden = true; }, NOTE_MS);
  }
}
