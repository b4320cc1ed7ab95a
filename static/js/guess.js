// The dashboard knows the configuration, and which stream runs, when a tile is clicked. The viewer page takes its word and
// saves two questions; if the stream is an old one by then, the server says so, and it is asked.

const KEY = 'honeycast.opened';

export function leaveGuess(camera, streamId, config) {
  try {
    if (streamId) sessionStorage.setItem(KEY, JSON.stringify({ camera, streamId, config }));
  } catch {
    // Storage may be forbidden; the server is asked then.
  }
}

/** `{streamId, config}` for one page, if the dashboard left one for this camera: it is used once. */
export function takeGuess(camera) {
  try {
    const left = JSON.parse(sessionStorage.getItem(KEY));
    if (left?.camera !== camera || typeof left.streamId !== 'string' || !left.config?.signalingUrl) return null;
    sessionStorage.removeItem(KEY);
    return left;
  } catch {
    return null;
  }
}
