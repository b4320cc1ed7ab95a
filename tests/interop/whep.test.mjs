// Foreign WebRTC stacks play a stream of the real binary by WHEP. Each scenario wants evidence that the stream
// arrived: pictures that were decoded, with their size, or keyframes that were put together from packets.

import assert from 'node:assert/strict';
import { readFrames, steps } from '../browser/lib/barcode.mjs';
import { decodesMore, inState } from '../browser/lib/browser.mjs';
import { until } from '../browser/lib/until.mjs';
import { scenario } from '../browser/lib/world.mjs';
import { playInPage } from './clients/whep_page.mjs';
import { launchFirefox } from './lib/firefox.mjs';
import { servePage } from './lib/pages.mjs';
import { DEBIAN_PYTHON, VENV_PYTHON, play } from './lib/player.mjs';
import { site } from './lib/site.mjs';

/** What the simulated camera sends, by the bandwidth that the viewers' feedback allows. */
const SIZES = ['1280x720', '640x360'];
/** More than a group of pictures. */
const FRAMES = 60;

// Data channels, media to send, a transport for each section: what honeycast has no use for is offered, too.
for (const [name, command, script, ...offers] of [
  ['aiortc', VENV_PYTHON, 'aiortc_player.py', [], ['data', 'sendrecv']],
  ['GStreamer webrtcbin', DEBIAN_PYTHON, 'gstreamer_player.py', ['data'], ['unbundled']],
]) {
  scenario(`${name} decodes picture and sound`, async (world) => {
    const { whep, nobodyWatches } = await site(world);
    await Promise.all(offers.map(async (options) => {
      const said = await play(world, command, script, whep, FRAMES, ...options);
      const { width, height } = said('first', 'video');
      assertSize({ width, height });
      assert.equal(said('enough', 'video').frames, FRAMES);
      if (options.includes('unbundled')) return;
      assert.equal(said('first', 'audio').rate, 48_000);
      assert.equal(said('enough', 'audio').frames, FRAMES);
    }));
    await nobodyWatches();
  });
}

for (const [name, script, ...offers] of [
  ['werift', 'werift_player.mjs', ['data', 'sendrecv'], ['unbundled']],
  ['node-datachannel', 'datachannel_player.mjs', [], ['data', 'sendrecv']],
]) {
  scenario(`${name} puts keyframes together from packets, and takes sound`, async (world) => {
    const { whep, nobodyWatches } = await site(world);
    await Promise.all(offers.map(async (options) => {
      const said = await play(world, process.execPath, script, whep, FRAMES, ...options);
      const video = said('enough', 'video');
      assert.ok(video.frames >= FRAMES && video.types[5] >= 1, JSON.stringify(video));
      // SPS: Constrained Baseline.
      assert.match(video.sps, /^6742[cdef]0/, video.sps);
      if (!options.includes('unbundled')) assert.equal(said('enough', 'audio').frames, FRAMES);
    }));
    await nobodyWatches();
  });
}

scenario('@eyevinn/webrtc-player in Chromium, a page of another origin, starts the stream, plays and ends its session', async (world) => {
  const { whep, nobodyWatches } = await site(world, { onDemand: true });
  const page = await world.page(await world.browser(), `${await servePage(world, 'eyevinn_page.mjs')}#${whep}`);
  const played = await until('pictures are shown', async () => {
    const now = await page.evaluate(() => {
      const video = document.getElementById('video');
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      return { frames, width: video.videoWidth, height: video.videoHeight, problems: window.problems };
    });
    if (now.frames < FRAMES) throw new Error(JSON.stringify(now));
    return now;
  });
  assertSize(played);
  assert.deepEqual(played.problems, []);
  await assertPictures(page);
  await page.evaluate(() => window.player.unload());
  await nobodyWatches();
});

scenario('Chromium plays by WHEP, its candidates trickled, and restarts ICE', async (world) => {
  const { server, whep, nobodyWatches } = await site(world);
  const page = await world.page(await world.browser(), `${server.api}/health`);
  await playsByWhep(page, whep);
  await nobodyWatches();
});

// See lib/firefox.mjs for what stands in for its OpenH264 plug-in.
scenario('Firefox plays by WHEP, its candidates trickled, and restarts ICE', async (world) => {
  const { server, whep, nobodyWatches } = await site(world);
  const browser = await launchFirefox(world);
  const page = await browser.newPage();
  await page.goto(`${server.api}/health`);
  const offer = await playsByWhep(page, whep);
  assert.match(offer, /mozilla/);
  await nobodyWatches();
});

scenario('Firefox plays the viewer page', async (world) => {
  const { server, id } = await site(world);
  const page = await (await launchFirefox(world)).newPage();
  await page.goto(`${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  await decodesMore(page, FRAMES);
  await assertPictures(page);
});

async function playsByWhep(page, endpoint) {
  const { offer } = await page.evaluate(playInPage, endpoint);
  const decodes = (frames) => until(`${frames} pictures are decoded`, async () => {
    const now = await page.evaluate(() => window.played());
    if (!(now.frames >= frames && now.sound >= FRAMES)) throw new Error(JSON.stringify(now));
    return now;
  });
  const played = await decodes(FRAMES);
  assertSize(played);
  assert.equal(played.patched, 204);
  await assertPictures(page);

  const { before, after, ufrag } = await page.evaluate(() => window.restart());
  assert.ok(before && after && before !== after, `${before} ${after}`);
  await until('media comes by the new ICE session', async () => {
    const now = await page.evaluate(() => window.played());
    if (now.ufrag !== ufrag) throw new Error(`${now.ufrag}, not ${ufrag}`);
    return true;
  });
  const { frames } = await page.evaluate(() => window.played());
  await decodes(frames + FRAMES);
  assert.equal(await page.evaluate(() => window.leave()), 200);
  return offer;
}

/** The number that the camera draws into its pictures is there, and counts up. */
async function assertPictures(page) {
  const numbers = await readFrames(page, 10);
  assert.ok(numbers.every((number) => number !== null), numbers.join());
  assert.ok(steps(numbers).every((step) => step >= 1 && step < 50), numbers.join());
}

function assertSize({ width, height }) {
  assert.ok(SIZES.includes(`${width}x${height}`), `${width}x${height}`);
}
