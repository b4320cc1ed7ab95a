// The viewer page as people use it, and what it does when things fail: each fault is really done.

import assert from 'node:assert/strict';
import { decodesMore, inState, snapshot } from './lib/browser.mjs';
import { accessible, fits, liveTiles, quiet } from './lib/pages.mjs';
import { startProxy } from './lib/proxy.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const viewerUrl = (server, ...ids) => `${server.dashboard}/livestream/viewer?${ids.map((id) => `camera=${id}`).join('&')}`;

scenario('zoom, pan, snapshot, figures, sound and link, by mouse and by keys', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await inState(page, 'live');
  const stage = page.locator('#stage');
  const transform = () => page.evaluate(() => document.querySelector('.picture').style.transform);

  await stage.focus();
  await page.keyboard.press('+');
  assert.match(await transform(), /scale\(1\.25\)/);
  const before = await transform();
  await page.keyboard.press('ArrowLeft');
  assert.notEqual(await transform(), before, 'the arrow keys move a zoomed picture');
  await page.keyboard.press('0');
  assert.equal(await transform(), '');
  await stage.hover();
  await page.mouse.wheel(0, -600);
  await until('the wheel zooms', async () => /scale\(/.test(await transform()));
  await page.getByRole('button', { name: 'Whole picture' }).click();
  assert.equal(await transform(), '');

  await stage.focus();
  await page.keyboard.press('i');
  await until('the figures are there', async () => {
    const text = await page.locator('.figures').innerText();
    return /Resolution\s+1280 × 720/.test(text) && /H264 Constrained Baseline 3\.1/.test(text) && /AES_128_GCM/.test(text) && /host, UDP/.test(text) && /Frame rate\s+2\d fps/.test(text);
  });
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Snapshot' }).click()]);
  assert.match(download.suggestedFilename(), new RegExp(`^${id}_\\d{4}-\\d{2}-\\d{2}_\\d{2}-\\d{2}-\\d{2}\\.png$`));
  await page.keyboard.press('m');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByRole('button', { name: 'Copy link' }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), viewerUrl(server, id));
  await page.getByRole('button', { name: 'Turn sound on' }).click();
  await page.getByRole('button', { name: 'Turn sound off' }).waitFor();
  assert.equal(await page.evaluate(() => document.getElementById('video').muted), false);
  await accessible(page, 'viewer');
  await fits(page, 320);
  quiet(page);
});

scenario('volume, full screen, picture in picture, zoom by drag and double click, and what every figure says', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await inState(page, 'live');
  const video = (what) => page.evaluate((name) => document.getElementById('video')[name], what);

  assert.equal(await video('muted'), true, 'no page makes a noise by itself');
  await page.getByLabel('Volume').fill('0.3');
  assert.deepEqual([await video('volume'), await video('muted')], [0.3, false]);
  await page.getByLabel('Volume').fill('0');
  await page.getByRole('button', { name: 'Turn sound on' }).waitFor();
  await page.getByLabel('Volume').fill('0.4');

  await page.locator('#stage').focus();
  await page.keyboard.press('f');
  await until('full screen', () => page.evaluate(() => document.fullscreenElement?.classList.contains('pane')));
  await page.getByRole('button', { name: 'End full screen' }).click();
  await until('and back', () => page.evaluate(() => document.fullscreenElement === null));

  await page.getByRole('button', { name: 'Picture in picture' }).click();
  await until('it has left the page', () => page.evaluate(() => document.pictureInPictureElement?.id === 'video'));
  await decodesMore(page);
  await page.getByRole('button', { name: 'Picture in picture' }).click();
  await until('it is back', () => page.evaluate(() => document.pictureInPictureElement === null));

  const place = () => page.evaluate(() => document.querySelector('.picture').style.transform);
  const box = await page.locator('#stage').boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.dblclick(x, y);
  assert.match(await place(), /scale\(2\.5\)/);
  const before = await place();
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x + 80, y + 40, { steps: 4 });
  await page.mouse.up();
  assert.notEqual(await place(), before);
  await page.mouse.dblclick(x, y);
  assert.equal(await place(), '');

  await page.getByRole('button', { name: 'Figures' }).click();
  const expected = {
    Transport: /^WebRTC$/, Resolution: /^\d+ × \d+$/, 'Frame rate': /^\d+ fps$/, Bitrate: /^[\d.]+ [kM]bit\/s$/, Loss: /^[\d.]+ %$/, 'Packets lost': /^\d+$/, 'Packets repaired': /^\d+$/,
    Jitter: /^(< )?[\d.]+ ms$/, 'Round trip': /^(< )?[\d.]+ ms$/, 'Delay here': /^(< )?[\d.]+ ms$/, 'Frames decoded': /^[\d,]+$/, 'Frames dropped': /^\d+$/, Freezes: /^\d+$/,
    Codec: /^H264 Constrained Baseline [\d.]+ \(42[0-9a-f]{4}\), opus$/, Decoder: /^(not told by this browser|\w+)$/, Route: /^(host|srflx|prflx) → host, UDP$/, SRTP: /^SRTP_AEAD_AES_128_GCM$/, DTLS: /^TLS_/,
  };
  await until('every figure has its value', async () => {
    const rows = await page.locator('.figures > div').evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent)));
    assert.deepEqual(rows.map(([label]) => label), Object.keys(expected));
    for (const [label, value] of rows) assert.match(value, expected[label], label);
    return true;
  });

  await page.reload();
  await inState(page, 'live');
  assert.deepEqual([await video('volume'), await video('muted')], [0.4, true], 'the volume is remembered');
  quiet(page);
});

scenario('a picture is enlarged by two fingers', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id), { hasTouch: true, viewport: { width: 390, height: 844 } });
  await inState(page, 'live');
  const box = await page.locator('#stage').boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const session = await page.context().newCDPSession(page);
  const touch = (type, gap) => session.send('Input.dispatchTouchEvent', { type, touchPoints: type === 'touchEnd' ? [] : [{ x: x - gap, y, id: 0 }, { x: x + gap, y, id: 1 }] });
  await touch('touchStart', 30);
  for (const gap of [45, 60, 75, 90]) await touch('touchMove', gap);
  await touch('touchEnd');
  await until('it is larger', () => page.evaluate(() => Number(/scale\(([\d.]+)\)/.exec(document.querySelector('.picture').style.transform)?.[1] ?? 1) > 1.5));
  quiet(page);
});

scenario('two cameras in one page: one stops, the other plays on, leaving frees both', async (world) => {
  const { server, broker, id } = await world.site();
  const other = world.cameraId();
  await world.camera({ id: other, broker: broker.port });
  await fetch(`${server.api}/cameras/${other}`, { method: 'PUT', body: JSON.stringify({ name: 'Yard' }) });
  const page = await world.page(await world.browser(), viewerUrl(server, id, other));
  const states = () => page.evaluate(() => window.honeycast.states.join());
  await until('both are live', async () => (await states()) === 'live,live');
  await accessible(page, 'two cameras');
  await page.getByRole('region', { name: 'Yard' }).getByRole('button', { name: 'Stop watching', exact: true }).click();
  await until('one is stopped', async () => (await states()) === 'live,stopped' && (await server.viewerCount(other)) === 0);
  await decodesMore(page);
  quiet(page);
  await page.close({ runBeforeUnload: true });
  await until('nobody is counted', async () => (await server.get('/health')).body.total_viewers === 0);
});

scenario('the pages work by https behind a proxy with a path prefix, and pass the token of their link on', async (world) => {
  const { server, id } = await world.site();
  const proxy = world.closing(await startProxy(server, '/cams/', world.certificates().server));
  const page = await world.page(await world.browser(), null, { ignoreHTTPSErrors: true });
  const calls = [];
  page.on('request', (request) => calls.push(request));
  await page.goto(`${proxy.url}livestream/viewer?camera=${id}&token=secret-1`);
  await inState(page, 'live');
  const socket = proxy.seen.find((path) => path.startsWith('/cams/signaling/'));
  assert.equal(new URL(socket, proxy.url).searchParams.get('token'), 'secret-1');
  const call = calls.find((one) => one.url().startsWith(`${proxy.url}api/streams`));
  assert.equal((await call.allHeaders()).authorization, 'Bearer secret-1');
  await page.goto(proxy.url);
  await liveTiles(page, 1);
  await page.getByRole('link', { name: `Watch camera ${id}` }).click();
  await inState(page, 'live');
  assert.equal(page.url(), `${proxy.url}#/watch/${id}`);
  quiet(page);
  assert.deepEqual(proxy.seen.filter((path) => !path.startsWith('/cams/')), []);
  assert.deepEqual(calls.map((one) => one.url()).filter((url) => !url.startsWith(proxy.url)), []);
});

scenario('without a valid login the pages lead to it, and a bad token is said', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), null);
  await page.route(`${server.api}/**`, (route) => route.fulfill({ status: 401, json: { error: 'Login required' }, headers: { 'access-control-allow-origin': server.dashboard, 'access-control-allow-credentials': 'true', 'access-control-allow-headers': 'authorization' } }));
  await page.route((url) => url.pathname === '/login', (route) => route.fulfill({ contentType: 'text/html', body: '<title>Login</title>' }));
  // The page leaves while it loads.
  const visit = (url) => page.goto(url, { waitUntil: 'commit' });
  await visit(viewerUrl(server, id));
  await page.waitForURL(/\/login\?/);
  assert.equal(new URL(page.url()).searchParams.get('next'), `/livestream/viewer?camera=${id}`);
  await visit(`${server.dashboard}/#/system`);
  await page.waitForURL(/\/login\?/);
  assert.equal(new URL(page.url()).searchParams.get('next'), '/#/system');
  await visit(`${viewerUrl(server, id)}&token=old`);
  const shown = await inState(page, 'error');
  assert.match(shown.detail, /access token of this link is not valid/);
});

scenario('the service restarts: the page says so, starts the stream again and is live without a touch', async (world) => {
  const ports = {};
  const { broker, server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await inState(page, 'live');
  for (const [key, name] of [['API_SERVER_PORT', 'api'], ['SIGNALING_SERVER_PORT', 'signaling'], ['DASHBOARD_SERVER_PORT', 'dashboard']]) ports[key] = server.addresses[name].split(':')[1];
  await server.child.stop('SIGTERM');
  const waiting = await inState(page, 'reconnecting');
  assert.match(waiting.detail, /restarting or shutting down|cannot be reached/);
  assert.match(waiting.detail, /\. Next attempt in \d+ s\.$/);
  assert.doesNotMatch(waiting.detail, /[.?!]\./);
  const again = await world.server({ EMQX_BROKER_PORT: String(broker.port), ...ports });
  await inState(page, 'live', 40_000);
  await decodesMore(page);
  // Killed, it cannot say goodbye.
  await again.child.stop('SIGKILL');
  await inState(page, 'reconnecting');
  await world.server({ EMQX_BROKER_PORT: String(broker.port), ...ports });
  await inState(page, 'live', 40_000);
  await decodesMore(page);
  assert.deepEqual(page.problems, []);
}, { timeout: 180_000 });

scenario('a stream that somebody stops is not started again by the page, but shown when it runs again', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await inState(page, 'live');
  assert.equal((await server.post(`/streams/${id}/stop`)).status, 200);
  await inState(page, 'stopped');
  let asked = 0;
  page.on('request', (request) => { if (request.url().endsWith('/streams')) asked += 1; });
  await until('the page has looked twice', () => asked >= 2);
  assert.equal((await server.get('/streams')).body.count, 0);
  assert.equal((await server.start(id)).status, 201);
  await inState(page, 'live');
  quiet(page);
});

scenario('nothing arrives for ten seconds: frozen, said with its seconds, and live again by itself', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await inState(page, 'live');
  // To the page, a server that stands still is a network that is cut: nothing is answered, nothing is closed.
  server.child.kill('SIGSTOP');
  try {
    await page.context().setOffline(true);
    await inState(page, 'frozen');
    assert.match(await page.locator('#status-text').innerText(), /^Frozen for \d+ s$/);
    const filter = await page.evaluate(() => getComputedStyle(document.getElementById('video')).filter);
    assert.notEqual(filter, 'none', 'a stale picture does not look live');
    await until('it says that the network is gone', async () => /no network|interrupted/.test((await snapshot(page)).detail), 30_000);
    assert.equal((await snapshot(page)).state, 'reconnecting');
  } finally {
    server.child.kill('SIGCONT');
    await page.context().setOffline(false);
  }
  await inState(page, 'live', 30_000);
  await decodesMore(page);
  await until('only one viewer is left', async () => (await server.viewerCount(id)) === 1, 40_000);
  assert.deepEqual(page.problems, []);
});

scenario('a device that was asleep doubts its picture, and leaves a dead connection at once', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await inState(page, 'live');
  // To the page a sleep is a clock that has jumped ahead between two ticks of its timer.
  const sleep = () => page.evaluate(() => {
    const real = Date.now;
    Date.now = () => real() + 3_600_000;
  });
  const slept = () => page.locator('#log li', { hasText: 'This device was asleep' }).count();
  await sleep();
  await until('it has noticed', async () => (await slept()) === 1);
  await inState(page, 'live');
  assert.equal(await server.viewerCount(id), 1, 'a connection that still works is kept');
  server.child.kill('SIGSTOP');
  try {
    await sleep();
    await inState(page, 'reconnecting');
    assert.equal(await slept(), 3, 'noticed again, and given as the reason');
  } finally {
    server.child.kill('SIGCONT');
  }
  await inState(page, 'live', 30_000);
  assert.deepEqual(page.problems, []);
});

scenario('the broker is away: a running picture stays live, a start says what is wrong and goes on by itself', async (world) => {
  const { server, broker, id } = await world.site();
  const browser = await world.browser();
  const page = await world.page(browser, viewerUrl(server, id));
  await inState(page, 'live');
  const other = world.cameraId();
  await broker.child.stop('SIGKILL');
  await until('the loss is noticed', async () => (await server.get('/health')).body.status === 'degraded');
  await decodesMore(page);
  assert.equal((await snapshot(page)).state, 'live');
  const second = await world.page(browser, viewerUrl(server, other));
  const waiting = await inState(second, 'reconnecting');
  assert.match(waiting.detail, /^MQTT broker is not connected.*[^?.]\. Next attempt in \d+ s\.$|\? Next attempt in \d+ s\.$/);
  await world.broker({ fixedPort: broker.port });
  await world.camera({ id: other, broker: broker.port });
  await inState(second, 'live', 60_000);
}, { timeout: 150_000 });

scenario('a camera that is away: the reason in words, and live when it connects', async (world) => {
  const { server, broker } = await world.site({ env: { STREAM_START_TIMEOUT: '5' } });
  const id = world.cameraId();
  const page = await world.page(await world.browser(), viewerUrl(server, id));
  await until('the page says what is known', async () => /has not sent a packet|no packet/i.test((await snapshot(page)).detail));
  const failed = await inState(page, 'error', 30_000);
  assert.match(failed.detail, /Starting it again in \d+ s\.$/);
  await world.camera({ id, broker: broker.port });
  await inState(page, 'live', 60_000);
}, { timeout: 150_000 });

/** A page that no candidate of the server reaches, as behind a wall that lets no UDP through. */
async function behindAWall(world, server, options) {
  const page = await world.page(await world.browser(), null, options);
  await page.routeWebSocket((url) => url.port === server.addresses.signaling.split(':')[1], (socket) => {
    const upstream = socket.connectToServer();
    upstream.onMessage((message) => {
      const parsed = JSON.parse(message);
      if (parsed.type === 'iceCandidate') return;
      if (parsed.sdpAnswer) parsed.sdpAnswer = parsed.sdpAnswer.replace(/a=candidate:.*\r\n/g, 'a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n');
      socket.send(JSON.stringify(parsed));
    });
  });
  return page;
}

const playsBy = (page, mode) => async () => (await page.evaluate(() => window.honeycast.mode)) === mode && (await snapshot(page)).state === 'live';

scenario('where no media gets through, the picture comes over a WebSocket and the page says so', async (world) => {
  const { server, id } = await world.site();
  const page = await behindAWall(world, server);
  await page.goto(viewerUrl(server, id));
  const plays = playsBy(page, 'websocket');
  await until('it plays over a WebSocket', plays, 60_000);
  await page.getByText('Over WebSocket, some seconds late').waitFor();
  const [viewer] = (await server.get(`/viewers/${id}`)).body.viewers;
  assert.equal(viewer.stats.protocol, 'websocket');
  server.child.kill('SIGSTOP');
  try {
    await inState(page, 'frozen');
    assert.match(await page.locator('#status-text').innerText(), /^Frozen for \d+ s$/, 'what stands still is not live, without WebRTC neither');
  } finally {
    server.child.kill('SIGCONT');
  }
  await until('it plays on', plays);
  assert.equal((await server.post(`/streams/${id}/stop`)).status, 200);
  await inState(page, 'stopped');
  assert.equal((await server.get('/streams')).body.count, 0, 'what somebody stopped stays stopped');
  assert.deepEqual(page.problems, []);
}, { timeout: 150_000 });

scenario('where no socket for the picture gets through either, it comes over HTTP', async (world) => {
  const { server, id } = await world.site();
  const refuse = () => {
    const Socket = window.WebSocket;
    window.WebSocket = class extends Socket {
      constructor(url) {
        super(/live\.mp4/.test(url) ? 'ws://127.0.0.1:9/' : url);
      }
    };
  };
  const page = await behindAWall(world, server, { before: [refuse] });
  await page.goto(viewerUrl(server, id));
  await until('it plays over HTTP', playsBy(page, 'http'), 60_000);
  await page.getByText('Over HTTP, some seconds late').waitFor();
  const [viewer] = (await server.get(`/viewers/${id}`)).body.viewers;
  assert.equal(viewer.stats.protocol, 'http');
  assert.deepEqual(page.problems, []);
}, { timeout: 150_000 });

scenario('a page one of whose modules could not be fetched says so and loads itself again', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), null);
  let refused = 0;
  await page.route(/\/js\/zoom\.js$/, (route) => {
    refused += 1;
    return refused <= 2 ? route.abort() : route.continue();
  });
  await page.goto(viewerUrl(server, id));
  await page.getByText('Parts of this page could not be loaded.').waitFor();
  await inState(page, 'live', 60_000);
  assert.ok(refused > 2);
  assert.equal(await page.evaluate(() => sessionStorage.getItem('honeycast.reloads')), '0', 'the next fault is a first one');
});

scenario('the still is there first, dimmed or marked, and never called live', async (world) => {
  const { server, id } = await world.site();
  const proxy = world.closing(await startProxy(server, '/'));
  const page = await world.page(await world.browser(), null);
  assert.equal((await server.start(id)).status, 201);
  await until('there is a keyframe', async () => (await server.get('/streams')).body.streams[0].media.last_keyframe_at);

  await page.goto(proxy.url);
  await page.getByLabel('Pictures').selectOption('click');
  await page.reload();
  const has = () => page.evaluate(() => document.querySelector('.picture').dataset.has);
  await until('the tile has its still', async () => (await has()) === 'still');
  assert.equal(await page.locator('.badge').innerText(), 'Running');
  assert.equal(await server.viewerCount(id), 0, 'nothing is connected for a still');
  await accessible(page, 'a tile with a still');
  await page.getByRole('button', { name: `Show camera ${id} live here` }).click();
  await liveTiles(page, 1);
  assert.equal(await has(), 'live');

  // Signaling that answers nothing: what is seen is the still, and the page says so.
  await page.routeWebSocket(/signaling/, () => {});
  await page.goto(`${proxy.url}livestream/viewer?camera=${id}`);
  await until('the viewer has its still', async () => (await has()) === 'still');
  assert.equal((await snapshot(page)).state, 'connecting');
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.querySelector('.still')).filter), 'none', 'a still does not look live');
  quiet(page);
});

scenario('while the server is away, a page that is loaded again waits for it and comes back', async (world) => {
  const { broker, server } = await world.site();
  const page = await world.page(await world.browser(), `${server.dashboard}/`, { serviceWorkers: 'allow' });
  await page.evaluate(() => navigator.serviceWorker.ready);
  const session = await page.context().newCDPSession(page);
  const { installabilityErrors } = await session.send('Page.getInstallabilityErrors');
  // The contexts of tests are private windows, from which nothing is installed.
  assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== 'in-incognito'), []);
  const { errors, data } = await session.send('Page.getAppManifest');
  assert.deepEqual([errors, JSON.parse(data).name], [[], 'honeycast']);
  const [, port] = server.addresses.dashboard.split(':');
  await server.child.stop('SIGKILL');
  await page.reload();
  await page.getByRole('heading', { name: 'The server cannot be reached' }).waitFor();
  await accessible(page, 'offline page');
  const kept = await page.evaluate(async () => {
    const names = await caches.keys();
    return (await Promise.all(names.map(async (name) => (await (await caches.open(name)).keys()).map((request) => new URL(request.url).pathname)))).flat();
  });
  assert.ok(kept.length > 5 && kept.every((path) => path.startsWith('/static/')), `only static files are kept: ${kept.join(' ')}`);
  await world.server({ EMQX_BROKER_PORT: String(broker.port), DASHBOARD_SERVER_PORT: port });
  await page.getByLabel('Search cameras').waitFor();
  assert.deepEqual(page.problems, []);
});

scenario('the list to choose from says which streams have no picture, and why', async (world) => {
  const { server, broker, id } = await world.site();
  const silent = world.cameraId();
  assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.api}/viewer`);
  await page.getByText(/^Live · /).waitFor();
  assert.equal((await server.start(silent)).status, 201);
  await page.getByText(/^No picture · .*packet/).waitFor();
  await accessible(page, 'chooser');
  quiet(page);
  assert.ok(broker.port > 0);
});

scenario('a click in the list shows the picture in place; back and forward lead to the list and to the picture, and each leaving frees its viewer', async (world) => {
  const { server, id } = await world.site();
  assert.equal((await server.start(id)).status, 201);
  await fetch(`${server.api}/cameras/${id}`, { method: 'PUT', body: JSON.stringify({ name: 'Yard' }) });
  const page = await world.page(await world.browser(), null);
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket));
  await page.goto(`${server.api}/viewer`);
  const link = page.getByRole('link', { name: 'Watch camera Yard' });
  await link.waitFor();
  const listTitle = await page.title();
  await page.evaluate(() => { window.samePage = true; });
  const active = (selector) => page.evaluate((wanted) => document.activeElement.matches(wanted), selector);

  await link.hover();
  await until('a socket is ready for a click', () => sockets.length === 1);
  await link.focus();
  await until('without one it is closed', () => sockets[0].isClosed());
  assert.equal(sockets.length, 1, 'the pointer and the focus need one');
  assert.equal(await server.viewerCount(id), 0);

  await link.click();
  await inState(page, 'live');
  assert.equal(sockets.length, 2);
  assert.equal(page.url(), `${server.api}/viewer?camera=${id}`);
  assert.equal(await page.evaluate(() => window.samePage), true, 'no page was loaded');
  assert.equal(await page.title(), 'Live – Yard – honeycast');
  assert.equal(await active('#stage'), true, 'the keys of the picture work at once');
  assert.equal(await link.isVisible(), false);
  assert.equal(await server.viewerCount(id), 1);
  await accessible(page, 'a picture in place of the list');

  await page.goBack();
  await link.waitFor();
  await until('nobody is counted', async () => (await server.viewerCount(id)) === 0);
  assert.deepEqual([page.url(), await page.title()], [`${server.api}/viewer`, listTitle]);
  assert.equal(await active(`.card[data-camera="${id}"] a`), true, 'who comes back goes on where they were');

  await page.goForward();
  await inState(page, 'live');
  assert.equal(await page.evaluate(() => window.samePage), true);
  assert.equal(await server.viewerCount(id), 1, 'one picture, one viewer');
  await page.reload();
  await inState(page, 'live');
  await page.goBack();
  await link.waitFor();
  await until('nobody is counted', async () => (await server.viewerCount(id)) === 0);

  // The link is one: what the browser does with it is the browser's.
  const [tab] = await Promise.all([page.context().waitForEvent('page'), link.click({ modifiers: ['Control'] })]);
  assert.equal(page.url(), `${server.api}/viewer`);
  await tab.waitForURL(`${server.api}/viewer?camera=${id}`);
  await tab.close();
  quiet(page);
});
