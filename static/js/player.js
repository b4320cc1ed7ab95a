// The life of one picture: find or start the stream, connect, watch for new frames, connect again.

import { Connection } from './connection.js';
import { FROZEN_AFTER_MS, FrameWatch } from './frames.js';
import { NO_STATS, StatsReader } from './stats.js';

const BACKOFF_SECONDS = [1, 2, 4, 8, 15];
// A connection that was good for so long starts the back-off from the beginning.
const STABLE_MS = 5_000;
const TICK_MS = 500;
const STATS_MS = 1_000;
// While there is no live picture, the API is asked for the reason this often.
const ASK_MS = 3_000;
// A picture frozen for so long although the camera sends: this connection is dead.
const DEAD_AFTER_MS = 15_000;
// A stopped stream may be started by somebody else.
const RETURN_MS = 5_000;

/**
 * Emits `change` when `state`, `detail` or `stats` are new. States: `connecting`, `live`, `frozen`,
 * `reconnecting`, `stopped`, `error`.
 */
export class Player extends EventTarget {
  #video;
  #api;
  #config;
  #camera;
  #log;
  #frames;
  #reader = new StatsReader();
  #run = null;
  #connection = null;
  #wake = () => {};
  #snapshot = Object.freeze({ state: 'connecting', detail: '', streamId: null, frozenSeconds: 0, stats: NO_STATS });

  constructor({ video, api, config, camera, log }) {
    super();
    this.#video = video;
    this.#api = api;
    this.#config = config;
    this.#camera = camera;
    this.#log = log;
    this.#frames = new FrameWatch(video, () => this.#wake());
  }

  /** What the page shows now; frozen, a new object for each change. */
  get snapshot() {
    return this.#snapshot;
  }

  /** Starts watching. The stream is started too if it does not run. */
  start() {
    this.#end();
    const run = new AbortController();
    this.#run = run;
    this.#set({ state: 'connecting', detail: '', frozenSeconds: 0 });
    this.#loop(run.signal).catch((error) => {
      if (!run.signal.aborted) this.#refuse(error.message);
    });
  }

  /** Stops watching; the stream itself goes on for others. */
  stop() {
    this.#end();
    this.#video.srcObject = null;
    this.#log('Stopped by you');
    this.#set({ state: 'stopped', detail: 'You stopped watching.', frozenSeconds: 0 });
  }

  /** The page goes away: say goodbye, change nothing on it. */
  leave() {
    this.#end();
  }

  #end() {
    this.#run?.abort();
    this.#run = null;
    this.#connection?.close();
    this.#connection = null;
  }

  async #loop(signal) {
    let mayStart = true;
    let failures = 0;
    for (;;) {
      let reason;
      try {
        const found = await this.#find(mayStart, signal);
        mayStart = false;
        if (found.gone) {
          await this.#waitForReturn(found, signal);
          failures = 0;
          continue;
        }
        const outcome = await this.#watch(found.streamId, signal);
        reason = outcome.reason;
        if (outcome.stable) failures = 0;
      } catch (error) {
        signal.throwIfAborted();
        if (error.status >= 400 && error.status < 500) throw error;
        reason = error.message;
      }
      this.#log(reason);
      // A stream that has ended is not a failure of the connection; do not wait to say so.
      const gone = mayStart ? null : await this.#goneNow(signal);
      if (gone) {
        await this.#waitForReturn(gone, signal);
        failures = 0;
        continue;
      }
      const seconds = BACKOFF_SECONDS[Math.min(failures, BACKOFF_SECONDS.length - 1)];
      failures += 1;
      this.#set({ state: 'reconnecting', detail: `${reason}. Next attempt in ${seconds} s.`, frozenSeconds: 0 });
      await delay(seconds * 1000, signal);
    }
  }

  // The running stream's id, or `gone` with the state and the words to show.
  async #find(mayStart, signal) {
    const stream = await this.#api.stream(this.#camera, signal);
    if (stream?.state === 'active' || stream?.state === 'starting') return this.#found(stream.stream_id);
    if (!mayStart) return { gone: describeEnd(stream) };
    this.#set({ detail: 'Starting the stream' });
    this.#log('No running stream: starting it');
    return this.#found(await this.#api.start(this.#camera, signal));
  }

  #found(streamId) {
    this.#set({ streamId });
    return { streamId };
  }

  async #goneNow(signal) {
    try {
      const found = await this.#find(false, signal);
      return found.gone ? found : null;
    } catch (error) {
      signal.throwIfAborted();
      return null;
    }
  }

  async #waitForReturn({ gone }, signal) {
    this.#log(`Stream ended: ${gone.detail}`);
    this.#video.srcObject = null;
    this.#set({ ...gone, frozenSeconds: 0, stats: NO_STATS });
    for (;;) {
      await delay(RETURN_MS, signal);
      const found = await this.#find(false, signal).catch(() => null);
      signal.throwIfAborted();
      if (found?.streamId) break;
    }
    this.#set({ state: 'connecting', detail: 'The stream is running again' });
  }

  // Watches over one connection until it is lost: `{reason, stable}`.
  async #watch(streamId, signal) {
    let connected = false;
    let liveSince = null;
    let why = '';
    let lost = null;
    this.#frames.reset();
    const connection = new Connection({
      signalingUrl: this.#config.signalingUrl,
      iceServers: this.#config.iceServers,
      camera: this.#camera,
      streamId,
      log: this.#log,
      stream: (stream) => this.#show(stream),
      connected: () => { connected = true; },
      lost: (reason) => { lost = reason; this.#wake(); },
    });
    this.#connection = connection;
    connection.open();

    let nextStats = 0;
    let nextAsk = performance.now() + ASK_MS;
    while (lost === null) {
      const now = performance.now();
      if (connection.peer && now >= nextStats) {
        nextStats = now + STATS_MS;
        const stats = await this.#reader.read(connection.peer).catch(() => null);
        signal.throwIfAborted();
        if (stats) this.#frames.onDecoded(stats.framesDecoded);
        if (stats && lost === null) this.#set({ stats });
      }
      if (lost !== null) break;

      const age = this.#frames.age();
      if (age !== null && age <= FROZEN_AFTER_MS) {
        liveSince ??= now;
        why = '';
        this.#set({ state: 'live', detail: '', frozenSeconds: 0 });
      } else {
        this.#showWaiting(age, connected, why);
        if (now >= nextAsk) {
          nextAsk = now + ASK_MS;
          const answer = await this.#ask(age, signal);
          why = answer.why;
          if (answer.giveUp && lost === null) {
            connection.close();
            lost = why;
          }
        }
      }
      if (lost === null) await pause(TICK_MS, signal, (resolve) => { this.#wake = resolve; });
    }
    this.#connection = null;
    const stable = liveSince !== null && performance.now() - liveSince >= STABLE_MS;
    return { reason: lost, stable };
  }

  #showWaiting(age, connected, why) {
    if (age !== null) {
      this.#set({ state: 'frozen', detail: why, frozenSeconds: Math.floor(age / 1000) });
      return;
    }
    let detail = why || (connected ? 'Connected, waiting for the first picture' : 'Opening the connection');
    if (this.#video.srcObject && this.#video.paused && connected) detail = 'The browser waits for you to press play';
    this.#set({ state: 'connecting', detail, frozenSeconds: 0 });
  }

  // Asks the API why there is no picture: words, and whether to give this connection up.
  async #ask(age, signal) {
    let stream;
    try {
      stream = await this.#api.stream(this.#camera, signal);
    } catch (error) {
      signal.throwIfAborted();
      return { why: error.message, giveUp: false };
    }
    if (stream?.state !== 'active' && stream?.state !== 'starting') return { why: 'The stream has ended', giveUp: true };
    const flowing = stream.media?.state === 'flowing';
    if (flowing && age !== null && age > DEAD_AFTER_MS) {
      return { why: 'The camera is sending, but no picture arrives here', giveUp: true };
    }
    return { why: describeSilence(stream, flowing), giveUp: false };
  }

  #show(stream) {
    if (this.#video.srcObject === stream) return;
    this.#video.srcObject = stream;
    this.#video.play().catch((error) => {
      if (error.name !== 'AbortError') this.#log(`Play: ${error.message}`);
    });
  }

  #refuse(message) {
    this.#end();
    this.#video.srcObject = null;
    this.#log(`Error: ${message}`);
    this.#set({ state: 'error', detail: message, frozenSeconds: 0 });
  }

  #set(changes) {
    const next = { ...this.#snapshot, ...changes };
    if (Object.keys(changes).every((key) => next[key] === this.#snapshot[key])) return;
    const before = this.#snapshot.state;
    this.#snapshot = Object.freeze(next);
    if (next.state !== before) this.#log(`State: ${next.state}`);
    this.dispatchEvent(new Event('change'));
  }
}

function describeEnd(stream) {
  if (stream?.state === 'error') return { state: 'error', detail: stream.error_message || 'The stream failed.' };
  return { state: 'stopped', detail: 'The stream was stopped on the server.' };
}

function describeSilence(stream, flowing) {
  const why = stream.why_no_picture;
  if (why && why.code !== 'ok') return why.text.charAt(0).toUpperCase() + why.text.slice(1);
  if (flowing) return 'The camera is sending; waiting for a picture';
  return stream.media?.reason || stream.error_message || 'No picture comes from the camera';
}

function delay(ms, signal) {
  return pause(ms, signal, () => {});
}

// Resolves after `ms` or when the function given to `early` is called; rejects when aborted.
function pause(ms, signal, early) {
  return new Promise((resolve, reject) => {
    const done = (settle) => () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
      settle(signal.reason);
    };
    const aborted = done(reject);
    const timer = setTimeout(done(resolve), ms);
    signal.addEventListener('abort', aborted);
    if (signal.aborted) aborted();
    early(done(resolve));
  });
}
