// A network of a browser's own: a namespace with one cable to this machine, which can be pulled out.

import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXECUTABLE } from './browser.mjs';

const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe' });

/** Why there can be none here, or `false`. */
export function impossible() {
  try {
    ip('netns', 'list');
    return process.getuid() === 0 ? false : 'needs root, for a network namespace';
  } catch (error) {
    return `needs ip: ${error.message}`;
  }
}

/** Gives `{host, executable, cut, mend, close}`: this machine's address on the cable, and a browser that lives at its other end. */
export function makeNetwork(folder) {
  const name = `hc${process.pid}`;
  // Of the range for benchmarks (RFC 2544), which nobody's network has; one network for each process.
  const net = `198.18.${process.pid % 256}`;
  const [host, guest] = [`${net}.1`, `${net}.2`];
  ip('netns', 'add', name);
  try {
    ip('link', 'add', `${name}a`, 'type', 'veth', 'peer', 'name', `${name}b`, 'netns', name);
    // IPv6 would give itself an address a second or two after the cable is in: to Chromium the network has changed then, and it
    // drops what is on its way, perhaps a module of the page.
    ip('link', 'set', `${name}a`, 'addrgenmode', 'none');
    ip('-n', name, 'link', 'set', `${name}b`, 'addrgenmode', 'none');
    ip('address', 'add', `${host}/30`, 'dev', `${name}a`);
    ip('link', 'set', `${name}a`, 'up');
    ip('-n', name, 'address', 'add', `${guest}/30`, 'dev', `${name}b`);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', name, 'link', 'set', `${name}b`, 'up');
  } catch (error) {
    ip('netns', 'delete', name);
    throw error;
  }
  const executable = join(folder, 'chromium-elsewhere');
  writeFileSync(executable, `#!/bin/sh\nexec ip netns exec ${name} ${EXECUTABLE} "$@"\n`);
  chmodSync(executable, 0o755);
  return {
    host,
    executable,
    cut: () => ip('link', 'set', `${name}a`, 'down'),
    mend: () => ip('link', 'set', `${name}a`, 'up'),
    // The cable goes with its namespace.
    close: () => ip('netns', 'delete', name),
  };
}
