// One scenario: its folder, its processes, its browsers; all gone when it ends, all shown when it fails.

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import test from 'node:test';
import { listen, startBroker } from './broker.mjs';
import { launch, newPage } from './browser.mjs';
import { startCamera } from './camera.mjs';
import { makeCertificates } from './certs.mjs';
import { watchMachine } from './machine.mjs';
import { startServer } from './server.mjs';

export const ARTIFACTS = resolve(import.meta.dirname, '..', 'artifacts');

/** How often a scenario is tried that measures while the machine has no time for it. */
const ATTEMPTS = 3;

/**
 * Declares a test with a world of its own. One that `measures` figures of time is tried again if it fails on a machine that
 * was overloaded meanwhile, by what the machine itself tells; its last attempt counts, and one on a machine that had time.
 */
export function scenario(name, body, { timeout = 120_000, skip = false, measures = false } = {}) {
  const attempts = measures ? ATTEMPTS : 1;
  test(name, { timeout: timeout * attempts, skip }, async () => {
    for (let attempt = 1; ; attempt += 1) {
      const load = watchMachine();
      const world = new World(name);
      try {
        await body(world);
        if (measures) console.log(JSON.stringify({ attempt, ...load() }));
        return;
      } catch (error) {
        const then = load();
        if (measures) console.log(JSON.stringify({ attempt, ...then, failed: error.message }));
        if (attempt === attempts || !then.overloaded) {
          await world.show();
          throw error;
        }
      } finally {
        await world.close();
      }
    }
  });
}

class World {
  #name;
  #children = [];
  #browsers = [];
  #pages = [];
  #closing = [];

  constructor(name) {
    this.#name = name.replaceAll(/[^a-z0-9]+/gi, '-').toLowerCase();
    this.folder = mkdtempSync(join(tmpdir(), 'honeycast-test-'));
    mkdirSync(ARTIFACTS, { recursive: true });
  }

  cameraId() {
    return randomBytes(16).toString('hex').toUpperCase();
  }

  certificates() {
    return makeCertificates(this.folder);
  }

  /** A process of the test's own, which ends with it. */
  adopt(child) {
    this.#children.push(child);
    return child;
  }

  async broker(options) {
    const broker = await startBroker(this.folder, options);
    this.#children.push(broker.child);
    return broker;
  }

  async listen(port, filter) {
    const listener = await listen(port, filter);
    this.#children.push(listener.child);
    return listener.messages;
  }

  /** The server; `env` on top of system-chosen ports and 127.0.0.1. */
  async server(env, command) {
    const server = await startServer(this.folder, env, command);
    this.#children.push(server.child);
    return server;
  }

  async camera(options) {
    const camera = await startCamera(this.folder, options);
    this.#children.push(camera.child);
    return camera;
  }

  /** Something with `close()`, which is called at the end. */
  closing(one) {
    this.#closing.push(one);
    return one;
  }

  async browser(options) {
    const browser = await launch(options);
    this.#browsers.push(browser);
    return browser;
  }

  async page(browser, url, options) {
    const page = await newPage(browser, url, options);
    this.#pages.push(page);
    return page;
  }

  /** A broker, a server and a camera: what most scenarios begin with. */
  async site({ env = {}, camera: options = {} } = {}) {
    const broker = await this.broker();
    const id = this.cameraId();
    const server = await this.server({ EMQX_BROKER_PORT: String(broker.port), ...env });
    const camera = await this.camera({ id, broker: broker.port, ...options });
    await server.brokerConnected();
    return { broker, server, camera, id };
  }

  async show() {
    for (const [index, page] of this.#pages.entries()) {
      const file = join(ARTIFACTS, `failed-${this.#name}-${index}.png`);
      await page.screenshot({ path: file, timeout: 5_000 }).catch(() => {});
      const log = await page.evaluate(() => document.getElementById('log')?.innerText).catch(() => '(page gone)');
      console.error(`--- page ${index}: ${file}\n${log}\n${page.problems.join('\n')}`);
    }
    this.#children.forEach((child) => console.error(child.describe()));
  }

  async close() {
    await Promise.all(this.#browsers.map((browser) => browser.end()));
    this.#closing.forEach((one) => one.close());
    // Cameras and listeners first, the broker last, so that everybody can say goodbye.
    for (const child of this.#children.reverse()) await child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
