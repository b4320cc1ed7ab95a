// A foreign client as a process of its own, and what it says.

import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { Child } from '../../browser/lib/child.mjs';

const HERE = resolve(import.meta.dirname, '..');
const VENV = resolve(HERE, '../../target/interop/venv');

/** Debian's interpreter: GStreamer's bindings are there. */
export const DEBIAN_PYTHON = '/usr/bin/python3';
/** With aiortc; `scripts/test` makes it. */
export const VENV_PYTHON = resolve(VENV, 'bin/python');

/** Runs `clients/{script}` with `args` until it says `done`; gives what it has said. */
export async function play(world, command, script, ...args) {
  // Python would leave a folder of compiled files among the sources.
  const env = { PYTHONDONTWRITEBYTECODE: '1' };
  const child = world.adopt(new Child(script, command, [resolve(HERE, 'clients', script), ...args.map(String)], { cwd: HERE, env }));
  const said = (line) => {
    try {
      return JSON.parse(line);
    } catch {
      // Libraries print too.
      return {};
    }
  };
  await child.line('it says that it is done', (line) => said(line).event === 'done', 60_000);
  const facts = child.lines.map(said);
  const find = (event, kind) => facts.find((fact) => fact.event === event && (!kind || fact.kind === kind));
  assert.equal(find('deleted').status, 200);
  return find;
}
