// The REST calls that the pages make.

// The server answers every call within 10 s.
const TIMEOUT_MS = 12_000;

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
  #headers;

  /** `token` is that of the page's address, if it has one; else the cookie of the login goes along. */
  constructor(base, token = '') {
    this.#base = base;
    this.#headers = token ? { authorization: `Bearer ${token}` } : {};
  }

  health(signal) {
    return this.#call('GET', '/health', signal);
  }

  /** The list of streams. */
  async streams(signal) {
    return (await this.#call('GET', '/streams', signal)).streams ?? [];
  }

  /** What is known of one camera's stream, or `null` if there is none. */
  async stream(camera, signal) {
    try {
      const body = await this.#call('GET', `/streams/${encodeURIComponent(camera)}`, signal);
      return { ...body.stream, media: body.media ?? body.stream?.media };
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /** Starts a stream and gives its id. One that runs already is as good. */
  async start(camera, signal) {
    try {
      return (await this.#call('POST', `/streams/${encodeURIComponent(camera)}/start`, signal)).stream_id;
    } catch (error) {
      if (error.status !== 409) throw error;
      return (await this.stream(camera, signal))?.stream_id ?? error.body.stream_id;
    }
  }

  stop(camera, signal) {
    return this.#call('POST', `/streams/${encodeURIComponent(camera)}/stop`, signal);
  }

  async #call(method, path, signal) {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const both = signal && AbortSignal.any ? AbortSignal.any([signal, timeout]) : (signal ?? timeout);
    let response;
    try {
      response = await fetch(this.#base + path, {
        method, signal: both, cache: 'no-store', credentials: 'include', headers: this.#headers,
      });
    } catch (error) {
      signal?.throwIfAborted();
      const late = error.name === 'TimeoutError';
      throw new ApiError(late ? 'The server did not answer in time' : 'The server cannot be reached');
    }
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new ApiError(body.error ?? `HTTP ${response.status}`, response.status, body);
    return body;
  }
}
