// Who is logged in, and what that allows. What is not allowed is not offered: see `needs-…` in style.css.

import { root, token } from './config.js';
import { h } from './dom.js';
import { text } from './text.js';

// The longest that a browser's timer can wait.
const LONGEST_MS = 2 ** 31 - 1;
// The server's clock may be a little behind this device's.
const GRACE_MS = 1_500;

/**
 * Asks the server, once for each page: `{auth_enabled, name, role, all_cameras, until}`, or what everybody has where it
 * says nothing. From then on the page leaves for the login when the session ends.
 */
export async function loadSession(api) {
  const session = await api.session().catch(() => null) ?? { auth_enabled: false, role: 'admin', all_cameras: true };
  const { dataset } = document.documentElement;
  dataset.role = session.role;
  dataset.scope = session.all_cameras ? 'all' : 'some';
  if (session.auth_enabled && session.until) {
    const left = new Date(session.until).getTime() - Date.now() + GRACE_MS;
    // Asking leads to the login, when it is true.
    if (left < LONGEST_MS) setTimeout(() => api.session().catch(() => {}), Math.max(0, left));
  }
  return session;
}

export const mayControl = (session) => session.role !== 'view';

/** Who it is, and the way out; `null` where nobody logs in. */
export function sessionTools(session) {
  if (!session.auth_enabled) return null;
  const who = h('span', { class: 'quiet who', title: text.session.role(text.session.roles[session.role] ?? session.role) }, session.name);
  // A link's token cannot be taken back by the page that carries it.
  return h('div', { class: 'session' }, who, !token && h('button', { type: 'button', class: 'bare', onclick: logOut }, text.session.out));
}

async function logOut() {
  await fetch(new URL('logout', root), { method: 'POST', credentials: 'include' }).catch(() => {});
  location.assign(new URL('login', root));
}
