// Zoom and pan of a picture: wheel, pinch, drag and keys.

const MAX = 8;
const STEP = 1.25;
const PAN = 60;

export class Zoom {
  #stage;
  #layer;
  #scale = 1;
  #x = 0;
  #y = 0;
  #pointers = new Map();
  #onChange;

  /** `layer` is moved inside `stage`; `onChange(scale)` is told. */
  constructor(stage, layer, onChange = () => {}) {
    this.#stage = stage;
    this.#layer = layer;
    this.#onChange = onChange;
    stage.addEventListener('wheel', (event) => this.#onWheel(event), { passive: false });
    stage.addEventListener('pointerdown', (event) => this.#onDown(event));
    stage.addEventListener('pointermove', (event) => this.#onMove(event));
    for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) {
      stage.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    stage.addEventListener('dblclick', (event) => {
      if (event.target.closest('button, a, input')) return;
      if (this.#scale > 1) this.reset();
      else this.#zoomAt(2.5, event.clientX, event.clientY);
    });
    new ResizeObserver(() => this.#apply()).observe(stage);
  }

  get scale() {
    return this.#scale;
  }

  by(factor) {
    const box = this.#stage.getBoundingClientRect();
    this.#zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
  }

  in() { this.by(STEP); }

  out() { this.by(1 / STEP); }

  reset() {
    this.#scale = 1;
    this.#x = this.#y = 0;
    this.#apply();
  }

  /** Whether the key meant something. */
  key(event) {
    const pan = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] }[event.key];
    if (event.key === '+' || event.key === '=') this.in();
    else if (event.key === '-') this.out();
    else if (event.key === '0') this.reset();
    else if (pan && this.#scale > 1) this.#pan(...pan);
    else return false;
    return true;
  }

  #onWheel(event) {
    // At the whole picture, scrolling on goes to the page.
    if (this.#scale === 1 && event.deltaY > 0) return;
    event.preventDefault();
    this.#zoomAt(Math.exp(-event.deltaY * 0.002), event.clientX, event.clientY);
  }

  #onDown(event) {
    if (event.target.closest('button, a, input')) return;
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#scale > 1 || this.#pointers.size > 1) this.#stage.setPointerCapture(event.pointerId);
  }

  #onMove(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    const now = [event.clientX, event.clientY];
    this.#pointers.set(event.pointerId, now);
    if (other) {
      const distance = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
      this.#zoomAt(distance(now) / distance(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (this.#scale > 1) this.#pan(now[0] - before[0], now[1] - before[1]);
  }

  #zoomAt(factor, clientX, clientY) {
    const box = this.#stage.getBoundingClientRect();
    const [x, y] = [clientX - box.left, clientY - box.top];
    const scale = Math.min(MAX, Math.max(1, this.#scale * factor));
    this.#x = x - ((x - this.#x) * scale) / this.#scale;
    this.#y = y - ((y - this.#y) * scale) / this.#scale;
    this.#scale = scale < 1.02 ? 1 : scale;
    this.#apply();
  }

  #pan(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#apply();
  }

  // The picture always fills the stage.
  #apply() {
    const { clientWidth, clientHeight } = this.#stage;
    this.#x = Math.min(0, Math.max(clientWidth * (1 - this.#scale), this.#x));
    this.#y = Math.min(0, Math.max(clientHeight * (1 - this.#scale), this.#y));
    this.#layer.style.transform = this.#scale === 1 ? '' : `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    // A finger scrolls the page over a whole picture, and moves a zoomed one.
    this.#stage.dataset.zoomed = String(this.#scale > 1);
    this.#onChange(this.#scale);
  }
}
