// The pages in Firefox: what they need of a browser is there, and the words they say are true there too.

import assert from 'node:assert/strict';
import { until } from '../browser/lib/until.mjs';
import { scenario } from '../browser/lib/world.mjs';
import { launchFirefox } from './lib/firefox.mjs';

const LONG = { timeout: 180_000 };

async function open(browser, url) {
  const page = await browser.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(`page error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/keyframe\.mp4/.test(message.text())) page.problems.push(message.text());
  });
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(url);
  return page;
}

const inState = (page, wanted) => until(`the viewer is ${wanted}`, async () => {
  const now = await page.evaluate(() => ({ state: window.honeycast?.state, detail: window.honeycast?.detail }));
  if (now.state !== wanted) throw new Error(JSON.stringify(now));
  return true;
}, 60_000);

const tilesAre = (page, wanted, count) => until(`${count} tiles are ${wanted}`, async () => {
  const states = await page.evaluate(() => window.honeycast?.tiles ?? {});
  if (Object.values(states).filter((state) => state === wanted).length !== count) throw new Error(JSON.stringify(states));
  return true;
}, 60_000);

scenario('Firefox: the viewer starts the stream, is live, counts its frames, and freezes honestly', async (world) => {
  const { server, id } = await world.site();
  const page = await open(await launchFirefox(world), `${server.dashboard}/livestream/viewer?camera=${id}`);
  await inState(page, 'live');
  await page.click('button[aria-label="Figures"]');
  await until('the figures are there', () => page.evaluate(() => window.honeycast.stats.fps > 5 && window.honeycast.stats.width > 0));
  const before = await page.evaluate(() => document.querySelector('#video').currentTime);
  await until('the picture moves', () => page.evaluate((then) => document.querySelector('#video').currentTime > then + 1, before));
  server.child.kill('SIGSTOP');
  try {
    await inState(page, 'frozen');
  } finally {
    server.child.kill('SIGCONT');
  }
  await inState(page, 'live');
  await server.post(`/streams/${id}/stop`);
  await inState(page, 'stopped');
  await server.post(`/streams/${id}/start`);
  await inState(page, 'live');
  assert.deepEqual(page.problems, []);
  await page.goto('about:blank');
  await until('leaving frees the viewer', async () => (await server.get('/health')).body.total_viewers === 0);
}, LONG);

scenario('Firefox: the dashboard is live, leads to the viewer and the page of a camera, and lets go', async (world) => {
  const { server, broker, id } = await world.site();
  const ids = [id, world.cameraId()];
  await world.camera({ id: ids[1], broker: broker.port, args: ['--small-picture'] });
  for (const one of ids) assert.equal((await server.start(one)).status, 201);
  const page = await open(await launchFirefox(world), `${server.dashboard}/`);
  await tilesAre(page, 'live', 2);
  await page.evaluate(() => { location.hash = '#/system'; });
  await until('the system page is there', () => page.evaluate(() => document.body.innerText.includes('Everything works.')));
  await until('hidden tiles let go', async () => (await server.get('/health')).body.total_viewers === 0);
  await page.evaluate((camera) => { location.hash = `#/camera/${camera}`; }, id);
  await until('the page of the camera is there', () => page.evaluate(() => document.body.innerText.includes('Codec doctor')));
  await page.evaluate(() => { location.hash = '#/'; });
  await tilesAre(page, 'live', 2);
  await page.click(`.tile[data-camera="${id}"] .open`);
  await inState(page, 'live');
  assert.equal((await server.get(`/viewers/${id}`)).body.count, 1, 'with the connection of the tile');
  await page.click('#sound');
  await until('a connection with sound has taken its place', () => page.evaluate(() => window.honeycast.stats.audioPacketsReceived > 0));
  await inState(page, 'live');
  assert.deepEqual(page.problems, []);
  await page.goto('about:blank');
  await until('leaving frees every viewer', async () => (await server.get('/health')).body.total_viewers === 0);
}, LONG);
