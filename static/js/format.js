// Numbers and times as people read them, in the viewer's own zone and the page's language.

import { text } from './text.js';

const LANGUAGE = document.documentElement.lang || 'en';
const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayAndClock = new Intl.DateTimeFormat(LANGUAGE, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const whole = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: 'full', timeStyle: 'long' });
const relative = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: 'always', style: 'long' });
const numbers = new Intl.NumberFormat(LANGUAGE);

export const number = (value) => numbers.format(value);

/** The time of day of today's moments, with the day for others. */
export function timeOf(iso) {
  const date = new Date(iso);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : dayAndClock.format(date);
}

export const exactTime = (iso) => whole.format(new Date(iso));

/** “3 minutes ago”. */
export function ago(iso, now = Date.now()) {
  const seconds = Math.round((new Date(iso).getTime() - now) / 1000);
  const size = Math.abs(seconds);
  if (size < 10) return text.justNow;
  if (size < 60) return relative.format(seconds, 'second');
  if (size < 3_600) return relative.format(Math.trunc(seconds / 60), 'minute');
  if (size < 86_400) return relative.format(Math.trunc(seconds / 3_600), 'hour');
  return relative.format(Math.trunc(seconds / 86_400), 'day');
}

export function duration(seconds) {
  const all = Math.max(0, Math.floor(seconds ?? 0));
  const [days, hours, minutes, rest] = [Math.floor(all / 86_400), Math.floor(all / 3_600) % 24, Math.floor(all / 60) % 60, all % 60];
  if (days > 0) return text.units.days(days, hours);
  if (hours > 0) return text.units.hours(hours, minutes);
  return minutes > 0 ? text.units.minutes(minutes, rest) : text.units.seconds(rest);
}

export function bitrate(bitsPerSecond) {
  if (bitsPerSecond === null || bitsPerSecond === undefined) return '–';
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(bitsPerSecond >= 1e7 ? 1 : 2)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1000)} kbit/s`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  if (value === 0) return '< 1 ms';
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function percent(fraction) {
  const value = fraction * 100;
  return `${value === 0 || value >= 10 ? Math.round(value) : value.toFixed(value < 1 ? 2 : 1)} %`;
}

/** The server's texts begin small; a sentence begins large and ends with one full stop. */
export function sentence(words) {
  const trimmed = (words ?? '').trim();
  if (!trimmed) return '';
  const large = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(large) ? large : `${large}.`;
}
