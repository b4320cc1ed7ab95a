// No page may call a picture live that stands still: every test watches over that, frame by frame, from outside the pages'
// own code.

/**
 * Runs in a page before its scripts. A picture that is called live, or is shown at full brightness, although no frame has
 * come for longer than the pages promise (3 s, and half a second until they look) becomes an error of the page.
 */
export function watchOver() {
  const [LONGEST_MS, EVERY_MS] = [4_500, 100];
  const last = new WeakMap();
  const told = new WeakSet();
  const follow = (video) => {
    const note = () => {
      last.set(video, performance.now());
      video.requestVideoFrameCallback(note);
    };
    note();
  };
  const look = (video) => {
    if (!last.has(video)) follow(video);
    const age = performance.now() - last.get(video);
    if (age < LONGEST_MS || told.has(video)) return;
    const holder = video.closest('.pane, .tile');
    const live = holder?.matches('.pane[data-state="live"], .tile[data-picture="live"]') || holder?.querySelector('.badge')?.textContent === 'Live';
    const bright = video.checkVisibility({ opacityProperty: true }) && getComputedStyle(video).filter === 'none';
    if (!live && !(bright && video.srcObject)) return;
    told.add(video);
    reportError(new Error(`a picture without a new frame for ${Math.round(age)} ms is ${live ? 'called live' : 'not dimmed'}`));
  };
  let before = performance.now();
  setInterval(() => {
    const now = performance.now();
    // A page that had no turn had no frames either, and could not say so.
    const hadTurns = now - before < 10 * EVERY_MS;
    before = now;
    for (const video of document.querySelectorAll('video.live')) {
      if (!hadTurns || document.hidden) last.set(video, now);
      else look(video);
    }
  }, EVERY_MS);
}
