// The start page: which streams run, with links to watch them and buttons to start and stop.

import { Api } from './api.js';
import { loadConfig } from './config.js';
import { byId, element, isCameraId, plural, stateLine, streamWords } from './dom.js';

const REFRESH_MS = 3_000;

// Cameras seen since the page was opened: a stopped stream leaves the API's list, but not this page.
const seen = new Set();
const busy = new Set();
const config = await loadConfig((text) => console.warn(text));
const api = new Api(config.apiBase, config.token);
let lastStreams = [];

byId('start-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const input = byId('camera-input');
  const camera = input.value.trim().toUpperCase();
  if (!isCameraId(camera)) return;
  input.value = '';
  act(camera, () => api.start(camera));
});
setInterval(() => { if (!document.hidden) refresh(); }, REFRESH_MS);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
await refresh();

async function refresh() {
  try {
    const [health, streams] = await Promise.all([api.health(), api.streams()]);
    drawHealth(health);
    lastStreams = streams;
    streams.forEach((stream) => seen.add(stream.camera_id));
    drawStreams();
  } catch (error) {
    byId('health').dataset.state = 'unreachable';
    byId('health-text').textContent = error.message;
  }
}

function drawHealth(health) {
  const words = [health.status === 'healthy' ? 'Healthy' : 'Degraded'];
  if (!health.kurento_connected) words.push('media engine down');
  words.push(plural(health.active_streams, 'stream'), plural(health.total_viewers, 'viewer'));
  byId('health').dataset.state = health.status;
  byId('health-text').textContent = words.join(' · ');
}

function drawStreams() {
  const running = new Map(lastStreams.map((stream) => [stream.camera_id, stream]));
  const list = byId('streams');
  byId('empty').hidden = seen.size > 0;
  // Cards are kept and updated in place, so that the keyboard focus stays where it is.
  for (const camera of seen) {
    const card = list.querySelector(`[data-camera="${CSS.escape(camera)}"]`) ?? list.appendChild(newCard(camera));
    updateCard(card, camera, running.get(camera));
  }
}

function newCard(camera) {
  const watch = element('a', {
    className: 'button primary',
    href: `livestream/viewer?camera=${encodeURIComponent(camera)}`,
    textContent: 'Watch',
  });
  watch.setAttribute('aria-label', `Watch camera ${camera}`);
  const toggle = element('button', { type: 'button', className: 'toggle' });
  const card = element('li', { className: 'card' },
    element('div', { className: 'what' }, element('p', { className: 'id', textContent: camera }), element('div', { className: 'state' })),
    element('div', { className: 'actions' }, watch, toggle));
  card.dataset.camera = camera;
  toggle.addEventListener('click', () => {
    const stops = toggle.textContent === 'Stop';
    act(camera, () => (stops ? api.stop(camera) : api.start(camera)));
  });
  return card;
}

function updateCard(card, camera, stream) {
  const runs = stream !== undefined && ['starting', 'active', 'stopping'].includes(stream.state);
  const toggle = card.querySelector('.toggle');
  toggle.textContent = runs ? 'Stop' : 'Start';
  toggle.disabled = busy.has(camera);
  toggle.setAttribute('aria-label', `${toggle.textContent} camera ${camera}`);
  card.querySelector('.state').replaceChildren(stream ? stateLine(stream.state, streamWords(stream)) : stateLine('stopped', 'stopped'));
}

async function act(camera, call) {
  const notice = byId('notice');
  notice.hidden = true;
  busy.add(camera);
  seen.add(camera);
  drawStreams();
  try {
    await call();
  } catch (error) {
    notice.textContent = `${camera.slice(0, 8)}: ${error.message}`;
    notice.hidden = false;
  } finally {
    busy.delete(camera);
  }
  await refresh();
}
