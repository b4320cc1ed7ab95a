// The pages as files: what their Content-Security-Policy forbids, and links that lead nowhere.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test from 'node:test';

const STATIC = resolve(import.meta.dirname, '../../static');
const files = readdirSync(STATIC, { recursive: true }).filter((name) => /\.(html|js|css|svg)$/.test(name));
const read = (name) => readFileSync(join(STATIC, name), 'utf8');

test('no page has inline scripts, styles or handlers', () => {
  const pages = files.filter((name) => name.endsWith('.html'));
  assert.ok(pages.includes('viewer.html') && pages.includes('index.html'));
  for (const name of pages) {
    const text = read(name);
    assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=|javascript:/i, name);
    for (const [, attributes, body] of text.matchAll(/<script([^>]*)>([^]*?)<\/script>/g)) {
      assert.match(attributes, /\ssrc="static\//, name);
      assert.equal(body, '', name);
    }
  }
});

test('nothing is loaded from elsewhere', () => {
  for (const name of files) {
    const foreign = read(name).replaceAll('http://www.w3.org/2000/svg', '').match(/(https?:)?\/\/[a-z0-9-]+\.[a-z]+/i);
    assert.equal(foreign, null, `${name}: ${foreign?.[0]}`);
  }
});

test('every file that a page or module names exists', () => {
  let seen = 0;
  for (const name of files) {
    const text = read(name);
    const absolute = [...text.matchAll(/["'(](?:\.\/)?static\/([^"')?]+\.[a-z]+)["')]/g)].map((match) => match[1]);
    const relative = [...text.matchAll(/from '\.\/([^']+)'/g)].map((match) => `js/${match[1]}`);
    assert.doesNotMatch(text, /["'(]\/(static|viewer|streams|cameras|health)/, `${name}: addresses hold behind any path prefix`);
    for (const target of [...absolute, ...relative]) {
      seen += 1;
      assert.ok(existsSync(join(STATIC, target)), `${name} names ${target}`);
    }
  }
  assert.ok(seen > 10, 'the patterns still find the links');
});

test('no page weighs more than 150 KB before media', () => {
  const weight = (name) => readFileSync(join(STATIC, name)).length;
  const modules = (name, seen = new Set()) => {
    if (seen.has(name)) return seen;
    seen.add(name);
    for (const [, next] of read(name).matchAll(/from '\.\/([^']+)'/g)) modules(`js/${next}`, seen);
    return seen;
  };
  for (const name of ['index.html', 'viewer.html', 'login.html', 'offline.html']) {
    const parts = [...read(name).matchAll(/="static\/([^"]+)"/g)].map((match) => match[1]);
    const all = new Set([name, ...parts, ...parts.filter((part) => part.endsWith('.js')).flatMap((part) => [...modules(part)])]);
    // Without this, each level of imports costs a round trip.
    const entry = /type="module" src="static\/([^"]+)"/.exec(read(name))[1];
    const named = [...read(name).matchAll(/<script[^>]* src="static\/([^"]+)"/g)].map((match) => match[1]);
    const loaded = [...modules(entry)].filter((part) => !named.includes(part)).sort();
    if (name !== 'offline.html') assert.deepEqual([...read(name).matchAll(/modulepreload" href="static\/([^"]+)"/g)].map((match) => match[1]).sort(), loaded, name);
    const total = [...all].reduce((sum, part) => sum + weight(part), 0);
    assert.ok(total > 1_000 && total <= 150_000, `${name}: ${total} bytes`);
  }
});

test('the words of the pages are in one file', () => {
  // What begins with a capital, and is no name of a program, of a key or a header; and whole phrases.
  const words = /(['`])([A-Z][a-z]+(?:[ :,][^'`]*)?|[a-z]+(?: [a-z]+){3,}[^'`]*)\1/g;
  const names = /^(ApiError|AbortError|TimeoutError|NotAllowedError|MediaSource|Escape|Enter|Arrow\w+|Bearer |Constrained |Baseline|Main|High)/;
  const found = files.filter((name) => /^js\/(?!text|docs)/.test(name)).flatMap((name) => read(name).split('\n')
    .filter((line) => !/^ *(\/\/|\*|\/\*\*|import )/.test(line))
    .flatMap((line) => [...line.matchAll(words)].map(([, , text]) => text).filter((text) => !names.test(text)).map((text) => `${name}: ${text}`)));
  assert.deepEqual(found, []);
  assert.ok([...read('js/text.js').matchAll(words)].length > 100, 'the pattern still finds words');
});

test('every field of a page has a label, and its language is said', () => {
  for (const name of files.filter((file) => file.endsWith('.html'))) {
    const text = read(name);
    for (const [, id] of text.matchAll(/<input id="([^"]+)"/g)) assert.match(text, new RegExp(`<label for="${id}"`), `${name}: ${id}`);
    assert.match(text, /<html lang="en">/);
  }
});

test('every page has a title, a description, a size for phones and its colours', () => {
  for (const name of files.filter((file) => file.endsWith('.html'))) {
    const text = read(name);
    for (const pattern of [/<!doctype html>/, /<meta charset="utf-8">/, /<title>[^<]+<\/title>/, /<meta name="description" content="[^"]{20,160}">/, /<meta name="viewport" content="width=device-width, initial-scale=1[^"]*">/, /<meta name="color-scheme" content="light dark">/]) assert.match(text, pattern, name);
    assert.doesNotMatch(text, /user-scalable=no|maximum-scale/, `${name} may be enlarged`);
    for (const [image] of text.matchAll(/<img[^>]*>/g)) assert.match(image, / alt="[^"]*".* width="\d+" height="\d+"/, `${name}: ${image}`);
  }
});
