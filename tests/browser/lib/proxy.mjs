// A reverse proxy as sites have them: everything under one path prefix of one address.

import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { connect } from 'node:net';

/**
 * Pages are below `prefix`, the API below `prefix + api/`, signaling below `prefix + signaling/`; by TLS with a `certificate`
 * (`{key, cert}`). Gives `{url, seen, close}`.
 */
export async function startProxy(server, prefix, certificate = null) {
  const targets = [[`${prefix}api/`, server.addresses.api], [`${prefix}signaling/`, server.addresses.signaling], [prefix, server.addresses.dashboard]];
  const seen = [];
  const find = (url) => {
    const [from, to] = targets.find(([start]) => url.startsWith(start)) ?? [];
    return to && { host: to, path: `/${url.slice(from.length)}` };
  };
  const http = certificate ? createSecureServer({ key: readFileSync(certificate.key), cert: readFileSync(certificate.cert) }) : createServer();
  http.on('request', (incoming, outgoing) => {
    seen.push(incoming.url);
    const target = find(incoming.url);
    if (!target) return outgoing.writeHead(404).end();
    const [hostname, port] = target.host.split(':');
    const upstream = request({ hostname, port, path: target.path, method: incoming.method, headers: incoming.headers }, (answer) => {
      if (target.path !== '/viewer-config.json') {
        outgoing.writeHead(answer.statusCode, answer.headers);
        return answer.pipe(outgoing);
      }
      // What the service says of its public addresses, where they are configured.
      let text = '';
      answer.on('data', (part) => { text += part; });
      answer.on('end', () => outgoing.setHeader('content-type', 'application/json').end(JSON.stringify({ ...JSON.parse(text), apiUrl: 'api', signalingUrl: 'signaling/' })));
      return answer;
    });
    upstream.on('error', () => outgoing.destroy());
    outgoing.on('close', () => upstream.destroy());
    return incoming.pipe(upstream);
  });
  http.on('upgrade', (incoming, socket, head) => {
    seen.push(incoming.url);
    const target = find(incoming.url);
    const [hostname, port] = target.host.split(':');
    const upstream = connect(Number(port), hostname, () => {
      const headers = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
      upstream.write(`GET ${target.path} HTTP/1.1\r\n${headers}\r\n`);
      upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
  });
  await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
  return {
    url: `${certificate ? 'https' : 'http'}://127.0.0.1:${http.address().port}${prefix}`,
    seen,
    close: () => {
      http.close();
      http.closeAllConnections();
    },
  };
}
