// The picture for networks that let no media through: fragmented MP4 into a media source, over a WebSocket, or over HTTP
// where no socket is let through either.

import { text } from './text.js';

// A proxy that knows no sockets may say nothing at all.
const OPEN_MS = 5_000;
// What waits for a browser that takes nothing.
const MAX_WAITING_BYTES = 16 << 20;
// What is behind the live edge by more than this is skipped.
const LATE_SECONDS = 4;
// Played media that is kept.
const KEEP_SECONDS = 20;

/** iPhones have the managed one only. */
const Source = window.MediaSource ?? window.ManagedMediaSource;

/** Whether the server offers it is known after one try; asking again would only fill the console. */
let offered = true;

export const fallbackOffered = () => offered && Boolean(Source);

/**
 * Plays `url` in `video` until it ends or `signal` aborts; `onPlaying` is called with `websocket` or `http` when bytes are
 * being shown. Resolves with `missing`, `unsupported`, `ended`, or the error's words.
 */
export async function playAsMp4(video, url, signal, onPlaying) {
  let address = null;
  let reader = null;
  try {
    const live = await overSocket(url, signal) ?? await overHttp(url, signal);
    if (typeof live === 'string') return live;
    reader = live.reader;
    const source = new Source();
    address = URL.createObjectURL(source);
    video.srcObject = null;
    // Without this, the managed one does not open.
    video.disableRemotePlayback = true;
    video.src = address;
    await once(source, 'sourceopen', signal);
    return await pump(live, source, video, signal, onPlaying);
  } catch (error) {
    signal.throwIfAborted();
    return error.message;
  } finally {
    reader?.cancel().catch(() => {});
    if (address) {
      video.removeAttribute('src');
      URL.revokeObjectURL(address);
    }
  }
}

/** A reader of texts, which name the codecs of what follows, and bytes; `null` where no socket opens. */
async function overSocket(url, signal) {
  const socket = new WebSocket(url.replace(/^http/, 'ws'));
  socket.binaryType = 'arraybuffer';
  const silent = () => { socket.onmessage = socket.onclose = null; };
  const body = new ReadableStream({
    start(controller) {
      socket.onclose = () => controller.close();
      socket.onmessage = ({ data }) => {
        controller.enqueue(data);
        if (controller.desiredSize >= 0) return;
        silent();
        socket.close();
        controller.error(new Error(text.player.unplayable));
      };
    },
    cancel() {
      silent();
      // Closing it before it is open would be an error in the console.
      if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
      else socket.close();
    },
  }, { highWaterMark: MAX_WAITING_BYTES, size: (data) => data.byteLength ?? 0 });
  const reader = body.getReader();
  const timer = setTimeout(() => socket.close(), OPEN_MS);
  try {
    await once(socket, 'open', signal);
    return { mode: 'websocket', reader };
  } catch {
    reader.cancel().catch(() => {});
    signal.throwIfAborted();
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/** A reader of bytes and their type, or why there is none. */
async function overHttp(url, signal) {
  const response = await fetch(url, { signal, cache: 'no-store', credentials: 'include' });
  if (response.status === 404) {
    offered = false;
    return 'missing';
  }
  if (!response.ok || !response.body) return text.api.http(response.status);
  return { mode: 'http', reader: response.body.getReader(), type: response.headers.get('content-type') };
}

async function pump({ mode, reader, type }, source, video, signal, onPlaying) {
  let buffer = null;
  const begin = (next) => {
    if (!Source.isTypeSupported(next)) return false;
    if (buffer) buffer.changeType(next);
    else {
      buffer = source.addSourceBuffer(next);
      onPlaying(mode);
    }
    return true;
  };
  if (type && !begin(type)) return 'unsupported';
  for (;;) {
    const { done, value } = await reader.read();
    signal.throwIfAborted();
    if (done) return 'ended';
    if (typeof value === 'string') {
      if (!begin(`video/mp4; codecs="${JSON.parse(value).codecs}"`)) return 'unsupported';
      continue;
    }
    buffer.appendBuffer(value);
    await once(buffer, 'updateend', signal);
    const ranges = video.buffered;
    if (ranges.length === 0) continue;
    const end = ranges.end(ranges.length - 1);
    const start = ranges.start(ranges.length - 1);
    if (video.currentTime < start || end - video.currentTime > LATE_SECONDS) video.currentTime = Math.max(start, end - 0.5);
    if (video.paused) video.play().catch(() => {});
    if (video.currentTime - ranges.start(0) > KEEP_SECONDS * 2) {
      buffer.remove(0, video.currentTime - KEEP_SECONDS);
      await once(buffer, 'updateend', signal);
    }
  }
}

function once(target, name, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      target.removeEventListener(name, done);
      target.removeEventListener('error', failed);
      signal.removeEventListener('abort', aborted);
    };
    const done = () => { end(); resolve(); };
    const failed = () => { end(); reject(new Error(text.player.unplayable)); };
    const aborted = () => { end(); reject(signal.reason); };
    target.addEventListener(name, done);
    target.addEventListener('error', failed);
    signal.addEventListener('abort', aborted);
  });
}
