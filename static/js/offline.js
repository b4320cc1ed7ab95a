// Shown by the service worker instead of a page while the server is away; comes back by itself.

import { text } from './text.js';

const AGAIN_MS = 3_000;

document.title = `${text.offline.title} – ${text.product}`;
document.getElementById('title').textContent = text.offline.title;
document.getElementById('words').textContent = text.offline.text;

setInterval(async () => {
  const answer = await fetch(new URL('../../viewer-config.json', import.meta.url), { cache: 'no-store' }).catch(() => null);
  if (answer?.ok) location.reload();
}, AGAIN_MS);
