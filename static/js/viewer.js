// The viewer page: one pane for each ?camera=, or a list of running streams to choose from.

import { root, token, withToken } from './config.js';
import { byId, h, setText, stateLine } from './dom.js';
import { cameras, early, logTo, wanted } from './early.js';
import { duration, sentence } from './format.js';
import { Log } from './log.js';
import { Pane } from './pane.js';
import { loadSession, mayControl, sessionTools } from './session.js';
import { themeButton } from './shell.js';
import { NO_STATS } from './stats.js';
import { text } from './text.js';

const LIST_MS = 3_000;
const words = text.viewer;

const panes = [];
const NOTHING = Object.freeze({ state: 'idle', detail: '', stats: NO_STATS });

// Read-only, for tests and for people with the console open.
const first = () => panes[0]?.player.snapshot ?? NOTHING;
Object.defineProperty(window, 'honeycast', {
  value: Object.freeze({
    get state() { return first().state; },
    get detail() { return first().detail; },
    get stats() { return first().stats; },
    get mode() { return first().mode; },
    get streamId() { return first().streamId; },
    get states() { return panes.map((pane) => pane.player.snapshot.state); },
  }),
});

// The dashboard is beside this page, or on another port of which the page knows nothing.
if (location.pathname.includes('/livestream/')) {
  byId('home').href = withToken(root.href);
  byId('back').href = withToken(root.href);
  byId('back').hidden = false;
  setText(byId('back'), `← ${text.camera.back}`);
}
byId('top-tools').append(themeButton());
const journal = new Log();
const log = (line) => journal.write(line);
byId('watch').append(journal.node);
logTo(log);
const { config, api, begun } = await early;
const session = loadSession(api);
session.then((who) => byId('top-tools').append(sessionTools(who) ?? ''));
if (cameras.length > 0) watch();
else choose();

function watch() {
  const main = byId('watch');
  main.hidden = false;
  setText(byId('watch-title'), words.title);
  const grid = byId('panes');
  grid.dataset.count = String(cameras.length);
  grid.style.setProperty('--across', String(Math.ceil(Math.sqrt(cameras.length))));
  const starts = session.then(mayControl);
  for (const camera of cameras) {
    const prefix = cameras.length > 1 ? `${camera.slice(0, 8)}: ` : '';
    const pane = new Pane({ camera, api, config, log: (line) => log(prefix + line), link: linkTo(camera), main: panes.length === 0, starts, onChange: drawTitle });
    panes.push(pane);
    grid.append(pane.node);
  }
  for (const pane of panes) pane.start(begun.get(pane.camera));
  window.addEventListener('pagehide', () => panes.forEach((pane) => pane.player.leave()));
  window.addEventListener('pageshow', (event) => {
    if (event.persisted) panes.filter((pane) => pane.player.snapshot.state !== 'stopped').forEach((pane) => pane.start());
  });
  nameThem();
}

// Without the token, which is not everybody's.
function linkTo(camera) {
  const link = new URL(location.pathname, location.href);
  link.searchParams.set('camera', camera);
  return link;
}

async function nameThem() {
  const known = await api.cameras().catch(() => []);
  for (const pane of panes) pane.rename(known.find((camera) => camera.camera_id === pane.camera)?.name);
  drawTitle();
}

function drawTitle() {
  const [pane] = panes;
  if (!pane) return;
  const what = panes.length === 1 ? pane.name : text.cameras(panes.length);
  const title = `${words.states[pane.player.snapshot.state]} – ${what} – ${text.product}`;
  if (document.title !== title) document.title = title;
}

function choose() {
  byId('choose').hidden = false;
  setText(byId('choose-title'), words.chooseTitle);
  setText(byId('id-label'), words.cameraId);
  setText(byId('camera-hint'), words.idHint);
  setText(byId('id-watch'), words.watch);
  byId('streams').setAttribute('aria-label', words.running);
  if (token) byId('id-form').append(h('input', { type: 'hidden', name: 'token', value: token }));
  document.title = `${words.chooseTitle} – ${text.product}`;
  if (wanted.length > 0) {
    const notice = byId('choose-notice');
    setText(notice, words.notAnId(wanted.join(', ')));
    notice.hidden = false;
  }
  drawList();
  setInterval(() => { if (!document.hidden) drawList(); }, LIST_MS);
}

async function drawList() {
  const list = byId('streams');
  const empty = byId('streams-empty');
  try {
    const [streams, known] = await Promise.all([api.streams(), api.cameras()]);
    const names = new Map(known.map((camera) => [camera.camera_id, camera.name]));
    setText(empty, words.noStream);
    empty.hidden = streams.length > 0;
    // Rows are kept and changed in place, so that the keyboard focus stays where it is.
    const rows = new Map([...list.children].map((row) => [row.dataset.camera, row]));
    for (const stream of streams) {
      const row = rows.get(stream.camera_id) ?? list.appendChild(newRow(stream.camera_id));
      rows.delete(stream.camera_id);
      drawRow(row, stream, names.get(stream.camera_id));
    }
    rows.forEach((row) => row.remove());
  } catch (error) {
    setText(empty, sentence(error.message));
    empty.hidden = false;
  }
}

function newRow(camera) {
  const query = new URLSearchParams({ camera });
  if (token) query.set('token', token);
  return h('li', { class: 'card', 'data-camera': camera },
    h('div', { class: 'what' }, h('p', { class: 'name' }), h('div', { class: 'state' })),
    h('div', { class: 'actions' }, h('a', { class: 'button primary', href: `?${query}`, 'aria-label': words.watchNamed(camera) }, words.watch)));
}

function drawRow(row, stream, name) {
  const label = name || stream.camera_id;
  setText(row.querySelector('.name'), label);
  row.querySelector('.name').classList.toggle('id', !name);
  row.querySelector('a').setAttribute('aria-label', words.watchNamed(label));
  const why = stream.why_no_picture;
  const shown = why && why.code !== 'ok' ? sentence(why.text) : `${duration(stream.duration_seconds)} · ${text.viewers(stream.viewer_count)}`;
  const state = why && why.code !== 'ok' ? 'silent' : 'live';
  row.querySelector('.state').replaceChildren(stateLine(state, `${text.states[state]} · ${shown}`));
}
