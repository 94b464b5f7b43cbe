import { BrowserSeat } from "../src/browser.js";
import type { OwnSeat } from "../src/seat.js";
import { FakeServer } from "./fake.js";

interface Request {
  name: string;
  call: () => unknown;
  resolve: () => void;
}

/** Web Locks, as one browser has them. `refuses`: as in a sandboxed frame; `holds`: none is granted for now. */
class Locks {
  refuses = false;
  holds = false;
  private readonly queue: Request[] = [];
  private readonly held = new Map<string, Request>();

  request(name: string, { signal }: { signal: AbortSignal }, call: () => unknown): Promise<void> {
    if (this.refuses) return Promise.reject(new DOMException("The document is sandboxed.", "SecurityError"));
    return new Promise((resolve, reject) => {
      const request = { name, call, resolve };
      this.queue.push(request);
      signal.addEventListener("abort", () => {
        const at = this.queue.indexOf(request);
        if (at >= 0) this.queue.splice(at, 1);
        reject(signal.reason);
      });
      queueMicrotask(() => this.grant());
    });
  }

  grant(): void {
    if (this.holds) return;
    for (const request of [...this.queue]) {
      if (this.held.has(request.name)) continue;
      this.queue.splice(this.queue.indexOf(request), 1);
      this.held.set(request.name, request);
      void Promise.resolve(request.call()).then(() => this.drop(request.name, request));
    }
  }

  /** Releases a lock, as when its page is gone. */
  drop(name: string, request = this.held.get(name)): void {
    if (!request || this.held.get(name) !== request) return;
    this.held.delete(name);
    request.resolve();
    this.grant();
  }

  names(): string[] {
    return [...this.held.keys()];
  }
}

class Channel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  dead = false;

  constructor(readonly browser: Browser) {
    browser.channels.push(this);
  }

  postMessage(data: unknown): void {
    if (this.dead) return;
    const copy = structuredClone(data);
    this.browser.said.push(copy as { t: string });
    for (const other of this.browser.channels)
      if (other !== this) queueMicrotask(() => !other.dead && other.onmessage?.({ data: copy }));
  }

  close(): void {
    this.dead = true;
  }
}

export class Tab {
  own?: OwnSeat;
  readonly page = new EventTarget();
  readonly seat: BrowserSeat;
  private readonly before: Set<string>;

  constructor(private readonly browser: Browser) {
    this.before = new Set(browser.locks.names());
    this.seat = browser.as(this, () => new BrowserSeat("a seat", () => (this.own = browser.server.seat())));
  }


  hide(): void {
    this.page.dispatchEvent(new Event("pagehide"));
  }

  show(): void {
    this.page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  }

  /** Lets its process die: nothing is said, and its locks are free. */
  crash(channel: number): void {
    this.browser.channels[channel]!.dead = true;
    this.own?.leave();
    const [mine] = this.browser.locks.names().filter((name) => name !== "a seat" && !this.before.has(name));
    this.browser.locks.drop(mine!);
    if (this.own) this.browser.locks.drop("a seat");
  }
}

/** A browser in which tabs of one application are open, and the server of their seat. */
export class Browser {
  readonly server = new FakeServer();
  readonly locks = new Locks();
  readonly channels: Channel[] = [];
  readonly said: { t: string }[] = [];

  constructor() {
    const browser = this;
    const Bound = function () {
      return new Channel(browser);
    };
    Object.defineProperty(globalThis, "navigator", { value: { locks: this.locks }, configurable: true });
    Object.defineProperty(globalThis, "BroadcastChannel", { value: Bound, configurable: true, writable: true });
  }

  /** Runs what looks for a page, in this tab's. */
  as<T>(tab: { page: EventTarget }, call: () => T): T {
    Object.defineProperty(globalThis, "document", { value: { defaultView: tab.page }, configurable: true });
    try {
      return call();
    } finally {
      Reflect.deleteProperty(globalThis, "document");
    }
  }

  async tab(): Promise<Tab> {
    const tab = new Tab(this);
    await this.settle();
    return tab;
  }

  settle(): Promise<void> {
    return this.server.clock.advance(0);
  }
}
