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
      assert.match(attributes, /\ssrc="\/?static\//, name);
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
    const absolute = [...text.matchAll(/["'(]\/static\/([^"')?]+)/g)].map((match) => match[1]);
    const relative = [...text.matchAll(/from '\.\/([^']+)'/g)].map((match) => `js/${match[1]}`);
    for (const target of [...absolute, ...relative]) {
      seen += 1;
      assert.ok(existsSync(join(STATIC, target)), `${name} names ${target}`);
    }
  }
  assert.ok(seen > 10, 'the patterns still find the links');
});

test('every control has a name and every field a label', () => {
  for (const name of files.filter((file) => file.endsWith('.html'))) {
    const text = read(name);
    for (const [, id] of text.matchAll(/<input id="([^"]+)"/g)) assert.match(text, new RegExp(`<label for="${id}"`), `${name}: ${id}`);
    for (const [button, label] of text.matchAll(/<button[^>]*>([^<]*)<\/button>/g)) assert.notEqual(label.trim(), '', `${name}: ${button}`);
    assert.match(text, /<html lang="en">/);
  }
});
