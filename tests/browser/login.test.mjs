// Access control as people meet it: the login, its cookie on both ports and the socket, links with a token.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { inState } from './lib/browser.mjs';
import { BINARY } from './lib/server.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const SECRET = 'the secret of the tokens of this test';

function createKey(role) {
  const [key, entry] = execFileSync(BINARY, ['create-key', '--role', role], { encoding: 'utf8' }).split('\n');
  return { key: key.split(' ').at(-1), entry: entry.split('"')[1] };
}

scenario('who logs in watches, and who has no key does not', async (world) => {
  const { key, entry } = createKey('control');
  const env = { AUTH_ENABLED: 'true', AUTH_API_KEYS: entry, JWT_SECRET_KEY: SECRET };
  const { server, id } = await world.site({ env });
  const browser = await world.browser();

  const page = await world.page(browser, `${server.dashboard}/livestream/viewer?camera=${id}`);
  assert.equal(new URL(page.url()).pathname, '/login');
  await page.fill('#credential', 'not a key');
  await page.click('#submit');
  await until('the refusal is shown', async () => (await page.textContent('#notice')) === 'The key is not known');
  await page.fill('#credential', key);
  await page.click('#submit');
  // The page goes where it wanted; API and signaling are on other ports and get the cookie as well.
  await page.waitForURL(`**/livestream/viewer?camera=${id}`);
  await inState(page, 'live');
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script can read it');

  // A link with a token, in a browser that has never logged in.
  const token = execFileSync(BINARY, ['create-token'], { encoding: 'utf8', env: { JWT_SECRET_KEY: SECRET }, stdio: 'pipe' }).trim();
  const linked = await world.page(browser, `${server.dashboard}/livestream/viewer?camera=${id}&token=${token}`);
  await inState(linked, 'live');
  assert.doesNotMatch(await linked.textContent('#log'), new RegExp(token), 'the token is not shown');
  assert.deepEqual([...page.problems, ...linked.problems], []);
});
