import assert from "node:assert/strict";
import test from "node:test";
import { SeatDenied, SeatLost, SojournError } from "../src/errors.js";
import { answer, FakeServer, KEY, problem, story } from "./fake.js";

const away = new TypeError("fetch failed");

test("a seat is kept by heartbeats, and given back", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  const told = story(seat);
  assert.equal(seat.held, false);
  assert.throws(() => seat.check(), SeatLost);
  await seat.acquire();
  seat.check();
  assert.equal(seat.fence, 1);
  assert.equal(seat.expiresIn, 90 * 0.98);
  await server.clock.advance(300_000);
  const beats = server.calls(/heartbeat/);
  assert.equal(beats.length, 10);
  assert.ok(beats.every((each) => each.proof === "sjl_1"));
  assert.equal(await seat.release(), true);
  assert.equal(server.calls(/current/, "DELETE")[0]!.proof, "sjl_1");
  await server.clock.advance(300_000);
  assert.equal(server.calls(/heartbeat/).length, 10);
  assert.deepEqual(told, ["new>safe granted", "safe>released released"]);
});

test("a lease is trusted from before the request left", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  let grant = (_: Response) => {};
  server.fault = () => new Promise((resolve) => (grant = resolve));
  const asked = seat.acquire();
  await server.clock.advance(9_000);
  grant(server.grant());
  await asked;
  assert.equal(seat.expiresIn, 90 * 0.98 - 9);
});

test("a server that is away puts it in jeopardy; then it is lost, and comes back", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  const told = story(seat);
  await seat.acquire();
  server.fault = () => away;
  await server.clock.advance(31_000);
  assert.equal(seat.state, "jeopardy");
  assert.equal(seat.held, true);
  await server.clock.advance(57_000);
  assert.equal(seat.held, true);
  await server.clock.advance(300);
  assert.equal(seat.state, "lost");
  server.fault = () => undefined;
  await server.clock.advance(31_000);
  assert.equal(seat.state, "safe");
  assert.deepEqual(told, ["new>safe granted", "safe>jeopardy unreachable", "jeopardy>lost unreachable", "lost>safe renewed"]);
});

test("after a sleep it is not held for a moment, and is resumed by its token", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  const told = story(seat);
  await seat.acquire();
  let lost = true;
  server.fault = ({ path }) => (path.endsWith("heartbeat") && lost ? problem(410, "lease_lost", { reason: "expired", resumable: true }) : undefined);
  const slept = server.clock.sleep(3_600_000);
  assert.equal(seat.held, false);
  await slept;
  lost = false;
  assert.equal(seat.held, true);
  const again = server.calls(/sessions$/)[1]!;
  assert.deepEqual([again.proof, again.body], ["sjl_1", {}]);
  assert.deepEqual(told, ["new>safe granted", "safe>lost unreachable", "lost>safe resumed!"]);
});

test("what is gone is acquired anew, unless somebody meant it", async () => {
  for (const [reason, calls] of [["absent", 2], ["revoked", 1], ["taken_over", 1], ["moved", 1], ["session_ended", 1]] as const) {
    const server = new FakeServer();
    const seat = server.seat();
    await seat.acquire();
    server.fault = ({ path, proof }) =>
      path.endsWith("heartbeat") && proof === "sjl_1" ? problem(410, "lease_lost", { reason, resumable: false }) : undefined;
    await server.clock.advance(600_000);
    assert.equal(server.calls(/sessions$/).length, calls, reason);
    assert.equal(seat.held, calls === 2, reason);
    assert.throws(() => { seat.check(); if (calls === 2) throw new SeatLost("absent"); }, { reason });
    if (calls === 2) assert.equal(server.calls(/sessions$/)[1]!.proof, KEY);
  }
});

test("a seat that was lost while others hold all is asked for again when it is told", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  await seat.acquire();
  let full = true;
  server.fault = ({ path }) => {
    if (path.endsWith("heartbeat")) return problem(410, "lease_lost", { reason: "evicted", resumable: true });
    return full ? problem(409, "seat_limit", { retryAfter: 15 }) : undefined;
  };
  await server.clock.advance(31_000);
  assert.equal(seat.state, "lost");
  assert.throws(() => seat.check(), { reason: "seat_limit", resumable: true });
  const before = server.asked.length;
  await server.clock.advance(13_000);
  assert.equal(server.asked.length, before);
  await server.clock.advance(2_000);
  assert.equal(server.asked.length, before + 1);
  full = false;
  await server.clock.advance(15_000);
  assert.equal(seat.held, true);
});

test("who waits is told of its place, and keeps it", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  const places: (number | undefined)[] = [];
  seat.on("wait", ({ error }) => places.push((error as SeatDenied).position));
  server.fault = () => {
    const position = 4 - server.asked.length;
    return position > 0 ? problem(409, "seat_limit", { position, waiting: position, retryAfter: 1, keepPlace: 15 }) : undefined;
  };
  const asked = seat.acquire({ wait: 60 });
  await server.clock.advance(3_000);
  await asked;
  assert.equal(seat.held, true);
  assert.deepEqual(places, [3, 2, 1]);
  assert.deepEqual(server.asked.map((each) => each.body.wait), [1, 20, 20, 20]);
  assert.equal(new Set(server.asked.map((each) => each.headers.get("idempotency-key"))).size, 4);
});

test("a refusal is told at once, or when waiting is over", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  server.fault = () => problem(409, "seat_limit", { limit: 3, retryAfter: 1.5, mine: [{ leaseId: "lse_9" }] });
  await assert.rejects(seat.acquire(), (fault: SeatDenied) => fault instanceof SeatDenied && fault.mine[0]!.leaseId === "lse_9");
  const asked = assert.rejects(seat.acquire({ wait: 4 }), SeatDenied);
  await server.clock.advance(4_100);
  await asked;
  assert.equal(seat.state, "new");
});

test("a passing fault is tried three times more, under one key, five seconds apart", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  server.fault = () => away;
  const asked = assert.rejects(seat.acquire(), { code: "unreachable" });
  await server.clock.advance(15_000);
  await asked;
  assert.deepEqual(server.asked.map((each) => each.at - server.asked[0]!.at), [0, 5_000, 10_000, 15_000]);
  assert.equal(new Set(server.asked.map((each) => each.headers.get("idempotency-key"))).size, 1);
  server.fault = () => problem(401, "token_malformed");
  await assert.rejects(seat.acquire(), (fault: SojournError) => fault.is("token_malformed") && !fault.passing);
  assert.equal(server.asked.length, 5);
});

test("what is granted after it was called off is given back", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  let grant = (_: Response) => {};
  server.fault = ({ method }) => (method === "POST" ? new Promise((resolve) => (grant = resolve)) : undefined);
  const control = new AbortController();
  const asked = seat.acquire({ signal: control.signal });
  await server.clock.advance(0);
  control.abort();
  await assert.rejects(asked, { code: "aborted" });
  grant(server.grant());
  await server.clock.advance(0);
  assert.equal(server.calls(/current/, "DELETE")[0]!.proof, "sjl_1");
  assert.equal(seat.held, false);
  await assert.rejects(seat.acquire({ signal: control.signal }), { code: "aborted" });
});

test("a release is tried three times more, and then forgotten here", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  await seat.acquire();
  server.fault = () => problem(503, "store_unavailable");
  const given = seat.release();
  assert.equal(seat.state, "released");
  await server.clock.advance(15_000);
  assert.equal(await given, false);
  assert.equal(server.calls(/current/, "DELETE").length, 4);
  await server.clock.advance(600_000);
  assert.equal(server.asked.length, 5);
});

test("a page in the background says when it will beat next", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  seat.idle = () => 12;
  await seat.acquire();
  await server.clock.advance(31_000);
  server.hidden = true;
  await server.clock.advance(31_000);
  assert.deepEqual(server.calls(/heartbeat/).map((each) => each.body), [{ idleFor: 12 }, { idleFor: 12, nextIn: 60 }]);
});

test("a goodbye takes the token along, and a lease goes on where it is adopted", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  await seat.acquire();
  const saved = seat.goodbye()!;
  assert.deepEqual(server.beacons, [{ closing: true, token: "sjl_1" }]);
  assert.equal(seat.state, "released");
  assert.equal(await seat.adopt(saved), true);
  assert.equal(server.calls(/sessions$/).length, 1);
  // The goodbye may have arrived after the first beat: one more takes it back.
  assert.equal(server.calls(/heartbeat/).length, 1);
  await server.clock.advance(2_000);
  assert.equal(server.calls(/heartbeat/).length, 2);
  assert.equal(new FakeServer().seat().goodbye(), undefined);
});

test("an answer of somebody else's is no answer", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  server.fault = () => new Response("<html>Sign in to the network", { status: 200 });
  const asked = assert.rejects(seat.acquire(), { code: "unreachable" });
  await server.clock.advance(15_000);
  await asked;
  server.fault = () => answer(200, { data: {} });
  const again = assert.rejects(seat.acquire(), { code: "unreachable" });
  await server.clock.advance(15_000);
  await again;
});

test("a request that is not answered is given up, and sent again", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  server.fault = () => (server.asked.length === 1 ? new Promise(() => {}) : undefined);
  const asked = seat.acquire();
  await server.clock.advance(15_000);
  await asked;
  assert.deepEqual(server.asked.map((each) => each.at - server.asked[0]!.at), [0, 15_000]);
});

test("what a proof's own source throws is passing, at first and later", async () => {
  const server = new FakeServer();
  const fetching: (Error | string)[] = [away, KEY, away, away, KEY];
  const proof = () => {
    const next = fetching.shift() ?? KEY;
    if (next instanceof Error) throw next;
    return next;
  };
  const seat = server.seat({ proof });
  const asked = seat.acquire();
  await server.clock.advance(5_000);
  await asked;
  server.fault = ({ path, proof }) =>
    path.endsWith("heartbeat") && proof === "sjl_1" ? problem(410, "lease_lost", { reason: "absent", resumable: false }) : undefined;
  await server.clock.advance(31_000);
  assert.equal(seat.held, false);
  await server.clock.advance(60_000);
  assert.equal(seat.held, true);
  assert.equal(fetching.length, 0);
});

test("nobody is told of a refusal that comes after it was called off", async () => {
  for (const how of ["abort", "release"]) {
    const server = new FakeServer();
    const seat = server.seat();
    const told: unknown[] = [];
    seat.on("wait", (event) => told.push(event));
    let refuse = (_: Response) => {};
    server.fault = () => new Promise((resolve) => (refuse = resolve));
    const control = new AbortController();
    const asked = assert.rejects(seat.acquire({ wait: 60, signal: control.signal }), { code: "aborted" });
    await server.clock.advance(0);
    if (how === "abort") control.abort();
    else await seat.release();
    refuse(problem(409, "seat_limit", { position: 1, retryAfter: 1 }));
    await server.clock.advance(0);
    await asked;
    assert.deepEqual(told, [], how);
    await server.clock.advance(60_000);
    assert.equal(server.asked.length, 1);
  }
});

test("a resumption that is refused for good is the end", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  await seat.acquire();
  server.fault = ({ path }) => problem(410, "lease_lost", path.endsWith("heartbeat") ? { reason: "expired", resumable: true } : { reason: "revoked" });
  await server.clock.advance(600_000);
  assert.equal(server.calls(/sessions$/).length, 2);
  assert.equal(seat.state, "lost");
  assert.throws(() => seat.check(), { reason: "revoked", resumable: false });
  assert.equal(seat.saved, undefined);
});

test("an adopted lease is trusted for no longer than its policy says", async () => {
  const server = new FakeServer();
  const seat = server.seat();
  await seat.acquire();
  const saved = seat.leave()!;
  server.fault = () => away;
  void seat.adopt(saved, 1_000_000);
  assert.equal(seat.expiresIn, 90);
});

test("a loss that turns final is told, once", async () => {
  const server = new FakeServer();
  const seat = server.seat({ socket: true });
  await seat.acquire();
  await server.clock.advance(0);
  const { socket } = server;
  server.fault = () => away;
  server.opens = false;
  socket.end(1006);
  await server.clock.advance(100_000);
  assert.throws(() => seat.check(), { reason: "unreachable", resumable: true });
  const told = story(seat);
  server.fault = () => problem(410, "lease_lost", { reason: "revoked" });
  await server.clock.advance(600_000);
  assert.throws(() => seat.check(), { reason: "revoked", resumable: false });
  assert.deepEqual(told, ["lost>lost revoked"]);
});

test("what is closed says goodbye, and asks for nothing any more", async () => {
  const server = new FakeServer();
  const seat = server.seat({ socket: true });
  await seat.acquire();
  await server.clock.advance(0);
  seat.close();
  assert.deepEqual([seat.state, seat.reason, seat.saved], ["released", "closing", undefined]);
  assert.deepEqual([server.beacons.length, server.socket.closed], [1, true]);
  await assert.rejects(seat.acquire(), { code: "aborted" });
  assert.equal(await seat.adopt({ leaseId: "lse_1", token: "sjl_1", fence: 1, heartbeatInterval: 30, lostAfter: 90 }), false);
  seat.nudge();
  await server.clock.advance(600_000);
  assert.equal(server.asked.length, 1);
  seat.close();
  assert.equal(server.beacons.length, 1);
});

test("what is under way as it is closed ends at once, and leaves nothing behind", async () => {
  for (const end of ["close", "release", "goodbye"] as const) {
    const server = new FakeServer();
    const seat = server.seat();
    let grant = (_: Response) => {};
    server.fault = ({ method }) => (method === "POST" ? new Promise((resolve) => (grant = resolve)) : undefined);
    const asked = assert.rejects(seat.acquire(), { code: "aborted" });
    await server.clock.advance(0);
    void seat[end]();
    await asked;
    grant(server.grant());
    await server.clock.advance(0);
    assert.equal(server.calls(/current/, "DELETE")[0]!.proof, "sjl_1");
    assert.equal(seat.held, false);
  }
});
