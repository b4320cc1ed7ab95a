// The login page: exchanges a key or token for a cookie that no script can read.

import { byId, setText } from './dom.js';
import { sentence } from './format.js';
import { themeButton } from './shell.js';
import { text } from './text.js';

const words = text.login;
const form = byId('login-form');
const query = new URLSearchParams(location.search);

document.title = `${words.title} – ${text.product}`;
setText(byId('title'), words.title);
setText(byId('credential-label'), words.credential);
setText(byId('credential-hint'), words.hint);
setText(byId('submit'), words.submit);
byId('top-tools').append(themeButton());
form.hidden = false;
if (query.has('ended')) say(words.ended);
byId('credential').focus();

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  byId('notice').hidden = true;
  byId('submit').disabled = true;
  try {
    const response = await fetch('login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ credential: byId('credential').value }),
      credentials: 'same-origin',
    }).catch(() => { throw new Error(text.api.unreachable); });
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(body.error ?? text.api.http(response.status));
    location.replace(next());
  } catch (error) {
    say(sentence(error.message));
    byId('submit').disabled = false;
    byId('credential').select();
    byId('credential').focus();
  }
});

function say(message) {
  setText(byId('notice'), message);
  byId('notice').hidden = false;
}

// Where the browser wanted to go: a page of this server, and no other whatever the link says.
function next() {
  const wanted = query.get('next') ?? '';
  const base = new URL('.', location.href);
  const url = new URL(wanted.replace(/^\/+/, ''), base);
  // The server, which leads here too, does not hear of what is behind the #; browsers bring it along.
  if (!url.hash) url.hash = location.hash;
  return url.origin === base.origin && url.protocol === base.protocol ? url.href : base.href;
}
