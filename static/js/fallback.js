// The picture over HTTP, for networks that let no media through: fragmented MP4 into a media source.

import { text } from './text.js';

// What is behind the live edge by more than this is skipped.
const LATE_SECONDS = 4;
// Played media that is kept.
const KEEP_SECONDS = 20;

/** Whether the server offers it is known after one try; asking again would only fill the console. */
let offered = true;

export const fallbackOffered = () => offered && 'MediaSource' in window;

/**
 * Plays `url` in `video` until it ends or `signal` aborts; `onPlaying` is called when bytes are being shown. Resolves
 * with `missing`, `unsupported`, `ended`, or the error's words.
 */
export async function playOverHttp(video, url, signal, onPlaying) {
  let address = null;
  try {
    const response = await fetch(url, { signal, cache: 'no-store', credentials: 'include' });
    if (response.status === 404) {
      offered = false;
      return 'missing';
    }
    if (!response.ok || !response.body) return `HTTP ${response.status}`;
    const type = contentType(response.headers);
    if (!MediaSource.isTypeSupported(type)) {
      await response.body.cancel();
      return 'unsupported';
    }
    const source = new MediaSource();
    address = URL.createObjectURL(source);
    video.srcObject = null;
    video.src = address;
    await once(source, 'sourceopen', signal);
    const buffer = source.addSourceBuffer(type);
    onPlaying();
    await pump(response.body.getReader(), buffer, video, signal);
    return 'ended';
  } catch (error) {
    signal.throwIfAborted();
    return error.message;
  } finally {
    if (address) {
      video.removeAttribute('src');
      URL.revokeObjectURL(address);
    }
  }
}

function contentType(headers) {
  const type = headers.get('content-type') ?? 'video/mp4';
  const codecs = headers.get('x-codecs');
  return /codecs=/.test(type) || !codecs ? type : `${type.split(';')[0]}; codecs="${codecs}"`;
}

async function pump(reader, buffer, video, signal) {
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
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
  } finally {
    reader.cancel().catch(() => {});
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
