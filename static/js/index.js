// The dashboard: its pages are #/ (cameras), #/watch/ID, #/camera/ID, #/activity and #/system.

import { Api } from './api.js';
import { loadConfig } from './config.js';
import { byId, h, isCameraId, setData, setText } from './dom.js';
import { Grid } from './grid.js';
import { loadSession, mayControl, sessionTools } from './session.js';
import { registerWorker, themeButton } from './shell.js';
import { Store } from './store.js';
import { text } from './text.js';

const config = await loadConfig((line) => console.warn(line));
const api = new Api(config.apiBase);
const store = new Store(api);
const grid = new Grid({ store, api, config });
const main = byId('main');
let page = null;
let shown = 0;
// Where the tiles were scrolled to, and the camera that was looked at.
let left = { top: 0, camera: null };

// Read-only, for tests and for people with the console open.
const watched = () => page?.snapshot ?? {};
Object.defineProperty(window, 'honeycast', {
  value: Object.freeze({
    get tiles() { return grid.states; },
    get loaded() { return store.loaded; },
    get state() { return watched().state; },
    get detail() { return watched().detail; },
    get stats() { return watched().stats; },
    get mode() { return watched().mode; },
    get streamId() { return watched().streamId; },
  }),
});

const links = [['#/', text.nav.cameras], ['#/activity', text.nav.activity], ['#/system', text.nav.system]].map(([href, label]) => h('a', { href }, label));
byId('nav').setAttribute('aria-label', text.nav.label);
byId('nav').append(...links);
byId('skip').textContent = text.nav.skip;
byId('top-tools').append(themeButton());
const session = loadSession(api);
session.then((who) => byId('top-tools').append(sessionTools(who) ?? ''));
setText(byId('health-text'), text.health.asking);
main.append(grid.node);

store.addEventListener('change', drawHealth);
window.addEventListener('hashchange', () => show(true));
show(false);
registerWorker();
await store.start();
// The next step of most people; the pictures come first.
(window.requestIdleCallback ?? setTimeout)(() => import('./watch.js').catch(() => {}));

// The other pages are loaded when somebody goes there.
async function pageAt(where, camera, early) {
  if (where === '#/watch') return new (await import('./watch.js')).WatchPage({ id: camera, store, api, config, early, starts: session.then(mayControl), onTitle: title });
  if (where === '#/camera') return new (await import('./camera.js')).CameraPage({ id: camera, store, api, config, onTitle: title });
  if (where === '#/system') return new (await import('./system.js')).SystemPage({ store, api, session });
  if (where === '#/activity') return new (await import('./system.js')).ActivityPage({ store, api });
  return null;
}

async function show(moved) {
  const mine = shown += 1;
  const [, kind, id] = /^#\/(camera|watch)\/([0-9A-Fa-f]{32})$/.exec(location.hash) ?? [];
  const camera = id?.toUpperCase();
  const where = kind ? `#/${kind}` : location.hash;
  const tiles = !['#/watch', '#/camera', '#/system', '#/activity'].includes(where);
  if (!grid.node.hidden) left.top = window.scrollY;
  // From picture to picture of one camera the connection is handed on.
  const early = tiles || where === '#/watch' ? (page ?? grid).give?.(camera ?? left.camera) ?? null : null;
  page?.close();
  page?.node.remove();
  page = null;
  grid.node.hidden = !tiles;
  if (!tiles && document.fullscreenElement) document.exitFullscreen().catch(() => {});
  const next = await pageAt(where, camera, early).catch((error) => {
    early?.connection.close();
    return { node: h('div', {}, h('h1', { tabindex: '-1' }, text.api.unreachable), h('p', { class: 'quiet' }, error.message)), close() {} };
  });
  if (mine !== shown) return next?.close();
  page = next;
  if (page) main.append(page.node);
  const current = page ? where : '#/';
  for (const link of links) {
    if (link.getAttribute('href') === current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const heading = (page ?? grid).node.querySelector('h1');
  title(heading.textContent);
  if (moved) {
    window.scrollTo(0, page ? 0 : left.top);
    // A new page begins at its heading, or its picture, for those who do not see it change; who comes back goes on where they were.
    if (page?.focus) page.focus();
    else if (!page && left.camera) grid.take(left.camera, early);
    else heading.focus({ preventScroll: true });
  }
  left.camera = camera ?? null;
  return undefined;
}

function title(words) {
  const full = `${words} – ${text.product}`;
  if (document.title !== full) document.title = full;
}

function drawHealth() {
  const { health, error } = store;
  const line = byId('health');
  if (error) {
    setData(line, 'state', 'unreachable');
    setText(byId('health-text'), error.message);
  } else if (health) {
    setData(line, 'state', health.status);
    setText(byId('health-text'), `${text.health[health.status] ?? health.status} · ${text.health.summary(health)}`);
    line.title = health.reasons?.join('\n') ?? '';
  }
}
