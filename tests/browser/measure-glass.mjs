// From the click to the first picture, and from the camera to the screen beside a bare sender.
//
//   cargo build --release --bins --example glass
//   HONEYCAST_BIN=target/release/honeycast node tests/browser/measure-glass.mjs [clicks, 10 unless said] [pairs, 4 unless said]
//
// The camera has a keyframe every 4 s and not before, whatever it is asked; `examples/glass.rs` says what the bare
// sender is. Nothing fails by the figures, as they depend on the machine.

import { dirname, join } from 'node:path';
import { recordAllFrames, takeFrames } from './lib/barcode.mjs';
import { inState } from './lib/browser.mjs';
import { Child } from './lib/child.mjs';
import { BINARY } from './lib/server.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const CLICKS = Number(process.argv[2] ?? 10);
const PAIRS = Number(process.argv[3] ?? 4);
/** Frames from one keyframe of the clip to the next. */
const GROUP = 100;
const FRAME_MS = 40;
const WATCHED_MS = 10_000;
/** A picture that is no older than this is live. */
const LIVE_MS = 250;
const LIMITS = { timeout: 900_000 };

scenario('clicks', async (world) => {
  const { server, id, sent, open } = await stage(world, 'sound');
  const viewer = await open(`${server.api}/viewer?camera=${id}`);
  await inState(viewer, 'live');
  const clicks = [];
  for (let click = 0; click < CLICKS; click += 1) {
    const page = await open(`${server.api}/viewer`);
    const link = `.card[data-camera="${id}"] a`;
    await page.waitForSelector(link);
    // Spread over the group of pictures: what is replayed is short at first and long at last.
    const [from, to] = [click, click + 1].map((part) => (part * GROUP) / CLICKS);
    await until('it is time to click', async () => {
      const place = (await takeFrames(viewer)).at(-1)?.number % GROUP;
      return place >= from && place < to;
    });
    // As a pointer does on its way to the click.
    await page.hover(link);
    const clicked = await page.evaluate((selector) => {
      const now = Date.now();
      document.querySelector(selector).click();
      return now;
    }, link);
    const frames = await watch(page, WATCHED_MS);
    const { service } = await sent();
    const { marks, freezeCount, totalFreezesDuration } = await page.evaluate(async () => ({
      marks: window.marks, ...[...(await window.peer.getStats()).values()].find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video'),
    }));
    const after = (time) => Math.round(time - clicked);
    const [first] = frames;
    clicks.push({
      firstPicture: after(first.at), live: after(frames.find((frame) => age(frame, service) <= LIVE_MS)?.at),
      freezes: freezeCount, frozenMs: totalFreezesDuration * 1_000, longestGap: Math.round(longestGap(frames)), frames: frames.length,
      // Where the time goes.
      offer: after(marks.offer), answer: after(marks.answer), firstWhole: after(first.received),
      firstAge: Math.round(age(first, service)),
    });
    await page.close();
  }
  print('clicks', { medians: mapValues(clicks[0], (_, key) => median(clicks.map((one) => one[key]))), click: clicks });
}, LIMITS);

for (const sound of ['sound', 'silence']) {
  scenario(`glass to glass with ${sound}`, async (world) => {
    const { server, id, bare, sent, open } = await stage(world, sound);
    const urls = { service: `${server.api}/viewer?camera=${id}`, bare };
    // A browser that has never played is some 300 ms late with its first sound, and shows that picture later for minutes.
    const first = await open(urls.service);
    await watch(first, WATCHED_MS);
    await first.close();
    const shown = { service: [], bare: [] };
    for (let pair = 0; pair < PAIRS; pair += 1) {
      // Both at once, so that the machine is as busy for one as for the other.
      const ways = pair % 2 === 0 ? ['service', 'bare'] : ['bare', 'service'];
      const pages = {};
      for (const way of ways) pages[way] = await open(urls[way]);
      // The jitter buffers come to rest.
      await Promise.all(ways.map((way) => watch(pages[way], WATCHED_MS)));
      const seen = await Promise.all(ways.map((way) => watch(pages[way], WATCHED_MS)));
      const times = await sent();
      ways.forEach((way, index) => shown[way].push(...seen[index].map((frame) => ({ ...frame, age: age(frame, times[way]) }))));
      for (const way of ways) await pages[way].close();
    }
    const figures = mapValues(shown, (frames) => ({
      glassToGlass: spread(frames.map((frame) => frame.age)),
      toTheBrowser: spread(frames.map((frame) => frame.age - (frame.at - frame.received))),
      inTheBrowser: spread(frames.map((frame) => frame.at - frame.received)),
      frames: frames.length,
    }));
    print(`glass to glass with ${sound}`, { ...figures, differenceOfMedians: tenths(figures.service.glassToGlass.median - figures.bare.glassToGlass.median) });
  }, LIMITS);
}

/** Broker, server, the camera and the bare sender beside it, and a browser. */
async function stage(world, sound) {
  const broker = await world.broker();
  const id = world.cameraId();
  const server = await world.server({ EMQX_BROKER_PORT: String(broker.port) });
  const cameras = world.adopt(new Child('glass', join(dirname(BINARY), 'examples', 'glass'), [String(broker.port), id, sound]));
  const { http } = await cameras.line('ready', (line) => line.startsWith('ready {') && JSON.parse(line.slice('ready '.length)));
  await server.brokerConnected();
  await until('the camera is there and the stream starts', async () => (await server.start(id)).status === 201);
  await until('it has a keyframe', async () => (await server.get(`/streams/${id}`)).body.stream.why_no_picture.code === 'ok');
  const browser = await world.browser();
  return {
    server, id, bare: `http://${http}/`,
    sent: async () => (await fetch(`http://${http}/sent`)).json(),
    open: (url) => world.page(browser, url, { before: [mark], prepare: recordAllFrames }),
  };
}

// In the page, from its first script on: how far its connection is, and when.
function mark() {
  window.marks = {};
  for (const [method, name] of [['setLocalDescription', 'offer'], ['setRemoteDescription', 'answer']]) {
    const original = RTCPeerConnection.prototype[method];
    RTCPeerConnection.prototype[method] = function marked(...description) {
      window.peer = this;
      window.marks[name] ??= Date.now();
      return original.apply(this, description);
    };
  }
}

/** What the page shows from its next frame on, this long. */
async function watch(page, ms) {
  const frames = [];
  await until('it is watched', async () => {
    frames.push(...await takeFrames(page));
    return frames.length > 0 && frames.at(-1).at - frames[0].at >= ms;
  }, ms + 20_000);
  return frames;
}

/** How long ago it had left the camera when it was shown; `sent` has numbers and times, the oldest first. */
function age({ number, at }, sent) {
  // A page that is late with a frame may read the number of the next one.
  const [, left] = sent.findLast(([other, time]) => other === number && time <= at + FRAME_MS) ?? [];
  return at - left;
}

function print(what, figures) {
  console.log(`${what}:`);
  for (const [name, value] of Object.entries(figures).flatMap(([key, one]) => (Array.isArray(one) ? one.map((each) => [key, each]) : [[key, one]]))) {
    console.log(`  ${name} ${JSON.stringify(value)}`);
  }
}

const mapValues = (object, map) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, map(value, key)]));
const longestGap = (frames) => Math.max(...frames.slice(1).map((frame, index) => frame.at - frames[index].at));
const share = (values, part) => values.toSorted((one, other) => one - other)[Math.floor((values.length - 1) * part)];
const median = (values) => share(values, 0.5);
const tenths = (value) => Math.round(value * 10) / 10;
const spread = (values) => ({ median: tenths(median(values)), p95: tenths(share(values, 0.95)), longest: tenths(share(values, 1)) });
