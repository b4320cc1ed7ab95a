// Viewers come, go, and vanish.

import assert from 'node:assert/strict';
import { decodesMore, inState, snapshot } from './lib/browser.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

// A viewer that vanished is noticed by its silence within 30 s.
const VANISHED_MS = 35_000;

scenario('two viewers watch; one leaves, the other keeps playing', async (world) => {
  const { server, id } = await world.site();
  const browser = await world.browser();
  const first = await world.page(browser, `${server.api}/viewer?camera=${id}`);
  await inState(first, 'live');
  const second = await world.page(browser, `${server.dashboard}/livestream/viewer?camera=${id}`);
  await inState(second, 'live');
  assert.equal(await server.viewerCount(id), 2);

  await first.close({ runBeforeUnload: true });
  await until('one viewer is left', async () => (await server.viewerCount(id)) === 1);
  await decodesMore(second);
  assert.equal((await snapshot(second)).state, 'live');
  assert.deepEqual(second.problems, []);
});

scenario('the Stop button frees the viewer and leaves the stream running', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  await page.getByRole('button', { name: 'Stop watching', exact: true }).click();
  await inState(page, 'stopped');
  await until('no viewer is left', async () => (await server.viewerCount(id)) === 0);
  assert.equal((await server.get(`/streams/${id}`)).body.stream.state, 'active');
  await page.getByRole('button', { name: 'Watch again' }).click();
  await inState(page, 'live');
});

scenario('a stream stopped by REST: the page says stopped, no viewer stays counted', async (world) => {
  const { server, camera, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');

  const stop = await server.post(`/streams/${id}/stop`);
  assert.equal(stop.status, 200, stop.text);
  assert.equal(stop.body.state, 'stopped');
  assert.equal(stop.body.success, true);
  const shown = await inState(page, 'stopped');
  assert.match(shown.detail, /stopped/);
  assert.equal(await page.locator('#status-text').innerText(), 'Stopped');
  assert.equal(shown.videoWidth, 0, 'no stale picture stays on the page');
  await until('no viewer is counted', async () => {
    const health = (await server.get('/health')).body;
    return (await server.viewerCount(id)) === 0 && health.total_viewers === 0 && health.active_streams === 0;
  });
  await camera.report('the camera was told to stop', (report) => report.packets_sent > 0 && !report.streaming);
});

scenario('a camera that dies freezes the picture; when it is back the same viewer plays on', async (world) => {
  const { broker, server, camera, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  const viewers = (await server.get(`/viewers/${id}`)).body.viewers;

  await camera.child.stop('SIGKILL');
  await inState(page, 'frozen');
  assert.match(await page.locator('#status-text').innerText(), /^Frozen for \d+ s$/);
  await world.camera({ id, broker: broker.port });
  await inState(page, 'live', 30_000);
  await decodesMore(page);
  assert.deepEqual((await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id), viewers.map((viewer) => viewer.viewer_id));
});

scenario('a camera that reboots is back within 2 s of its first keyframe, in the same connection', async (world) => {
  const { server, camera, id } = await world.site({ camera: { args: ['--reboot-after', '5'] } });
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  const before = (await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id);
  const media = async () => (await server.get(`/streams/${id}`)).body.stream.media;
  const first = (await media()).sources.video;

  await camera.report('it has gone', (report) => !report.streaming && report.plays === 1 && report.packets_sent > 0);
  const last = (await media()).last_keyframe_at;
  await until('its first keyframe is there, from its new port', async () => {
    const now = await media();
    return now.sources.video !== first && now.last_keyframe_at > last;
  });
  await decodesMore(page, 1, 2_000);
  await inState(page, 'live');
  assert.deepEqual((await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id), before);
});

scenario('a browser killed with SIGKILL is freed', async (world) => {
  const { server, id } = await world.site();
  const browser = await world.browser();
  await inState(await world.page(browser, `${server.api}/viewer?camera=${id}`), 'live');
  assert.equal(await server.viewerCount(id), 1);
  browser.signal('SIGKILL');
  await until('the viewer is freed', async () => (await server.viewerCount(id)) === 0, VANISHED_MS);
});

scenario('a browser that stops answering, its connections open, is freed', async (world) => {
  const { server, id } = await world.site();
  const browser = await world.browser();
  await inState(await world.page(browser, `${server.api}/viewer?camera=${id}`), 'live');
  assert.equal(await server.viewerCount(id), 1);
  browser.signal('SIGSTOP');
  try {
    await until('the viewer is freed', async () => (await server.viewerCount(id)) === 0, VANISHED_MS);
  } finally {
    browser.signal('SIGKILL');
  }
});
