// One attempt to watch: one signaling socket and one peer connection. It never repairs itself;
// it says `lost` once, with the reason, and is then of no further use.

// From opening the socket to media transport established.
const CONNECT_TIMEOUT_MS = 15_000;
// `disconnected` often heals by itself; this long it may try.
const DISCONNECT_GRACE_MS = 5_000;

export class Connection {
  #options;
  #socket;
  #peer;
  #timer;
  #closed = false;
  #offerSent = false;
  #ownCandidates = [];
  #foreignCandidates = [];

  /**
   * `options`: `signalingUrl`, `iceServers`, `camera`, `streamId`, and the callbacks
   * `log(text)`, `stream(mediaStream)`, `connected()`, `lost(reason)`.
   */
  constructor(options) {
    this.#options = options;
  }

  get peer() {
    return this.#peer;
  }

  open() {
    if (typeof RTCPeerConnection === 'undefined') {
      this.#lose('This browser has no WebRTC');
      return;
    }
    const { signalingUrl, log } = this.#options;
    this.#timer = setTimeout(() => this.#lose(`No connection within ${CONNECT_TIMEOUT_MS / 1000} s`), CONNECT_TIMEOUT_MS);
    log(`Signaling: opening ${signalingUrl.split('?')[0]}`);
    try {
      this.#socket = new WebSocket(signalingUrl);
    } catch (error) {
      this.#lose(`Signaling: ${error.message}`);
      return;
    }
    this.#socket.onopen = () => this.#offer().catch((error) => this.#lose(`Offer: ${error.message}`));
    this.#socket.onmessage = (event) => this.#onMessage(event.data).catch((error) => this.#lose(`Signaling: ${error.message}`));
    this.#socket.onclose = (event) => {
      const why = event.reason || `code ${event.code}`;
      this.#lose(this.#offerSent ? `The signaling connection was closed (${why})` : 'The signaling server cannot be reached');
    };
  }

  /** Says goodbye to the server and frees everything. `lost` is not called any more. */
  close() {
    if (this.#closed) return;
    if (this.#offerSent) this.#send({ type: 'stop' });
    this.#free();
  }

  async #offer() {
    const { iceServers, camera, streamId, log, stream } = this.#options;
    const peer = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.#peer = peer;
    peer.addTransceiver('audio', { direction: 'recvonly' });
    peer.addTransceiver('video', { direction: 'recvonly' });

    peer.ontrack = (event) => {
      log(`Track: ${event.track.kind}`);
      if (event.streams[0]) stream(event.streams[0]);
    };
    peer.onicecandidate = (event) => this.#onOwnCandidate(event.candidate);
    peer.oniceconnectionstatechange = () => log(`ICE: ${peer.iceConnectionState}`);
    peer.onconnectionstatechange = () => this.#onConnectionState(peer.connectionState);

    await peer.setLocalDescription(await peer.createOffer());
    if (this.#closed) return;
    this.#send({ type: 'viewer', cameraId: camera, streamId, sdpOffer: peer.localDescription.sdp });
    this.#offerSent = true;
    this.#ownCandidates.splice(0).forEach((message) => this.#send(message));
    log('Offer sent');
  }

  // Candidates follow the offer, never overtake it. An empty one says that there are no more.
  #onOwnCandidate(candidate) {
    const { sdpMid, sdpMLineIndex } = candidate ?? { sdpMid: '0', sdpMLineIndex: 0 };
    const message = { type: 'onIceCandidate', candidate: { candidate: candidate?.candidate ?? '', sdpMid, sdpMLineIndex } };
    if (this.#offerSent) this.#send(message);
    else this.#ownCandidates.push(message);
  }

  async #onMessage(data) {
    if (this.#closed) return;
    const text = typeof data === 'string' ? data : await data.text();
    const message = JSON.parse(text);
    switch (message.type) {
      case 'viewerResponse':
        await this.#onAnswer(message);
        break;
      case 'iceCandidate':
        if (this.#peer.remoteDescription) await this.#addCandidate(message.candidate);
        else this.#foreignCandidates.push(message.candidate);
        break;
      case 'error':
        this.#lose(message.message || 'The server reports an error without a text');
        break;
      default:
        this.#options.log(`Signaling: unknown message ${message.type}`);
    }
  }

  async #onAnswer({ sdpAnswer, viewerId }) {
    this.#options.log(`Answer received, viewer ${viewerId}`);
    await this.#peer.setRemoteDescription({ type: 'answer', sdp: sdpAnswer });
    if (this.#closed) return;
    for (const candidate of this.#foreignCandidates.splice(0)) await this.#addCandidate(candidate);
    this.#watchTransport();
  }

  async #addCandidate(candidate) {
    try {
      await this.#peer.addIceCandidate(candidate);
    } catch (error) {
      // One candidate that this browser cannot use is no reason to give up on the others.
      this.#options.log(`Candidate refused: ${error.message}`);
    }
  }

  // When the server closes, DTLS says so at once; connectionState stays "connected" for 5–9 s more.
  #watchTransport() {
    const transport = this.#peer.getReceivers()[0]?.transport;
    if (!transport) return;
    transport.onstatechange = () => {
      this.#options.log(`DTLS: ${transport.state}`);
      if (transport.state === 'closed') this.#lose('The server closed the media connection');
      if (transport.state === 'failed') this.#lose('The media connection failed (DTLS)');
    };
  }

  #onConnectionState(state) {
    this.#options.log(`Connection: ${state}`);
    clearTimeout(this.#timer);
    if (state === 'connected') this.#options.connected();
    else if (state === 'failed') this.#lose('No media connection: the UDP port of the server may be blocked');
    else if (state === 'disconnected') this.#timer = setTimeout(() => this.#lose('The media connection was interrupted'), DISCONNECT_GRACE_MS);
    else if (state === 'connecting' || state === 'new') this.#timer = setTimeout(() => this.#lose('No media connection in time'), CONNECT_TIMEOUT_MS);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #lose(reason) {
    if (this.#closed) return;
    this.#free();
    this.#options.lost(reason);
  }

  #free() {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close(1000);
    }
    if (this.#peer) {
      this.#peer.onconnectionstatechange = this.#peer.oniceconnectionstatechange = this.#peer.onicecandidate = null;
      const transport = this.#peer.getReceivers()[0]?.transport;
      if (transport) transport.onstatechange = null;
      this.#peer.close();
    }
  }
}
