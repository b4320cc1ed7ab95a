// A page of another origin with `@eyevinn/webrtc-player`; the endpoint is in the fragment of its address.

import { WebRTCPlayer } from '@eyevinn/webrtc-player';

const video = document.getElementById('video');
const player = new WebRTCPlayer({ video, type: 'whep', iceServers: [], statsTypeFilter: '^inbound-rtp|^candidate-pair' });
window.problems = [];
for (const name of ['connect-error', 'initial-connection-failed', 'peer-connection-failed', 'no-media']) {
  player.on(name, () => window.problems.push(name));
}
window.player = player;
player.load(new URL(location.hash.slice(1)));
