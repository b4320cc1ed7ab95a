// A camera stops after 30 s without RTCP feedback. With it, it goes on; the counter-test shows that
// the simulated camera does keep that rule.

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { scenario } from './lib/world.mjs';

describe('the 30 s rule', { concurrency: true }, () => {
  scenario('with feedback the camera streams on for 40 s and more', async (world) => {
    const { server, camera, id } = await world.site();
    assert.equal((await server.start(id)).status, 201);
    const report = await camera.report('40 s of streaming', (one) => one.streaming && one.streaming_seconds >= 40, 70_000);
    assert.ok(report.feedback.max_gap_seconds <= 1.5, `largest gap in feedback: ${JSON.stringify(report)}`);
    assert.ok(report.feedback.remb_kbps >= 500 && report.feedback.remb_kbps <= 5_000, JSON.stringify(report));
    const { stream } = (await server.get(`/streams/${id}`)).body;
    assert.equal(stream.state, 'active');
    assert.equal(stream.keepalive_stats.error_count, 0);
  });

  scenario('without feedback the camera stops', async (world) => {
    const { server, camera, id } = await world.site({ env: { MEDIA_FEEDBACK: 'false' } });
    assert.equal((await server.start(id)).status, 201);
    await camera.report('it streams at first', (one) => one.streaming && one.packets_sent > 0);
    const report = await camera.report('it stops for want of feedback', (one) => one.stopped_reason === 'no_feedback', 60_000);
    assert.equal(report.feedback.count, 0, JSON.stringify(report));
  });
});
