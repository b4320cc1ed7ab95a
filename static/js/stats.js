// Turns getStats() into the numbers that people ask for.

import { bitrate, milliseconds, number, percent } from './format.js';
import { text } from './text.js';

/** Numbers before the first report; `null` is "not known". */
export const NO_STATS = Object.freeze({
  width: 0, height: 0, fps: null, bitrateKbps: 0, framesDecoded: 0, framesDropped: 0, packetsReceived: 0, packetsLost: 0, loss: null,
  repaired: 0, jitterMs: null, rttMs: null, delayMs: null, codec: '', decoder: '', candidate: '', srtp: '', dtls: '', freezes: 0,
  audioCodec: '', audioPacketsReceived: 0, audioSamplesReceived: 0, audioSamplesConcealed: 0, totalAudioEnergy: 0,
});

/** Reads one connection after another; rates are taken between two reads of the same one. */
export class StatsReader {
  #peer = null;
  #last = null;
  // Lost and expected packets of the last reads: one bad second should be seen for longer than a second.
  #recent = [];
  // Frames dropped of the group of pictures that a viewer is given at once to begin with: it is decoded, not shown.
  #first = 0;

  async read(peer) {
    if (peer !== this.#peer) {
      this.#peer = peer;
      this.#last = null;
      this.#recent = [];
      this.#first = 0;
    }
    const report = await peer.getStats();
    const all = [...report.values()];
    const inbound = (kind) => all.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind) ?? {};
    const video = inbound('video');
    const audio = inbound('audio');
    const transport = all.find((entry) => entry.type === 'transport') ?? {};
    const pair = report.get(transport.selectedCandidatePairId)
      ?? all.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');

    const now = {
      at: video.timestamp ?? performance.now(),
      bytes: (video.bytesReceived ?? 0) + (audio.bytesReceived ?? 0),
      frames: video.framesDecoded ?? 0,
      received: (video.packetsReceived ?? 0) + (audio.packetsReceived ?? 0),
      lost: Math.max(0, (video.packetsLost ?? 0) + (audio.packetsLost ?? 0)),
      // From the first packet of a picture to its end in the decoder, where the browser says it; else the buffer alone.
      waited: video.totalProcessingDelay ?? video.jitterBufferDelay ?? 0,
      shown: video.totalProcessingDelay === undefined ? (video.jitterBufferEmittedCount ?? 0) : (video.framesDecoded ?? 0),
    };
    const last = this.#last ?? now;
    const seconds = (now.at - last.at) / 1000;
    this.#last = now;
    // In the interval of the first frame a whole group of pictures comes at once: that is no frame rate.
    const begun = last.frames > 0 && this.#recent.length > 1;
    const steady = seconds > 0 && begun;
    if (!begun) this.#first = video.framesDropped ?? 0;
    if (seconds > 0) this.#recent.push([now.lost - last.lost, now.received - last.received]);
    if (this.#recent.length > 5) this.#recent.shift();
    const lost = Math.max(0, this.#recent.reduce((sum, [count]) => sum + count, 0));
    const expected = lost + this.#recent.reduce((sum, [, count]) => sum + count, 0);
    const rttMs = pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000;
    const frames = now.shown - last.shown;
    const waitedMs = frames > 0 ? ((now.waited - last.waited) / frames) * 1000 : null;

    return Object.freeze({
      width: video.frameWidth ?? 0,
      height: video.frameHeight ?? 0,
      fps: steady ? Math.round((now.frames - last.frames) / seconds) : null,
      bitrateKbps: seconds > 0 ? Math.round(((now.bytes - last.bytes) * 8) / seconds / 1000) : 0,
      framesDecoded: now.frames,
      framesDropped: (video.framesDropped ?? 0) - this.#first,
      packetsReceived: video.packetsReceived ?? 0,
      packetsLost: now.lost,
      loss: expected > 0 ? lost / expected : null,
      repaired: video.retransmittedPacketsReceived ?? 0,
      jitterMs: video.jitter === undefined ? null : video.jitter * 1000,
      rttMs,
      delayMs: waitedMs === null ? null : waitedMs + (rttMs ?? 0) / 2,
      codec: codecName(report.get(video.codecId)),
      decoder: video.decoderImplementation ?? '',
      candidate: pathName(report.get(pair?.localCandidateId), report.get(pair?.remoteCandidateId)),
      srtp: transport.srtpCipher ?? '',
      dtls: transport.dtlsCipher ?? '',
      freezes: video.freezeCount ?? 0,
      audioCodec: codecName(report.get(audio.codecId)),
      audioPacketsReceived: audio.packetsReceived ?? 0,
      audioSamplesReceived: audio.totalSamplesReceived ?? 0,
      audioSamplesConcealed: audio.concealedSamples ?? 0,
      totalAudioEnergy: audio.totalAudioEnergy ?? 0,
    });
  }
}

/** Label and text of each number, in the order of the page. */
export function describe(stats, mode = 'webrtc') {
  const names = text.stats;
  return [
    [names.mode, names[mode]],
    [names.resolution, stats.width ? `${stats.width} × ${stats.height}` : '–'],
    [names.fps, stats.fps === null ? '–' : text.units.fps(stats.fps)],
    [names.bitrate, stats.bitrateKbps ? bitrate(stats.bitrateKbps * 1000) : '–'],
    [names.loss, stats.loss === null ? '–' : percent(stats.loss)],
    [names.lost, number(stats.packetsLost)],
    [names.repaired, number(stats.repaired)],
    [names.jitter, milliseconds(stats.jitterMs)],
    [names.rtt, milliseconds(stats.rttMs)],
    [names.delay, milliseconds(stats.delayMs)],
    [names.decoded, number(stats.framesDecoded)],
    [names.dropped, number(stats.framesDropped)],
    [names.freezes, number(stats.freezes)],
    [names.codec, [stats.codec, stats.audioCodec].filter(Boolean).join(', ') || '–'],
    [names.decoder, stats.decoder || (stats.framesDecoded > 0 ? names.untold : '–')],
    [names.candidate, stats.candidate || '–'],
    [names.srtp, stats.srtp || '–'],
    [names.dtls, stats.dtls || '–'],
  ];
}

/** 4 (very good) to 1 (poor), and 0 without a picture: the one thing to glance at. */
export function quality(state, stats) {
  if (state !== 'live') return 0;
  const loss = stats.loss ?? 0;
  const rtt = stats.rttMs ?? 0;
  if (loss > 0.05 || rtt > 800) return 1;
  if (loss > 0.02 || rtt > 400) return 2;
  if (loss > 0.005 || rtt > 200) return 3;
  return 4;
}

const PROFILES = { '42e0': 'Constrained Baseline', '4200': 'Baseline', '4d00': 'Main', '6400': 'High', '640c': 'Constrained High', f400: 'High 4:4:4' };

function codecName(codec) {
  if (!codec) return '';
  const name = codec.mimeType.replace(/^(video|audio)\//, '');
  const id = /profile-level-id=([0-9a-f]{6})/i.exec(codec.sdpFmtpLine ?? '')?.[1]?.toLowerCase();
  if (!id) return name;
  const level = parseInt(id.slice(4), 16);
  const profile = PROFILES[id.slice(0, 4)];
  return profile ? `${name} ${profile} ${Math.floor(level / 10)}.${level % 10} (${id})` : `${name} ${id}`;
}

function pathName(local, remote) {
  if (!local || !remote) return '';
  return `${local.candidateType} → ${remote.candidateType}, ${(local.relayProtocol ?? local.protocol).toUpperCase()}`;
}
