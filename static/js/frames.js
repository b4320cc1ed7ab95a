// When did the picture last change? That, not the state of a connection, decides what is "live".

/** Longer than this without a new frame, and the picture is called frozen. */
export const FROZEN_AFTER_MS = 3_000;

export class FrameWatch {
  #video;
  #lastAt = null;
  #decoded = 0;
  #onReturn;
  #swapped = false;

  /** `onReturn` is called when a frame comes that ends a wait, or is the first of another stream. */
  constructor(video, onReturn) {
    this.#video = video;
    this.#onReturn = onReturn;
    const onFrame = () => {
      this.note();
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback?.(onFrame);
  }

  /** Until `signal` aborts. Frames are not presented to a hidden page; the first one after it is shown again gets some time. */
  attend(signal) {
    document.addEventListener('visibilitychange', () => {
      if (this.#lastAt !== null && !document.hidden && this.age() < FROZEN_AFTER_MS * 2) this.#lastAt = performance.now();
    }, { signal });
  }

  /** A new frame was seen. */
  note() {
    const waited = this.#swapped || this.#lastAt === null || this.age() > FROZEN_AFTER_MS;
    this.#swapped = false;
    this.#lastAt = performance.now();
    if (waited) this.#onReturn();
  }

  /** Another stream takes the place of the one that is shown, without a pause. */
  swap() {
    this.#swapped = true;
  }

  /** Forget the past: a new connection starts. */
  reset() {
    this.#lastAt = null;
    this.#decoded = 0;
  }

  /** What was shown last is old, whatever this clock says: the device was asleep. */
  doubt() {
    if (this.#lastAt !== null) this.#lastAt = performance.now() - FROZEN_AFTER_MS - 1;
  }

  /**
   * The decoder's own count, once a second. It stands in where no frames are presented (hidden page)
   * or where the browser cannot say when they are; never for a paused picture, which is stale.
   */
  onDecoded(count) {
    const grew = count > this.#decoded;
    this.#decoded = count;
    const blind = document.hidden || !this.#video.requestVideoFrameCallback;
    if (grew && blind && !this.#video.paused) this.note();
  }

  /** Milliseconds since the last new frame; `null` before the first one. */
  age() {
    return this.#lastAt === null ? null : performance.now() - this.#lastAt;
  }
}
