// Where the page finds the API and the signaling socket.

const DEFAULTS = { apiPort: 8080, signalingPort: 8765, signalingSecure: false, iceServers: [] };

// The credential of a page that was opened by a link; pages of the login have a cookie instead.
const token = new URLSearchParams(location.search).get('token') ?? '';

/** Loads `viewer-config.json` and turns it into addresses: `{apiBase, signalingUrl, iceServers, token}`. */
export async function loadConfig(log = () => {}) {
  const config = await fetchConfig(log);
  const secure = location.protocol === 'https:';
  const apiPort = Number(config.apiPort);
  const ownPort = Number(location.port || (secure ? 443 : 80));
  // A secure page may only open secure sockets, whatever the configuration says.
  const socketScheme = config.signalingSecure || secure ? 'wss' : 'ws';
  const signalingUrl = config.signalingUrl ?? `${socketScheme}://${location.hostname}:${Number(config.signalingPort)}/`;
  const ownApi = apiPort === ownPort ? location.origin : `${location.protocol}//${location.hostname}:${apiPort}`;
  return {
    apiBase: config.apiUrl ?? ownApi,
    signalingUrl: token ? `${signalingUrl}?token=${encodeURIComponent(token)}` : signalingUrl,
    iceServers: config.iceServers,
    token,
  };
}

// Absolute first; relative to the page next, for a page behind a path prefix.
async function fetchConfig(log) {
  for (const path of ['/viewer-config.json', 'viewer-config.json']) {
    try {
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      const response = await fetch(path, { cache: 'no-store', headers });
      if (response.ok) return { ...DEFAULTS, ...(await response.json()) };
      log(`${path}: HTTP ${response.status}`);
    } catch (error) {
      log(`${path}: ${error.message}`);
    }
  }
  log('No viewer-config.json; the default ports are used');
  return DEFAULTS;
}
