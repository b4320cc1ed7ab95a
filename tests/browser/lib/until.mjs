// Waiting for conditions, never for time.

/**
 * Calls `check` until it gives something truthy, and gives that. Fails after `within` ms, naming
 * `what` and the last thing that `check` gave or threw.
 */
export async function until(what, check, within = 20_000) {
  const deadline = performance.now() + within;
  let last;
  for (;;) {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(`not within ${within / 1000} s: ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
