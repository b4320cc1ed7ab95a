// Lighthouse, offline: accessibility and best practices of every page.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import lighthouse, { desktopConfig } from 'lighthouse';
import { EXECUTABLE, FLAGS } from './lib/browser.mjs';
import { Child } from './lib/child.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const LEAST = 0.95;

// It wants a browser of its own, by address.
async function chromium(world) {
  const child = world.adopt(new Child('chromium', EXECUTABLE, ['--headless=new', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows', '--disable-background-timer-throttling', '--remote-debugging-port=0', `--user-data-dir=${join(world.folder, 'profile')}`, ...FLAGS, 'about:blank']));
  return child.errorLine('its address', (line) => /^DevTools listening on ws:\/\/[^:]+:(\d+)/.exec(line)?.[1]);
}

scenario('Lighthouse gives every page at least 95 for accessibility and for best practices', async (world) => {
  const { server, id } = await world.site();
  await fetch(`${server.api}/cameras/${id}`, { method: 'PUT', body: JSON.stringify({ name: 'Gate' }) });
  assert.equal((await server.start(id)).status, 201);
  await until('there is a keyframe', async () => (await server.get('/streams')).body.streams[0].media.last_keyframe_at);
  const port = Number(await chromium(world));
  const pages = ['/', `/#/watch/${id}`, `/#/camera/${id}`, '/#/system', '/#/activity', `/livestream/viewer?camera=${id}`, '/livestream/viewer', '/login'].map((path) => server.dashboard + path);
  pages.push(`${server.api}/docs`);
  const settings = {
    // The stream of events never ends, and Lighthouse waits for every request: no longer than this.
    port, logLevel: 'silent', onlyCategories: ['accessibility', 'best-practices'], throttlingMethod: 'provided', pauseAfterLoadMs: 1_000, networkQuietThresholdMs: 0, cpuQuietThresholdMs: 0, maxWaitForLoad: 8_000, disableFullPageScreenshot: true,
  };
  const runs = [...pages.map((page) => [page, 'phone', undefined]), [pages[0], 'desk', desktopConfig]];
  for (const [page, form, config] of runs) {
    const { lhr } = await lighthouse(page, settings, config);
    assert.equal(lhr.runtimeError, undefined, `${page}: ${lhr.runtimeError?.message}`);
    const found = Object.values(lhr.categories).map((category) => {
      const poor = category.auditRefs.map((ref) => lhr.audits[ref.id]).filter((audit) => audit.score !== null && audit.score < 1).map((audit) => `${audit.id}: ${audit.title} ${JSON.stringify(audit.details?.items?.slice(0, 3) ?? '')}`);
      assert.ok(category.score >= LEAST, `${page} on a ${form}: ${category.id} ${category.score}\n${poor.join('\n')}`);
      return `${category.id} ${category.score * 100}`;
    });
    console.log([page.replace(server.dashboard, '').replace(server.api, 'api:'), form, ...found].join(', '));
  }
}, { timeout: 600_000 });
