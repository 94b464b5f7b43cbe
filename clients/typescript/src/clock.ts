/** What tells the time and waits: the machine's, or a test's (`@sojourn/client/testing`). */
export interface Clock {
  /** Milliseconds since any moment: sleep included, and never back. */
  now(): number;
  /** Calls back once, after so many milliseconds; returns what calls it off. */
  after(ms: number, call: () => void): () => void;
  /** At least 0, less than 1: spreads clients out. */
  random(): number;
}

/**
 * Engines count on in `performance.now()` or not while a machine sleeps; `Date.now()` does, but can be set. Time
 * goes on here by whichever of the two went on more: a lease is rather doubted than trusted for too long.
 */
export function systemClock(): Clock {
  let steady = performance.now();
  let wall = Date.now();
  let now = 0;
  return {
    now() {
      const [nextSteady, nextWall] = [performance.now(), Date.now()];
      now += Math.max(nextSteady - steady, nextWall - wall, 0);
      [steady, wall] = [nextSteady, nextWall];
      return now;
    },
    after(ms, call) {
      const timer = setTimeout(call, Math.min(ms, 2 ** 31 - 1));
      return () => clearTimeout(timer);
    },
    random: Math.random,
  };
}
