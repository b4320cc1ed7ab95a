// What a viewer on a bad path sees, in figures: 5 % loss with 30 ms of jitter, then half the bitrate and its end.
//
//   node tests/browser/weak.mjs

import assert from 'node:assert/strict';
import { inState, snapshot } from './lib/browser.mjs';
import { startRelay, throughRelay } from './lib/relay.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

scenario('a viewer behind a relay, and one beside it', async (world) => {
  const { server, id } = await world.site();
  const port = server.addresses.viewer_udp;
  const relay = await startRelay(port);
  const browser = await world.browser();
  const good = await world.page(browser, `${server.api}/viewer?camera=${id}`);
  await inState(good, 'live');
  const weak = await world.page(browser, `${server.api}/viewer?camera=${id}`, (page) => throughRelay(page, port, relay));
  await inState(weak, 'live');
  assert.ok(relay.forwarded > 0, 'the media goes through the relay');
  const figures = async () => {
    const { viewers } = (await server.get(`/viewers/${id}`)).body;
    return viewers.sort((a, b) => a.created_at.localeCompare(b.created_at)).map((viewer) => viewer.stats);
  };
  const frames = async (page) => (await snapshot(page)).stats.framesDecoded;
  const decoded = async (ms) => {
    const before = [await frames(good), await frames(weak)];
    await pause(ms);
    return [await frames(good), await frames(weak)].map((now, index) => now - before[index]);
  };

  relay.path = { loss: 0.05, jitterMs: 30 };
  await pause(3_000);
  const [beside, lossy] = await decoded(20_000);
  const [, afterLoss] = await figures();
  console.log(JSON.stringify({ path: relay.path, decoded: { beside, lossy, share: lossy / beside }, stats: afterLoss }));

  relay.path = {};
  await pause(5_000);
  const before = relay.bytes;
  await pause(8_000);
  const bitrate = ((relay.bytes - before) * 8) / 8;
  relay.path = { bitsPerSecond: bitrate / 2 };
  const limited = performance.now();
  await until('it is thinned', async () => (await figures())[1].thinned, 10_000);
  const thinnedAfterMs = performance.now() - limited;
  let worstQueueMs = 0;
  let besideThinned = false;
  while (performance.now() - limited < 12_000) {
    const [other, one] = await figures();
    worstQueueMs = Math.max(worstQueueMs, one.queue_ms ?? 0);
    besideThinned ||= other.thinned;
    await pause(100);
  }
  const [, whileLimited] = await figures();
  relay.path = {};
  const lifted = performance.now();
  await until('everything is back', async () => !(await figures())[1].thinned, 20_000);
  const backAfterMs = performance.now() - lifted;
  const [besideAfter, weakAfter] = await decoded(5_000);
  console.log(JSON.stringify({
    bitrate: Math.round(bitrate), thinnedAfterMs: Math.round(thinnedAfterMs), worstQueueMs, besideThinned, backAfterMs: Math.round(backAfterMs),
    decodedAfter: { beside: besideAfter, weak: weakAfter }, stats: whileLimited,
  }));
  await relay.close();
}, { timeout: 150_000 });
