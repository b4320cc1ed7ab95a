// The life of one picture: find or start the stream, connect, watch for new frames, connect again.

import { withToken } from './config.js';
import { Connection } from './connection.js';
import { fallbackOffered, playAsMp4 } from './fallback.js';
import { sentence } from './format.js';
import { FROZEN_AFTER_MS, FrameWatch } from './frames.js';
import { NO_STATS, StatsReader } from './stats.js';
import { text } from './text.js';

const BACKOFF_SECONDS = [1, 2, 4, 8, 15];
// A camera that failed is asked again this late, unless it connects to the broker before.
const START_AGAIN_SECONDS = [15, 30, 60];
// A connection that was good for so long starts the back-off from the beginning.
const STABLE_MS = 5_000;
const TICK_MS = 500;
const STATS_MS = 1_000;
// While there is no live picture, the API is asked for the reason this often.
const ASK_MS = 3_000;
// A picture frozen for so long although the camera sends: this connection is dead.
const DEAD_AFTER_MS = 15_000;
// After a sleep the network is another one more often than not.
const DEAD_AFTER_SLEEP_MS = 4_000;
// A timer that comes so much too late was asleep with the device.
const SLEEP_MS = 10_000;
// A stopped stream may be started by somebody else.
const RETURN_MS = 3_000;
// So many times without a path for media, and MP4 is tried; where there never was one, the first is enough.
const ICE_FAILURES = 2;

/**
 * Emits `change` when `state`, `detail`, `mode` or `stats` are new. States: `connecting`, `live`, `frozen`,
 * `reconnecting`, `stopped`, `error`. `hooks`: `keep()` before the picture is taken away for a new one,
 * `fresh()` at the first frame of a new one, `clear()` when no picture may be shown any more.
 */
export class Player extends EventTarget {
  #video;
  #api;
  #config;
  #camera;
  #log;
  #hooks;
  #audio;
  #starts;
  #frames;
  #reader = new StatsReader();
  #run = null;
  #connection = null;
  #early = null;
  #callbacks = null;
  #spare = null;
  #wake = () => {};
  #slept = false;
  #snapshot = Object.freeze({ state: 'connecting', detail: '', streamId: null, frozenSeconds: 0, mode: 'webrtc', stats: NO_STATS });

  /** `starts`: whether a stream that does not run may be started, or a promise of that. */
  constructor({ video, api, config, camera, log = () => {}, hooks = {}, audio = true, starts = true }) {
    super();
    this.#video = video;
    this.#api = api;
    this.#config = config;
    this.#camera = camera;
    this.#log = log;
    this.#hooks = { keep() {}, fresh() {}, clear() {}, ...hooks };
    this.#audio = audio;
    this.#starts = starts;
    this.#frames = new FrameWatch(video, () => {
      this.#hooks.fresh();
      this.#wake();
    });
  }

  /** What the page shows now; frozen, a new object for each change. */
  get snapshot() {
    return this.#snapshot;
  }

  /** Whether it watches, or tries to. */
  get running() {
    return this.#run !== null;
  }

  /**
   * Starts watching. The stream is started too if it does not run, where that is wanted. Who knows the running one
   * names it, and saves a question. `early` is what `early.js` began for this camera, or another player gave.
   */
  start(streamId = null, early = null) {
    this.#end();
    this.#early = early;
    const run = new AbortController();
    this.#run = run;
    const hurry = () => this.#wake();
    window.addEventListener('online', hurry, { signal: run.signal });
    document.addEventListener('visibilitychange', hurry, { signal: run.signal });
    this.#watchSleep(run.signal);
    this.#set({ state: 'connecting', detail: '', frozenSeconds: 0 });
    this.#frames.attend(run.signal);
    this.#loop(streamId, run.signal).catch((error) => {
      if (!run.signal.aborted) this.#refuse(error.message);
    });
  }

  /** Stops watching; the stream itself goes on for others. */
  stop() {
    this.#end();
    this.#clear();
    this.#log(text.player.byYou);
    this.#set({ state: 'stopped', detail: text.player.byYou, frozenSeconds: 0 });
  }

  /** The page goes away: say goodbye, change nothing on it. */
  leave() {
    this.#end();
  }

  /** Says goodbye and shows nothing any more. */
  release() {
    this.#end();
    this.#clear();
    this.#set({ state: 'connecting', detail: '', frozenSeconds: 0, stats: NO_STATS });
  }

  /** Its live connection for another player, to `start` with, or `null`; this one ends and shows nothing any more. */
  give() {
    const { state, streamId } = this.#snapshot;
    const connection = state === 'live' ? this.#connection : null;
    if (connection) this.#connection = null;
    this.release();
    return connection && { connection, guess: streamId };
  }

  /**
   * A connection without sound, as tiles have, is replaced by one with sound as soon as that has a picture. Rejects with
   * the reason if there is none to be had.
   */
  async withSound() {
    const from = this.#connection;
    if (!from || from.audio || this.#spare) return;
    const next = this.#connect(this.#snapshot.streamId, true);
    this.#spare = next;
    try {
      await new Promise((resolve, reject) => {
        // Decodes, and shows nobody; so the picture does not wait for it.
        const probe = document.createElement('video');
        probe.muted = true;
        probe.onloadeddata = resolve;
        next.attach({
          log: this.#log,
          stream: (stream) => { probe.srcObject = stream; probe.play().catch(() => {}); },
          connected() {},
          lost: ({ reason }) => reject(new Error(reason)),
        });
        next.open();
      });
      if (this.#spare !== next || this.#connection !== from) return;
      this.#spare = null;
      this.#connection = next;
      from.close();
      this.#frames.swap();
      next.attach(this.#callbacks);
    } finally {
      if (this.#spare === next) {
        this.#spare = null;
        next.close();
      }
    }
  }

  #connect(streamId, audio) {
    const { signalingUrl, iceServers } = this.#config;
    return new Connection({ signalingUrl: withToken(signalingUrl), iceServers, camera: this.#camera, streamId, audio });
  }

  #end() {
    this.#run?.abort();
    this.#run = null;
    this.#connection?.close();
    this.#connection = null;
    this.#spare?.close();
    this.#spare = null;
    this.#early?.connection.close();
    this.#early = null;
  }

  #clear() {
    this.#video.srcObject = null;
    this.#hooks.clear();
  }

  // A device that sleeps runs no timers; a clock that jumps ahead of one tells.
  #watchSleep(signal) {
    let last = Date.now();
    const timer = setInterval(() => {
      const now = Date.now();
      // Hidden pages have slow timers without any sleep.
      if (now - last > SLEEP_MS && !document.hidden) {
        this.#log(text.player.asleep);
        this.#slept = true;
        this.#frames.doubt();
        this.#wake();
      }
      last = now;
    }, 1_000);
    signal.addEventListener('abort', () => clearInterval(timer));
  }

  async #loop(known, signal) {
    let mayStart = true;
    let failures = 0;
    let iceFailures = 0;
    let everConnected = false;
    for (;;) {
      let lost;
      try {
        const guessed = known ?? this.#early?.guess ?? null;
        known = null;
        const found = guessed ? this.#found(guessed) : await this.#find(mayStart, signal);
        if (found.gone) {
          await this.#waitForReturn(found.gone, signal);
          failures = 0;
          continue;
        }
        lost = await this.#watch(found.streamId, signal);
        // What was known had become old meanwhile: the server knows better.
        if (guessed && lost.kind === 'refused') continue;
        if (lost.stable) failures = 0;
        everConnected ||= lost.connected;
        iceFailures = lost.kind === 'ice' || (lost.kind === 'browser' && !lost.stable) ? iceFailures + 1 : 0;
      } catch (error) {
        signal.throwIfAborted();
        if (error.status >= 400 && error.status < 500 && ![404, 409, 429].includes(error.status)) throw error;
        lost = { kind: 'server', reason: error.message };
      }
      this.#log(lost.reason);
      // Only a stop by somebody is respected: after a restart of the service, or a failure, the stream is wanted still.
      mayStart = lost.kind !== 'stopped';
      if (lost.kind === 'stopped') continue;
      if (iceFailures >= (everConnected ? ICE_FAILURES : 1) && fallbackOffered() && await this.#watchAsMp4(signal)) {
        failures = 0;
        // It only ends; whether somebody stopped the stream, the server remembers, unless it is a new one.
        const last = await this.#api.lastState(this.#camera, signal).catch(() => null);
        signal.throwIfAborted();
        mayStart = !['stopping', 'stopped'].includes(last?.value);
        continue;
      }
      const seconds = BACKOFF_SECONDS[Math.min(failures, BACKOFF_SECONDS.length - 1)];
      failures += 1;
      const why = navigator.onLine === false ? text.player.offline : lost.reason;
      this.#set({ state: 'reconnecting', detail: text.player.next(sentence(why), seconds), frozenSeconds: 0 });
      await this.#pause(seconds * 1000, signal);
    }
  }

  // The running stream's id, or `gone` with the state and the words to show.
  async #find(mayStart, signal) {
    const stream = this.#early ? await this.#early.running : await this.#api.running(this.#camera, signal);
    signal.throwIfAborted();
    if (stream?.state === 'active' || stream?.state === 'starting') return this.#found(stream.stream_id);
    // What was opened early waits for a stream that does not run.
    this.#early?.connection.close();
    this.#early = null;
    if (mayStart && !stream && !await this.#starts) return { gone: { state: 'stopped', detail: text.player.mayNot } };
    if (!mayStart || !await this.#starts) return { gone: describeEnd(stream ?? await this.#api.failed(this.#camera, signal)) };
    this.#set({ detail: text.player.starting });
    this.#log(text.log.noStream);
    return this.#found(await this.#api.start(this.#camera, signal));
  }

  #found(streamId) {
    this.#set({ streamId });
    return { streamId };
  }

  // Resolves when there is a stream again, or when it is time to start one that had failed.
  async #waitForReturn(gone, signal) {
    this.#log(text.log.ended(gone.detail));
    this.#clear();
    let attempts = 0;
    let startAt = gone.state === 'error' && await this.#starts ? performance.now() + START_AGAIN_SECONDS[0] * 1000 : Infinity;
    for (;;) {
      const seconds = Math.ceil((startAt - performance.now()) / 1000);
      const detail = Number.isFinite(seconds) ? text.player.retryStart(gone.detail, Math.max(1, seconds)) : gone.detail;
      this.#set({ state: gone.state, detail, frozenSeconds: 0, stats: NO_STATS });
      if (performance.now() >= startAt) {
        attempts += 1;
        startAt = performance.now() + START_AGAIN_SECONDS[Math.min(attempts, START_AGAIN_SECONDS.length - 1)] * 1000;
        await this.#api.start(this.#camera, signal).catch((error) => this.#log(error.message));
      } else {
        await this.#pause(RETURN_MS, signal);
      }
      signal.throwIfAborted();
      const found = await this.#find(false, signal).catch(() => null);
      signal.throwIfAborted();
      if (found?.streamId) break;
      // The first words say more of an end than the second.
      if (found?.gone && !(found.gone.state === 'stopped' && gone.state === 'stopped')) gone = found.gone;
    }
    this.#set({ state: 'connecting', detail: text.player.again });
  }

  // Watches over one connection until it is lost: `{kind, reason, stable}`.
  async #watch(streamId, signal) {
    let connected = false;
    let liveSince = null;
    let why = '';
    let lost = null;
    this.#frames.reset();
    this.#slept = false;
    const opened = this.#early !== null;
    this.#connection = this.#early?.connection ?? this.#connect(streamId, this.#audio);
    this.#early = null;
    this.#callbacks = {
      log: this.#log,
      stream: (stream) => this.#show(stream),
      connected: () => { connected = true; },
      lost: (how) => { lost = how; this.#wake(); },
    };
    this.#connection.attach(this.#callbacks);
    if (!opened) this.#connection.open();
    this.#set({ mode: 'webrtc' });

    let nextStats = 0;
    let nextAsk = performance.now() + ASK_MS;
    while (lost === null) {
      const now = performance.now();
      const { peer } = this.#connection;
      if (peer && now >= nextStats) {
        nextStats = now + STATS_MS;
        const stats = await this.#reader.read(peer).catch(() => null);
        signal.throwIfAborted();
        if (stats) this.#frames.onDecoded(stats.framesDecoded);
        if (stats && lost === null) this.#set({ stats });
      }
      if (lost !== null) break;

      const age = this.#frames.age();
      if (age !== null && age <= FROZEN_AFTER_MS) {
        liveSince ??= now;
        why = '';
        this.#slept = false;
        this.#set({ state: 'live', detail: '', frozenSeconds: 0 });
      } else {
        this.#showWaiting(age, connected, why);
        if (this.#slept && age > FROZEN_AFTER_MS + DEAD_AFTER_SLEEP_MS) {
          this.#connection.close();
          lost = { kind: 'media', reason: text.player.asleep };
        } else if (now >= nextAsk) {
          // Not waited for: a server that hangs must not stop the seconds that are counted here.
          nextAsk = Infinity;
          this.#ask(age, signal).then((answer) => {
            nextAsk = performance.now() + ASK_MS;
            why = answer.why;
            if (answer.giveUp && lost === null) {
              this.#connection?.close();
              lost = { kind: answer.giveUp, reason: why };
            }
            this.#wake();
          }, () => {});
        }
      }
      if (lost === null) await this.#pause(TICK_MS, signal);
    }
    this.#connection = null;
    this.#spare?.close();
    this.#spare = null;
    const stable = liveSince !== null && performance.now() - liveSince >= STABLE_MS;
    return { ...lost, stable, connected };
  }

  // Plays without WebRTC until that ends; whether it was worth trying.
  async #watchAsMp4(signal) {
    this.#log(text.player.fallbackTry);
    this.#set({ state: 'connecting', detail: sentence(text.player.fallbackTry), frozenSeconds: 0 });
    this.#keep();
    this.#frames.reset();
    let mode = null;
    const timer = setInterval(() => {
      const age = this.#frames.age();
      if (age === null) return;
      if (age <= FROZEN_AFTER_MS) this.#set({ state: 'live', detail: '', frozenSeconds: 0, mode, stats: { ...NO_STATS, width: this.#video.videoWidth, height: this.#video.videoHeight } });
      else this.#set({ state: 'frozen', frozenSeconds: Math.floor(age / 1000) });
    }, TICK_MS);
    try {
      const how = await playAsMp4(this.#video, this.#api.liveUrl(this.#camera), signal, (way) => { mode = way; });
      this.#log(`${text.player.fallbackEnded}: ${how}`);
    } finally {
      clearInterval(timer);
    }
    return mode !== null;
  }

  #showWaiting(age, connected, why) {
    if (age !== null) {
      this.#set({ state: 'frozen', detail: why, frozenSeconds: Math.floor(age / 1000) });
      return;
    }
    let detail = why || (connected ? text.player.waiting : text.player.opening);
    if (this.#video.srcObject && this.#video.paused && connected) detail = text.player.press;
    // A picture that is only being replaced is not a new beginning.
    const state = this.#snapshot.state === 'reconnecting' ? 'reconnecting' : 'connecting';
    this.#set({ state, detail, frozenSeconds: 0 });
  }

  // Asks the API why there is no picture: words, and whether (as what kind of loss) to give this connection up.
  async #ask(age, signal) {
    let stream;
    try {
      stream = await this.#api.stream(this.#camera, signal);
    } catch (error) {
      signal.throwIfAborted();
      return { why: sentence(error.message), giveUp: null };
    }
    // Signaling says so itself when somebody stops a stream; that it is only missing means that the service is new.
    if (stream?.state !== 'active' && stream?.state !== 'starting') return { why: text.player.ended, giveUp: 'server' };
    if (stream.stream_id !== this.#snapshot.streamId) return { why: text.player.again, giveUp: 'server' };
    const flowing = stream.media?.state === 'flowing';
    if (flowing && age !== null && age > DEAD_AFTER_MS) return { why: text.player.dead, giveUp: 'media' };
    return { why: sentence(describeSilence(stream, flowing)), giveUp: null };
  }

  #show(stream) {
    if (this.#video.srcObject === stream) return;
    this.#keep();
    this.#video.srcObject = stream;
    this.#video.play().catch((error) => {
      if (error.name !== 'AbortError') this.#log(text.log.play(error.message));
    });
  }

  #keep() {
    if (this.#video.videoWidth > 0) this.#hooks.keep();
  }

  #refuse(message) {
    this.#end();
    this.#clear();
    this.#log(text.log.error(message));
    this.#set({ state: 'error', detail: sentence(message), frozenSeconds: 0 });
  }

  #set(changes) {
    const next = { ...this.#snapshot, ...changes };
    if (Object.keys(changes).every((key) => next[key] === this.#snapshot[key])) return;
    const before = this.#snapshot.state;
    this.#snapshot = Object.freeze(next);
    if (next.state !== before) this.#log(text.log.state(text.viewer.states[next.state]));
    this.dispatchEvent(new Event('change'));
  }

  // Resolves after `ms` or when something happens; rejects when aborted.
  #pause(ms, signal) {
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
      this.#wake = done(resolve);
    });
  }
}

function describeEnd(stream) {
  if (stream?.state === 'error') return { state: 'error', detail: sentence(stream.error_message) || text.player.failed };
  return { state: 'stopped', detail: text.player.stopped };
}

function describeSilence(stream, flowing) {
  const why = stream.why_no_picture;
  if (why && why.code !== 'ok') return why.text;
  if (flowing) return text.player.sending;
  return stream.media?.reason || stream.error_message || text.player.nothing;
}
