// How long people wait: from opening the dashboard to a picture in every tile, from the click on a tile to a live picture,
// and from following a link to the viewer page to a live picture.
//
//   HONEYCAST_BIN=target/release/honeycast node tests/browser/measure-pages.mjs [rounds, 10 unless said] [tiles, 9]
//
// Medians, on the loopback interface; the browser is started before, its cache is warm from the second round on.

import { inState } from './lib/browser.mjs';
import { liveTiles } from './lib/pages.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const ROUNDS = Number(process.argv[2] ?? 10);
const TILES = Number(process.argv[3] ?? 9);
const median = (values) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)];

// In the page, from its first script on: when each tile and the viewer first had a picture.
function watch() {
  window.first = {};
  const note = (video) => {
    const key = video.closest('.tile')?.dataset.camera ?? video.id;
    const seen = (how) => { window.first[key] ??= { ms: performance.now(), how }; };
    if (video.classList.contains('still')) video.addEventListener('loadeddata', () => seen('still'));
    else video.requestVideoFrameCallback(() => seen('live'));
  };
  new MutationObserver((changes) => {
    for (const node of changes.flatMap((change) => [...change.addedNodes])) {
      if (node.querySelectorAll) for (const video of node.querySelectorAll('video')) { if (!video.watched) { video.watched = true; note(video); } }
    }
  }).observe(document, { childList: true, subtree: true });
}

scenario('waiting times', async (world) => {
  const { server, broker, id } = await world.site({ camera: { args: ['--small-picture'] } });
  const ids = [id];
  while (ids.length < TILES) {
    const one = world.cameraId();
    ids.push(one);
    await world.camera({ id: one, broker: broker.port, args: ['--small-picture'] });
  }
  for (const one of ids) {
    await server.start(one);
    await until('it has a keyframe', async () => (await server.get(`/streams/${one}`)).body.stream.why_no_picture.code === 'ok');
  }
  const browser = await world.browser();
  const page = await world.page(browser, null, { honest: false, viewport: { width: 1200, height: 1100 } });
  await page.addInitScript(watch);
  const rounds = { dashboard: [], click: [], link: [], how: new Set() };
  for (let round = 0; round < ROUNDS; round += 1) {
    await page.goto('about:blank');
    await until('nobody watches', async () => (await server.get('/health')).body.total_viewers === 0);
    await page.goto(`${server.dashboard}/`);
    const tiles = await until('a picture in every tile', async () => {
      const first = await page.evaluate(() => window.first);
      return Object.keys(first).length >= TILES && Object.values(first);
    });
    rounds.dashboard.push(Math.max(...tiles.map((tile) => tile.ms)));
    tiles.forEach((tile) => rounds.how.add(tile.how));
    await liveTiles(page, TILES);
    const clicked = await page.evaluate((camera) => {
      const at = performance.timeOrigin + performance.now();
      document.querySelector(`.tile[data-camera="${camera}"] .open`).click();
      return at;
    }, id);
    await page.waitForURL(/#\/watch/);
    await inState(page, 'live');
    const shown = await page.evaluate(() => performance.timeOrigin + window.first.video.ms);
    rounds.click.push(shown - clicked);
    await page.goto('about:blank');
    await page.goto(`${server.dashboard}/livestream/viewer?camera=${id}`);
    await inState(page, 'live');
    rounds.link.push(await page.evaluate(() => window.first.video.ms));
  }
  console.log(JSON.stringify({
    rounds: ROUNDS, tiles: TILES, firstPictureBy: [...rounds.how],
    dashboardToEveryTileMs: Math.round(median(rounds.dashboard)), clickToLiveMs: Math.round(median(rounds.click)), linkToLiveMs: Math.round(median(rounds.link)),
    all: { dashboard: rounds.dashboard.map(Math.round), click: rounds.click.map(Math.round), link: rounds.link.map(Math.round) },
  }));
}, { timeout: 600_000 });
