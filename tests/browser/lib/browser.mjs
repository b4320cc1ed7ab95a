// Headless Chromium that can play H.264 over WebRTC, and pages that record what went wrong on them.

import { chromium } from 'playwright-core';
import { watchOver } from './honest.mjs';
import { until } from './until.mjs';

export const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';
export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-dev-shm-usage',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
];

/**
 * A browser whose processes can be frozen or killed as a whole. `executable` starts it elsewhere, and `host` is an address
 * that it may reach then.
 */
export async function launch({ executable = EXECUTABLE, host } = {}) {
  const args = host ? FLAGS.map((flag) => (flag.startsWith('--host-resolver-rules') ? `${flag}, EXCLUDE ${host}` : flag)) : FLAGS;
  const server = await chromium.launchServer({ executablePath: executable, args });
  const client = await chromium.connect(server.wsEndpoint());
  return {
    client,
    // It leads a process group of its own.
    signal: (name) => process.kill(-server.process().pid, name),
    end: async () => {
      await client.close().catch(() => {});
      await server.kill();
    },
  };
}

/**
 * A page in a context of its own; `page.problems` lists script errors and refusals by its policy, `page.errors`
 * whatever the console calls an error, which also a server that is away brings about. `options` are playwright's; a
 * service worker would take requests out of a test's hands, so there is none unless it is asked for. The functions
 * `before` run in the page before its own scripts; `prepare(page)` comes before it loads. A stale picture that is called
 * live is a script error, unless `honest` is false (where the page is measured, and nothing else may run).
 */
export async function newPage(browser, url, { before = [], honest = true, prepare, ...options } = {}) {
  const page = await browser.client.newPage({ viewport: { width: 1200, height: 900 }, serviceWorkers: 'block', ...options });
  if (honest) await page.addInitScript(watchOver);
  for (const script of before) await page.addInitScript(script);
  page.problems = [];
  page.errors = [];
  page.on('pageerror', (error) => page.problems.push(`page error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() !== 'error') return;
    page.errors.push(`${message.text()} (${message.location().url})`);
    if (/Content Security Policy/.test(message.text())) page.problems.push(message.text());
  });
  await prepare?.(page);
  if (url) await page.goto(url);
  return page;
}

export const snapshot = (page) => page.evaluate(() => ({
  state: window.honeycast?.state,
  detail: window.honeycast?.detail,
  stats: window.honeycast?.stats,
  videoWidth: document.getElementById('video').videoWidth,
}));

/** Waits until the page is in `state`. */
export function inState(page, state, within) {
  return until(`the page is ${state}`, async () => {
    const now = await snapshot(page);
    if (now.state !== state) throw new Error(JSON.stringify(now));
    return now;
  }, within);
}

/** Waits until the decoder has made at least `count` more frames. */
export async function decodesMore(page, count = 25, within = undefined) {
  const before = (await snapshot(page)).stats.framesDecoded;
  return until(`${count} more decoded frames`, async () => (await snapshot(page)).stats.framesDecoded >= before + count, within);
}
