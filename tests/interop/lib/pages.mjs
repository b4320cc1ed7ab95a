// A web server of another origin: one page around one bundled script.

import { createServer } from 'node:http';
import { resolve } from 'node:path';
import { build } from 'esbuild';

/** Serves `clients/{script}` in a page with a video element; gives its address. */
export async function servePage(world, script) {
  const entry = resolve(import.meta.dirname, '../clients', script);
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format: 'iife', logLevel: 'error' });
  const page = '<!doctype html><meta charset="utf-8"><video id="video" autoplay muted playsinline></video><script src="/script.js"></script>';
  const server = createServer((request, response) => {
    const isScript = request.url === '/script.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? outputFiles[0].text : page);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  world.adopt({ stop: () => server.closeAllConnections() ?? server.close(), describe: () => `--- page server for ${script}` });
  return `http://127.0.0.1:${server.address().port}/`;
}
