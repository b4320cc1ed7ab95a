// Small line charts of the last hour, as SVG. A pause in the points is a gap in the line.

import { h, svg, setText } from './dom.js';
import { timeOf } from './format.js';
import { text } from './text.js';

const WIDTH = 600;
const HEIGHT = 120;
const TOP = 8;
const HOUR_MS = 3_600_000;
// A stream that has just begun is not shown as a dot at the end of an empty hour.
const LEAST_MS = 300_000;
// A point is missing after twice the interval, and a bit.
const GAP_MS = 25_000;

/** `get(point)` gives the number, `format(number)` its words; `least` is the highest value of an empty axis. */
export class Chart {
  node;
  #options;
  #line = svg('path', { class: 'line' });
  #last = svg('path', { class: 'last' });
  #cursor = svg('line', { class: 'cursor', y1: 0, y2: HEIGHT, visibility: 'hidden' });
  #svg;
  #now = h('span', { class: 'chart-now' });
  #high = h('span', { class: 'chart-high' });
  #dots = [];

  constructor(options) {
    this.#options = options;
    this.#svg = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' },
      svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: TOP, y2: TOP }), this.#line, this.#last, this.#cursor);
    this.node = h('figure', { class: 'chart' },
      h('figcaption', {}, h('span', {}, options.name), this.#now), h('div', { class: 'plot' }, this.#svg, this.#high), h('div', { class: 'times' }, h('span'), h('span')));
    this.#svg.addEventListener('pointermove', (event) => this.#point(event));
    this.#svg.addEventListener('pointerleave', () => this.#leave());
  }

  draw(points, now) {
    const { get, format, least, name } = this.#options;
    const end = new Date(now).getTime();
    const values = points.map((point) => ({ at: new Date(point.at).getTime(), value: get(point), iso: point.at }));
    const highest = Math.max(0, ...values.map((point) => point.value));
    const top = nice(Math.max(highest, least));
    const span = Math.min(HOUR_MS, Math.max(LEAST_MS, end - (values[0]?.at ?? end)));
    const x = (at) => WIDTH - ((end - at) / span) * WIDTH;
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - TOP - 1);
    const newest = values.at(-1);
    this.#last.setAttribute('d', newest ? `M${x(newest.at).toFixed(1)} ${y(newest.value).toFixed(1)}h.01` : '');
    let path = '';
    let last = -Infinity;
    for (const { at, value } of values) {
      const begins = at - last > GAP_MS;
      // A lone point would be nothing; a short dash is something.
      path += `${begins ? 'M' : 'L'}${x(at).toFixed(1)} ${y(value).toFixed(1)}${begins ? 'h.8' : ''}`;
      last = at;
    }
    this.#line.setAttribute('d', path);
    this.#dots = values.map((point) => ({ ...point, x: x(point.at) }));
    setText(this.#now, newest ? format(newest.value) : '–');
    setText(this.#high, format(top));
    const lowest = values.length ? Math.min(...values.map((point) => point.value)) : 0;
    this.#svg.setAttribute('aria-label', text.camera.chart(name, newest ? format(newest.value) : '–', format(lowest), format(highest)));
    const [from, to] = this.node.querySelectorAll('.times span');
    setText(from, timeOf(new Date(end - span).toISOString()));
    setText(to, timeOf(now));
  }

  #point(event) {
    const box = this.#svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const dot = this.#dots.reduce((best, one) => (!best || Math.abs(one.x - at) < Math.abs(best.x - at) ? one : best), null);
    if (!dot) return;
    this.#cursor.setAttribute('visibility', 'visible');
    this.#cursor.setAttribute('x1', dot.x);
    this.#cursor.setAttribute('x2', dot.x);
    setText(this.#now, text.camera.chartAt(this.#options.format(dot.value), timeOf(dot.iso)));
  }

  #leave() {
    this.#cursor.setAttribute('visibility', 'hidden');
    const latest = this.#dots.at(-1);
    setText(this.#now, latest ? this.#options.format(latest.value) : '–');
  }
}

// The next of 1, 2, 5 times a power of ten.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}
