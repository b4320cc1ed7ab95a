// Small helpers around the document. Text is never parsed as HTML.

export const byId = (id) => document.getElementById(id);

/** An element: `on…` are listeners, booleans are attributes that are there or not, the rest are attributes. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value') node.value = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const ICONS = {
  sound: 'M4 9v6h4l5 4V5L8 9zM16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12',
  muted: 'M4 9v6h4l5 4V5L8 9zM16.5 9.5l5 5M21.5 9.5l-5 5',
  full: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
  pip: 'M3 5h18v14H3zM12 12h7v5h-7z',
  snapshot: 'M3 8h4l2-3h6l2 3h4v11H3zM12 10.2a3.3 3.3 0 1 0 0 6.6 3.3 3.3 0 0 0 0-6.6',
  link: 'M9.5 14.5l5-5M8 11l-2.5 2.5a3.5 3.5 0 0 0 5 5L13 16M11 8l2.5-2.5a3.5 3.5 0 0 1 5 5L16 13',
  plus: 'M12 5v14M5 12h14',
  minus: 'M5 12h14',
  reset: 'M5 5h6M5 5v6M19 19h-6M19 19v-6',
  stats: 'M4 20V10M10 20V4M16 20v-7M21 20H3',
  stop: 'M6 6h12v12H6z',
  play: 'M7 4.5v15l12-7.5z',
  move: 'M12 3v18M3 12h18M12 3L9.5 5.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5',
  theme: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  info: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 11v6M12 7.2v.3',
  group: 'M4 6h7v5H4zM13 6h7v5h-7zM4 13h7v5H4zM13 13h7v5h-7z',
};

/** Decoration: the words beside it, or the button's label, say what it means. */
export function icon(name) {
  return svg('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' }, svg('path', { d: ICONS[name] }));
}

/** A button with an icon; the label is its name and tooltip, and is shown where there is room. */
export function iconButton(name, label, onclick, attributes = {}) {
  const button = h('button', { type: 'button', class: 'icon-button', ...attributes, onclick }, icon(name), h('span', { class: 'label' }));
  relabel(button, label);
  return button;
}

export function relabel(button, label, name = null) {
  if (name && button.dataset.icon !== name) {
    button.dataset.icon = name;
    button.querySelector('svg').replaceWith(icon(name));
  }
  if (button.getAttribute('aria-label') === label) return;
  button.setAttribute('aria-label', label);
  button.title = label;
  button.querySelector('.label').textContent = label;
}

/** Writes only what is new: screen readers and the selection are left alone. */
export function setText(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** A dot and words: the words carry the meaning, the colour only helps. */
export function stateLine(state, words) {
  return h('p', { class: 'state-line', 'data-state': state }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', {}, words));
}

export const isCameraId = (text) => /^[0-9A-F]{32}$/.test(text);

/** Says it to a screen reader, once. */
export function announce(words) {
  let region = byId('announce');
  if (!region) {
    region = h('p', { id: 'announce', class: 'visually-hidden', role: 'status', 'aria-live': 'polite' });
    document.body.append(region);
  }
  setText(region, words);
}
