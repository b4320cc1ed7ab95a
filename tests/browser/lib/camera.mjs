// The simulated camera, as a process of its own.

import { Child } from './child.mjs';
import { BINARY } from './server.mjs';

/**
 * Starts a camera and waits until its broker knows it. `tls`: `{ca, cert, key, serverName}`.
 * `args` are further options of `honeycast simulate-camera`.
 */
export async function startCamera(folder, { id, broker, tls, bind = '127.0.0.1', seed = 7, args = [] }) {
  const child = new Child(`camera ${id.slice(0, 8)}`, BINARY, [
    'simulate-camera', '--broker', `127.0.0.1:${broker}`, '--camera-id', id, '--seed', String(seed), '--bind', bind,
    '--report', 'json', ...tlsArguments(tls), ...args,
  ], { cwd: folder });
  const camera = new Camera(child);
  await camera.report('connected to the broker', (report) => report.mqtt_connected);
  return camera;
}

function tlsArguments(tls) {
  if (!tls) return [];
  return ['--ca-cert', tls.ca, '--client-cert', tls.cert, '--client-key', tls.key, '--server-name', tls.serverName];
}

class Camera {
  constructor(child) {
    this.child = child;
  }

  /** The first report, past or to come, that `accept` likes. */
  report(what, accept, within) {
    return this.child.line(what, (line) => {
      if (!line.startsWith('{')) return null;
      const report = JSON.parse(line);
      return accept(report) ? report : null;
    }, within);
  }
}
