// Cameras behind bad lines: what a real decoder makes of it. tests/fleet/lines.rs looks at packets and reports.

import assert from 'node:assert/strict';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

/** Three groups of pictures and a bit. */
const SECONDS = 14;

/** Pictures that may still be on a line that delays or repeats when its camera goes: a second. */
const ON_THE_WAY = 25;

/** What goes wrong on each camera's line. Without repeats what is lost is lost for good. */
const LINES = [
  ['--loss', '1', '--ignore-nack'],
  ['--loss', '5', '--ignore-nack'],
  ['--loss', '5', '--loss-burst', '8', '--ignore-nack'],
  ['--loss', '20'],
  ['--loss', '5', '--reorder', '5', '--duplicates', '2', '--jitter', '30'],
  ['--reorder', '5', '--duplicates', '2', '--jitter', '30', '--ignore-nack'],
];

/** Evaluated in a page: plays each endpoint by WHEP; `window.decoded()` tells the frames that were decoded of each. */
async function playInPage(endpoints) {
  const connections = await Promise.all(endpoints.map(async (endpoint) => {
    const pc = new RTCPeerConnection();
    pc.ontrack = ({ track }) => {
      const video = document.body.appendChild(document.createElement('video'));
      Object.assign(video, { muted: true, autoplay: true, srcObject: new MediaStream([track]) });
    };
    pc.addTransceiver('video', { direction: 'recvonly' });
    await pc.setLocalDescription();
    const answer = await fetch(endpoint, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: pc.localDescription.sdp });
    await pc.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
    return pc;
  }));
  window.decoded = () => Promise.all(connections.map(async (pc) => {
    const inbound = [...(await pc.getStats()).values()].find((report) => report.type === 'inbound-rtp');
    return inbound?.framesDecoded ?? 0;
  }));
  window.connected = () => connections.every((pc) => pc.connectionState === 'connected');
}

scenario('behind bad lines Chromium decodes all that survives', async (world) => {
  const broker = await world.broker();
  const server = await world.server({ EMQX_BROKER_PORT: String(broker.port) });
  await server.brokerConnected();
  // Viewers are there before the first packet.
  const ways = ['--small-picture', '--no-audio', '--reaction', '5'];
  const cameras = await Promise.all(LINES.map(async (line, n) => {
    const id = world.cameraId();
    // Real cameras' clocks do not agree: one that seems to go on with another's is held back until that is ruled out.
    return { id, line, camera: await world.camera({ id, broker: broker.port, bind: `127.0.3.${n + 1}`, seed: n + 1, args: [...ways, ...line] }) };
  }));
  const page = await world.page(await world.browser(), `${server.api}/viewer`);
  const started = await Promise.all(cameras.map(({ id }) => server.start(id)));
  assert.deepEqual(started.map(({ status }) => status), LINES.map(() => 201));
  await page.evaluate(playInPage, cameras.map(({ id }) => `${server.api}/whep/${id}`));
  await until('all viewers are connected', () => page.evaluate(() => window.connected()));

  // Each camera ends by itself; what it says then is the truth about its line.
  const ends = cameras.map(async ({ camera, line }) => {
    await camera.report('it has streamed', (report) => report.streaming_seconds >= SECONDS, 60_000);
    await camera.child.stop();
    const report = JSON.parse(camera.child.lines.at(-1));
    const late = line.includes('--jitter') || !line.includes('--ignore-nack');
    return { line: line.join(' '), due: report.pictures_decodable - (late ? ON_THE_WAY : 0), lost: report.packets_lost };
  });
  const truth = await Promise.all(ends);
  let last;
  const found = await until('all that can be decoded is', async () => {
    const decoded = await page.evaluate(() => window.decoded());
    last = truth.map((one, n) => ({ ...one, decoded: decoded[n] }));
    if (last.some((one) => one.decoded < one.due)) throw new Error(JSON.stringify(last));
    return last;
  });
  console.log(JSON.stringify(found));
  assert.ok(truth.every(({ due }) => due > 10), JSON.stringify(truth));
  assert.ok(truth.at(-1).due >= SECONDS * 24 - ON_THE_WAY, 'nothing is lost on the last line');
});
