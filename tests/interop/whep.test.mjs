// Foreign WebRTC stacks play a stream of the real binary by WHEP. Each scenario wants evidence that the stream
// arrived: pictures that were decoded, with their size, or keyframes that were put together from packets.

import assert from 'node:assert/strict';
import { readFrames, steps } from '../browser/lib/barcode.mjs';
import { until } from '../browser/lib/until.mjs';
import { scenario } from '../browser/lib/world.mjs';
import { playInPage } from './clients/whep_page.mjs';
import { launchFirefox } from './lib/firefox.mjs';
import { servePage } from './lib/pages.mjs';
import { site } from './lib/site.mjs';
import { DEBIAN_PYTHON, VENV_PYTHON, play } from './lib/player.mjs';

/** What the simulated camera sends, by the bandwidth that the viewer's feedback allows. */
const SIZES = ['1280x720', '640x360'];
/** More than two groups of pictures. */
const FRAMES = 60;

scenario('aiortc decodes picture and sound', async (world) => {
  const { whep, nobodyWatches } = await site(world);
  const said = await play(world, VENV_PYTHON, 'aiortc_player.py', whep, FRAMES);
  assertDecoded(said);
  await nobodyWatches();
});

scenario('GStreamer webrtcbin decodes picture and sound', async (world) => {
  const { whep, nobodyWatches } = await site(world);
  const said = await play(world, DEBIAN_PYTHON, 'gstreamer_player.py', whep, FRAMES);
  assertDecoded(said);
  await nobodyWatches();
});

for (const [name, script] of [['werift', 'werift_player.mjs'], ['node-datachannel', 'datachannel_player.mjs']]) {
  scenario(`${name} puts keyframes together from packets, and takes sound`, async (world) => {
    const { whep, nobodyWatches } = await site(world);
    const said = await play(world, process.execPath, script, whep, FRAMES);
    const video = said('enough', 'video');
    assert.ok(video.frames >= FRAMES && video.types[5] >= 1, JSON.stringify(video));
    // SPS: Constrained Baseline.
    assert.match(video.sps, /^674[24d]/, video.sps);
    assert.equal(said('enough', 'audio').frames, FRAMES);
    await nobodyWatches();
  });
}

scenario('@eyevinn/webrtc-player in Chromium, a page of another origin, plays and ends its session', async (world) => {
  const { whep, nobodyWatches } = await site(world);
  const page = await world.page(await world.browser(), `${await servePage(world, 'eyevinn_page.mjs')}#${whep}`);
  const quality = () => page.evaluate(() => {
    const video = document.getElementById('video');
    return { frames: video.getVideoPlaybackQuality().totalVideoFrames, width: video.videoWidth, height: video.videoHeight, problems: window.problems };
  });
  const played = await until('pictures are shown', async () => {
    const now = await quality();
    if (now.frames < FRAMES) throw new Error(JSON.stringify(now));
    return now;
  });
  assertSize(played);
  assert.deepEqual(played.problems, []);
  await assertPictures(page);
  await page.evaluate(() => window.player.unload());
  await nobodyWatches();
});

scenario('Firefox plays by WHEP, its candidates trickled', async (world) => {
  const { server, whep, nobodyWatches } = await site(world);
  const browser = await launchFirefox(world);
  const page = await browser.newPage();
  await page.goto(`${server.api}/health`);
  const { offer } = await page.evaluate(playInPage, { endpoint: whep });
  assert.match(offer, /mozilla/);
  const played = await until('pictures are decoded', async () => {
    const now = await page.evaluate(() => window.played());
    if (!(now.frames >= FRAMES && now.sound >= FRAMES)) throw new Error(JSON.stringify(now));
    return now;
  });
  assertSize(played);
  assert.equal(played.patched, 204);
  await assertPictures(page);
  assert.equal(await page.evaluate(() => window.leave()), 200);
  await nobodyWatches();
});

/** The number that the camera draws into its pictures is there, and counts up. */
async function assertPictures(page) {
  const numbers = await readFrames(page, 10);
  assert.ok(numbers.every((number) => number !== null), numbers.join());
  assert.ok(steps(numbers).every((step) => step >= 1 && step < 50), numbers.join());
}

function assertSize({ width, height }) {
  assert.ok(SIZES.includes(`${width}x${height}`), `${width}x${height}`);
}

function assertDecoded(said) {
  const { width, height } = said('first', 'video');
  assertSize({ width, height });
  assert.equal(said('first', 'audio').rate, 48_000);
  assert.equal(said('enough', 'video').frames, FRAMES);
  assert.equal(said('enough', 'audio').frames, FRAMES);
}
