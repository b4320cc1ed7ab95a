// The login page: exchanges a key or token for a cookie that no script can read.

import { byId } from './dom.js';

const form = byId('login-form');
const notice = byId('notice');

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  notice.hidden = true;
  byId('submit').disabled = true;
  try {
    const response = await fetch('login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ credential: byId('credential').value }),
      credentials: 'same-origin',
    });
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(body.error ?? `HTTP ${response.status}`);
    location.replace(next());
  } catch (error) {
    notice.textContent = error.message;
    notice.hidden = false;
    byId('submit').disabled = false;
    byId('credential').focus();
  }
});

// Where the browser wanted to go: a page of this server, and no other whatever the link says.
function next() {
  const wanted = new URLSearchParams(location.search).get('next') ?? '';
  const base = new URL('.', location.href);
  const url = new URL(wanted.replace(/^\/+/, ''), base);
  return url.origin === base.origin && url.protocol === base.protocol ? url.href : base.href;
}
