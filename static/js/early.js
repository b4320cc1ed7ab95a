// What need not wait for the rest of the page: its configuration, which stream runs, the signaling socket, the offer.
// This module is small and loaded first; the page finds all of it under way.

import { Api } from './api.js';
import { loadConfig, withToken } from './config.js';
import { Connection } from './connection.js';
import { isCameraId } from './dom.js';

// More than these would not be seen.
const MAX_CAMERAS = 16;

/** The cameras of `?camera=`, as they were written. */
export const wantedIn = (search) => [...new Set(new URLSearchParams(search).getAll('camera').flatMap((value) => value.split(','))
  .map((id) => id.trim().toUpperCase()).filter(Boolean))];
export const camerasIn = (search) => wantedIn(search).filter(isCameraId).slice(0, MAX_CAMERAS);
const cameras = camerasIn(location.search);

const lines = [];
let write = (line) => lines.push(line);

/** The page's log; what was said before is written now. */
export function logTo(log) {
  lines.splice(0).forEach(log);
  write = log;
}

/** Resolves with `{config, api, begun}`; `begun` has, by camera, what `Player.start` takes as `early`. */
export const early = loadConfig((line) => write(line)).then(begin);

function begin(config) {
  const api = new Api(config.apiBase);
  const begun = new Map();
  if (cameras.length === 0 || typeof RTCPeerConnection === 'undefined') return { config, api, begun };
  let list;
  const running = (camera) => (list ??= api.streams()).then((streams) => streams.find((stream) => stream.camera_id === camera) ?? null);
  for (const camera of cameras) {
    const found = running(camera);
    const streamId = found.then((stream) => (['active', 'starting'].includes(stream?.state) ? stream.stream_id : null));
    // Whoever starts the player hears of it.
    found.catch(() => {});
    const connection = new Connection({ signalingUrl: withToken(config.signalingUrl), iceServers: config.iceServers, camera, streamId, audio: true });
    connection.open();
    begun.set(camera, { connection, running: found });
  }
  return { config, api, begun };
}
