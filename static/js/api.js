// The REST calls that the pages make.

import { root, token, withToken } from './config.js';
import { text } from './text.js';

// The server answers every call within 10 s.
const TIMEOUT_MS = 12_000;

// Whether the server has let this page in before.
let wasIn = false;

/** A refusal by the API (`status` set) or no answer at all (`status` 0). */
export class ApiError extends Error {
  constructor(message, status = 0, body = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.body = body;
  }
}

export class Api {
  #base;

  constructor(base) {
    this.#base = base;
  }

  health(signal) {
    return this.#call('GET', 'health', { signal });
  }

  /** Who is logged in here; `null` where the server has no sessions. */
  async session() {
    try {
      return await this.#call('GET', 'session', { base: root.href });
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /** What a monitoring system reads: the values without labels, by name. */
  async metrics(signal) {
    const { words } = await this.#call('GET', 'metrics', { signal });
    return Object.fromEntries([...words.matchAll(/^([a-z_]+) (\S+)$/gm)].map(([, name, value]) => [name, Number(value)]));
  }

  /** The list of streams. */
  async streams(signal) {
    return (await this.#call('GET', 'streams', { signal })).streams ?? [];
  }

  /**
   * What is known of one camera's stream, or `null` if there is none; a failed one has the state `error`. Asking for a
   * stream that is not there would be an error in the console, so the list is asked first.
   */
  async stream(camera, signal) {
    const found = await this.running(camera, signal);
    return found ? this.#detail(camera, signal) : this.failed(camera, signal);
  }

  /** Its entry in the list of streams, if any. */
  async running(camera, signal) {
    return (await this.streams(signal)).find((stream) => stream.camera_id === camera) ?? null;
  }

  /** Its last failure, if that is how its last stream ended. */
  async failed(camera, signal) {
    const last = await this.lastState(camera, signal);
    return last?.value === 'error' ? { state: 'error', error_message: last.text } : null;
  }

  /** The last change of its stream's state since the service started, or `null`. */
  async lastState(camera, signal) {
    const { changes } = await this.history(camera, signal);
    return changes.findLast((change) => change.what === 'state') ?? null;
  }

  async #detail(camera, signal) {
    try {
      const body = await this.#call('GET', `streams/${encodeURIComponent(camera)}`, { signal });
      return { ...body.stream, media: body.media ?? body.stream?.media, viewers: body.viewers, viewer_count: body.viewer_count };
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  async cameras(signal) {
    return (await this.#call('GET', 'cameras', { signal })).cameras ?? [];
  }

  camera(camera, signal) {
    return this.#call('GET', `cameras/${encodeURIComponent(camera)}`, { signal });
  }

  label(camera, change) {
    return this.#call('PUT', `cameras/${encodeURIComponent(camera)}`, { body: change });
  }

  history(camera, signal) {
    return this.#call('GET', `streams/${encodeURIComponent(camera)}/history`, { signal });
  }

  sources(signal) {
    return this.#call('GET', 'sources', { signal });
  }

  /** Starts a stream and gives its id. One that runs already is as good. */
  async start(camera, signal) {
    try {
      return (await this.#call('POST', `streams/${encodeURIComponent(camera)}/start`, { signal })).stream_id;
    } catch (error) {
      if (error.status !== 409) throw error;
      return error.body.stream_id;
    }
  }

  stop(camera, signal) {
    return this.#call('POST', `streams/${encodeURIComponent(camera)}/stop`, { signal });
  }

  /** Where the last keyframe is, as a film of one picture. */
  stillUrl(camera) {
    return withToken(`${this.#base}streams/${encodeURIComponent(camera)}/keyframe.mp4`);
  }

  liveUrl(camera) {
    return withToken(`${this.#base}streams/${encodeURIComponent(camera)}/live.mp4`);
  }

  /** Changes of all cameras as they happen. */
  events() {
    return new EventSource(withToken(`${this.#base}events`), { withCredentials: true });
  }

  async #call(method, path, { signal, body, base = this.#base } = {}) {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const both = signal && AbortSignal.any ? AbortSignal.any([signal, timeout]) : (signal ?? timeout);
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    if (body) headers['content-type'] = 'application/json';
    let response;
    try {
      response = await fetch(base + path, {
        method, headers, signal: both, cache: 'no-store', credentials: 'include', body: body && JSON.stringify(body),
      });
    } catch (error) {
      signal?.throwIfAborted();
      throw new ApiError(error.name === 'TimeoutError' ? text.api.timeout : text.api.unreachable);
    }
    const json = response.headers.get('content-type')?.includes('json');
    const answer = await (json ? response.json() : response.text().then((words) => ({ words }))).catch(() => ({}));
    if (response.status === 401) {
      // A link that never was good is said; one that has ended, like a cookie, leads to the login.
      if (!token || wasIn) logIn();
      throw new ApiError(token ? text.api.token : (answer.error ?? text.api.forbidden), 401, answer);
    }
    // Who serves the pages may let everybody in, and still not know who may use the API.
    if (response.ok && base === this.#base) wasIn = true;
    if (!response.ok) throw new ApiError(answer.error ?? text.api.http(response.status), response.status, answer);
    return answer;
  }
}

function logIn() {
  const here = new URL(location.href);
  here.searchParams.delete('token');
  const page = new URL('login', root);
  // Below the service's own root, wherever a proxy has put that.
  page.searchParams.set('next', `/${here.href.slice(root.href.length)}`);
  if (wasIn) page.searchParams.set('ended', '');
  location.replace(page);
}
