// Pictures of every page at three widths, light and dark, into artifacts/screens. To be looked at.
//
//   node tests/browser/screens.mjs [folder]

import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { inState } from './lib/browser.mjs';
import { tiles } from './lib/pages.mjs';
import { until } from './lib/until.mjs';
import { ARTIFACTS, scenario } from './lib/world.mjs';

const FOLDER = resolve(process.argv[2] ?? join(ARTIFACTS, 'screens'));
const WIDTHS = [[390, 844], [1280, 800], [2560, 1440]];
const NAMES = ['Front door', 'Back yard', 'Garage', 'Loading bay', 'Stairwell', 'Roof'];

scenario('screenshots', async (world) => {
  mkdirSync(FOLDER, { recursive: true });
  const { server, broker, id } = await world.site();
  const ids = [id];
  while (ids.length < NAMES.length) {
    const one = world.cameraId();
    ids.push(one);
    await world.camera({ id: one, broker: broker.port });
  }
  for (const [index, name] of NAMES.entries()) await fetch(`${server.api}/cameras/${ids[index]}`, { method: 'PUT', body: JSON.stringify({ name, notes: index ? '' : 'Ring twice' }) });
  for (const one of ids.slice(0, 4)) await server.start(one);
  const browser = await world.browser();
  const [lone, pair] = [`camera=${ids[0]}`, `camera=${ids[0]}&camera=${ids[1]}`];
  const pages = {
    dashboard: ['/', (page) => until('tiles on the screen are live', async () => {
      const states = Object.values(await tiles(page));
      return states.includes('live') && !states.includes('connecting');
    })],
    watch: [`/#/watch/${ids[0]}`, (page) => inState(page, 'live')],
    camera: [`/#/camera/${ids[0]}`, async (page) => { await page.getByText('Feedback reaches the camera').waitFor(); await page.locator('.single .badge[data-state="live"]').waitFor(); }],
    system: ['/#/system', (page) => page.getByText('Everything works.').waitFor()],
    activity: ['/#/activity', (page) => page.getByRole('heading', { name: 'Activity' }).waitFor()],
    viewer: [`/livestream/viewer?${lone}`, async (page) => { await inState(page, 'live'); if (await page.locator('.figures').isHidden()) await page.getByRole('button', { name: 'Figures' }).click(); await until('figures', () => page.evaluate(() => window.honeycast.stats.fps)); }],
    viewers: [`/livestream/viewer?${pair}`, (page) => until('both are live', () => page.evaluate(() => window.honeycast.states.join() === 'live,live'))],
    chooser: ['/livestream/viewer', (page) => page.getByText(/^Live · /).first().waitFor()],
    login: ['/login', (page) => page.waitForLoadState()],
  };
  const only = process.argv[3]?.split(',');
  for (const [name, [path, ready]] of Object.entries(pages)) {
    if (only && !only.includes(name)) continue;
    const page = await world.page(browser, server.dashboard + path);
    for (const [width, height] of WIDTHS) {
      await page.setViewportSize({ width, height });
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        await ready(page);
        await page.screenshot({ path: join(FOLDER, `${name}-${width}-${colorScheme}.png`) });
      }
    }
    await page.close();
  }
}, { timeout: 300_000 });
