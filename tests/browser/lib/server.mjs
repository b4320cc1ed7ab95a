// The binary under test, configured by environment variables alone.

import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { Child } from './child.mjs';
import { until } from './until.mjs';

export const BINARY = resolve(process.env.HONEYCAST_BIN ?? resolve(import.meta.dirname, '../../../target/debug/honeycast'));

/** System-chosen ports on the loopback address. */
export const LOOPBACK = {
  API_SERVER_HOST: '127.0.0.1',
  API_SERVER_PORT: '0',
  SIGNALING_SERVER_HOST: '127.0.0.1',
  SIGNALING_SERVER_PORT: '0',
  DASHBOARD_SERVER_HOST: '127.0.0.1',
  DASHBOARD_SERVER_PORT: '0',
  VIEWER_UDP_PORT: '0',
  CAMERA_RTP_VIDEO_PORT: '0',
  CAMERA_RTCP_PORT: '0',
  CAMERA_RTP_AUDIO_PORT: '0',
  LOCAL_IP: '127.0.0.1',
  EXTERNAL_IP: '127.0.0.1',
  EMQX_BROKER_HOST: '127.0.0.1',
};

/** Starts it and waits until it says `ready {…}` with its real addresses. */
export async function startServer(folder, env = {}, command = 'run') {
  const child = new Child(`honeycast ${command}`, BINARY, [command], { cwd: folder, env: { ...LOOPBACK, ...env } });
  const addresses = await child.line('ready', (line) => line.startsWith('ready {') && JSON.parse(line.slice('ready '.length)));
  return new Server(child, addresses);
}

class Server {
  constructor(child, addresses) {
    this.child = child;
    this.addresses = addresses;
    this.api = `http://${addresses.api}`;
    this.dashboard = `http://${addresses.dashboard}`;
  }

  get(path) {
    return this.#call('GET', path);
  }

  post(path, body) {
    return this.#call('POST', path, body);
  }

  start(camera) {
    return this.post(`/streams/${camera}/start`);
  }

  async viewerCount(camera) {
    return (await this.get(`/viewers/${camera}`)).body.count;
  }

  /** Waits until a start can succeed. */
  brokerConnected() {
    return until('the server is connected to the broker', async () => (await this.get('/health')).body.status === 'healthy');
  }

  // Every answer is JSON, whatever the status, and comes within 10 s.
  async #call(method, path, body) {
    const response = await fetch(this.api + path, {
      method,
      body: body && JSON.stringify(body),
      headers: body && { 'content-type': 'application/json' },
      signal: AbortSignal.timeout(10_000),
    });
    const text = await response.text();
    assert.match(response.headers.get('content-type') ?? '', /^application\/json/, `${method} ${path}: ${text}`);
    return { status: response.status, text, body: JSON.parse(text) };
  }
}
