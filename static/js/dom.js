// Small helpers around the document, and words that several pages use.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; text is never parsed as HTML. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** A dot and words: the words carry the meaning, the colour only helps. */
export function stateLine(state, words) {
  const line = element('p', { className: 'state-line' }, element('span', { className: 'dot', ariaHidden: 'true' }), words);
  line.dataset.state = state;
  return line;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds ?? 0));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s} s` : `${s} s`;
}

export const plural = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;

/** What a stream does, in words. */
export function streamWords(stream) {
  const parts = [stream.state];
  if (stream.duration_seconds !== undefined) parts.push(`for ${duration(stream.duration_seconds)}`);
  if (stream.viewer_count !== undefined) parts.push(`· ${plural(stream.viewer_count, 'viewer')}`);
  return parts.join(' ');
}

export const isCameraId = (text) => /^[0-9A-F]{32}$/.test(text);
