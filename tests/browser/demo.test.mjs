// The newcomer's path: `honeycast demo`, the start page, one click, picture and sound.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readFrames, steps } from './lib/barcode.mjs';
import { decodesMore, inState, snapshot } from './lib/browser.mjs';
import { until } from './lib/until.mjs';
import { ARTIFACTS, scenario } from './lib/world.mjs';

scenario('demo: from the start page to a moving picture with sound', async (world) => {
  const server = await world.server({ MQTT_EMBEDDED_BIND: '127.0.0.1:0' }, 'demo');
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await page.getByRole('link', { name: 'Watch camera Demo camera' }).click();
  const live = await inState(page, 'live');
  assert.ok(live.videoWidth > 0);
  assert.equal(await page.locator('#status-text').innerText(), 'Live');
  await decodesMore(page);

  const numbers = await readFrames(page, 40);
  const readable = numbers.filter((number) => number !== null);
  assert.ok(readable.length >= 30, `readable frame numbers: ${JSON.stringify(numbers)}`);
  // Forward and never back. A slow machine may leave frames out, and a callback that comes a moment late draws
  // the next frame already, which is then read twice; a picture that stands still gives one number for all.
  assert.ok(steps(readable).every((step) => step >= 0 && step < 50), `frame numbers: ${JSON.stringify(readable)}`);
  assert.ok(new Set(readable).size >= 25, `the picture hardly moves: ${JSON.stringify(readable)}`);

  // The first second holds a whole group of pictures; that is no frame rate.
  const rates = await page.evaluate(() => new Promise((resolve) => {
    const seen = [];
    const timer = setInterval(() => {
      seen.push(window.honeycast.stats.fps);
      if (seen.length === 20) resolve(seen);
      if (seen.length === 20) clearInterval(timer);
    }, 100);
  }));
  assert.ok(rates.every((rate) => rate === null || rate < 60), JSON.stringify(rates));
  await page.getByRole('button', { name: 'Turn sound on' }).click();
  const before = (await snapshot(page)).stats.audioPacketsReceived;
  await until('audio arrives and is not silent', async () => {
    const { stats } = await snapshot(page);
    return stats.audioPacketsReceived > before && stats.totalAudioEnergy > 0;
  });
  // The connection with sound is a new one, whose rates begin with its third second.
  const { stats } = await until('there are figures', async () => {
    const now = await snapshot(page);
    return now.stats.fps > 0 && now;
  });
  assert.match(stats.codec, /^H264/);
  assert.ok(stats.bitrateKbps > 0 && stats.width > 0, JSON.stringify(stats));

  await page.screenshot({ path: join(ARTIFACTS, 'demo.png'), fullPage: true });
  await page.setViewportSize({ width: 320, height: 640 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 320, 'nothing sticks out at 320 px');
  await page.screenshot({ path: join(ARTIFACTS, 'demo-narrow.png'), fullPage: true });
  assert.deepEqual(page.problems, []);
});

scenario('the start page starts a camera by its id and stops it', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.dashboard}/`);
  await page.getByLabel('Start a camera').fill('nonsense');
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.locator('form').getByRole('alert').getByText('This is not a camera id').waitFor();
  assert.equal(await page.getByLabel('Start a camera').getAttribute('aria-invalid'), 'true');
  await page.getByLabel('Start a camera').fill(id);
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await page.getByRole('button', { name: `Stop stream of camera ${id}` }).click();
  await until('no stream is active', async () => (await server.get('/health')).body.active_streams === 0);
  await page.getByRole('button', { name: `Start stream of camera ${id}` }).waitFor();
  assert.deepEqual(page.problems, []);
});

scenario('the viewer page without a camera lists the running streams', async (world) => {
  const { server, id } = await world.site();
  assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=nonsense`);
  await page.getByText('is not a camera id').waitFor();
  await page.getByRole('link', { name: `Watch camera ${id}` }).click();
  await inState(page, 'live');
});
