// A long run with figures: one camera, two viewers, and what is true all along.
//
//   HONEYCAST_BIN=target/release/honeycast node tests/browser/soak.mjs [minutes, 10 unless said]
//
// Prints one line every 10 s and a summary; fails if the stream is ever not active, keepalives are missing,
// anything failed, feedback paused, or memory grew after the first minute.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { inState, snapshot } from './lib/browser.mjs';
import { scenario } from './lib/world.mjs';

const MINUTES = Number(process.argv[2] ?? 10);
const SAMPLE_MS = 10_000;
// Pages of the allocator and the kernel's own bookkeeping come and go; a leak of one packet in a thousand is more.
const MEMORY_TOLERANCE_KIB = 1_024;

const residentKib = (pid) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
const cpuSeconds = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
};

scenario(`${MINUTES} minutes`, async (world) => {
  const { server, camera, id } = await world.site();
  const browser = await world.browser();
  const pages = [];
  for (let count = 0; count < 2; count += 1) pages.push(await world.page(browser, `${server.api}/viewer?camera=${id}`));
  for (const page of pages) await inState(page, 'live');
  const { pid } = server.child;
  const begun = performance.now();
  const [cpuBefore, samples] = [cpuSeconds(pid), []];
  while (performance.now() - begun < MINUTES * 60_000) {
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
    const { stream } = (await server.get(`/streams/${id}`)).body;
    assert.equal(stream.state, 'active');
    const { keepalive_count: count, error_count: errors } = stream.keepalive_stats;
    const expected = stream.keepalive_stats.elapsed_seconds / 4;
    assert.ok(Math.abs(count - expected) <= 1, `${count} keepalives after ${stream.keepalive_stats.elapsed_seconds} s`);
    assert.equal(errors, 0);
    for (const page of pages) assert.equal((await snapshot(page)).state, 'live');
    const sample = { seconds: Math.round((performance.now() - begun) / 1000), keepalives: count, rssKib: residentKib(pid) };
    samples.push(sample);
    console.log(JSON.stringify(sample));
  }
  const report = await camera.report('the last report', (one) => one.streaming_seconds >= MINUTES * 60 - 10);
  assert.ok(report.feedback.max_gap_seconds <= 1, JSON.stringify(report.feedback));
  const { stats } = await snapshot(pages[0]);
  const after = samples.filter((sample) => sample.seconds > 60).map((sample) => sample.rssKib);
  console.log(JSON.stringify({
    minutes: MINUTES,
    keepalives: samples.at(-1).keepalives,
    feedback: report.feedback,
    cpuPercent: Number(((cpuSeconds(pid) - cpuBefore) / (MINUTES * 60) * 100).toFixed(2)),
    rssKibAfterAMinute: after[0],
    rssKibAtTheEnd: after.at(-1),
    rssKibMost: Math.max(...after),
    viewer: stats,
  }));
  assert.ok(Math.max(...after) - after[0] <= MEMORY_TOLERANCE_KIB, `memory grew: ${after.join(' ')}`);
}, { timeout: MINUTES * 60_000 + 120_000 });
