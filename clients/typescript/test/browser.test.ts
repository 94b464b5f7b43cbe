import assert from "node:assert/strict";
import test from "node:test";
import { BrowserSeat, Client, OwnSeat, type Seat } from "../src/index.js";
import { Browser } from "./tabs.js";
import { KEY, problem } from "./fake.js";

const away = new TypeError("fetch failed");

test("tabs have one lease, and the next leader goes on with it", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await Promise.all([first.seat.acquire(), second.seat.acquire()]);
  assert.deepEqual([first.seat.leads, second.seat.leads], [true, false]);
  first.hide();
  await browser.settle();
  assert.deepEqual([second.seat.leads, second.seat.state, second.seat.fence], [true, "safe", 1]);
  assert.equal(browser.server.calls(/sessions$/).length, 1);
  assert.deepEqual(browser.server.beacons, []);
});

test("a lease is not handed to tabs that want none", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await first.seat.acquire();
  await second.seat.acquire();
  await second.seat.release();
  first.hide();
  await browser.settle();
  assert.deepEqual(browser.server.beacons, [{ closing: true, token: "sjl_1" }]);
  assert.deepEqual([second.seat.leads, second.seat.held, second.seat.leaseId], [true, false, undefined]);
  assert.equal(browser.server.calls(/heartbeat/).length, 0);
});

test("a leader that crashes leaves nothing to tabs that want nothing", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await first.seat.acquire();
  await browser.settle();
  first.crash(0);
  await browser.settle();
  assert.equal(second.seat.leads, true);
  assert.equal(browser.server.calls(/current/, "DELETE").length, 1);
});

test("whoever leads next learns of those who crash, too", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  const third = await browser.tab();
  await third.seat.acquire();
  first.crash(0);
  await browser.settle();
  assert.deepEqual([second.seat.leads, second.seat.state], [true, "safe"]);
  assert.equal(browser.server.calls(/current/, "DELETE").length, 0);
  third.crash(2);
  await browser.settle();
  assert.equal(browser.server.calls(/current/, "DELETE").length, 1);
});

test("a tab says nothing before it can be told from a dead one", async () => {
  const browser = new Browser();
  await browser.tab();
  const before = browser.said.length;
  browser.locks.holds = true;
  const second = await browser.tab();
  const asked = second.seat.acquire();
  await browser.settle();
  assert.equal(browser.said.length, before);
  browser.locks.holds = false;
  browser.locks.grant();
  await browser.settle();
  await asked;
  assert.equal(second.seat.held, true);
  assert.equal(browser.server.calls(/sessions$/).length, 1);
});

test("who leads next goes on trying, if the server was away", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await Promise.all([first.seat.acquire(), second.seat.acquire()]);
  browser.server.fault = () => away;
  await browser.server.clock.advance(100_000);
  assert.equal(second.seat.state, "lost");
  first.crash(0);
  await browser.settle();
  browser.server.fault = () => undefined;
  await browser.server.clock.advance(60_000);
  assert.deepEqual([second.seat.leads, second.seat.held, second.seat.fence], [true, true, 1]);
});

test("but not after a loss that somebody meant", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await Promise.all([first.seat.acquire(), second.seat.acquire()]);
  browser.server.fault = () => problem(410, "lease_lost", { reason: "revoked" });
  await browser.server.clock.advance(31_000);
  assert.throws(() => second.seat.check(), { reason: "revoked" });
  first.crash(0);
  const before = browser.server.asked.length;
  await browser.server.clock.advance(600_000);
  assert.deepEqual([second.seat.leads, second.seat.held, browser.server.asked.length], [true, false, before]);
});

test("where locks are refused, each tab leads itself", async () => {
  const browser = new Browser();
  browser.locks.refuses = true;
  const [first, second] = [await browser.tab(), await browser.tab()];
  await Promise.all([first.seat.acquire(), second.seat.acquire()]);
  assert.deepEqual([first.seat.held, second.seat.held], [true, true]);
  assert.equal(await first.seat.release(), true);
  assert.deepEqual([first.seat.held, second.seat.held], [false, true]);
  assert.deepEqual(browser.said, []);
});

test("a page that is shown again goes on with its seat, and with its question", async () => {
  const browser = new Browser();
  const tab = await browser.tab();
  await tab.seat.acquire();
  tab.hide();
  await browser.settle();
  assert.equal(tab.seat.held, false);
  tab.show();
  await browser.settle();
  assert.deepEqual([tab.seat.held, tab.seat.fence], [true, 1]);
  await tab.seat.release();
  browser.server.fault = () => problem(409, "seat_limit", { position: 1, retryAfter: 5 });
  const asked = tab.seat.acquire({ wait: 60 });
  await browser.settle();
  tab.hide();
  browser.server.fault = () => undefined;
  await browser.server.clock.advance(10_000);
  tab.show();
  await browser.settle();
  await asked;
  assert.equal(tab.seat.held, true);
});

test("a follower's question goes on, too, when it is shown again", async () => {
  const browser = new Browser();
  const [, second] = [await browser.tab(), await browser.tab()];
  browser.server.fault = ({ method }) => (method === "POST" ? problem(409, "seat_limit", { position: 1, retryAfter: 5 }) : undefined);
  const asked = second.seat.acquire({ wait: 60 });
  await browser.settle();
  second.hide();
  await browser.settle();
  browser.server.fault = () => undefined;
  await browser.server.clock.advance(10_000);
  assert.equal(browser.server.fence, 0);
  second.show();
  await browser.settle();
  await asked;
  assert.equal(second.seat.held, true);
});

test("what is closed stays closed", async () => {
  const browser = new Browser();
  const tab = await browser.tab();
  await tab.seat.acquire();
  browser.server.fault = () => problem(409, "seat_limit", { position: 1, retryAfter: 5 });
  tab.seat.close();
  assert.deepEqual([tab.seat.state, tab.seat.held], ["released", false]);
  assert.equal(browser.server.beacons.length, 1);
  tab.show();
  await browser.settle();
  assert.equal(tab.seat.leads, false);
  await assert.rejects(tab.seat.acquire(), { code: "aborted" });
});

test("what is closed follows its page no more", async () => {
  const browser = new Browser();
  const client = new Client({ url: "http://licenses.test", proof: KEY });
  const tab = await browser.tab();
  let listening = 0;
  const add = tab.page.addEventListener.bind(tab.page);
  tab.page.addEventListener = (name: string, call: EventListener, how?: AddEventListenerOptions) => {
    listening++;
    how?.signal?.addEventListener("abort", () => listening--);
    add(name, call, how);
  };
  const makers: (() => Seat)[] = [() => new BrowserSeat("another seat", () => browser.server.seat()), () => client.own({ feature: "editor" })];
  for (const make of makers) {
    const other: Seat = browser.as(tab, make);
    assert.equal(listening, 4);
    other.close();
    assert.equal(listening, 0);
  }
});

test("a loss says whether there is a way back, in every tab", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await Promise.all([first.seat.acquire(), second.seat.acquire()]);
  browser.server.fault = () => away;
  await browser.server.clock.advance(100_000);
  for (const { seat } of [first, second]) assert.throws(() => seat.check(), { reason: "unreachable", resumable: true });
  browser.server.fault = () => undefined;
  await browser.server.clock.advance(60_000);
  browser.server.fault = ({ method }) => (method === "POST" ? problem(410, "lease_lost", { reason: "revoked" }) : undefined);
  await browser.server.clock.advance(60_000);
  for (const { seat } of [first, second]) assert.throws(() => seat.check(), { reason: "revoked", resumable: false });
});

test("every tab is told once that a loss has turned final, and of no beat that did not count", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  await Promise.all([first.seat.acquire(), second.seat.acquire()]);
  browser.server.fault = () => away;
  await browser.server.clock.advance(100_000);
  const told: string[] = [];
  for (const [name, { seat }] of Object.entries({ first, second })) {
    seat.on("change", ({ before, state, reason }) => told.push(`${name} ${before}>${state} ${reason}`));
    seat.on("renewed", () => told.push(`${name} renewed`));
  }
  await browser.tab(); // which is told how things stand, as all are
  assert.deepEqual(told, []);
  browser.server.fault = () => problem(410, "lease_lost", { reason: "revoked" });
  await browser.server.clock.advance(60_000);
  await browser.tab();
  assert.deepEqual(told.sort(), ["first lost>lost revoked", "second lost>lost revoked"]);
  assert.throws(() => second.seat.check(), { reason: "revoked", resumable: false });
});

test("what was granted as it was called off is given back", async () => {
  const browser = new Browser();
  const [, second] = [await browser.tab(), await browser.tab()];
  const control = new AbortController();
  let grant = (_: Response) => {};
  browser.server.fault = ({ method, proof }) => (method === "POST" && proof === KEY ? new Promise((resolve) => (grant = resolve)) : undefined);
  const asked = assert.rejects(second.seat.acquire({ signal: control.signal }), { code: "aborted" });
  await browser.settle();
  grant(browser.server.grant());
  control.abort();
  await browser.settle();
  await asked;
  assert.equal(browser.server.calls(/current/, "DELETE").length, 1);
});

test("an acquire that is called off for another one leaves the other one's seat", async () => {
  const browser = new Browser();
  const [first, second] = [await browser.tab(), await browser.tab()];
  for (const { seat } of [first, second]) {
    let full = true;
    browser.server.fault = ({ method }) => (full && method === "POST" ? problem(409, "seat_limit", { position: 1, retryAfter: 5 }) : undefined);
    const control = new AbortController();
    const waits = assert.rejects(seat.acquire({ wait: 60, signal: control.signal }), { code: "aborted" });
    await browser.settle();
    full = false;
    control.abort();
    await seat.acquire({ takeover: true });
    await waits;
    await browser.settle();
    assert.equal(seat.held, true);
    await seat.release();
    assert.deepEqual([first.seat.held, second.seat.held], [false, false]);
  }
});

test("a refusal of one acquire takes nothing from another", async () => {
  const browser = new Browser();
  const tab = await browser.tab();
  browser.server.fault = ({ method, body }) => (method === "POST" && !body.takeover ? problem(409, "seat_limit", { retryAfter: 5 }) : undefined);
  const [refused, granted] = await Promise.allSettled([tab.seat.acquire(), tab.seat.acquire({ takeover: true })]);
  assert.deepEqual([refused!.status, granted!.status, tab.seat.held], ["rejected", "fulfilled", true]);
  // Nor does the other order.
  await tab.seat.release();
  const turned = await Promise.allSettled([tab.seat.acquire({ takeover: true }), tab.seat.acquire()]);
  assert.deepEqual([turned.map(({ status }) => status), tab.seat.held], [["fulfilled", "fulfilled"], true]);
});

test("a page whose storage is blocked has a seat, and one that does not say whose has its own", async () => {
  const browser = new Browser();
  for (const name of ["localStorage", "sessionStorage"])
    Object.defineProperty(globalThis, name, {
      get() {
        throw new DOMException("Storage is blocked.", "SecurityError");
      },
      configurable: true,
    });
  const { clock, fetch } = browser.server;
  const [shared, own] = browser.as({ page: new EventTarget() }, () => {
    const client = new Client({ url: "http://licenses.test", proof: KEY, clock, fetch, socket: null });
    return [client.seat({ feature: "editor", userId: "ada" }), client.seat({ feature: "editor" })];
  });
  assert.ok(shared instanceof BrowserSeat);
  assert.ok(own instanceof OwnSeat);
  await shared.acquire();
  await own.acquire();
  assert.deepEqual([shared.held, own.held], [true, true]);
});
