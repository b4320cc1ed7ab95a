// When did the picture last change? That, not the state of a connection, decides what is "live".

/** Longer than this without a new frame, and the picture is called frozen. */
export const FROZEN_AFTER_MS = 3_000;

export class FrameWatch {
  #video;
  #lastAt = null;
  #decoded = 0;

  /** `onReturn` is called when a frame comes that ends a wait. */
  constructor(video, onReturn) {
    this.#video = video;
    const onFrame = () => {
      const waited = this.#lastAt === null || this.age() > FROZEN_AFTER_MS;
      this.#lastAt = performance.now();
      if (waited) onReturn();
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback?.(onFrame);
    // Frames are not presented to a hidden page; give the first one after it is shown again some time.
    document.addEventListener('visibilitychange', () => {
      if (this.#lastAt !== null && !document.hidden && this.age() < FROZEN_AFTER_MS * 2) this.#lastAt = performance.now();
    });
  }

  /** Forget the past: a new connection starts. */
  reset() {
    this.#lastAt = null;
    this.#decoded = 0;
  }

  /**
   * The decoder's own count, once a second. It stands in where no frames are presented (hidden page)
   * or where the browser cannot say when they are; never for a paused picture, which is stale.
   */
  onDecoded(count) {
    const grew = count > this.#decoded;
    this.#decoded = count;
    const blind = document.hidden || !this.#video.requestVideoFrameCallback;
    if (grew && blind && !this.#video.paused) this.#lastAt = performance.now();
  }

  /** Milliseconds since the last new frame; `null` before the first one. */
  age() {
    return this.#lastAt === null ? null : performance.now() - this.#lastAt;
  }
}
