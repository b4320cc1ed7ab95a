// How the picture gets to the page: by TCP where there is no UDP, over an ICE restart, with servers of the configuration.

import assert from 'node:assert/strict';
import { decodesMore, inState, snapshot } from './lib/browser.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

/** Runs in the page before its scripts: keeps hold of connections and what they are made with. */
function watchConnections() {
  window.made = { configurations: [], peers: [], sockets: [] };
  const Peer = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Peer {
    constructor(configuration) {
      super(configuration);
      window.made.configurations.push(JSON.parse(JSON.stringify(configuration)));
      window.made.peers.push(this);
    }
  };
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...parameters) {
      super(...parameters);
      window.made.sockets.push(this);
    }
  };
}

/** A network without UDP, as far as the page can tell: it hears of no UDP candidate. */
function forgetUdp() {
  const udp = / udp /i;
  const { setRemoteDescription, addIceCandidate } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = function set({ type, sdp }) {
    const lines = sdp.split('\r\n').filter((line) => !(line.startsWith('a=candidate:') && udp.test(line)));
    return setRemoteDescription.call(this, { type, sdp: lines.join('\r\n') });
  };
  RTCPeerConnection.prototype.addIceCandidate = function add(candidate) {
    return udp.test(candidate?.candidate ?? '') ? Promise.resolve() : addIceCandidate.call(this, candidate);
  };
}

const selectedPair = (page) => page.evaluate(async () => {
  const reports = [...(await window.made.peers.at(-1).getStats()).values()];
  const transport = reports.find((report) => report.type === 'transport');
  const pair = reports.find((report) => report.id === transport?.selectedCandidatePairId);
  const remote = reports.find((report) => report.id === pair?.remoteCandidateId);
  return remote && { protocol: remote.protocol, port: remote.port, srtp: transport.srtpCipher };
});

scenario('without UDP the picture comes by TCP on the same port number', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`, { before: [watchConnections, forgetUdp] });
  await inState(page, 'live');
  await decodesMore(page, 50);
  const pair = await selectedPair(page);
  assert.deepEqual([pair.protocol, pair.port], ['tcp', server.addresses.viewer_udp]);
  assert.ok((await server.get('/sources')).body.viewer_port.tcp.open >= 1);
  await page.close({ runBeforeUnload: true });
  await until('its connections are gone', async () => (await server.get('/sources')).body.viewer_port.tcp.open === 0);
});

scenario('with ICE-TCP switched off, UDP alone is offered and plays', async (world) => {
  const { server, id } = await world.site({ env: { VIEWER_ICE_TCP: 'false' } });
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`, { before: [watchConnections] });
  await inState(page, 'live');
  await decodesMore(page);
  assert.equal((await selectedPair(page)).protocol, 'udp');
  const answer = await page.evaluate(() => window.made.peers.at(-1).remoteDescription.sdp);
  assert.match(answer, /a=candidate:.* udp /);
  assert.doesNotMatch(answer, /tcptype/);
});

scenario('an ICE restart of the page keeps the viewer, its DTLS and its picture', async (world) => {
  const { server, id } = await world.site();
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`, { before: [watchConnections] });
  await inState(page, 'live');
  const viewers = async () => (await server.get(`/viewers/${id}`)).body.viewers.map((viewer) => viewer.viewer_id);
  const before = await viewers();
  // The page may have prepared one while it asked for the stream to be started.
  const peers = () => page.evaluate(() => window.made.peers.length);
  const peersBefore = await peers();
  const stream = (await server.get(`/streams/${id}`)).body.stream.stream_id;

  const [oldUfrag, newUfrag] = await page.evaluate(async ({ cameraId, streamId }) => {
    const [peer, socket] = [window.made.peers.at(-1), window.made.sockets.at(-1)];
    const ufrag = () => /a=ice-ufrag:(\S+)/.exec(peer.remoteDescription.sdp)[1];
    const old = ufrag();
    peer.restartIce();
    await peer.setLocalDescription(await peer.createOffer());
    const stable = new Promise((done) => {
      peer.addEventListener('signalingstatechange', () => peer.signalingState === 'stable' && done());
    });
    socket.send(JSON.stringify({ type: 'viewer', cameraId, streamId, sdpOffer: peer.localDescription.sdp }));
    await stable;
    return [old, ufrag()];
  }, { cameraId: id, streamId: stream });
  assert.notEqual(newUfrag, oldUfrag);
  await decodesMore(page, 100);
  const shown = await snapshot(page);
  assert.equal(shown.state, 'live');
  assert.deepEqual(await viewers(), before);
  assert.equal(await peers(), peersBefore, 'no other connection was made for it');
});

scenario('STUN and TURN servers of the configuration reach the peer connection and no log', async (world) => {
  const env = {
    STUN_SERVER: 'stun:127.0.0.1:9',
    TURN_SERVER_URL: 'turn:127.0.0.1:9',
    TURN_SERVER_USERNAME: 'somebody',
    TURN_SERVER_PASSWORD: 'hunter2-secret',
    LOG_LEVEL: 'debug',
  };
  const { server, id } = await world.site({ env });
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`, { before: [watchConnections] });
  await inState(page, 'live');
  const [configuration] = await page.evaluate(() => window.made.configurations);
  assert.deepEqual(configuration.iceServers, [
    { urls: ['stun:127.0.0.1:9'] },
    { urls: ['turn:127.0.0.1:9'], username: 'somebody', credential: 'hunter2-secret' },
  ]);
  assert.doesNotMatch([...server.child.lines, ...server.child.errors].join('\n'), /hunter2/);
});
