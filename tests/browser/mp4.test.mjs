// Players without WebRTC: the keyframe as a picture, and the live stream through Media Source Extensions.

import assert from 'node:assert/strict';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

scenario('the last keyframe shows as a picture', async (world) => {
  const { server, id } = await world.site();
  assert.equal((await server.start(id)).status, 201);
  const page = await world.page(await world.browser(), `${server.api}/viewer`);
  const size = await until('there is a keyframe', () => page.evaluate(async (url) => {
    const answer = await fetch(url);
    if (!answer.ok) return null;
    const video = document.createElement('video');
    video.muted = true;
    document.body.append(video);
    video.src = URL.createObjectURL(await answer.blob());
    await new Promise((resolve, reject) => {
      video.requestVideoFrameCallback(resolve);
      video.onerror = () => reject(new Error(video.error.message));
    });
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return { width: canvas.width, height: canvas.height, colours: new Set(new Uint32Array(data.buffer)).size };
  }, `${server.api}/streams/${id}/keyframe.mp4`));
  assert.deepEqual([size.width, size.height], [1280, 720]);
  assert.ok(size.colours > 16, `a picture, not a plain field: ${JSON.stringify(size)}`);
});

/** Plays what `open` delivers; runs in the page. */
const play = async ({ url, socket }) => {
  const video = document.createElement('video');
  video.muted = true;
  document.body.append(video);
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  await new Promise((resolve) => { source.onsourceopen = resolve; });
  const queue = [];
  let buffer;
  const feed = () => { if (buffer && !buffer.updating && queue.length > 0) buffer.appendBuffer(queue.shift()); };
  const begin = (type) => {
    window.type ??= type;
    if (buffer) return;
    buffer = source.addSourceBuffer(type);
    buffer.onupdateend = feed;
  };
  if (socket) {
    const connection = new WebSocket(url.replace('http', 'ws'));
    connection.binaryType = 'arraybuffer';
    connection.onmessage = ({ data }) => {
      if (typeof data === 'string') begin(`video/mp4; codecs="${JSON.parse(data).codecs}"`);
      else { queue.push(data); feed(); }
    };
    window.leave = () => connection.close();
  } else {
    const stop = new AbortController();
    const answer = await fetch(url, { signal: stop.signal });
    if (!answer.ok) throw new Error(`${answer.status}`);
    begin(answer.headers.get('content-type'));
    const reader = answer.body.getReader();
    (async () => {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        queue.push(value);
        feed();
      }
    })().catch(() => {});
    window.leave = () => stop.abort();
  }
  window.video = video;
  await video.play();
};

for (const socket of [false, true]) {
  scenario(`Chromium plays the live stream as MP4 over ${socket ? 'WebSocket' : 'HTTP'}, with sound, and counts as a viewer`, async (world) => {
    const { server, id } = await world.site();
    assert.equal((await server.start(id)).status, 201);
    await until('sound arrives', async () => (await server.get(`/streams/${id}`)).body.stream.media.audio?.packets > 0);
    const page = await world.page(await world.browser(), `${server.api}/viewer`);
    await page.evaluate(play, { url: `${server.api}/streams/${id}/live.mp4`, socket });
    const played = await until('picture and sound are decoded', () => page.evaluate(() => {
      const { totalVideoFrames } = window.video.getVideoPlaybackQuality();
      const ready = totalVideoFrames > 25 && window.video.currentTime > 1 && window.video.webkitAudioDecodedByteCount > 0;
      return ready && { totalVideoFrames, type: window.type, ranges: window.video.buffered.length };
    }));
    assert.match(played.type, /^video\/mp4; codecs="avc1\.[0-9A-F]{6},opus"$/);
    assert.equal(played.ranges, 1, 'no holes');
    assert.equal((await server.get('/health')).body.total_viewers, 1);
    await page.evaluate(() => window.leave());
    await until('the viewer is gone', async () => (await server.get('/health')).body.total_viewers === 0);
  });
}
