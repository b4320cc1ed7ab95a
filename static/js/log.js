// What happened on a page, step by step: for whoever looks for a fault.

import { h } from './dom.js';
import { text } from './text.js';

const LINES = 300;

export class Log {
  node;
  #list = h('ol', { id: 'log', tabindex: '0', 'aria-label': text.viewer.logLabel });

  constructor() {
    this.node = h('details', { class: 'log' }, h('summary', {}, text.viewer.log), this.#list);
  }

  write(line) {
    const now = new Date();
    this.#list.append(h('li', {}, h('time', { datetime: now.toISOString() }, now.toTimeString().slice(0, 8)), line));
    while (this.#list.children.length > LINES) this.#list.firstChild.remove();
  }
}
