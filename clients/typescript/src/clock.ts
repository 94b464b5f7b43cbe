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
  let slept = 0; // by how much the wall has gone ahead
  let ahead = Infinity;
  return {
    now() {
      const steady = performance.now();
      const next = Date.now() - steady;
      slept += Math.max(next - ahead, 0);
      ahead = next;
      return steady + slept;
    },
    after(ms, call) {
      const timer = setTimeout(call, Math.min(ms, 2 ** 31 - 1));
      return () => clearTimeout(timer);
    },
    random: Math.random,
  };
}
