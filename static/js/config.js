// Where the page finds the API and the signaling socket, and the access token of its link.

import { text } from './text.js';

// Pages name this file in the folder of a version, others without one.
const VERSIONED = /\/static\/v-[^/]+\/js\/config\.js$/;

/** The folder that all addresses of the service lie below, also behind a path prefix. */
export const root = new URL(VERSIONED.test(import.meta.url) ? '../../../' : '../../', import.meta.url);

/** `?token=` of the page's link. */
export const token = new URLSearchParams(location.search).get('token');

const DEFAULTS = { apiPort: 8080, signalingPort: 8765, signalingSecure: false, iceServers: [] };

/** Loads `viewer-config.json` and turns it into addresses: `{apiBase, signalingUrl, iceServers}`. */
export async function loadConfig(log = () => {}) {
  const config = await fetchConfig(log);
  const secure = location.protocol === 'https:';
  const apiPort = Number(config.apiPort);
  const ownPort = Number(location.port || (secure ? 443 : 80));
  // A secure page may only open secure sockets, whatever the configuration says.
  const socketScheme = config.signalingSecure || secure ? 'wss' : 'ws';
  const byPort = apiPort === ownPort ? root.href : `${location.protocol}//${location.hostname}:${apiPort}/`;
  return {
    // Relative ones are below the page's own root.
    apiBase: new URL(slashed(config.apiUrl ?? byPort), root).href,
    signalingUrl: socketAddress(config.signalingUrl) ?? `${socketScheme}://${location.hostname}:${Number(config.signalingPort)}/`,
    iceServers: config.iceServers ?? [],
  };
}

function slashed(address) {
  return address.endsWith('/') ? address : `${address}/`;
}

function socketAddress(address) {
  if (!address) return null;
  const url = new URL(address, root);
  url.protocol = url.protocol.replace('http', 'ws');
  return url.href;
}

async function fetchConfig(log) {
  try {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(new URL('viewer-config.json', root), { cache: 'no-store', credentials: 'include', headers });
    if (response.ok) return { ...DEFAULTS, ...(await response.json()) };
    log(`viewer-config.json: HTTP ${response.status}`);
  } catch (error) {
    log(`viewer-config.json: ${error.message}`);
  }
  log(text.log.noConfig);
  return DEFAULTS;
}

/** The same address with the link's token, for what cannot send a header. */
export function withToken(address) {
  const url = new URL(address);
  if (token) url.searchParams.set('token', token);
  return url.href;
}
