// The viewer page: reads ?camera=, drives the player, draws what it says.

import { Api } from './api.js';
import { loadConfig } from './config.js';
import { byId, element, isCameraId, stateLine, streamWords } from './dom.js';
import { Player } from './player.js';
import { NO_STATS, describe } from './stats.js';

const LOG_LINES = 300;
const LIST_MS = 3_000;

const camera = (new URLSearchParams(location.search).get('camera') ?? '').trim().toUpperCase();
let snapshot = Object.freeze({ state: 'idle', detail: '', stats: NO_STATS });

// Read-only, for tests and for people with the console open.
Object.defineProperty(window, 'honeycast', {
  value: Object.freeze({
    get state() { return snapshot.state; },
    get detail() { return snapshot.detail; },
    get stats() { return snapshot.stats; },
    get streamId() { return snapshot.streamId; },
  }),
});

const config = await loadConfig(log);
const api = new Api(config.apiBase, config.token);
if (isCameraId(camera)) watch();
else choose();

function watch() {
  byId('watch').hidden = false;
  byId('camera-id').textContent = camera;
  const video = byId('video');
  const player = new Player({ video, api, config, camera, log });
  player.addEventListener('change', () => {
    const previous = snapshot;
    snapshot = player.snapshot;
    draw(previous);
  });

  byId('stop').addEventListener('click', () => player.stop());
  byId('again').addEventListener('click', () => {
    if (video.srcObject && video.paused) video.play().catch((error) => log(`Play: ${error.message}`));
    else player.start();
  });
  byId('sound').addEventListener('click', () => { video.muted = !video.muted; });
  // The label says what a press does.
  video.addEventListener('volumechange', () => { byId('sound').textContent = video.muted ? 'Sound on' : 'Sound off'; });
  offerFullscreen(video);

  window.addEventListener('pagehide', () => player.leave());
  window.addEventListener('pageshow', (event) => {
    if (event.persisted && snapshot.state !== 'stopped') player.start();
  });
  player.start();
}

function draw(previous) {
  const { state, detail, frozenSeconds, stats } = snapshot;
  const words = {
    connecting: 'Connecting',
    live: 'Live',
    frozen: `Frozen for ${frozenSeconds} s`,
    reconnecting: 'Reconnecting',
    stopped: 'Stopped',
    error: 'Error',
  }[state];
  const ended = state === 'stopped' || state === 'error';
  const needsPlay = state === 'connecting' && byId('video').paused && byId('video').srcObject !== null;

  byId('stage').dataset.state = state;
  byId('status').dataset.state = state;
  byId('status-text').textContent = words;
  byId('veil-title').textContent = words;
  byId('veil-detail').textContent = detail;
  byId('spinner').hidden = ended || needsPlay;
  byId('again').hidden = !ended && !needsPlay;
  byId('again').textContent = needsPlay ? 'Play' : 'Watch again';
  byId('stop').disabled = ended;
  if (state !== previous.state) {
    // Spoken once per state, not once per second of a freeze.
    byId('announce').textContent = state === 'frozen' ? 'The picture is frozen' : `${words}. ${detail}`;
    document.title = `${words.replace(/ for .*/, '')} – ${camera.slice(0, 8)} – honeycast`;
  }
  if (stats !== previous.stats) drawStats(stats);
}

function drawStats(stats) {
  const list = byId('stats');
  describe(stats).forEach(([label, text], index) => {
    const cell = list.children[index]
      ?? list.appendChild(element('div', {}, element('dt', { textContent: label }), element('dd')));
    cell.lastChild.textContent = text;
  });
}

function offerFullscreen(video) {
  const button = byId('fullscreen');
  const stage = byId('stage');
  if (stage.requestFullscreen) {
    button.addEventListener('click', () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen()));
  } else if (video.webkitEnterFullscreen) {
    button.addEventListener('click', () => video.webkitEnterFullscreen());
  } else {
    button.hidden = true;
  }
}

function choose() {
  byId('choose').hidden = false;
  document.title = 'Choose a camera – honeycast';
  if (camera) {
    const notice = byId('choose-notice');
    notice.textContent = `“${camera}” is not a camera id.`;
    notice.hidden = false;
  }
  drawList();
  setInterval(() => { if (!document.hidden) drawList(); }, LIST_MS);
}

async function drawList() {
  const list = byId('streams');
  const empty = byId('streams-empty');
  try {
    const streams = await api.streams();
    snapshot = Object.freeze({ ...snapshot, detail: '' });
    // Rebuilding the list would take the keyboard focus away; do it only when something is new.
    const text = JSON.stringify(streams.map((stream) => [stream.camera_id, streamWords(stream)]));
    if (list.dataset.text !== text && !list.contains(document.activeElement)) {
      list.dataset.text = text;
      list.replaceChildren(...streams.map(card));
    }
    empty.textContent = 'No stream is running.';
    empty.hidden = streams.length > 0;
  } catch (error) {
    empty.textContent = error.message;
    empty.hidden = false;
  }
}

function card(stream) {
  const what = element('div', { className: 'what' },
    element('p', { className: 'id', textContent: stream.camera_id }),
    stateLine(stream.state, streamWords(stream)));
  const link = element('a', { className: 'button primary', href: `?camera=${encodeURIComponent(stream.camera_id)}`, textContent: 'Watch' });
  link.setAttribute('aria-label', `Watch camera ${stream.camera_id}`);
  return element('li', { className: 'card' }, what, element('div', { className: 'actions' }, link));
}

function log(text) {
  const now = new Date();
  const list = byId('log');
  list.append(element('li', {}, element('time', { dateTime: now.toISOString(), textContent: now.toTimeString().slice(0, 8) }), text));
  while (list.children.length > LOG_LINES) list.firstChild.remove();
}
