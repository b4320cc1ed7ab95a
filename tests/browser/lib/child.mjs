// Child processes: their lines, their end, and that none outlives the tests.

import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { createInterface } from 'node:readline';

const KEPT_LINES = 4_000;
const alive = new Set();
process.on('exit', () => alive.forEach((child) => child.kill('SIGKILL')));

export class Child extends EventEmitter {
  /** Standard output, line by line. */
  lines = [];
  /** The end of standard error. */
  errors = [];
  ended = null;
  #process;

  /** `env` is the whole environment: nothing is inherited but what is needed to run at all. */
  constructor(name, command, args, { env = {}, cwd } = {}) {
    super();
    this.setMaxListeners(0);
    this.name = name;
    const { PATH, HOME, TMPDIR, LLVM_PROFILE_FILE } = process.env;
    const base = Object.fromEntries(Object.entries({ PATH, HOME, TMPDIR, LLVM_PROFILE_FILE }).filter(([, value]) => value));
    this.#process = spawn(command, args, { env: { ...base, ...env }, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    alive.add(this.#process);
    this.#keep(this.#process.stdout, this.lines, 'line');
    this.#keep(this.#process.stderr, this.errors, 'error-line');
    this.#process.on('error', (error) => this.#end(`could not be started: ${error.message}`));
    this.#process.on('close', (code, signal) => this.#end(signal ? `was ended by ${signal}` : `exited with ${code}`));
  }

  get pid() {
    return this.#process.pid;
  }

  /** Gives the first value that `pick(line)` makes of a line of output, past or to come. */
  line(what, pick, within = 20_000) {
    return this.#find(what, pick, within, this.lines, 'line');
  }

  errorLine(what, pick, within = 20_000) {
    return this.#find(what, pick, within, this.errors, 'error-line');
  }

  kill(signal = 'SIGKILL') {
    this.#process.kill(signal);
  }

  /** Ends the process and waits until it is gone. */
  async stop(signal = 'SIGTERM', patience = 5_000) {
    if (this.ended) return;
    const gone = new Promise((resolve) => this.once('end', resolve));
    this.kill(signal);
    const timer = setTimeout(() => this.kill('SIGKILL'), patience);
    await gone;
    clearTimeout(timer);
  }

  describe() {
    return `--- ${this.name} (${this.ended ?? 'running'})\n${[...this.lines.slice(-15), ...this.errors.slice(-40)].join('\n')}`;
  }

  #find(what, pick, within, kept, event) {
    return new Promise((resolve, reject) => {
      const settle = (how) => (value) => {
        clearTimeout(timer);
        this.off(event, look);
        this.off('end', onEnd);
        how(value);
      };
      const look = (line) => {
        const found = pick(line);
        if (found) settle(resolve)(found);
      };
      const fail = (why) => settle(reject)(new Error(`${this.name}: ${what}: ${why}\n${this.describe()}`));
      const onEnd = (how) => fail(how);
      const timer = setTimeout(() => fail(`not within ${within / 1000} s`), within);
      this.on(event, look);
      this.on('end', onEnd);
      for (const line of kept) {
        const found = pick(line);
        if (found) return settle(resolve)(found);
      }
      if (this.ended) onEnd(this.ended);
    });
  }

  #keep(stream, kept, event) {
    createInterface({ input: stream }).on('line', (line) => {
      kept.push(line);
      if (kept.length > KEPT_LINES) kept.shift();
      this.emit(event, line);
    });
  }

  #end(how) {
    if (this.ended) return;
    this.ended = how;
    alive.delete(this.#process);
    this.emit('end', how);
  }
}
