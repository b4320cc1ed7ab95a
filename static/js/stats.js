// Turns getStats() into the few numbers that people ask for.

/** Numbers before the first report. */
export const NO_STATS = Object.freeze({
  width: 0,
  height: 0,
  fps: 0,
  bitrateKbps: 0,
  framesDecoded: 0,
  packetsReceived: 0,
  packetsLost: 0,
  jitterMs: null,
  rttMs: null,
  codec: '',
  audioCodec: '',
  audioPacketsReceived: 0,
  audioSamplesReceived: 0,
  audioSamplesConcealed: 0,
  totalAudioEnergy: 0,
});

/** Reads one connection after another; rates are taken between two reads of the same one. */
export class StatsReader {
  #peer = null;
  #last = null;

  async read(peer) {
    if (peer !== this.#peer) {
      this.#peer = peer;
      this.#last = null;
    }
    const report = await peer.getStats();
    const all = [...report.values()];
    const inbound = (kind) => all.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind) ?? {};
    const video = inbound('video');
    const audio = inbound('audio');
    const transport = all.find((entry) => entry.type === 'transport' && entry.selectedCandidatePairId);
    const pair = report.get(transport?.selectedCandidatePairId)
      ?? all.find((entry) => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');

    const bytes = (video.bytesReceived ?? 0) + (audio.bytesReceived ?? 0);
    const now = { at: video.timestamp ?? performance.now(), bytes, frames: video.framesDecoded ?? 0 };
    const last = this.#last ?? now;
    const seconds = (now.at - last.at) / 1000;
    this.#last = now;

    return Object.freeze({
      width: video.frameWidth ?? 0,
      height: video.frameHeight ?? 0,
      fps: video.framesPerSecond ?? (seconds > 0 ? Math.round((now.frames - last.frames) / seconds) : 0),
      bitrateKbps: seconds > 0 ? Math.round(((now.bytes - last.bytes) * 8) / seconds / 1000) : 0,
      framesDecoded: video.framesDecoded ?? 0,
      packetsReceived: video.packetsReceived ?? 0,
      packetsLost: (video.packetsLost ?? 0) + (audio.packetsLost ?? 0),
      jitterMs: video.jitter === undefined ? null : video.jitter * 1000,
      rttMs: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
      codec: codecName(report.get(video.codecId)),
      audioCodec: codecName(report.get(audio.codecId)),
      audioPacketsReceived: audio.packetsReceived ?? 0,
      audioSamplesReceived: audio.totalSamplesReceived ?? 0,
      audioSamplesConcealed: audio.concealedSamples ?? 0,
      totalAudioEnergy: audio.totalAudioEnergy ?? 0,
    });
  }
}

/** Label and text of each number, in the order of the page. */
export function describe(stats) {
  return [
    ['Resolution', stats.width ? `${stats.width} × ${stats.height}` : '–'],
    ['Frame rate', `${Math.round(stats.fps)} fps`],
    ['Bitrate', stats.bitrateKbps >= 1000 ? `${(stats.bitrateKbps / 1000).toFixed(2)} Mbit/s` : `${stats.bitrateKbps} kbit/s`],
    ['Frames decoded', stats.framesDecoded.toLocaleString('en')],
    ['Packets lost', stats.packetsLost.toLocaleString('en')],
    ['Jitter', milliseconds(stats.jitterMs)],
    ['Round trip', milliseconds(stats.rttMs)],
    ['Codec', [stats.codec, stats.audioCodec].filter(Boolean).join(', ') || '–'],
  ];
}

function codecName(codec) {
  if (!codec) return '';
  const name = codec.mimeType.replace(/^(video|audio)\//, '');
  const profile = /profile-level-id=([0-9a-f]{6})/i.exec(codec.sdpFmtpLine ?? '');
  return profile ? `${name} ${profile[1]}` : name;
}

function milliseconds(value) {
  if (value === null) return '–';
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
