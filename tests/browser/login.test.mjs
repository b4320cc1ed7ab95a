// Access control as people meet it: the login, its cookie on both ports and the socket, links with a token.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { inState } from './lib/browser.mjs';
import { BINARY } from './lib/server.mjs';
import { accessible, fits, liveTiles, quiet } from './lib/pages.mjs';
import { startProxy } from './lib/proxy.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const createToken = (...args) => execFileSync(BINARY, ['create-token', ...args], { encoding: 'utf8', env: { JWT_SECRET_KEY: SECRET }, stdio: 'pipe' }).trim();

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
  await until('the refusal is shown', async () => (await page.textContent('#notice')) === 'The key is not known.');
  await page.fill('#credential', key);
  await page.click('#submit');
  // The page goes where it wanted; API and signaling are on other ports and get the cookie as well.
  await page.waitForURL(`**/livestream/viewer?camera=${id}`);
  await inState(page, 'live');
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script can read it');

  // A link with a token, in a browser that has never logged in.
  const token = createToken();
  const linked = await world.page(browser, `${server.dashboard}/livestream/viewer?camera=${id}&token=${token}`);
  await inState(linked, 'live');
  assert.doesNotMatch(await linked.textContent('#log'), new RegExp(token), 'the token is not shown');
  assert.deepEqual([...page.problems, ...linked.problems], []);
});

scenario('who may only watch is offered nothing else, is named, and logs out', async (world) => {
  const viewer = createKey('view');
  const admin = createKey('admin');
  const { server, id } = await world.site({ env: { AUTH_ENABLED: 'true', AUTH_API_KEYS: `${viewer.entry},${admin.entry}`, JWT_SECRET_KEY: SECRET } });
  const browser = await world.browser();
  const page = await world.page(browser, `${server.dashboard}/`);
  await page.waitForURL(/\/login/);
  await accessible(page, 'login');
  for (const width of [320, 390, 1280]) await fits(page, width);
  const logIn = async (key) => {
    await page.fill('#credential', key);
    await page.click('#submit');
    await page.locator('.tile').waitFor();
    await page.getByRole('button', { name: 'Log out' }).waitFor();
  };
  await logIn(viewer.key);
  assert.equal(await page.locator('.toggle:visible, #camera-input:visible').count(), 0, 'neither start nor stop');
  await accessible(page, 'dashboard of a viewer');
  await page.goto(`${server.dashboard}/#/system`);
  await page.getByText('Everything works.').waitFor();
  assert.equal(await page.getByText('Unknown senders').isVisible(), false);
  await page.goto(`${server.dashboard}/#/camera/${id}`);
  await page.getByRole('heading', { name: 'Codec doctor' }).waitFor();
  assert.equal(await page.locator('#label-name').isVisible(), false);
  // Nothing runs, and this page may not start it: it waits, and shows what others start.
  await page.goto(`${server.dashboard}/livestream/viewer?camera=${id}`);
  await page.getByText('your login may not start it').first().waitFor();
  const started = await fetch(`${server.api}/streams/${id}/start`, { method: 'POST', headers: { authorization: `Bearer ${admin.key}` } });
  assert.equal(started.status, 201);
  await inState(page, 'live');
  quiet(page);

  await page.getByRole('button', { name: 'Log out' }).click();
  await page.waitForURL(/\/login/);
  await page.goto(`${server.dashboard}/`);
  await page.waitForURL(/\/login/);
  await logIn(admin.key);
  await page.locator('.toggle:visible').waitFor();
  await page.goto(`${server.dashboard}/#/system`);
  await page.getByText('Unknown senders').waitFor();
  await page.getByText('Memory', { exact: true }).waitFor();
  assert.match(await page.locator('.facts-list').first().innerText(), /\d+ MiB/);
  assert.deepEqual(page.problems, []);
});

scenario('a token that ends while a page is open leads to the login, and back to where one was', async (world) => {
  const viewer = createKey('view');
  const admin = createKey('admin');
  const { server, id } = await world.site({ env: { AUTH_ENABLED: 'true', AUTH_API_KEYS: `${viewer.entry},${admin.entry}`, JWT_SECRET_KEY: SECRET } });
  await fetch(`${server.api}/streams/${id}/start`, { method: 'POST', headers: { authorization: `Bearer ${admin.key}` } });
  const browser = await world.browser();
  const cookie = await world.page(browser, `${server.dashboard}/livestream/viewer?camera=${id}`);
  await cookie.waitForURL(/\/login/);
  const token = createToken('--seconds', '30');
  // By the cookie that a token became, and by links with the token.
  await cookie.fill('#credential', token);
  await cookie.click('#submit');
  const links = await Promise.all([`/?token=${token}#/watch/${id}`, `/?token=${token}`].map((path) => world.page(browser, `${server.dashboard}${path}`)));
  const pages = [cookie, ...links];
  const watching = pages.slice(0, 2);
  for (const page of watching) await inState(page, 'live');
  await liveTiles(pages[2], 1);
  for (const page of pages) await page.waitForURL(/\/login\?.*ended/, { timeout: 60_000 });
  await until('nobody watches with what has ended', async () => {
    const answer = await fetch(`${server.api}/viewers`, { headers: { authorization: `Bearer ${admin.key}` } });
    return (await answer.json()).count === 0;
  });
  for (const page of pages) {
    assert.doesNotMatch(page.url(), /token/);
    await page.getByText('Your login has ended.').waitFor();
    await page.fill('#credential', viewer.key);
    await page.click('#submit');
  }
  for (const page of watching) await inState(page, 'live');
  await liveTiles(pages[2], 1);
  assert.deepEqual(pages.flatMap((page) => page.problems), []);
});

scenario('by https behind a proxy with a path prefix, the login leads to where one wanted', async (world) => {
  const { key, entry } = createKey('control');
  const { server, id } = await world.site({ env: { AUTH_ENABLED: 'true', AUTH_API_KEYS: entry, JWT_SECRET_KEY: SECRET } });
  const proxy = world.closing(await startProxy(server, '/cams/', world.certificates().server));
  const page = await world.page(await world.browser(), `${proxy.url}#/watch/${id}`, { ignoreHTTPSErrors: true });
  await page.waitForURL(/\/cams\/login\?/);
  await page.fill('#credential', key);
  await page.click('#submit');
  await inState(page, 'live');
  assert.equal(page.url(), `${proxy.url}#/watch/${id}`);
  assert.deepEqual((await page.context().cookies()).map(({ secure, httpOnly }) => [secure, httpOnly]), [[true, true]]);
  assert.deepEqual(page.problems, []);
});
