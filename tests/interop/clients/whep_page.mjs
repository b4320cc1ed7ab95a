// Runs inside a page (it is evaluated there, so it must not refer to anything outside): plays an endpoint by WHEP.

/**
 * Starts to play; `window.played()` tells what was decoded. It also offers what honeycast has no use for: to send, a
 * second picture, a data channel.
 */
export async function playInPage(endpoint) {
  const pc = new RTCPeerConnection();
  const video = document.body.appendChild(document.createElement('video'));
  Object.assign(video, { id: 'video', muted: true, autoplay: true });
  pc.ontrack = ({ streams }) => {
    video.srcObject = streams[0];
  };
  for (const kind of ['audio', 'video', 'video']) pc.addTransceiver(kind, { direction: 'sendrecv' });
  pc.createDataChannel('data');
  await pc.setLocalDescription(await pc.createOffer());
  const trickled = [];
  const gathered = new Promise((resolve) => {
    pc.onicecandidate = ({ candidate }) => (candidate ? trickled.push(candidate.candidate) : resolve());
  });
  const offer = pc.localDescription.sdp;
  const created = await fetch(endpoint, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: offer });
  const answer = await created.text();
  if (created.status !== 201) throw new Error(`${created.status} ${answer}`);
  const session = new URL(created.headers.get('location'), endpoint);
  const etag = created.headers.get('etag');
  await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  await gathered;

  // The candidates that came after the offer, in one request.
  const type = { 'content-type': 'application/trickle-ice-sdpfrag' };
  const lines = (sdp, candidates) => [
    ...['ice-ufrag', 'ice-pwd'].map((name) => sdp.match(new RegExp(`^a=${name}:.*$`, 'm'))[0].trim()),
    'm=audio 9 UDP/TLS/RTP/SAVPF 0', 'a=mid:0', ...candidates.map((candidate) => `a=${candidate}`), 'a=end-of-candidates', '',
  ].join('\r\n');
  const body = lines(offer, trickled.filter(Boolean));
  const patched = await fetch(session, { method: 'PATCH', headers: { ...type, 'if-match': etag }, body });

  // An ICE restart: new credentials go, new ones come, everything else stays as it was negotiated.
  window.restart = async () => {
    pc.restartIce();
    await pc.setLocalDescription(await pc.createOffer());
    const restart = lines(pc.localDescription.sdp, []);
    const restarted = await fetch(session, { method: 'PATCH', headers: { ...type, 'if-match': '*' }, body: restart });
    const fragment = await restarted.text();
    if (restarted.status !== 200) throw new Error(`${restarted.status} ${fragment}`);
    const next = (name) => fragment.match(new RegExp(`^a=${name}:.*$`, 'm'))[0];
    const sdp = answer.replaceAll(/^a=ice-ufrag:.*$/gm, next('ice-ufrag')).replaceAll(/^a=ice-pwd:.*$/gm, next('ice-pwd'));
    await pc.setRemoteDescription({ type: 'answer', sdp });
    const [, ufrag] = restart.match(/a=ice-ufrag:(.*)\r/);
    return { before: etag, after: restarted.headers.get('etag'), ufrag };
  };
  window.played = async () => {
    const found = { patched: patched.status, width: video.videoWidth, height: video.videoHeight };
    const stats = await pc.getStats();
    for (const report of stats.values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'video') found.frames = report.framesDecoded;
      if (report.type === 'inbound-rtp' && report.kind === 'audio') found.sound = report.packetsReceived;
      // Of the ICE session by which media comes.
      const pair = report.type === 'transport' && stats.get(report.selectedCandidatePairId);
      if (pair) found.ufrag = stats.get(pair.localCandidateId)?.usernameFragment;
    }
    return found;
  };
  window.leave = async () => (await fetch(session, { method: 'DELETE' })).status;
  return { offer, answer };
}
