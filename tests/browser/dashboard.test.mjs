// The dashboard: tiles, arranging, names, the pages of a camera and of the system.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { decodesMore, inState } from './lib/browser.mjs';
import { accessible, fits, liveTiles, quiet, tiles } from './lib/pages.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const named = (server, id, name) => fetch(`${server.api}/cameras/${id}`, { method: 'PUT', body: JSON.stringify({ name }) });
const order = (page) => page.locator('.tile:visible .name').allInnerTexts();

// A site with several cameras, named in this order.
async function cameras(world, names, options) {
  const { server, broker, id } = await world.site(options);
  const ids = [id];
  while (ids.length < names.length) {
    const one = world.cameraId();
    await world.camera({ id: one, broker: broker.port });
    ids.push(one);
  }
  await until('every camera is known', async () => (await server.get('/cameras')).body.count === names.length);
  for (const [index, name] of names.entries()) await named(server, ids[index], name);
  return { server, broker, ids };
}

scenario('the dashboard shows every camera with what is known of it, and why there is no picture', async (world) => {
  const { server, ids } = await cameras(world, ['Gate', 'Yard']);
  assert.equal((await server.start(ids[0])).status, 201);
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await liveTiles(page, 1);
  const gate = page.locator(`.tile[data-camera="${ids[0]}"]`);
  const yard = page.locator(`.tile[data-camera="${ids[1]}"]`);
  await until('its viewer is counted', async () => /Live\s[^]*Gate\s[^]*Online\s[^]*1 viewer/.test(await gate.innerText()));
  assert.match(await gate.innerText(), /Battery \d+ % · Signal -\d+ dBm · Firmware/);
  assert.match(await yard.locator('.why').innerText(), /^No stream runs: stopped, or not started yet\.$/);

  await yard.getByRole('button', { name: 'Start stream of camera Yard' }).click();
  await liveTiles(page, 2);
  await page.getByRole('button', { name: 'Stop stream of camera Gate' }).click();
  await liveTiles(page, 1);
  await until('the tile says so', async () => (await gate.locator('.badge').innerText()) === 'Not running');
  assert.equal(await gate.locator('.numbers').innerText(), '', 'and does not say it again');
  await fits(page, 320);
  await page.setViewportSize({ width: 1200, height: 900 });
  await accessible(page, 'dashboard');

  await page.getByRole('button', { name: 'Full screen' }).click();
  await until('a wall of pictures', () => page.evaluate(() => document.fullscreenElement?.classList.contains('wall')));
  for (const [tile, name] of [[gate, 'Gate'], [yard, 'Yard']]) {
    const [picture, label] = [await tile.locator('.screen').boundingBox(), await tile.getByText(name, { exact: true }).boundingBox()];
    assert.ok(label.y >= picture.y && label.y + label.height <= picture.y + picture.height, `${name} stands on its picture`);
  }
  assert.equal(await gate.getByRole('button', { name: /^Start stream/ }).count(), 0);
  await page.getByRole('button', { name: 'End full screen' }).click();
  await until('and back', () => page.evaluate(() => document.fullscreenElement === null));

  // The broker has lost the camera, and its picture goes on.
  const { body } = await server.get('/cameras');
  await page.route(`${server.api}/cameras`, (route) => route.fulfill({
    json: { ...body, cameras: body.cameras.map((camera) => ({ ...camera, online: false })) }, headers: { 'access-control-allow-origin': server.dashboard, 'access-control-allow-credentials': 'true' },
  }));
  await until('a picture that comes is not called offline', async () => /Live\s[^]*No connection to the broker/.test(await yard.innerText()));
  await until('a camera without one is', async () => /Not running\s[^]*Offline/.test(await gate.innerText()));
  quiet(page);
});

scenario('a change that the server tells is on the page before the next question', async (world) => {
  const { server, ids } = await cameras(world, ['Gate']);
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await page.getByText('No stream runs: stopped, or not started yet.').waitFor();
  // Questions by the clock are stopped; what comes now comes because the server has told it.
  await page.evaluate(() => { window.setTimeout = ((real) => (call, ms, ...rest) => (ms >= 5_000 ? 0 : real(call, ms, ...rest)))(window.setTimeout); });
  assert.equal((await server.start(ids[0])).status, 201);
  await liveTiles(page, 1);
});

scenario('a tile is enlarged with the connection that it has, gets sound when it is asked for, and goes back to its place', async (world) => {
  const { server, ids } = await cameras(world, ['Gate', 'Yard']);
  for (const id of ids) assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.dashboard}/`, { before: [countConnections] });
  await liveTiles(page, 2);
  await page.getByLabel('Layout').selectOption('1');
  await page.setViewportSize({ width: 1200, height: 480 });
  await page.evaluate(() => window.scrollTo(0, 150));
  const viewers = async (id) => (await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id);
  const [before] = await viewers(ids[0]);
  await page.getByRole('link', { name: 'Watch camera Gate' }).focus();
  const top = await page.evaluate(() => window.scrollY);
  await page.keyboard.press('Enter');
  await inState(page, 'live');
  await decodesMore(page);
  assert.deepEqual(await viewers(ids[0]), [before], 'the same viewer');
  assert.equal(await page.title(), 'Live – Gate – honeycast');
  await until('the other tile is let go', async () => (await viewers(ids[1])).length === 0);

  // Its keys work at once.
  await page.keyboard.press('+');
  assert.match(await page.evaluate(() => document.querySelector('.watch-page .picture').style.transform), /scale/);
  await page.evaluate(() => {
    window.states = [];
    const look = () => { window.states.push(window.honeycast.state); requestAnimationFrame(look); };
    look();
  });
  await page.getByRole('button', { name: 'Turn sound on' }).click();
  await until('sound comes', () => page.evaluate(() => window.honeycast.stats.totalAudioEnergy > 0));
  await until('there is one viewer', async () => (await viewers(ids[0])).length === 1);
  assert.notDeepEqual(await viewers(ids[0]), [before], 'by a connection that has it');
  assert.equal(await page.evaluate(() => document.getElementById('video').muted), false);
  assert.deepEqual(await page.evaluate(() => [...new Set(window.states)]), ['live'], 'the picture went on meanwhile');
  await until('the new picture is shown', () => page.evaluate(() => document.querySelector('.watch-page .picture').dataset.has === 'live'));
  await accessible(page, 'a camera in the dashboard');
  await fits(page, 320);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole('button', { name: 'Full screen' }).click();
  await until('the picture fills the screen but for its bar', () => page.evaluate(() => {
    const box = (name) => document.querySelector(`.watch-page ${name}`).getBoundingClientRect();
    return document.fullscreenElement && box('.stage').width === innerWidth && box('.stage').top === 0 && innerHeight - box('.stage').bottom - box('.bar').height < 24;
  }));
  await page.getByRole('button', { name: 'End full screen' }).click();
  await until('and back', () => page.evaluate(() => document.fullscreenElement === null));
  await page.setViewportSize({ width: 1200, height: 480 });
  const [after] = await viewers(ids[0]);

  await page.locator('#stage').focus();
  await page.keyboard.press('Escape');
  await liveTiles(page, 1);
  assert.deepEqual(await viewers(ids[0]), [after], 'back with the connection, too');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Watch camera Gate');
  assert.equal(await page.evaluate(() => window.scrollY), top, 'where one was');
  await page.goBack();
  await inState(page, 'live');
  await page.getByRole('link', { name: 'System' }).click();
  await page.getByText('Everything works.').waitFor();
  await until('nobody watches', async () => (await server.get('/health')).body.total_viewers === 0);
  assert.deepEqual(await page.evaluate(() => window.open_()), { peers: 0, sockets: 0 });
  quiet(page);
});

scenario('tiles are found, filtered, arranged by keyboard and pointer, grouped, and remembered', async (world) => {
  const { server } = await cameras(world, ['Alpha', 'Bravo', 'Charlie']);
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await until('all are there', async () => (await order(page)).join() === 'Alpha,Bravo,Charlie');

  await page.getByLabel('Search cameras').fill('char');
  assert.deepEqual(await order(page), ['Charlie']);
  await page.getByLabel('Search cameras').fill('nothing like it');
  await page.getByText('No camera fits the search.').waitFor();
  await page.getByLabel('Search cameras').fill('');
  await page.getByLabel('Show', { exact: true }).selectOption('live');
  await page.getByText('No camera fits the search.').waitFor();
  await page.getByLabel('Show', { exact: true }).selectOption('all');

  await page.getByRole('button', { name: 'Move camera Alpha' }).focus();
  await page.keyboard.press('ArrowRight');
  assert.deepEqual(await order(page), ['Bravo', 'Alpha', 'Charlie']);
  assert.equal(await page.locator('#announce').innerText(), 'Alpha is now number 2 of 3');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Move camera Alpha');

  await page.setViewportSize({ width: 1200, height: 1400 });
  const from = await page.getByRole('button', { name: 'Move camera Charlie' }).boundingBox();
  const to = await page.locator('.tile', { hasText: 'Bravo' }).boundingBox();
  await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
  await page.mouse.down();
  await page.mouse.move(to.x + to.width / 2, to.y + to.height / 2, { steps: 8 });
  await page.mouse.up();
  assert.equal((await order(page))[0], 'Charlie');

  await page.getByRole('button', { name: 'Group of camera Bravo' }).click();
  await accessible(page, 'group dialog');
  await page.getByLabel('Name of the group').fill('Outside');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'Outside' }).waitFor();
  await page.getByLabel('Layout').selectOption('2');
  const before = await order(page);

  await page.reload();
  await until('the same as before', async () => (await order(page)).join() === before.join());
  await page.getByRole('heading', { name: 'Outside' }).waitFor();
  assert.equal(await page.getByLabel('Layout').inputValue(), '2');
  await page.getByRole('combobox', { name: 'Group' }).selectOption('Outside');
  assert.deepEqual(await order(page), ['Bravo']);
  quiet(page);
});

scenario('the page of a camera: doctor, feedback, figures, what happened, name and notes', async (world) => {
  const { server, ids: [id] } = await cameras(world, ['Gate']);
  assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await page.getByRole('link', { name: 'Details of camera Gate' }).click();
  await page.getByRole('heading', { name: 'Gate', level: 1 }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1', 'a new page begins at its heading');
  await page.getByText('Nothing to change: this suits every browser.').waitFor();
  await page.getByText('1280 × 720').waitFor();
  await page.getByText('Feedback reaches the camera as far as can be seen.').waitFor();
  await page.getByText('Stream: Running').waitFor();
  await page.getByRole('img', { name: /^Bitrate: now [\d.]+ [kM]bit\/s, between / }).waitFor();

  await page.getByLabel('Name', { exact: true }).fill('Gate <b>two</b>');
  await page.getByLabel('Notes').fill('Behind the hedge');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'Gate <b>two</b>' }).waitFor();
  const { body } = await server.get(`/cameras/${id}`);
  assert.deepEqual([body.name, body.notes], ['Gate <b>two</b>', 'Behind the hedge']);

  assert.equal((await server.post(`/streams/${id}/stop`)).status, 200);
  await page.getByText('Stream: Stopping').waitFor();
  await page.getByText('Somebody stopped it.').waitFor();
  await accessible(page, 'camera page');
  await fits(page, 320);
  quiet(page);
});

scenario('motion and sound of all cameras, the newest first, and what comes while one looks', async (world) => {
  const { server, broker, ids } = await cameras(world, ['Gate', 'Yard']);
  const tell = (id, activityType, eventId) => execFileSync('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(broker.port), '-q', '1', '-t', `prod/device/message/hive-cam/${id}/activity/${activityType}`,
    '-m', JSON.stringify({ eventId, activityType, timestamp: Date.now() / 1000, confidence: 0.9 })]);
  for (const [index, [id, type]] of [[ids[0], 'motion'], [ids[1], 'sound'], [ids[0], 'person']].entries()) {
    tell(id, type, `event-${index}`);
    await until('it is known', async () => (await server.get(`/cameras/${id}`)).body.events?.[0].activity_type === type);
  }
  const page = await world.page(await world.browser(), `${server.dashboard}/#/activity`);
  const rows = () => page.locator('.rows li').evaluateAll((all) => all.map((row) => [row.querySelector('.row-what').textContent, row.querySelector('a').textContent].join(' ')));
  await until('all are there', async () => (await rows()).join() === 'Person Gate,Sound Yard,Motion Gate');
  tell(ids[1], 'motion', 'event-3');
  await until('the new one, too', async () => (await rows()).join() === 'Motion Yard,Person Gate,Sound Yard,Motion Gate');
  await accessible(page, 'activity page');
  await fits(page, 320);
  quiet(page);
});

scenario('the system and activity pages say how the service is', async (world) => {
  const { server, broker } = await cameras(world, ['Gate']);
  const page = await world.page(await world.browser(), `${server.dashboard}/#/system`);
  await page.getByText('Everything works.').waitFor();
  await accessible(page, 'system page');
  await fits(page, 320);
  const fact = (label) => page.locator('.facts-list > div', { has: page.getByText(label, { exact: true }) }).locator('dd').innerText();
  const { body } = await server.get('/health');
  assert.equal(await fact('Version'), body.version);
  assert.equal(await fact('MQTT broker'), 'connected');
  assert.match(await fact('Memory'), /^\d+ MiB$/);
  // As a service with TLS says it.
  const certificate = { loaded_at: new Date().toISOString(), not_after: new Date(Date.now() + 20.5 * 86_400_000).toISOString(), reloads: 1, failure: null };
  await page.route(`${server.api}/health`, (route) => route.fulfill({ json: { ...body, certificate }, headers: { 'access-control-allow-origin': server.dashboard, 'access-control-allow-credentials': 'true' } }));
  await page.getByText('Certificate valid until').waitFor();
  assert.match(await fact('Certificate valid until'), /\(in 20 days\)$/);
  assert.match(await fact('Certificate loaded'), /replaced once since the start$/);
  await page.unroute(`${server.api}/health`);
  await page.getByRole('link', { name: 'Activity' }).click();
  await page.getByRole('heading', { name: 'Activity' }).waitFor();
  await accessible(page, 'activity page');
  await page.getByRole('link', { name: 'System' }).click();
  quiet(page);
  await broker.child.stop('SIGKILL');
  await page.getByText(/^The MQTT broker is not connected/).waitFor();
  await until('the header says so', async () => (await page.locator('#health').innerText()).startsWith('Degraded'));
});

// In the page, before its scripts: what is open of it.
function countConnections() {
  const [peers, sockets] = [[], []];
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...args) { super(...args); peers.push(this); }
  };
  window.WebSocket = class extends window.WebSocket {
    constructor(...args) { super(...args); sockets.push(this); }
  };
  window.open_ = () => ({
    peers: peers.filter((peer) => peer.connectionState !== 'closed').length,
    sockets: sockets.filter((socket) => socket.readyState <= WebSocket.OPEN).length,
  });
}

scenario('sixteen cameras: only tiles on the screen connect, others let go, leaving frees every viewer', async (world) => {
  const names = Array.from({ length: 16 }, (_, index) => `Camera ${String(index + 1).padStart(2, '0')}`);
  const { server, ids } = await cameras(world, names);
  for (const id of ids) assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.dashboard}/`, { before: [countConnections] });
  const open = () => page.evaluate(() => window.open_());
  await page.getByLabel('Layout').selectOption('4');
  const onScreen = () => page.evaluate(() => [...document.querySelectorAll('.tile')].filter((tile) => {
    const box = tile.querySelector('.screen').getBoundingClientRect();
    return Math.min(box.bottom, innerHeight) - Math.max(box.top, 0) > box.height * 0.15;
  }).map((tile) => tile.dataset.camera).sort());
  const watched = async () => (await server.get('/viewers')).body.viewers.map((viewer) => viewer.camera_id).sort();

  await page.setViewportSize({ width: 1200, height: 1500 });
  await liveTiles(page, 16, 60_000);
  assert.deepEqual(await watched(), [...ids].sort());
  assert.deepEqual(await open(), { peers: 16, sockets: 16 }, 'one connection for each picture');

  await page.setViewportSize({ width: 1200, height: 480 });
  const few = await onScreen();
  assert.ok(few.length > 0 && few.length < 16, `${few.length} on the screen`);
  await until('the others are let go', async () => (await watched()).join() === few.join());
  assert.deepEqual(await open(), { peers: few.length, sockets: few.length }, 'in the browser, too');
  await page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
  await until('those that came are there, those that went are not', async () => {
    const now = await onScreen();
    return now.join() !== few.join() && (await watched()).join() === now.join();
  });

  await page.goto(`${server.dashboard}/#/system`);
  await until('another page of the dashboard needs no picture', async () => (await watched()).length === 0);
  assert.deepEqual(await open(), { peers: 0, sockets: 0 });
  await page.goto(`${server.dashboard}/#/`);
  await until('those on the screen are back', async () => {
    const now = await onScreen();
    return now.length > 0 && (await watched()).join() === now.join();
  });
  await page.close({ runBeforeUnload: true });
  await until('leaving frees every viewer', async () => (await server.get('/health')).body.total_viewers === 0);
}, { timeout: 180_000 });

scenario('a tile that freezes says so, and a server that is away is no reason to call old things new', async (world) => {
  const { server, ids: [id] } = await cameras(world, ['Gate']);
  assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await liveTiles(page, 1);
  server.child.kill('SIGSTOP');
  try {
    await until('the tile says frozen', async () => /^Frozen for \d+ s$/.test(await page.locator('.badge').innerText()));
    await page.getByText(/did not answer in time|cannot be reached/).first().waitFor({ timeout: 25_000 });
    await accessible(page, 'dashboard of a server that is away');
  } finally {
    server.child.kill('SIGCONT');
  }
  await liveTiles(page, 1, 40_000);
  assert.deepEqual(page.problems, []);
  assert.deepEqual(Object.keys(await tiles(page)), [id]);
});

scenario('no page of a camera without a name scrolls sideways on a small phone', async (world) => {
  const { server, broker, id } = await world.site();
  assert.equal((await server.start(id)).status, 201);
  execFileSync('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(broker.port), '-q', '1', '-t', `prod/device/message/hive-cam/${id}/activity/motion`,
    '-m', JSON.stringify({ eventId: 'event', activityType: 'motion', timestamp: Date.now() / 1000, confidence: 0.9 })]);
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  const pages = {
    '/#/': () => liveTiles(page, 1),
    [`/#/watch/${id}`]: () => inState(page, 'live'),
    [`/#/camera/${id}`]: () => page.getByText('Feedback reaches the camera').waitFor(),
    '/#/activity': () => page.getByRole('link', { name: id }).waitFor(),
    '/#/system': () => page.getByText('Everything works.').waitFor(),
    [`/livestream/viewer?camera=${id}`]: () => inState(page, 'live'),
    '/livestream/viewer': () => page.getByRole('link', { name: `Watch camera ${id}` }).waitFor(),
  };
  for (const [path, ready] of Object.entries(pages)) {
    await page.goto(server.dashboard + path);
    await ready();
    await fits(page, 320);
  }
  quiet(page);
});

scenario('nothing jumps while the pages load', async (world) => {
  const { server, ids } = await cameras(world, ['Gate', 'Yard']);
  assert.equal((await server.start(ids[0])).status, 201);
  const page = await world.page(await world.browser(), null);
  await page.addInitScript(() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.shifts.push([entry.value, entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 80))]);
    }).observe({ type: 'layout-shift', buffered: true });
  });
  const pages = {
    '/': () => liveTiles(page, 1),
    [`/livestream/viewer?camera=${ids[0]}`]: () => until('live', () => page.evaluate(() => window.honeycast?.state === 'live')),
    [`/#/camera/${ids[0]}`]: () => page.locator('.single .badge[data-state="live"]').waitFor(),
    '/#/system': () => page.getByText('Everything works.').waitFor(),
  };
  for (const width of [390, 1200]) {
    await page.setViewportSize({ width, height: 900 });
    for (const [path, ready] of Object.entries(pages)) {
      await page.goto('about:blank');
      await page.goto(server.dashboard + path);
      await ready();
      const shifts = await page.evaluate(() => window.shifts);
      // 0.1 is what is called good.
      const total = shifts.reduce((sum, [value]) => sum + value, 0);
      assert.ok(total < 0.02, `${path} at ${width}: ${JSON.stringify(shifts)}`);
    }
  }
  quiet(page);
});
