// What tests of pages share: accessibility, errors, the dashboard's tiles.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { until } from './until.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** Fails with every violation that axe finds on the page as it stands, in both themes. */
export async function accessible(page, what) {
  // Evaluated by the debugger, which the page's policy does not bind.
  await page.evaluate(AXE);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate((values) => window.axe.run(document, { runOnly: { type: 'tag', values } }), RULES);
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join('\n  ')}`);
    assert.deepEqual(found, [], `${what}, ${colorScheme}`);
  }
}

/** The console has shown no error at all. What has no keyframe yet has no still. */
export function quiet(page) {
  const errors = page.errors.filter((error) => !/(404|503) .*keyframe\.mp4/.test(error));
  assert.deepEqual([...page.problems, ...errors], []);
}

/** Nothing sticks out at this width. */
export async function fits(page, width) {
  await page.setViewportSize({ width, height: 800 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width, `nothing sticks out at ${width} px`);
}

export const tiles = (page) => page.evaluate(() => window.honeycast?.tiles ?? {});

/** Waits until so many tiles of the dashboard are live. */
export function liveTiles(page, count, within) {
  return until(`${count} tiles are live`, async () => {
    const states = await tiles(page);
    if (Object.values(states).filter((state) => state === 'live').length !== count) throw new Error(JSON.stringify(states));
    return states;
  }, within);
}
