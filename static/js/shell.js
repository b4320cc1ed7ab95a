// What every page has: the theme button, and the service worker that makes it installable.

import { root } from './config.js';
import { iconButton, relabel } from './dom.js';
import { recall, remember } from './prefs.js';
import { text } from './text.js';

const THEMES = ['auto', 'light', 'dark'];

export function themeButton() {
  let theme = recall('theme', 'auto', (value) => THEMES.includes(value));
  const button = iconButton('theme', text.theme.label(text.theme[theme]), () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remember('theme', theme);
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    relabel(button, text.theme.label(text.theme[theme]));
  }, { class: 'icon-button bare' });
  return button;
}

/** Only the dashboard's port has one; elsewhere nothing is missing. */
export function registerWorker() {
  if (!('serviceWorker' in navigator) || !isSecureContext) return;
  navigator.serviceWorker.register(new URL('sw.js', root)).catch(() => {});
}
