// A camera large, in the dashboard: what the viewer page shows, without a change of pages, and with the connection that its
// tile has, so that it is live at once.

import { root } from './config.js';
import { h, setText } from './dom.js';
import { Log } from './log.js';
import { Pane } from './pane.js';
import { nameOf } from './tile.js';
import { text } from './text.js';

export class WatchPage {
  node;
  #id;
  #store;
  #pane;
  #title = h('h1', { class: 'visually-hidden', tabindex: '-1' });
  #over = new AbortController();
  #onTitle;

  /** `early`: the tile's connection, or `null`; `starts`: whether a stream that does not run may be started, or a promise of that. */
  constructor({ id, store, api, config, early, starts, onTitle }) {
    this.#id = id;
    this.#store = store;
    this.#onTitle = onTitle;
    const log = new Log();
    const link = new URL('livestream/viewer', root);
    link.searchParams.set('camera', id);
    this.#pane = new Pane({ camera: id, api, config, link, main: true, starts, log: (line) => log.write(line), onChange: () => this.#draw() });
    this.node = h('div', { class: 'watch-page', onkeydown: (event) => this.#onKey(event) },
      this.#title,
      h('p', { class: 'ways' }, h('a', { href: '#/' }, `← ${text.camera.back}`), h('a', { href: `#/camera/${id}` }, text.watch.details)),
      h('div', { class: 'panes', 'data-count': '1' }, this.#pane.node), log.node);
    const { signal } = this.#over;
    store.addEventListener('change', () => this.#draw(), { signal });
    window.addEventListener('pagehide', () => this.#pane.player.leave(), { signal });
    window.addEventListener('pageshow', (event) => { if (event.persisted && this.snapshot.state !== 'stopped') this.#pane.start(); }, { signal });
    this.#draw();
    this.#pane.start(early);
  }

  /** What the picture is, for tests and the title. */
  get snapshot() {
    return this.#pane.player.snapshot;
  }

  /** The keys of the picture work at once. */
  focus() {
    this.#pane.focus();
  }

  /** Another page is shown, whose picture of this camera goes on with the connection. */
  give(id) {
    return id === this.#id ? this.#pane.player.give() : null;
  }

  close() {
    this.#over.abort();
    this.#pane.close();
  }

  #draw() {
    if (!this.#pane) return;
    const camera = this.#store.cameras.get(this.#id);
    const name = camera ? nameOf(camera) : this.#id;
    if (this.#pane.name !== name) this.#pane.rename(name);
    setText(this.#title, name);
    this.#onTitle(`${text.viewer.states[this.snapshot.state]} – ${name}`);
  }

  #onKey(event) {
    if (event.key === 'Escape' && !document.fullscreenElement) location.hash = '#/';
  }
}
