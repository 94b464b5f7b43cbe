import assert from "node:assert/strict";
import test from "node:test";
import { MountedSeat, type SeatNow } from "../src/mounted.js";
import { Browser, type Tab } from "./tabs.js";
import { FakeServer, problem } from "./fake.js";

const full = () => problem(409, "seat_limit", { position: 2, retryAfter: 5 });

/** A page with components: what watches, what wants. */
class Page {
  readonly server = new FakeServer();
  readonly told: SeatNow[] = [];
  ended = 0;
  readonly seat = new MountedSeat(this.server.seat(), () => this.ended++);

  component({ wants = true } = {}): () => void {
    const offs = [this.seat.watch(() => this.told.push(this.seat.now)), ...(wants ? [this.seat.want({})] : [])];
    return () => offs.forEach((off) => off());
  }

  settle(): Promise<void> {
    return this.server.clock.advance(0);
  }

  get acquires(): number {
    return this.server.calls(/sessions$/).length;
  }

  get releases(): number {
    return this.server.calls(/current/, "DELETE").length;
  }
}

test("a component has a seat for as long as it is mounted", async () => {
  const page = new Page();
  assert.deepEqual(page.seat.now, { state: "new", reason: "new", held: false, pending: false });
  const unmount = page.component();
  assert.equal(page.seat.now.pending, true);
  await page.settle();
  const { state, held, pending, reason } = page.seat.now;
  assert.deepEqual([state, held, pending, reason], ["safe", true, false, "granted"]);
  assert.equal(page.seat.now, page.seat.now);
  unmount();
  await page.settle();
  assert.deepEqual([page.acquires, page.releases, page.ended, page.seat.now.state], [1, 1, 1, "released"]);
});

test("mounted twice in one go, as strict mode does, it asks once and gives nothing back", async () => {
  const page = new Page();
  page.component()();
  const unmount = page.component();
  await page.settle();
  assert.deepEqual([page.acquires, page.releases, page.ended, page.seat.now.held], [1, 0, 0, true]);
  unmount();
  await page.settle();
  assert.deepEqual([page.acquires, page.releases, page.ended], [1, 1, 1]);
});

test("unmounted while it is being asked for, what is granted after all is given back", async () => {
  const page = new Page();
  let grant = (_: Response) => {};
  page.server.fault = ({ method }) => (method === "POST" ? new Promise((resolve) => (grant = resolve)) : undefined);
  const unmount = page.component();
  await page.settle();
  unmount();
  await page.settle();
  grant(page.server.grant());
  await page.settle();
  assert.deepEqual([page.acquires, page.releases, page.seat.now.held, page.ended], [1, 1, false, 1]);
});

test("components share it, and the last one gives it back", async () => {
  const page = new Page();
  const [first, second, watching] = [page.component(), page.component(), page.component({ wants: false })];
  await page.settle();
  first();
  await page.settle();
  assert.deepEqual([page.acquires, page.releases, page.seat.now.held], [1, 0, true]);
  second();
  await page.settle();
  assert.deepEqual([page.releases, page.seat.now.held, page.ended], [1, false, 0]);
  const third = page.component();
  await page.settle();
  assert.deepEqual([page.acquires, page.seat.now.held], [2, true]);
  third();
  watching();
  await page.settle();
  assert.deepEqual([page.releases, page.ended], [2, 1]);
});

test("mounted again while it is given back, it stays", async () => {
  const page = new Page();
  const unmount = page.component();
  await page.settle();
  let given = (_: Response) => {};
  page.server.fault = ({ method }) => (method === "DELETE" ? new Promise((resolve) => (given = resolve)) : undefined);
  unmount();
  await page.settle();
  assert.equal(page.releases, 1);
  page.component();
  given(new Response(JSON.stringify({ success: true, data: { released: true } })));
  await page.settle();
  assert.deepEqual([page.acquires, page.seat.now.held, page.ended, page.server.fence], [2, true, 0, 2]);
});

test("a refusal is shown, and so is the place in the line", async () => {
  const page = new Page();
  page.server.fault = ({ method }) => (method === "POST" ? full() : undefined);
  page.component();
  await page.settle();
  assert.deepEqual([page.seat.now.error?.code, page.seat.now.pending, page.seat.now.held], ["seat_limit", false, false]);
  const waits = page.seat.acquire({ wait: 60 });
  await page.settle();
  assert.deepEqual([page.seat.now.error, page.seat.now.pending, page.seat.now.position], [undefined, true, 2]);
  page.server.fault = () => undefined;
  await page.server.clock.advance(6_000);
  assert.deepEqual([await waits, page.seat.now.position, page.seat.now.held], [true, undefined, true]);
});

test("asked for anew by hand, in place of waiting", async () => {
  const page = new Page();
  page.server.fault = ({ method, body }) => (method === "POST" && !body.takeover ? full() : undefined);
  page.component({ wants: false });
  const waits = page.seat.acquire({ wait: 60 });
  await page.settle();
  assert.equal(await page.seat.acquire({ takeover: true }), true);
  assert.equal(await waits, true);
  await page.server.clock.advance(10_000);
  assert.deepEqual([page.seat.now.held, page.seat.now.error, page.releases], [true, undefined, 0]);
  assert.equal(await page.seat.release(), true);
  assert.deepEqual([page.seat.now.state, page.seat.now.reason], ["released", "released"]);
});

test("what was asked for by hand is given back, too, and nobody asks for an unmounted one", async () => {
  const page = new Page();
  const unmount = page.component({ wants: false });
  await page.seat.acquire();
  unmount();
  await page.settle();
  assert.deepEqual([page.releases, page.ended], [1, 1]);
  assert.equal(await page.seat.acquire(), false);
  assert.equal(page.acquires, 1);
});

test("called off by hand, it is no fault", async () => {
  const page = new Page();
  page.server.fault = ({ method }) => (method === "POST" ? full() : undefined);
  page.component({ wants: false });
  const control = new AbortController();
  const waits = page.seat.acquire({ wait: 60, signal: control.signal });
  await page.settle();
  control.abort();
  assert.equal(await waits, false);
  assert.deepEqual([page.seat.now.pending, page.seat.now.error], [false, undefined]);
});

test("an outage is shown, and what it ends", async () => {
  const page = new Page();
  page.component();
  await page.settle();
  page.server.fault = () => new TypeError("fetch failed");
  await page.server.clock.advance(100_000);
  page.server.fault = () => undefined;
  await page.server.clock.advance(60_000);
  const states = page.told.map(({ state, reason }) => `${state} ${reason}`).filter((each, n, all) => each !== all[n - 1]);
  assert.deepEqual(states, ["new new", "safe granted", "jeopardy unreachable", "lost unreachable", "safe renewed"]);
});

test("a page that is shown again asks anew for what leaving it has called off", async () => {
  const window = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener"] as const)
    Object.defineProperty(globalThis, name, { value: window[name].bind(window), configurable: true });
  try {
    const server = new FakeServer();
    const own = server.seat();
    window.addEventListener("pagehide", () => own.goodbye());
    const seat = new MountedSeat(own, () => {});
    const unmount = [seat.watch(() => {}), seat.want({ wait: 60 })];
    server.fault = ({ method }) => (method === "POST" ? full() : undefined);
    await server.clock.advance(0);
    window.dispatchEvent(new Event("pagehide"));
    await server.clock.advance(10_000);
    const before = server.calls(/sessions$/).length;
    await server.clock.advance(10_000);
    assert.equal(server.calls(/sessions$/).length, before);
    server.fault = () => undefined;
    window.dispatchEvent(new Event("pageshow"));
    await server.clock.advance(0);
    assert.deepEqual([seat.now.held, seat.now.error], [true, undefined]);
    unmount.forEach((off) => off());
    await server.clock.advance(0);
  } finally {
    for (const name of ["addEventListener", "removeEventListener"]) Reflect.deleteProperty(globalThis, name);
  }
});

test("tabs share the seat of their components", async () => {
  const browser = new Browser();
  const tabs: Tab[] = [await browser.tab(), await browser.tab()];
  const mounts = tabs.map(({ seat }) => {
    let ended = 0;
    const mounted = new MountedSeat(seat, () => ended++);
    const offs = [mounted.watch(() => {}), mounted.want({})];
    return { mounted, ended: () => ended, unmount: () => offs.forEach((off) => off()) };
  });
  await browser.settle();
  assert.deepEqual(mounts.map(({ mounted }) => mounted.now.held), [true, true]);
  mounts[0]!.unmount();
  await browser.settle();
  assert.deepEqual([mounts[0]!.ended(), mounts[1]!.mounted.now.held, tabs[1]!.seat.leads], [1, true, true]);
  assert.equal(browser.server.calls(/current/, "DELETE").length, 0);
  mounts[1]!.unmount();
  await browser.settle();
  assert.equal(browser.server.calls(/current/, "DELETE").length, 1);
});
