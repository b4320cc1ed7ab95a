// A mosquitto of our own, on a free port, with or without mutual TLS; and somebody who listens in.

import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Child } from './child.mjs';

const ATTEMPTS = 5;

/** A TCP port that was free a moment ago. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/**
 * Starts a broker; `certificates` (of makeCertificates) turn mutual TLS on, `fixedPort` is for one that
 * comes back. Gives `{child, port}`.
 */
export async function startBroker(folder, { certificates, fixedPort } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const port = fixedPort ?? await freePort();
    const file = join(folder, `mosquitto-${port}.conf`);
    writeFileSync(file, configuration(port, certificates));
    const child = new Child('mosquitto', 'mosquitto', ['-c', file], { cwd: folder, env: { PATH: `${process.env.PATH}:/usr/sbin` } });
    try {
      await child.errorLine('ready', (line) => /mosquitto version .* running/.test(line));
      return { child, port };
    } catch (error) {
      // Somebody else took the port in between.
      if (attempt === ATTEMPTS || !/in use/i.test(error.message)) throw error;
    }
  }
}

function configuration(port, certificates) {
  const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'persistence false', 'log_dest stderr', 'log_type all'];
  // As root it would drop to a user that cannot read the test's files.
  if (process.getuid?.() === 0) lines.push('user root');
  if (certificates) {
    lines.push(`cafile ${certificates.ca}`, `certfile ${certificates.server.cert}`, `keyfile ${certificates.server.key}`,
      'require_certificate true');
  }
  return `${lines.join('\n')}\n`;
}

/** Listens to `filter`; gives `{child, messages}` once the broker has acknowledged it. */
export async function listen(port, filter) {
  const child = new Child('mosquitto_sub', 'stdbuf',
    ['-oL', 'mosquitto_sub', '-d', '-h', '127.0.0.1', '-p', String(port), '-q', '1', '-t', filter, '-F', 'message %t %p']);
  const messages = [];
  child.on('line', (line) => {
    const found = /^message (\S+) (.*)$/.exec(line);
    if (found) messages.push({ topic: found[1], body: JSON.parse(found[2]) });
  });
  await child.line('subscribed', (line) => /SUBACK/.test(line));
  return { child, messages };
}
