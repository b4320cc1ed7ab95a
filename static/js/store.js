// What the dashboard knows: cameras, streams, health. Asked every few seconds, and at once when the server says
// that something has changed.

const REFRESH_MS = 5_000;
// Changes come in groups: a stream that starts is three of them.
const GATHER_MS = 120;
// While the page is hidden nobody needs to know.
const HIDDEN_MS = 5_000;

/** Emits `change` after each answer or failure, and `event` (with `detail`) for each change that the server tells. */
export class Store extends EventTarget {
  #api;
  #events = null;
  #timer = null;
  #hidden = null;
  #asking = false;
  #again = false;

  /** By id: what `/cameras` says, with `streamInfo` of `/streams` or `null`. */
  cameras = new Map();
  health = null;
  /** Why the last question had no answer. */
  error = null;
  loaded = false;
  /** Resolves with the first answer, or the first failure. */
  known;
  #answered;

  constructor(api) {
    super();
    this.#api = api;
    this.known = new Promise((resolve) => { this.#answered = resolve; });
  }

  start() {
    document.addEventListener('visibilitychange', () => this.#onVisibility());
    window.addEventListener('online', () => this.refresh());
    window.addEventListener('pagehide', () => this.#listen(false));
    window.addEventListener('pageshow', () => { if (!document.hidden) this.#listen(true); });
    this.#listen(!document.hidden);
    return this.refresh();
  }

  /** Asks now; calls while a question is open lead to one more. */
  async refresh() {
    if (this.#asking) {
      this.#again = true;
      return;
    }
    this.#asking = true;
    clearTimeout(this.#timer);
    try {
      const [health, cameras, streams] = await Promise.all([this.#api.health(), this.#api.cameras(), this.#api.streams()]);
      const running = new Map(streams.map((stream) => [stream.camera_id, stream]));
      this.cameras = new Map(cameras.map((camera) => [camera.camera_id, { ...camera, streamInfo: running.get(camera.camera_id) ?? null }]));
      this.health = health;
      this.error = null;
      this.loaded = true;
    } catch (error) {
      this.error = error;
    }
    this.#asking = false;
    this.dispatchEvent(new Event('change'));
    this.#answered();
    const soon = this.#again;
    this.#again = false;
    this.#plan(soon ? GATHER_MS : REFRESH_MS);
  }

  // An answer that is under way may be older than the change.
  #soon() {
    if (this.#asking) this.#again = true;
    else this.#plan(GATHER_MS);
  }

  #plan(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { if (!document.hidden) this.refresh(); }, ms);
  }

  #onVisibility() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      // A connection of each page counts against the few that a browser has for one server.
      this.#hidden = setTimeout(() => this.#listen(false), HIDDEN_MS);
      return;
    }
    this.#listen(true);
    this.refresh();
  }

  #listen(wanted) {
    if (!wanted) {
      this.#events?.close();
      this.#events = null;
      return;
    }
    if (this.#events && this.#events.readyState !== EventSource.CLOSED) return;
    this.#events = this.#api.events();
    // After a pause, what was missed is asked for.
    this.#events.addEventListener('hello', () => { if (this.loaded) this.#soon(); });
    this.#events.addEventListener('error', () => { if (this.loaded && !this.error) this.#soon(); });
    for (const what of ['state', 'picture', 'online', 'viewers', 'feedback', 'doctor', 'activity']) {
      this.#events.addEventListener(what, (event) => {
        this.dispatchEvent(new CustomEvent('event', { detail: JSON.parse(event.data) }));
        this.#soon();
      });
    }
  }
}
