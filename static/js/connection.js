// One attempt to watch: one signaling socket and one peer connection. It never repairs itself;
// it says `lost` once, with the kind and the reason, and is then of no further use.

import { text } from './text.js';

// From opening the socket to media transport established.
const CONNECT_TIMEOUT_MS = 15_000;
// From the answer to media transport; relays need some seconds, and MP4 waits behind this.
const MEDIA_TIMEOUT_MS = 8_000;
// `disconnected` often heals by itself; this long it may try.
const DISCONNECT_GRACE_MS = 5_000;
// Between the end of media and the reason that signaling gives for it.
const EXPLAIN_MS = 1_500;
// The service says this to pages before it ends (close code 1001, and an error message before it).
const GOING_AWAY = 1001;
const SHUTDOWN = /shutting down/i;
const STOPPED = /^stream stopped/i;

/**
 * Kinds of loss: `stopped` (somebody stopped the stream), `server` (the service went away), `refused` (it refused
 * this viewer), `ice` (no path for media was found), `media` (it was found and lost), `browser`.
 */
export class Connection {
  #options;
  #told = null;
  #untold = [];
  #stream = null;
  #lost = null;
  #socket;
  #peer;
  #timer;
  #closed = false;
  #offerSent = false;
  #answered = false;
  #connected = false;
  #ownCandidates = [];
  #foreignCandidates = [];

  /** `options`: `signalingUrl`, `iceServers`, `camera` (read once the stream is known), `streamId` (or a promise of it), `audio`. */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Who is told: `log(words)`, `stream(mediaStream)`, `connected()`, `lost({kind, reason})`, and nobody else any more.
   * What holds already is told now, so that it can be opened before anybody is ready to watch, and handed on.
   */
  attach(callbacks) {
    this.#told = callbacks;
    this.#untold.splice(0).forEach((words) => callbacks.log(words));
    if (this.#stream) callbacks.stream(this.#stream);
    if (this.#connected) callbacks.connected();
    if (this.#lost) callbacks.lost(this.#lost);
  }

  #log(words) {
    if (this.#told) this.#told.log(words);
    else this.#untold.push(words);
  }

  /** Whether sound comes with the picture. */
  get audio() {
    return Boolean(this.#options.audio);
  }

  get peer() {
    return this.#peer;
  }

  open() {
    if (typeof RTCPeerConnection === 'undefined') {
      this.#lose('browser', text.connection.noWebrtc);
      return;
    }
    const { signalingUrl, streamId } = this.#options;
    this.#timer = setTimeout(() => this.#lose(this.#answered ? 'ice' : 'server', text.connection.timeout(CONNECT_TIMEOUT_MS / 1000)), CONNECT_TIMEOUT_MS);
    this.#log(text.log.opening(new URL(signalingUrl).host));
    try {
      this.#socket = new WebSocket(signalingUrl);
    } catch (error) {
      this.#lose('browser', text.log.signaling(error.message));
      return;
    }
    // The offer is made while the socket opens, and while it is asked which stream runs. Whoever asks hears the answer.
    const known = Promise.resolve(streamId).catch(() => null);
    const offer = this.#makeOffer();
    offer.catch(() => {});
    this.#socket.onopen = () => Promise.all([offer, known]).then(([, id]) => id && this.#sendOffer(id)).catch((error) => this.#lose('browser', text.log.offer(error.message)));
    this.#socket.onmessage = (event) => this.#onMessage(event.data).catch((error) => this.#lose('browser', text.log.signaling(error.message)));
    this.#socket.onclose = (event) => {
      if (event.code === GOING_AWAY) this.#lose('server', text.connection.shutdown);
      else this.#lose('server', this.#offerSent ? text.connection.closed(event.reason || text.connection.code(event.code)) : text.connection.unreachable);
    };
  }

  /** Says goodbye to the server and frees everything. `lost` is not called any more. */
  close() {
    if (this.#closed) return;
    if (this.#offerSent) this.#send({ type: 'stop' });
    this.#free();
  }

  async #makeOffer() {
    const { iceServers, audio } = this.#options;
    const peer = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.#peer = peer;
    if (audio) peer.addTransceiver('audio', { direction: 'recvonly' });
    peer.addTransceiver('video', { direction: 'recvonly' });

    peer.ontrack = (event) => {
      this.#log(text.log.track(event.track.kind));
      if (!event.streams[0]) return;
      [this.#stream] = event.streams;
      this.#told?.stream(this.#stream);
    };
    peer.onicecandidate = (event) => this.#onOwnCandidate(event.candidate);
    peer.oniceconnectionstatechange = () => this.#log(text.log.ice(peer.iceConnectionState));
    peer.onconnectionstatechange = () => this.#onConnectionState(peer.connectionState);
    await peer.setLocalDescription(await peer.createOffer());
  }

  #sendOffer(streamId) {
    if (this.#closed) return;
    this.#send({ type: 'viewer', cameraId: this.#options.camera, streamId, sdpOffer: this.#peer.localDescription.sdp });
    this.#offerSent = true;
    this.#ownCandidates.splice(0).forEach((message) => this.#send(message));
    this.#log(text.log.offered);
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
    const message = JSON.parse(typeof data === 'string' ? data : await data.text());
    switch (message.type) {
      case 'viewerResponse':
        await this.#onAnswer(message);
        break;
      case 'iceCandidate':
        if (this.#peer.remoteDescription) await this.#addCandidate(message.candidate);
        else this.#foreignCandidates.push(message.candidate);
        break;
      case 'error':
        this.#onError(message.message || text.connection.noText);
        break;
      default:
        this.#log(text.log.signaling(text.log.unknown(message.type)));
    }
  }

  #onError(message) {
    if (SHUTDOWN.test(message)) this.#lose('server', text.connection.shutdown);
    else if (STOPPED.test(message)) this.#lose('stopped', message);
    else if (!this.#answered) this.#lose('refused', message);
    else this.#lose(this.#connected ? 'media' : 'ice', message);
  }

  async #onAnswer({ sdpAnswer, viewerId }) {
    this.#answered = true;
    this.#log(text.log.answered(viewerId));
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
      this.#log(text.log.candidate(error.message));
    }
  }

  // When the server closes, DTLS says so at once; connectionState stays "connected" for 5–9 s more.
  #watchTransport() {
    const transport = this.#peer.getReceivers()[0]?.transport;
    if (!transport) return;
    transport.onstatechange = () => {
      this.#log(text.log.dtls(transport.state));
      // Signaling tells why, a moment sooner or later; without that word, somebody's stop would look like a fault.
      if (transport.state === 'closed') {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#lose('media', text.connection.serverClosed), EXPLAIN_MS);
      }
      if (transport.state === 'failed') this.#lose('ice', text.connection.dtls);
    };
  }

  #onConnectionState(state) {
    this.#log(text.log.connection(state));
    if (this.#peer.getReceivers()[0]?.transport?.state === 'closed') return;
    clearTimeout(this.#timer);
    if (state === 'connected') {
      this.#connected = true;
      this.#told?.connected();
    } else if (state === 'failed') this.#lose(this.#connected ? 'media' : 'ice', this.#connected ? text.connection.interrupted : text.connection.failed);
    else if (state === 'disconnected') this.#timer = setTimeout(() => this.#lose('media', text.connection.interrupted), DISCONNECT_GRACE_MS);
    else if (state === 'connecting' || state === 'new') this.#timer = setTimeout(() => this.#lose('ice', text.connection.timeout(MEDIA_TIMEOUT_MS / 1000)), MEDIA_TIMEOUT_MS);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #lose(kind, reason) {
    if (this.#closed) return;
    this.#free();
    this.#lost = { kind, reason };
    this.#told?.lost(this.#lost);
  }

  #free() {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      if (this.#socket.readyState === WebSocket.CONNECTING) {
        // Closing it now would be an error in the console.
        this.#socket.onopen = (event) => event.target.close(1000);
      } else this.#socket.close(1000);
    }
    if (this.#peer) {
      this.#peer.onconnectionstatechange = this.#peer.oniceconnectionstatechange = this.#peer.onicecandidate = this.#peer.ontrack = null;
      const transport = this.#peer.getReceivers()[0]?.transport;
      if (transport) transport.onstatechange = null;
      this.#peer.close();
    }
  }
}
