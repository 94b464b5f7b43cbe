import type { Clock } from "./clock.js";

/** A clock that stands still until `advance` is called. */
export class ManualClock implements Clock {
  luck = 0.5;
  private time = 1_000_000;
  private waiting: { at: number; call: () => void }[] = [];

  now(): number {
    return this.time;
  }

  random(): number {
    return this.luck;
  }

  after(ms: number, call: () => void): () => void {
    const entry = { at: this.time + ms, call };
    this.waiting.push(entry);
    return () => {
      this.waiting = this.waiting.filter((each) => each !== entry);
    };
  }

  /** Lets time pass: what is due is done in its order, and what that begins is waited for. */
  async advance(ms: number): Promise<void> {
    const until = this.time + ms;
    await settle();
    for (;;) {
      const next = this.waiting.filter((each) => each.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.waiting = this.waiting.filter((each) => each !== next);
      this.time = Math.max(this.time, next.at);
      next.call();
      await settle();
    }
    this.time = until;
  }

  /** Lets time pass as sleep does: nothing is done before it is over. */
  async sleep(ms: number): Promise<void> {
    this.time += ms;
    await this.advance(0);
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}
