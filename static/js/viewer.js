// The viewer page: one pane for each ?camera=, or a list of running streams to choose from. A click in the list shows the
// picture in place, under the address that its link has.

import { root, token, withToken } from './config.js';
import { Connection } from './connection.js';
import { byId, h, setText, stateLine } from './dom.js';
import { camerasIn, early, logTo, wantedIn } from './early.js';
import { duration, sentence } from './format.js';
import { Log } from './log.js';
import { Pane } from './pane.js';
import { loadSession, mayControl, sessionTools } from './session.js';
import { themeButton } from './shell.js';
import { NO_STATS } from './stats.js';
import { text } from './text.js';

const LIST_MS = 3_000;
// What is prepared for a click that does not come is given up.
const READY_MS = 5_000;
const words = text.viewer;

let panes = [];
// What the list knows, by camera.
let streamIds = new Map();
let names = new Map();
// The address that is shown, and the camera that was looked at.
let shown = null;
let left = null;
let ready = null;
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
const starts = session.then(mayControl);
window.addEventListener('pagehide', () => {
  panes.forEach((pane) => pane.player.leave());
  takeReady()?.connection.close();
});
window.addEventListener('pageshow', (event) => {
  if (event.persisted) panes.filter((pane) => pane.player.snapshot.state !== 'stopped').forEach((pane) => pane.start());
});
window.addEventListener('popstate', () => { if (location.search !== shown) show(true); });
prepareList();
show(false, (pane) => pane.start(begun.get(pane.camera)));
setInterval(() => { if (panes.length === 0 && !document.hidden) drawList(); }, LIST_MS);

// `moved`: from within the page, so that the focus is to be taken along.
function show(moved, start = (pane) => pane.start()) {
  const cameras = camerasIn(location.search);
  shown = location.search;
  panes.forEach((pane) => pane.close());
  panes = [];
  byId('panes').replaceChildren();
  byId('watch').hidden = cameras.length === 0;
  byId('choose').hidden = cameras.length > 0;
  if (cameras.length > 0) watch(cameras, start);
  else choose();
  if (!moved) return;
  window.scrollTo(0, 0);
  if (cameras.length > 0) panes[0].focus();
  else (document.querySelector(`.card[data-camera="${left}"] a`) ?? byId('choose-title')).focus();
}

function watch(cameras, start) {
  setText(byId('watch-title'), words.title);
  const grid = byId('panes');
  grid.dataset.count = String(cameras.length);
  grid.style.setProperty('--across', String(Math.ceil(Math.sqrt(cameras.length))));
  for (const camera of cameras) {
    const prefix = cameras.length > 1 ? `${camera.slice(0, 8)}: ` : '';
    const pane = new Pane({ camera, name: names.get(camera), api, config, log: (line) => log(prefix + line), link: linkTo(camera), main: panes.length === 0, starts, onChange: drawTitle });
    panes.push(pane);
    grid.append(pane.node);
  }
  panes.forEach(start);
  drawTitle();
  nameThem();
}

// Without the token, which is not everybody's.
function linkTo(camera) {
  const link = new URL(location.pathname, location.href);
  link.searchParams.set('camera', camera);
  return link;
}

async function nameThem() {
  const known = await api.cameras().catch(() => null);
  if (known) names = namesOf(known);
  for (const pane of panes) pane.rename(names.get(pane.camera));
  drawTitle();
}

const namesOf = (known) => new Map(known.map((camera) => [camera.camera_id, camera.name]));

function drawTitle() {
  const [pane] = panes;
  if (!pane) return;
  const what = panes.length === 1 ? pane.name : text.cameras(panes.length);
  const title = `${words.states[pane.player.snapshot.state]} – ${what} – ${text.product}`;
  if (document.title !== title) document.title = title;
}

function prepareList() {
  setText(byId('choose-title'), words.chooseTitle);
  setText(byId('id-label'), words.cameraId);
  setText(byId('camera-hint'), words.idHint);
  setText(byId('id-watch'), words.watch);
  byId('streams').setAttribute('aria-label', words.running);
  byId('streams').addEventListener('click', watchInPlace);
  for (const near of ['pointerover', 'pointerdown', 'focusin']) byId('streams').addEventListener(near, prepare);
  if (token) byId('id-form').append(h('input', { type: 'hidden', name: 'token', value: token }));
}

function choose() {
  document.title = `${words.chooseTitle} – ${text.product}`;
  const wanted = wantedIn(location.search);
  const notice = byId('choose-notice');
  setText(notice, wanted.length > 0 ? words.notAnId(wanted.join(', ')) : '');
  notice.hidden = wanted.length === 0;
  drawList();
}

// The link stays one: a new tab, a new window and a download are the browser's.
function watchInPlace(event) {
  const link = event.target.closest('a');
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  left = link.closest('.card').dataset.camera;
  history.pushState(null, '', link.href);
  const prepared = takeReady();
  show(true, (pane) => {
    const streamId = streamIds.get(pane.camera);
    pane.start(prepared, streamId);
    prepared?.aim(pane.camera, streamId);
  });
}

// Once the pointer or the focus reaches a link, what its click needs first is made: the socket and the offer, which name no
// camera before they are sent. So one serves all links, and a pointer that crosses the list opens no more.
function prepare(event) {
  if (ready || !event.target.closest('a') || typeof RTCPeerConnection === 'undefined') return;
  let tell;
  const options = { signalingUrl: withToken(config.signalingUrl), iceServers: config.iceServers, camera: null, streamId: new Promise((resolve) => { tell = resolve; }), audio: true };
  const connection = new Connection(options);
  const aim = (camera, streamId) => {
    options.camera = camera;
    tell(streamId);
  };
  ready = { connection, aim, timer: setTimeout(() => takeReady().connection.close(), READY_MS) };
  connection.open();
}

function takeReady() {
  const taken = ready;
  ready = null;
  clearTimeout(taken?.timer);
  return taken;
}

async function drawList() {
  const list = byId('streams');
  const empty = byId('streams-empty');
  try {
    const [streams, known] = await Promise.all([api.streams(), api.cameras()]);
    names = namesOf(known);
    streamIds = new Map(streams.map((stream) => [stream.camera_id, stream.stream_id]));
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
