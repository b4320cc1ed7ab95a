// The last keyframe as a still: a film of one picture, which the browser shows without playing it.

// Known after the first answer that says so: asking again for each camera would only fill the console.
let offered = true;

/**
 * Shows the still of `url` in `video`; resolves with whether there is one. `certain`: the camera has sent a keyframe, so
 * that nothing there means that the server offers no stills.
 */
export function showStill(video, url, certain) {
  if (!offered) return Promise.resolve(false);
  return new Promise((resolve) => {
    const end = (found) => {
      video.onloadeddata = video.onerror = null;
      if (!found) video.removeAttribute('src');
      video.hidden = !found;
      resolve(found);
    };
    video.muted = true;
    video.onloadeddata = () => end(true);
    video.onerror = () => {
      // 4 is "nothing to play here": missing, and not merely broken on the way.
      if (certain && video.error?.code === 4) offered = false;
      end(false);
    };
    video.preload = 'auto';
    video.src = url;
  });
}

export function hideStill(video) {
  video.onloadeddata = video.onerror = null;
  video.removeAttribute('src');
  video.hidden = true;
}
