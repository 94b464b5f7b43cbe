import { OwnSeat } from "../src/seat.js";
import type { Means, SeatOptions } from "../src/terms.js";
import type { SocketLike } from "../src/socket.js";
import { Http } from "../src/http.js";
import { ManualClock } from "../src/testing.js";

export const KEY = "sjk_V5unYmCeB7Eh8WWFnL8NLrR79UqUWwKnrwrw19WCiQc4Q8K51";

export interface Asked {
  method: string;
  path: string;
  proof: string | undefined;
  body: Record<string, unknown>;
  headers: Headers;
  at: number;
}

type Answer = Response | Error | undefined | Promise<Response>;

export function answer(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

export function problem(status: number, code: string, more: object = {}, headers: Record<string, string> = {}): Response {
  return answer(status, { type: `/problems/${code}`, title: code, status, code, error: code, ...more }, headers);
}

/** A server of one seat: grants, renews and releases, unless `fault` says something else. */
export class FakeServer {
  readonly clock = new ManualClock();
  readonly asked: Asked[] = [];
  readonly sockets: FakeSocket[] = [];
  readonly beacons: Record<string, unknown>[] = [];
  fault: (asked: Asked) => Answer = () => undefined;
  /** Whether sockets open; `hang`: nothing comes. */
  opens: boolean | "hang" = true;
  hidden = false;
  fence = 0;
  expiresIn = 90;
  interval = 30;
  lostAfter = 90;

  readonly fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const headers = new Headers(init.headers);
    const asked: Asked = {
      method: init.method!,
      path: new URL(url).pathname,
      proof: headers.get("authorization")?.slice(7),
      body: init.body ? JSON.parse(init.body as string) : {},
      headers,
      at: this.clock.now(),
    };
    this.asked.push(asked);
    const said = this.fault(asked);
    if (said instanceof Error) throw said;
    const late = new Promise<never>((_, reject) => init.signal!.addEventListener("abort", () => reject(new Error("aborted"))));
    return Promise.race([said ?? this.answer(asked), late]);
  };

  answer({ method, path }: Asked): Response {
    if (method === "DELETE") return answer(200, { success: true, data: { released: true } });
    if (path.endsWith("/heartbeat")) return answer(200, { success: true, data: { expiresIn: this.expiresIn, state: "active" } });
    return this.grant();
  }

  grant(): Response {
    this.fence++;
    const { fence, interval, lostAfter, expiresIn } = this;
    const data = { leaseId: "lse_1", token: `sjl_${fence}`, fence, heartbeatInterval: interval, lostAfter, expiresIn, resumed: fence > 1 };
    return answer(201, { success: true, data });
  }

  /** Makes a seat; `socket`: one that opens sockets, too. */
  seat(options: Partial<SeatOptions> & { socket?: boolean; proof?: () => string } = {}): OwnSeat {
    const { socket, proof = () => KEY, ...rest } = options;
    const means: Means = {
      http: new Http("http://licenses.test/", this.clock, this.fetch),
      proof,
      hidden: () => this.hidden,
      beacon: (_, body) => !!this.beacons.push(JSON.parse(body)),
      ...(socket && { socket: (url: string, protocols: string[]) => new FakeSocket(this, url, protocols) }),
    };
    return new OwnSeat(means, { feature: "editor", userId: "ada", clientId: "c1", ...rest });
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  calls(path: RegExp, method = "POST"): Asked[] {
    return this.asked.filter((each) => path.test(each.path) && each.method === method);
  }
}

export class FakeSocket implements SocketLike {
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  onerror: SocketLike["onerror"] = null;
  readonly heard: Record<string, unknown>[] = [];
  closed = false;

  constructor(
    readonly server: FakeServer,
    readonly url: string,
    readonly protocols: string[],
  ) {
    server.sockets.push(this);
    if (server.opens === true) queueMicrotask(() => this.open());
    if (server.opens === false) queueMicrotask(() => this.end(1006));
  }

  open(): void {
    const { expiresIn, interval, lostAfter } = this.server;
    this.tell({ type: "open", expiresIn, heartbeatInterval: interval, lostAfter });
  }

  tell(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  end(code: number): void {
    this.closed = true;
    this.onclose?.({ code });
  }

  send(text: string): void {
    this.heard.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }
}

/** Notes what a seat tells, as words: `new>safe granted`. */
export function story(seat: OwnSeat): string[] {
  const told: string[] = [];
  seat.on("change", ({ before, state, reason, resumed }) => told.push(`${before}>${state} ${reason}${resumed ? "!" : ""}`));
  return told;
}
