// A bad path between one browser and the server: seeded loss, delay, jitter and a token bucket towards the browser.

import { createSocket } from 'node:dgram';

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const bound = (socket) => new Promise((resolve, reject) => {
  socket.once('error', reject);
  socket.bind(0, '127.0.0.1', () => resolve(socket));
});

/**
 * Relays UDP of browsers on 127.0.0.1 to `serverPort`. `path` may be changed at any time: `loss` (0 to 1), `delayMs`,
 * `jitterMs` (uniform; packets overtake each other), `bitsPerSecond`, `bucketBytes` (at once), `queueMs` (what does not
 * fit is lost); all of it towards the browser.
 */
export async function startRelay(serverPort, seed = 1) {
  const front = await bound(createSocket('udp4'));
  const back = new Map();
  const next = random(seed);
  const relay = { port: front.address().port, path: {}, forwarded: 0, lost: 0, bytes: 0, close };
  let freeAt = 0;

  function toBrowser(datagram, port) {
    const { loss = 0, delayMs = 0, jitterMs = 0, bitsPerSecond, bucketBytes = 3_000, queueMs = 10_000 } = relay.path;
    const now = performance.now();
    let wait = delayMs + jitterMs * next();
    if (bitsPerSecond) {
      const ms = (bytes) => (bytes * 8_000) / bitsPerSecond;
      const begins = Math.max(freeAt, now - ms(bucketBytes));
      if (begins - now > queueMs) return void (relay.lost += 1);
      freeAt = begins + ms(datagram.length);
      wait += Math.max(0, freeAt - now);
    }
    if (next() < loss) return void (relay.lost += 1);
    relay.forwarded += 1;
    relay.bytes += datagram.length;
    if (wait < 0.5) front.send(datagram, port, '127.0.0.1');
    else setTimeout(() => closed || front.send(datagram, port, '127.0.0.1'), wait);
  }

  let closed = false;
  front.on('message', async (datagram, { port }) => {
    if (!back.has(port)) {
      const socket = createSocket('udp4');
      back.set(port, bound(socket));
      socket.on('message', (answer) => closed || toBrowser(answer, port));
    }
    const socket = await back.get(port);
    if (!closed) socket.send(datagram, serverPort, '127.0.0.1');
  });

  async function close() {
    closed = true;
    front.close();
    for (const socket of back.values()) (await socket).close();
  }
  return relay;
}

/** Makes the page reach the server's media through the relay only: rewrites the candidates in what it is told. */
export function throughRelay(page, serverPort, relay) {
  const rewrite = (line) => line.replace(/ (udp) (\d+) (\S+) (\d+) typ host/gi, (all, protocol, priority, ip, port) =>
    Number(port) === serverPort ? ` ${protocol} ${priority} 127.0.0.1 ${relay.port} typ host` : all);
  return page.routeWebSocket(/./, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => server.send(message));
    server.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.sdpAnswer) {
        message.sdpAnswer = message.sdpAnswer.split('\r\n').filter((line) => !/^a=candidate:.* tcp /i.test(line)).map(rewrite).join('\r\n');
      }
      if (message.candidate?.candidate) {
        if (/ tcp /i.test(message.candidate.candidate)) return;
        message.candidate.candidate = rewrite(message.candidate.candidate);
      }
      socket.send(JSON.stringify(message));
    });
  });
}
