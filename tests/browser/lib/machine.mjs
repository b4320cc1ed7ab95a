// Whether the machine had the time for what it was asked to do: a figure that was taken while it had not says nothing.

import { readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';

/** Less than this share of the processors' time was left over: programs wait for each other. */
const LEAST_IDLE = 0.1;
/** More than this share went to other machines on the same host. */
const MOST_STOLEN = 0.1;

/** Looks from now on until the function that it returns is called, which gives the shares and what they mean. */
export function watchMachine() {
  const from = processorTime();
  return () => {
    const to = processorTime();
    const total = to.total - from.total || 1;
    const [idle, stolen] = [(to.idle - from.idle) / total, (to.stolen - from.stolen) / total];
    return { idle, stolen, overloaded: idle < LEAST_IDLE || stolen > MOST_STOLEN };
  };
}

/**
 * The priority of this process and of what it starts from now on, by its name in `os.constants.priority`. Where it may not
 * be raised, it is as it is.
 */
export function rank(name) {
  try {
    setPriority(constants.priority[name]);
  } catch {}
}

// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
function processorTime() {
  const ticks = readFileSync('/proc/stat', 'utf8').split('\n')[0].split(/\s+/).slice(1, 9).map(Number);
  return { total: ticks.reduce((sum, one) => sum + one, 0), idle: ticks[3] + ticks[4], stolen: ticks[7] };
}
