// The dashboard: its pages are #/ (cameras), #/camera/ID, #/activity and #/system.

import { Api } from './api.js';
import { CameraPage } from './camera.js';
import { loadConfig } from './config.js';
import { byId, h, isCameraId, setData, setText } from './dom.js';
import { Grid } from './grid.js';
import { registerWorker, themeButton } from './shell.js';
import { Store } from './store.js';
import { ActivityPage, SystemPage } from './system.js';
import { text } from './text.js';

const config = await loadConfig((line) => console.warn(line));
const api = new Api(config.apiBase);
const store = new Store(api);
const grid = new Grid({ store, api, config });
const main = byId('main');
let page = null;

// Read-only, for tests and for people with the console open.
Object.defineProperty(window, 'honeycast', { value: Object.freeze({ get tiles() { return grid.states; }, get loaded() { return store.loaded; } }) });

const links = [['#/', text.nav.cameras], ['#/activity', text.nav.activity], ['#/system', text.nav.system]].map(([href, label]) => h('a', { href }, label));
byId('nav').setAttribute('aria-label', text.nav.label);
byId('nav').append(...links);
byId('skip').textContent = text.nav.skip;
byId('top-tools').append(themeButton());
setText(byId('health-text'), text.health.asking);
main.append(grid.node);

store.addEventListener('change', drawHealth);
window.addEventListener('hashchange', () => show(true));
show(false);
registerWorker();
await store.start();

function show(moved) {
  page?.close();
  page?.node.remove();
  page = null;
  const camera = /^#\/camera\/([0-9A-Fa-f]{32})$/.exec(location.hash)?.[1].toUpperCase();
  const where = camera && isCameraId(camera) ? '#/camera' : location.hash;
  if (where === '#/camera') page = new CameraPage({ id: camera, store, api, config, onTitle: title });
  else if (where === '#/system') page = new SystemPage({ store, api });
  else if (where === '#/activity') page = new ActivityPage({ store });
  grid.node.hidden = page !== null;
  if (page) main.append(page.node);
  const current = page ? where : '#/';
  for (const link of links) {
    if (link.getAttribute('href') === current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const heading = (page ?? grid).node.querySelector('h1');
  title(heading.textContent);
  if (moved) {
    window.scrollTo(0, 0);
    // A new page begins at its heading, for those who do not see it change.
    heading.focus({ preventScroll: true });
  }
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
