// The layers of one picture, from back to front: the still, what was shown last, live. Nothing is black in between.

import { h } from './dom.js';
import { hideStill, showStill } from './still.js';
import { text } from './text.js';

export class Picture {
  /** The node to put into a page; the `video` in it plays. */
  node;
  video;
  #still;
  #last;
  #pending = null;

  constructor({ id } = {}) {
    this.#still = h('video', { class: 'still', muted: true, playsinline: true, hidden: true, 'aria-hidden': 'true', tabindex: '-1', disablepictureinpicture: true });
    this.#last = h('canvas', { class: 'last', hidden: true, 'aria-hidden': 'true' });
    this.video = h('video', { class: 'live', id, autoplay: true, playsinline: true, 'aria-label': text.viewer.video });
    this.video.muted = true;
    this.node = h('div', { class: 'picture', 'data-has': 'nothing' }, this.#still, this.#last, this.video);
  }

  /** For the player. */
  get hooks() {
    return { keep: () => this.#keep(), fresh: () => this.#fresh(), clear: () => this.#clear() };
  }

  /** Until there is something better; `certain` as in `still.js`. */
  async showStill(url, certain = false) {
    if (this.node.dataset.has !== 'nothing') return;
    // Asked again while it is being loaded, it would begin anew.
    this.#pending ??= showStill(this.#still, url, certain).finally(() => { this.#pending = null; });
    if (await this.#pending && this.node.dataset.has === 'nothing') this.node.dataset.has = 'still';
  }

  /** The frame that is shown, as PNG; `null` without one. */
  async frame() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (width === 0) return null;
    const canvas = h('canvas', { width, height });
    canvas.getContext('2d').drawImage(this.video, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  }

  #keep() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (width === 0 || this.node.dataset.has !== 'live') return;
    Object.assign(this.#last, { width, height, hidden: false });
    this.#last.getContext('2d').drawImage(this.video, 0, 0);
    this.node.dataset.has = 'last';
  }

  #fresh() {
    this.node.dataset.has = 'live';
    this.#last.hidden = true;
    this.#hideStill();
  }

  #clear() {
    this.node.dataset.has = 'nothing';
    this.#last.hidden = true;
    this.#last.width = this.#last.height = 0;
    this.#hideStill();
  }

  #hideStill() {
    hideStill(this.#still);
    this.#pending = null;
  }
}
