// What a wall of sixteen live pictures costs the browser: processor time of each of its processes, and what is left of
// it on another page of the dashboard.
//
//   HONEYCAST_BIN=target/release/honeycast node tests/browser/measure-wall.mjs [seconds, 10 unless said]

import { setTimeout as pause } from 'node:timers/promises';
import { liveTiles } from './lib/pages.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const SECONDS = Number(process.argv[2] ?? 10);
const TILES = 16;

scenario('a wall of sixteen', async (world) => {
  const { server, broker, id } = await world.site();
  const ids = [id];
  while (ids.length < TILES) {
    ids.push(world.cameraId());
    await world.camera({ id: ids.at(-1), broker: broker.port, args: ['--small-picture'] });
  }
  for (const one of ids) await server.start(one);
  const browser = await world.browser();
  const page = await world.page(browser, `${server.dashboard}/`, { honest: false, viewport: { width: 1200, height: 1500 } });
  const session = await browser.client.newBrowserCDPSession();
  const used = async () => {
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    const sum = {};
    for (const { type, cpuTime } of processInfo) sum[type] = (sum[type] ?? 0) + cpuTime;
    return sum;
  };
  const cores = async () => {
    const [before, at] = [await used(), performance.now()];
    await pause(SECONDS * 1000);
    const [after, seconds] = [await used(), (performance.now() - at) / 1000];
    return Object.fromEntries(Object.keys(after).map((type) => [type, Number(((after[type] - (before[type] ?? 0)) / seconds).toFixed(3))]));
  };
  await page.getByLabel('Layout').selectOption('4');
  await liveTiles(page, TILES, 60_000);
  const wall = await cores();
  await page.goto(`${server.dashboard}/#/system`);
  await until('nothing is watched', async () => (await server.get('/health')).body.total_viewers === 0);
  console.log(JSON.stringify({ tiles: TILES, seconds: SECONDS, cores: { wall, systemPage: await cores() } }));
}, { timeout: 180_000 });
