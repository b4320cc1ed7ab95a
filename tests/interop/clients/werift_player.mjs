// A WHEP player on werift, which depacketises. Arguments: URL, frames to take, and what else to
// offer: `data` (a data channel), `sendrecv`, `unbundled`.

import { H264RtpPayload, RTCPeerConnection, useH264, useOPUS } from 'werift';
import { Units, post, remove, say } from './whep.mjs';

const [url, wanted, ...options] = process.argv.slice(2);
const unbundled = options.includes('unbundled');
const pc = new RTCPeerConnection({
  codecs: { video: [useH264()], audio: [useOPUS()] },
  bundlePolicy: unbundled ? 'disable' : 'max-bundle',
});
pc.connectionStateChange.subscribe((state) => say('state', { state }));

const direction = options.includes('sendrecv') ? 'sendrecv' : 'recvonly';
const enough = ['video', 'audio'].map((kind) => new Promise((resolve) => {
  const { onTrack } = pc.addTransceiver(kind, { direction });
  onTrack.subscribe((received) => (kind === 'video' ? takeVideo(received, resolve) : takeAudio(received, resolve)));
}));

if (options.includes('data')) pc.createDataChannel('data');

await pc.setLocalDescription(await pc.createOffer());
await new Promise((resolve) => {
  if (pc.iceGatheringState === 'complete') resolve();
  pc.iceGatheringStateChange.subscribe((state) => state === 'complete' && resolve());
});
const { answer, session } = await post(url, pc.localDescription.sdp);
await pc.setRemoteDescription({ type: 'answer', sdp: answer });
// Without bundling, a second transport would be needed for sound.
await Promise.all(unbundled ? enough.slice(0, 1) : enough);
await remove(session);
await pc.close();
say('done');
process.exit(0);

function takeVideo(track, resolve) {
  const units = new Units(Number(wanted), (found) => resolve(say('enough', { kind: 'video', ...found })));
  let fragment;
  track.onReceiveRtp.subscribe(({ header, payload }) => {
    const depacketised = H264RtpPayload.deSerialize(payload, fragment);
    fragment = depacketised.fragment;
    // Annex B: NAL units behind start codes.
    for (const nal of nalUnits(depacketised.payload)) units.unit(nal);
    if (header.marker) units.frameEnds();
  });
}

function takeAudio(track, resolve) {
  let packets = 0;
  track.onReceiveRtp.subscribe(({ payload }) => {
    packets += payload.length > 0;
    if (packets === Number(wanted)) resolve(say('enough', { kind: 'audio', frames: packets }));
  });
}

function nalUnits(annexB) {
  const code = Buffer.from([0, 0, 0, 1]);
  const found = [];
  for (let at = annexB ? annexB.indexOf(code) : -1; at >= 0;) {
    const next = annexB.indexOf(code, at + 4);
    found.push(annexB.subarray(at + 4, next < 0 ? undefined : next));
    at = next;
  }
  return found.filter((nal) => nal.length > 0);
}
