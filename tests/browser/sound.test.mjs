// Sound in the codecs that cameras send, decoded by Chromium.

import assert from 'node:assert/strict';
import { decodesMore, inState, snapshot } from './lib/browser.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

/** Waits until sound is decoded as `codec` that is not silence and not made up for what is missing. */
async function hears(page, codec) {
  const before = (await snapshot(page)).stats;
  return until(`${codec} is heard`, async () => {
    const { stats } = await snapshot(page);
    const samples = stats.audioSamplesReceived - before.audioSamplesReceived;
    const concealed = stats.audioSamplesConcealed - before.audioSamplesConcealed;
    const heard = stats.audioCodec === codec && stats.totalAudioEnergy > before.totalAudioEnergy
      && samples > 48_000 && concealed < samples / 10;
    if (!heard) throw new Error(JSON.stringify({ samples, concealed, before, stats }));
    return stats;
  });
}

scenario('a camera with PCMU is heard as PCMU, and its viewers are told so', async (world) => {
  const { server, id } = await world.site({ camera: { args: ['--audio', 'pcmu'] } });
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  await page.getByRole('button', { name: 'Turn sound on' }).click();
  await hears(page, 'PCMU');
  const { media } = (await server.get(`/streams/${id}`)).body.stream;
  assert.deepEqual(media.audio.codec, { name: 'pcmu', clock_rate: 8000 });
  assert.ok(media.advice.some((advice) => advice.code === 'pcmu_audio'), JSON.stringify(media.advice));
  const [viewer] = (await server.get(`/viewers/${id}`)).body.viewers;
  assert.deepEqual([viewer.stats.audio_codecs.toSorted(), viewer.stats.audio_unplayable], [['opus', 'pcmu'], 0]);
});

scenario('a camera that changes from Opus to PCMU is heard on in the same connection', async (world) => {
  const { server, id } = await world.site({ camera: { args: ['--switch-audio-after', '12'] } });
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  await page.getByRole('button', { name: 'Turn sound on' }).click();
  await hears(page, 'opus');
  const viewers = (await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id);
  await until('the camera has changed', async () => (await server.get(`/streams/${id}`)).body.stream.media.audio.codec.name === 'pcmu');
  await hears(page, 'PCMU');
  await decodesMore(page);
  assert.deepEqual((await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id), viewers);
});
