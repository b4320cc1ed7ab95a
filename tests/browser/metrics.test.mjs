// The metrics page of a running service, read by Prometheus's own tool.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { decodesMore, inState } from './lib/browser.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

const ROOT = resolve(import.meta.dirname, '../..');

function promtool(args, input) {
  const run = spawnSync('promtool', args, { input, encoding: 'utf8' });
  assert.equal(run.error, undefined, `promtool cannot run (scripts/test fetches it): ${run.error}`);
  assert.equal(run.status, 0, run.stdout + run.stderr);
}

scenario('Prometheus accepts the metrics page and the alert rules, and a watched camera has every figure', async (world) => {
  const { server, id } = await world.site();
  assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.dashboard}/livestream/viewer?camera=${id}`);
  await inState(page, 'live');
  await decodesMore(page);

  const documented = [...readFileSync(`${ROOT}/docs/metrics.md`, 'utf8').matchAll(/^\| `(honeycast_\w+)`/gm)].map((m) => m[1]);
  // Only known for cameras that tell them, after the camera was asked for something, or with a store, certificate or access control.
  const optional = /_(battery_percent|signal|follows_remb|answers_pli)$|camera_store|certificate_|access_/;
  const text = await until('every figure is there', async () => {
    const scraped = await (await fetch(`${server.api}/metrics`)).text();
    const missing = documented.filter((name) => !optional.test(name) && !scraped.includes(`# TYPE ${name} `));
    assert.deepEqual(missing, []);
    return scraped;
  });
  promtool(['check', 'metrics'], text);
  promtool(['check', 'rules', `${ROOT}/config/alerts.yml`]);

  const value = (sample) => Number(text.split('\n').find((line) => line.startsWith(`${sample} `))?.split(' ').at(-1));
  assert.equal(value('honeycast_viewers{connected="true"}'), 1);
  assert.equal(value(`honeycast_stream_media_flowing{camera="${id}"}`), 1);
  assert.ok(value(`honeycast_ingest_packets_total{camera="${id}",medium="video"}`) > 0);
  assert.ok(value('honeycast_egress_packets_total') > 0);
  assert.equal(value('honeycast_viewer_connect_seconds_count'), 1);
});
