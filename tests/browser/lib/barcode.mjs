// Reads the frame number that is drawn into the test clip; the geometry is that of src/sim/clip/README.md.

/** In pixels of the full picture; `lead` and `tail` are the cells around the number, most significant bit first. */
export const GEOMETRY = { width: 1280, x: 160, y: 576, cell: 48, lead: [1, 0], bits: 16, tail: [0, 1], loop: 200 };

/**
 * The frame numbers of the next `count` presented frames in which the code was readable; `null` for the
 * others. Runs in the page, on frames as they are presented.
 */
export function readFrames(page, count) {
  return page.evaluate(({ geometry, count: wanted }) => new Promise((resolve) => {
    const video = document.getElementById('video');
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const found = [];

    const read = () => {
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      context.drawImage(video, 0, 0);
      // The low-bitrate version of the clip may be smaller.
      const scale = video.videoWidth / geometry.width;
      const total = geometry.lead.length + geometry.bits + geometry.tail.length;
      const bits = [];
      for (let index = 0; index < total; index += 1) {
        const x = Math.round((geometry.x + (index + 0.5) * geometry.cell) * scale);
        const y = Math.round((geometry.y + 0.5 * geometry.cell) * scale);
        const { data } = context.getImageData(x - 2, y - 2, 5, 5);
        let sum = 0;
        for (let at = 0; at < data.length; at += 4) sum += data[at + 1];
        bits.push(sum / 25 > 128 ? 1 : 0);
      }
      const end = geometry.lead.length + geometry.bits;
      const intact = [...geometry.lead, ...geometry.tail].join() === [...bits.slice(0, geometry.lead.length), ...bits.slice(end)].join();
      return intact ? bits.slice(geometry.lead.length, end).reduce((number, bit) => number * 2 + bit, 0) : null;
    };

    const onFrame = () => {
      found.push(read());
      if (found.length >= wanted) resolve(found);
      else video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  }), { geometry: GEOMETRY, count });
}

/** By how many frames each number is ahead of the one before, across the end of the loop. */
export function steps(numbers) {
  return numbers.slice(1).map((number, index) => (number - numbers[index] + GEOMETRY.loop) % GEOMETRY.loop);
}

/**
 * Notes every frame that is presented from now on; `take(page)` gives those since the last time: `{number, at, received}`,
 * `at` when it was presented and `received` when its last packet came, in milliseconds of the machine's clock, so that
 * pages and processes can be compared. Unreadable ones are left out.
 */
export const recordFrames = (page) => page.evaluate(record, GEOMETRY);

/** The same from the first frame on, in every document that the page loads after this. */
export const recordAllFrames = (page) => page.addInitScript(record, GEOMETRY);

// In the page. Waits for the video if it is not there yet.
function record(geometry) {
  const cells = geometry.lead.length + geometry.bits + geometry.tail.length;
  const canvas = new OffscreenCanvas(cells, 1);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  window.shownFrames = [];
  // The page's own idea of when it began may be some milliseconds off. Date.now() is rounded down, and the page may
  // be interrupted before the other clock is read: never too late.
  window.pageOrigin = -Infinity;

  const watch = (video) => {
    const onFrame = (_, { presentationTime, receiveTime }) => {
      video.requestVideoFrameCallback(onFrame);
      window.pageOrigin = Math.max(window.pageOrigin, Date.now() - performance.now());
      const scale = video.videoWidth / geometry.width;
      // The middle of the cells, without their edges above and below.
      context.drawImage(video, geometry.x * scale, (geometry.y + geometry.cell / 4) * scale,
        cells * geometry.cell * scale, (geometry.cell / 2) * scale, 0, 0, cells, 1);
      const { data } = context.getImageData(0, 0, cells, 1);
      const bits = Array.from({ length: cells }, (__, index) => (data[index * 4 + 1] > 128 ? 1 : 0));
      const end = geometry.lead.length + geometry.bits;
      const frame = [...bits.slice(0, geometry.lead.length), ...bits.slice(end)].join();
      if (frame !== [...geometry.lead, ...geometry.tail].join()) return;
      const number = bits.slice(geometry.lead.length, end).reduce((sum, bit) => sum * 2 + bit, 0);
      window.shownFrames.push({ number, presentationTime, receiveTime });
    };
    video.requestVideoFrameCallback(onFrame);
  };
  const look = () => {
    const video = document.getElementById('video');
    if (video) watch(video);
    return video !== null;
  };
  if (look()) return;
  const observer = new MutationObserver(() => { if (look()) observer.disconnect(); });
  observer.observe(document, { childList: true, subtree: true });
}

/** Runs in a page before its scripts, for [`countFrames`]. */
export function keepPeers() {
  window.peers = [];
  const Peer = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Peer {
    constructor(configuration) {
      super(configuration);
      window.peers.push(this);
    }
  };
}

/** Frames that a page of [`keepPeers`] has received whole and decoded so far, packets lost on the way, and the time in milliseconds. */
export const countFrames = (page) => page.evaluate(async () => {
  const reports = [...(await window.peers.at(-1).getStats()).values()];
  const video = reports.find((report) => report.type === 'inbound-rtp' && report.kind === 'video');
  return { at: video.timestamp, received: video.framesReceived, decoded: video.framesDecoded, lost: video.packetsLost };
});

export const takeFrames = (page) => page.evaluate(() => window.shownFrames.splice(0).map(({ number, presentationTime, receiveTime }) => (
  { number, at: window.pageOrigin + presentationTime, received: window.pageOrigin + receiveTime })));

/** By how many milliseconds each of `frames` was shown later than the same one of `others`; not for those only here. */
export function delays(frames, others) {
  return frames.map(({ number, at }) => {
    const gaps = others.filter((other) => other.number === number).map((other) => at - other.at);
    return gaps.reduce((best, gap) => (Math.abs(gap) < Math.abs(best) ? gap : best), Infinity);
  }).filter(Number.isFinite);
}
