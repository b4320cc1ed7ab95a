// Viewers on bad paths beside one on a good path: what each of them is shown, by the frame numbers in the pictures.
//
//   node --test tests/browser/weak.test.mjs

import assert from 'node:assert/strict';
import { countFrames, delays, keepPeers, recordFrames, steps, takeFrames } from './lib/barcode.mjs';
import { inState } from './lib/browser.mjs';
import { rank } from './lib/machine.mjs';
import { startRelay, throughRelay } from './lib/relay.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

/** Frames from one keyframe of the clip to the next. */
const GROUP = 100;
const FRAMES_PER_SECOND = 25;
/** Half a second of frames may be between camera and page, at one end more than at the other, where the machine is busy. */
const ON_THEIR_WAY = 12;
/** Frames that a busy browser shows as one. */
const MOST_IN_ONE_REPAINT = 5;

/** Large enough for the controls; what is drawn takes the machine's time from what is measured. */
const VIEWPORT = { width: 480, height: 360 };

/** A page beside another one that reaches the server through a relay, which is `path` from the beginning. */
async function twoViewers(world, path = {}) {
  // Server, camera and path (this process) come before browsers that decode: one that does not get its turn is a path that stalls.
  rank('PRIORITY_HIGH');
  const { server, id } = await world.site({ camera: { args: ['--honour-pli', '--ignore-remb'] } });
  const port = server.addresses.viewer_udp;
  const relay = world.closing(await startRelay(port));
  relay.path = path;
  rank('PRIORITY_ABOVE_NORMAL');
  const browser = await world.browser();
  rank('PRIORITY_HIGH');
  const url = `${server.api}/viewer?camera=${id}`;
  const beside = await world.page(browser, url, { viewport: VIEWPORT, before: [keepPeers] });
  await inState(beside, 'live');
  await recordFrames(beside);
  // Much of a group has to be replayed.
  await until('a late moment of a group', async () => {
    const number = (await takeFrames(beside)).at(-1)?.number ?? 0;
    return number % GROUP > 70;
  }, 20_000);
  const weak = await world.page(browser, url, { viewport: VIEWPORT, prepare: (page) => throughRelay(page, port, relay) });
  await inState(weak, 'live');
  assert.ok(relay.forwarded > 0, 'the media goes through the relay');
  await recordFrames(weak);
  const stats = async () => {
    const { viewers } = (await server.get(`/viewers/${id}`)).body;
    return viewers.sort((a, b) => a.created_at.localeCompare(b.created_at)).map((viewer) => viewer.stats);
  };
  /** Frames that came out of the decoders so far. */
  const decoded = async () => {
    const frames = (page) => page.evaluate(() => document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames);
    const [first, second] = await Promise.all([frames(beside), frames(weak)]);
    return { beside: first, weak: second };
  };
  const shown = { beside: [], weak: [] };
  /** Looks at what both were shown until `enough`, which is asked ten times a second. */
  const watch = (what, enough, within) => until(what, async () => {
    shown.beside.push(...await takeFrames(beside));
    shown.weak.push(...await takeFrames(weak));
    return enough();
  }, within);
  /** Begins anew as soon as the frame beside is one that `isGood`. */
  const fresh = async (what, isGood = () => true) => {
    await watch(what, () => shown.beside.length > 0 && isGood(shown.beside.at(-1).number));
    Object.assign(shown, { beside: [], weak: [] });
  };
  return { relay, stats, decoded, shown, watch, fresh, count: async () => ({ ...await countFrames(beside), thinnings: (await stats())[0].thinnings }) };
}

/**
 * The viewer beside is as it was since `from`: nothing is lost, nothing left out, and every frame that the camera has sent
 * is received whole. What a busy browser then does not decode is its own matter.
 */
function isWhole(from, to, stats) {
  const [sent, received] = [((to.at - from.at) / 1_000) * FRAMES_PER_SECOND, to.received - from.received];
  console.log(JSON.stringify({ beside: { sent: Math.round(sent), received, decoded: to.decoded - from.decoded, stats } }));
  assert.ok(received >= sent - ON_THEIR_WAY, `${received} frames received of ${sent} sent`);
  assert.equal(to.lost, from.lost);
  assert.equal(stats.lost, 0);
  assert.equal(stats.thinnings, from.thinnings);
  assert.equal(stats.retransmissions, 0);
}

scenario('a group of pictures is no burst: a path of twelve times the rate with a short queue carries it', async (world) => {
  // Of a group at the loopback interface's rate, two thirds would be lost.
  const { relay, stats, shown, watch, count } = await twoViewers(world, { bitsPerSecond: 8_000_000, queueMs: 100 });
  const from = await count();
  await watch('a second of frames', () => shown.weak.length >= 25);
  const [besideStats, weakStats] = await stats();
  console.log(JSON.stringify({ lost: relay.lost, pictureLaterMs: median(delays(shown.weak, shown.beside)), stats: weakStats }));
  isWhole(from, await count(), besideStats);
  // A relay that does not get its turn is a burst of its own.
  assert.ok(relay.lost <= 20, `${relay.lost} packets lost`);
  assert.equal(weakStats.thinnings, 0);
}, { measures: true });

scenario('5 % loss and 30 ms of jitter: 98 % of the frames are decoded, and nothing changes beside it', async (world) => {
  const { relay, stats, decoded, shown, watch, fresh, count } = await twoViewers(world);
  relay.path = { loss: 0.05, jitterMs: 30 };
  const settled = (await stats())[1].packets + 300;
  await until('the path is as it is', async () => (await stats())[1].packets > settled);
  await fresh('a frame');
  const from = await count();
  const before = await decoded();
  let after;
  await watch('12 s of frames', async () => {
    after = await decoded();
    return after.beside >= before.beside + 300;
  }, 30_000);
  const frames = { beside: after.beside - before.beside, weak: after.weak - before.weak };
  const later = median(delays(shown.weak, shown.beside));
  const [besideStats, weakStats] = await stats();
  const share = frames.weak / frames.beside;
  console.log(JSON.stringify({ decoded: { ...frames, share }, pictureLaterMs: later, stats: weakStats }));
  isWhole(from, await count(), besideStats);
  assert.ok(weakStats.lost > 0 && weakStats.retransmissions > 0, 'the path loses packets');
  assert.equal(weakStats.thinnings, 0);
  assert.ok(share >= 0.98, `${share}`);
}, { measures: true });

scenario('half the bitrate: one viewer is thinned, its path is not flooded, and all is back 3 s after', async (world) => {
  const { relay, stats, shown, watch, fresh, count } = await twoViewers(world);
  await fresh('a frame');
  const [bytes, began] = [relay.bytes, performance.now()];
  await watch('a whole group', () => shown.beside.length >= GROUP, 10_000);
  const bitsPerSecond = ((relay.bytes - bytes) * 8_000) / (performance.now() - began);
  const normal = median(delays(shown.weak, shown.beside));

  // A keyframe that is on its way already takes 0.6 s at half the rate, whoever sends it.
  const from = await count();
  await fresh('a keyframe has passed', (number) => number % GROUP > 3 && number % GROUP < 40);
  relay.path = { bitsPerSecond: bitsPerSecond / 2 };
  const queues = [];
  const reasons = new Set();
  const look = async () => {
    const [besideStats, weakStats] = await stats();
    assert.equal(besideStats.thinned, false);
    queues.push(weakStats.queue_ms ?? 0);
    if (weakStats.thinned) reasons.add(weakStats.thinned_reason);
    return weakStats;
  };
  await until('it is thinned', async () => (await look()).thinned, 5_000);
  await watch('12 s of frames', async () => { await look(); return shown.beside.length >= 3 * GROUP; }, 30_000);
  const late = delays(shown.weak, shown.beside);
  isWhole(from, await count(), (await stats())[0]);
  const limited = { beside: shown.beside.length, weak: shown.weak.length };
  const thinned = await look();
  assert.ok(thinned.thinned);

  relay.path = {};
  // The clock of the frames, as of the last one beside.
  const lifted = shown.beside.at(-1).at;
  Object.assign(shown, { beside: [], weak: [] });
  await watch('two seconds of frames in a row', () => run(shown.weak) !== null, 20_000);
  const back = shown.weak[run(shown.weak)].at - lifted;
  const [besideStats, after] = await stats();
  console.log(JSON.stringify({
    bitsPerSecond: Math.round(bitsPerSecond), normalDelayMs: normal, limited, reasons: [...reasons],
    queueMs: { worst: Math.max(...queues), median: median(queues) },
    pictureLaterMs: late.map(Math.round),
    backAfterMs: Math.round(back), thinned, after,
  }));
  assert.deepEqual([besideStats.lost, besideStats.thinnings], [0, 0]);
  assert.deepEqual([...reasons], ['delay']);
  assert.equal(after.thinnings, 1);
  assert.ok(Math.max(...queues) <= 500, `a queue of ${Math.max(...queues)} ms`);
  assert.ok(back <= 3_000, `all is back after ${back} ms`);
}, { measures: true });

/** Where 50 frames without a gap begin, or `null`. */
function run(frames) {
  const numbers = frames.map((frame) => frame.number);
  for (let from = 0; from + 50 <= numbers.length; from += 1) {
    if (steps(numbers.slice(from, from + 50)).every((step) => step <= MOST_IN_ONE_REPAINT)) return from;
  }
  return null;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? null;
}
