import assert from "node:assert/strict";
import test from "node:test";
import { FakeServer, problem, story } from "./fake.js";

async function held(options = {}) {
  const server = new FakeServer();
  const seat = server.seat({ socket: true, ...options });
  await seat.acquire();
  await server.clock.advance(0);
  return { server, seat };
}

async function told(server: FakeServer, seconds: number, expiresIn = 85) {
  for (let at = 0; at < seconds; at += 20) {
    await server.clock.advance(20_000);
    server.socket.tell({ type: "alive", expiresIn });
  }
}

test("an open socket keeps the seat, and no heartbeat is sent", async () => {
  const { server, seat } = await held();
  assert.equal(server.socket.url, "ws://licenses.test/api/licenses/sessions/live");
  assert.deepEqual(server.socket.protocols, ["sojourn.v1", "sjl_1"]);
  await told(server, 600);
  assert.equal(seat.state, "safe");
  assert.equal(server.calls(/heartbeat/).length, 0);
  assert.equal(server.sockets.length, 1);
  await seat.release();
  assert.equal(server.socket.closed, true);
});

test("it answers, and tells what it is told", async () => {
  const { server, seat } = await held();
  const heard: string[] = [];
  seat.on("needed", () => heard.push("needed"));
  seat.on("sessionExpired", () => heard.push("session_expired"));
  for (const type of ["ask", "needed", "session_expired", "a word of tomorrow"]) server.socket.tell({ type });
  server.socket.tell({ type: "policy", heartbeatInterval: 10, lostAfter: 30 });
  await server.clock.advance(0);
  assert.deepEqual(server.socket.heard, [{ type: "here" }]);
  assert.deepEqual(heard, ["needed", "session_expired"]);
  assert.equal(seat.saved!.lostAfter, 30);
});

test("a socket that breaks is opened again at once, under the same token", async () => {
  const { server, seat } = await held();
  server.socket.end(1006);
  await server.clock.advance(10);
  assert.equal(server.sockets.length, 2);
  assert.deepEqual(server.socket.protocols, ["sojourn.v1", "sjl_1"]);
  assert.equal(seat.state, "safe");
  assert.equal(server.calls(/heartbeat/).length, 0);
});

test("a server that restarts is left a moment", async () => {
  const { server, seat } = await held();
  server.socket.end(1012);
  await server.clock.advance(4_900);
  assert.equal(server.sockets.length, 1);
  await server.clock.advance(200);
  assert.equal(server.sockets.length, 2);
  assert.equal(seat.state, "safe");
});

test("where no socket opens, heartbeats keep the seat, and sockets are tried again", async () => {
  const server = new FakeServer();
  server.opens = false;
  const seat = server.seat({ socket: true });
  await seat.acquire();
  await server.clock.advance(600_000);
  assert.equal(seat.state, "safe");
  const beats = server.calls(/heartbeat/).length;
  assert.ok(beats >= 20 && beats <= 22, `${beats}`);
  assert.ok(server.sockets.length > 5 && server.sockets.length < 20, `${server.sockets.length}`);
  server.opens = true;
  await server.clock.advance(60_000);
  assert.equal(server.socket.closed, false);
});

test("a server that was away is given a socket with the first beat that it answers", async () => {
  const { server, seat } = await held();
  server.opens = false;
  server.fault = () => new Error("away");
  server.socket.end(1006);
  await server.clock.advance(70_000);
  let back = false;
  server.fault = ({ path }) => {
    back ||= path.endsWith("heartbeat");
    server.opens = back;
    return undefined;
  };
  for (let waited = 0; !back && waited < 60_000; waited += 100) await server.clock.advance(100);
  await server.clock.advance(100);
  assert.equal(seat.state, "safe");
  assert.equal(server.socket.closed, false);
});

test("a handshake that hangs is given up, and the seat is kept meanwhile", async () => {
  const server = new FakeServer();
  server.opens = "hang";
  const seat = server.seat({ socket: true });
  await seat.acquire();
  await server.clock.advance(11_000);
  assert.equal(server.sockets[0]!.closed, true);
  assert.equal(server.calls(/heartbeat/).length, 1);
  assert.equal(seat.state, "safe");
});

test("a socket that has fallen silent is given up", async () => {
  const { server, seat } = await held();
  await server.clock.advance(45_000);
  assert.equal(server.sockets[0]!.closed, true);
  assert.equal(server.sockets.length, 2);
  assert.equal(seat.state, "safe");
});

test("what was said before a sleep is not believed after it", async () => {
  const { server, seat } = await held();
  server.opens = "hang";
  const asleep = server.clock.sleep(3_600_000);
  server.sockets[0]!.tell({ type: "alive", expiresIn: 85 });
  assert.equal(seat.held, false);
  await asleep;
  assert.equal(seat.held, false);
  server.opens = true;
  server.socket.open();
  await server.clock.advance(0);
  assert.equal(seat.held, true);
});

test("lost: it comes back by its token, unless somebody meant it", async () => {
  const { server, seat } = await held();
  const said = story(seat);
  server.socket.tell({ type: "lost", reason: "expired", resumable: true });
  server.socket.end(4410);
  await server.clock.advance(10);
  assert.equal(seat.state, "safe");
  assert.equal(server.calls(/sessions$/)[1]!.proof, "sjl_1");
  assert.deepEqual(server.socket.protocols, ["sojourn.v1", "sjl_2"]);
  server.socket.tell({ type: "lost", reason: "revoked", resumable: false });
  await server.clock.advance(600_000);
  assert.equal(seat.state, "lost");
  assert.equal(server.calls(/sessions$/).length, 2);
  assert.deepEqual(said, ["safe>lost expired", "lost>safe resumed!", "safe>lost revoked"]);
});

test("superseded: another one has taken over, and it is left alone", async () => {
  for (const how of ["told", "code"]) {
    const { server, seat } = await held();
    if (how === "told") server.socket.tell({ type: "superseded" });
    else server.socket.end(4409);
    await server.clock.advance(600_000);
    assert.throws(() => seat.check(), { reason: "taken_over" });
    assert.equal(server.sockets.length, 1);
    assert.equal(server.asked.length, 1);
  }
});

test("a lease that is lost before its socket opens is told apart from a socket that does not open", async () => {
  const { server, seat } = await held();
  const saved = seat.leave()!;
  server.opens = "hang";
  const adopted = seat.adopt(saved);
  await server.clock.advance(0);
  server.socket.tell({ type: "lost", reason: "expired", resumable: true });
  server.socket.end(4410);
  server.opens = true;
  await server.clock.advance(10);
  assert.equal(await adopted, true);
  assert.equal(seat.fence, 2);
  assert.equal(server.calls(/heartbeat/).length, 0);
});

test("a goodbye is said on the socket, too; to leave is to say nothing", async () => {
  const { server, seat } = await held();
  seat.goodbye();
  assert.deepEqual(server.socket.heard, [{ type: "goodbye" }]);
  assert.equal(server.beacons.length, 1);
  const other = await held();
  const saved = other.seat.leave();
  assert.equal(saved!.token, "sjl_1");
  assert.deepEqual([other.server.socket.heard, other.server.beacons, other.server.socket.closed], [[], [], true]);
});

test("what opens when nobody wants it any more is closed", async () => {
  const server = new FakeServer();
  server.opens = "hang";
  const seat = server.seat({ socket: true });
  await seat.acquire();
  await server.clock.advance(0);
  await seat.release();
  server.socket.open();
  await server.clock.advance(0);
  assert.equal(server.socket.closed, true);
  assert.equal(seat.state, "released");
});

test("a token that is good no longer is told by a heartbeat, and the seat taken anew", async () => {
  const { server, seat } = await held();
  server.opens = false;
  server.fault = ({ path, proof }) => (path.endsWith("heartbeat") && proof === "sjl_1" ? problem(401, "token_forged") : undefined);
  server.socket.end(1006);
  await server.clock.advance(100);
  assert.equal(seat.held, true);
  assert.equal(seat.fence, 2);
});

test("what comes late on a socket counts from when it was to come", async () => {
  const { server, seat } = await held();
  await told(server, 20, 90);
  assert.equal(seat.expiresIn, 90 * 0.98);
  await server.clock.advance(40_000);
  server.socket.tell({ type: "ask" }); // it came at once, and what it came with may have waited
  server.socket.tell({ type: "alive", expiresIn: 90 });
  assert.equal(seat.expiresIn, 90 * 0.98 - 20);
});

test("a shorter policy counts at once", async () => {
  const { server, seat } = await held();
  server.socket.tell({ type: "policy", heartbeatInterval: 10, lostAfter: 30 });
  assert.equal(seat.expiresIn, 30 * 0.98);
  server.socket.tell({ type: "policy", heartbeatInterval: 30, lostAfter: 90 });
  assert.equal(seat.expiresIn, 30 * 0.98);
});
