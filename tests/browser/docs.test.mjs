// The page of the API document, as integrators meet it: offline, under the pages' strict policy.

import assert from 'node:assert/strict';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

scenario('the API document is shown whole, and its links lead to schemas', async (world) => {
  const { server } = await world.site();
  const page = await world.page(await world.browser(), `${server.api}/docs`);
  const document = await (await fetch(`${server.api}/openapi.json`)).json();
  const expected = Object.values(document.paths).flatMap((methods) => Object.values(methods)).length;
  await until('every operation is listed', async () => (await page.locator('#operations details').count()) === expected);
  assert.equal(await page.locator('#schemas details').count(), Object.keys(document.components.schemas).length);
  await page.click('#startStream summary');
  await page.click('#startStream a:text("AlreadyActive")');
  await until('the schema is open', async () => page.locator('#schema-AlreadyActive').evaluate((part) => part.open));
  assert.equal(await page.locator('#notice').isHidden(), true);
  assert.deepEqual(page.problems, []);
});
