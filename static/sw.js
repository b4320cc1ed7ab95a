// The service worker: without a network, a page from its cache that waits for the server. The API, pictures and pages with
// live content are never kept. Files with a version are the browser's: kept here too, they would be more with each version.

const CACHE = 'honeycast-3';
const root = new URL('./', self.location);
const OFFLINE = ['static/offline.html', 'static/style.css', 'static/icon.svg', 'static/js/before.js', 'static/js/offline.js', 'static/js/text.js']
  .map((path) => new URL(path, root).href);
// The server's answers vary by origin; what is kept is all of one.
const ANY_ORIGIN = { ignoreVary: true };

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(OFFLINE)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  const old = (name) => name.startsWith('honeycast-') && name !== CACHE;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name)))).then(() => self.clients.claim()));
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !request.url.startsWith(root.href)) return;
  if (request.mode === 'navigate') event.respondWith(fetch(request).catch(offlinePage));
  else if (OFFLINE.includes(request.url)) event.respondWith(fromNetworkFirst(request));
});

async function fromNetworkFirst(request) {
  try {
    const response = await fetch(request);
    if (response.ok) {
      const copy = response.clone();
      caches.open(CACHE).then((cache) => cache.put(request, copy));
    }
    return response;
  } catch (error) {
    const kept = await caches.match(request, ANY_ORIGIN);
    if (kept) return kept;
    throw error;
  }
}

// Its addresses depend on where it is shown.
async function offlinePage() {
  const kept = await caches.match(new URL('static/offline.html', root), ANY_ORIGIN);
  if (!kept) return Response.error();
  const page = (await kept.text()).replaceAll('="static/', `="${root.pathname}static/`);
  const headers = Object.fromEntries(['content-type', 'content-security-policy'].map((name) => [name, kept.headers.get(name) ?? '']));
  return new Response(page, { headers });
}
