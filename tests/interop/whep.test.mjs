// Foreign WebRTC stacks play a stream of the real binary by WHEP. Each scenario wants evidence that the stream
// arrived: pictures that were decoded, with their size, or keyframes that were put together from packets.

import assert from 'node:assert/strict';
import { until } from '../browser/lib/until.mjs';
import { scenario } from '../browser/lib/world.mjs';
import { site } from './lib/site.mjs';
import { DEBIAN_PYTHON, VENV_PYTHON, play } from './lib/player.mjs';

/** What the simulated camera sends. */
const SIZE = { width: 640, height: 360 };
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

function assertDecoded(said) {
  const { width, height } = said('first', 'video');
  assert.deepEqual({ width, height }, SIZE);
  assert.equal(said('first', 'audio').rate, 48_000);
  assert.equal(said('enough', 'video').frames, FRAMES);
  assert.equal(said('enough', 'audio').frames, FRAMES);
}
