// What goes wrong at a site, really done, while all kinds of pages are open: each says what is wrong, none calls an old
// picture live (see lib/honest), and all are live again without a touch.

import assert from 'node:assert/strict';
import { decodesMore, inState, snapshot } from './lib/browser.mjs';
import { impossible, makeNetwork } from './lib/netns.mjs';
import { liveTiles } from './lib/pages.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const AGAIN_MS = 60_000;

scenario('tile, enlarged tile and viewer: the camera is silent and comes back, the broker stops, the service restarts', async (world) => {
  const { server, broker, camera, id } = await world.site();
  const browser = await world.browser();
  assert.equal((await server.start(id)).status, 201);
  const [dashboard, large, viewer] = await Promise.all(['/', `/#/watch/${id}`, `/livestream/viewer?camera=${id}`].map((path) => world.page(browser, server.dashboard + path)));
  const badge = () => dashboard.locator('.tile .badge').innerText();
  const allLive = async () => {
    await liveTiles(dashboard, 1, AGAIN_MS);
    for (const page of [large, viewer]) await inState(page, 'live', AGAIN_MS);
    await until('the tile says so', async () => (await badge()) === 'Live', AGAIN_MS);
  };
  await allLive();
  const before = (await server.get(`/viewers/${id}`)).body.viewers.map((one) => one.viewer_id).sort();

  await camera.child.stop('SIGKILL');
  for (const page of [large, viewer]) await inState(page, 'frozen');
  for (const page of [large, viewer]) await until('the reason is given', async () => (await snapshot(page)).detail !== '');
  await until('the tile says so', async () => /^(Frozen for \d+ s|No picture)$/.test(await badge()) && (await dashboard.locator('.tile .why').innerText()) !== '');
  // As after a reboot: another process, which does not remember that it was streaming, with ports and numbers of its own.
  await world.camera({ id, broker: broker.port });
  await allLive();
  assert.deepEqual((await server.get(`/viewers/${id}`)).body.viewers.map((one) => one.viewer_id).sort(), before, 'in the connections that they had');

  await broker.child.stop('SIGKILL');
  for (const page of [dashboard, large]) await until('the header says what is wrong', async () => (await page.locator('#health').innerText()).startsWith('Degraded'));
  assert.match(await dashboard.locator('#health').getAttribute('title'), /broker/);
  for (const page of [large, viewer]) await decodesMore(page);
  await allLive();
  await world.broker({ fixedPort: broker.port });
  for (const page of [dashboard, large]) await until('all is well', async () => (await page.locator('#health').innerText()).startsWith('Healthy'), AGAIN_MS);

  const ports = Object.fromEntries([['API_SERVER_PORT', 'api'], ['SIGNALING_SERVER_PORT', 'signaling'], ['DASHBOARD_SERVER_PORT', 'dashboard']].map(([key, name]) => [key, server.addresses[name].split(':')[1]]));
  await server.child.stop('SIGKILL');
  for (const page of [large, viewer]) await until('it says so', async () => ['frozen', 'reconnecting'].includes((await snapshot(page)).state));
  await dashboard.getByText('What is shown may be old').waitFor();
  assert.notEqual(await badge(), 'Live');
  await world.server({ EMQX_BROKER_PORT: String(broker.port), ...ports });
  await allLive();
  for (const page of [dashboard, large, viewer]) assert.deepEqual(page.problems, []);
}, { timeout: 300_000 });

scenario('the network of a viewer is cut for ten seconds: said, and live again by itself', async (world) => {
  const network = world.closing(makeNetwork(world.folder));
  const env = Object.fromEntries(['API_SERVER_HOST', 'SIGNALING_SERVER_HOST', 'DASHBOARD_SERVER_HOST'].map((key) => [key, network.host]));
  const { server, id } = await world.site({ env: { ...env, EXTERNAL_IP: network.host } });
  const browser = await world.browser(network);
  const [viewer, dashboard] = await Promise.all([`/livestream/viewer?camera=${id}`, '/'].map((path) => world.page(browser, server.dashboard + path)));
  await inState(viewer, 'live');
  await liveTiles(dashboard, 1);
  await decodesMore(viewer);

  network.cut();
  const since = performance.now();
  try {
    await inState(viewer, 'frozen');
    assert.match(await viewer.locator('#status-text').innerText(), /^Frozen for \d+ s$/);
    await until('the tile is not live either', async () => (await dashboard.locator('.tile .badge').innerText()) !== 'Live');
    await inState(viewer, 'reconnecting');
    assert.match((await snapshot(viewer)).detail, /interrupted|cannot be reached|no network/);
    await until('ten seconds are over', () => performance.now() - since >= 10_000);
    assert.notEqual((await snapshot(viewer)).state, 'live');
  } finally {
    network.mend();
  }
  await inState(viewer, 'live', AGAIN_MS);
  await liveTiles(dashboard, 1, AGAIN_MS);
  await decodesMore(viewer);
  await until('nobody is counted twice', async () => (await server.viewerCount(id)) === 2, AGAIN_MS);
  for (const page of [viewer, dashboard]) assert.deepEqual(page.problems, []);
}, { timeout: 180_000, skip: impossible() });

scenario('the tests would notice a stale picture that is called live', async (world) => {
  const { server, camera, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.dashboard}/livestream/viewer?camera=${id}`);
  await inState(page, 'live');
  await page.evaluate(() => {
    const pane = document.querySelector('.pane');
    new MutationObserver(() => { if (pane.dataset.state !== 'live') pane.dataset.state = 'live'; }).observe(pane, { attributes: true });
  });
  await camera.child.stop('SIGKILL');
  await until('it is an error of the page', () => page.problems.some((problem) => /is called live/.test(problem)));
});
