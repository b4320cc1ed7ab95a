// A WHEP player on node-datachannel (libdatachannel), which gives RTP packets. Arguments: URL, frames to take,
// and what else to offer: `data` (a data channel), `sendrecv`.

import ndc from 'node-datachannel';
import { Units, post, remove, say } from './whep.mjs';

const [url, wanted, ...options] = process.argv.slice(2);
const pc = new ndc.PeerConnection('player', { iceServers: [] });
pc.onStateChange((state) => say('state', { state }));
// Before anything else: a data channel makes it gather at once.
const gathered = new Promise((resolve) => pc.onGatheringStateChange((state) => state === 'complete' && resolve()));

const direction = options.includes('sendrecv') ? 'SendRecv' : 'RecvOnly';
const video = new ndc.Video('video', direction);
video.addH264Codec(96);
const audio = new ndc.Audio('audio', direction);
audio.addOpusCodec(111);
// Tracks that nobody holds are collected.
const tracks = [];
const enough = [[video, takeVideo], [audio, takeAudio]].map(([media, take]) => new Promise((resolve) => {
  const track = pc.addTrack(media);
  track.setMediaHandler(new ndc.RtcpReceivingSession());
  track.onMessage(take(resolve));
  tracks.push(track);
}));
if (options.includes('data')) tracks.push(pc.createDataChannel('data'));

pc.setLocalDescription();
await gathered;
const { answer, session } = await post(url, pc.localDescription().sdp);
pc.setRemoteDescription(answer, 'answer');
await Promise.all(enough);
await remove(session);
pc.close();
say('done');
process.exit(0);

function takeVideo(resolve) {
  const units = new Units(Number(wanted), (found) => resolve(say('enough', { kind: 'video', ...found })));
  let fragments = [];
  return (packet) => {
    const payload = rtpPayload(packet);
    if (!payload?.length) return;
    const type = payload[0] & 0x1f;
    if (type === 24) {
      for (let at = 1; at + 2 < payload.length; at += 2 + payload.readUInt16BE(at)) {
        units.unit(payload.subarray(at + 2, at + 2 + payload.readUInt16BE(at)));
      }
    } else if (type === 28) {
      const [indicator, header] = payload;
      if (header & 0x80) fragments = [Buffer.from([(indicator & 0xe0) | (header & 0x1f)])];
      fragments.push(payload.subarray(2));
      if (header & 0x40) units.unit(Buffer.concat(fragments));
    } else if (type > 0 && type < 24) {
      units.unit(payload);
    }
    if (packet[1] & 0x80) units.frameEnds();
  };
}

function takeAudio(resolve) {
  let packets = 0;
  return (packet) => {
    packets += rtpPayload(packet)?.length > 0;
    if (packets === Number(wanted)) resolve(say('enough', { kind: 'audio', frames: packets }));
  };
}

/** RFC 3550 §5.1; nothing for RTCP. */
function rtpPayload(packet) {
  if (packet.length < 12 || (packet[1] >= 192 && packet[1] <= 223)) return null;
  let at = 12 + 4 * (packet[0] & 0x0f);
  if (packet[0] & 0x10) at += 4 + 4 * packet.readUInt16BE(at + 2);
  const padding = packet[0] & 0x20 ? packet[packet.length - 1] : 0;
  return packet.subarray(at, packet.length - padding);
}
