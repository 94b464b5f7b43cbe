import type { components, ServerCode } from "./generated.js";

type Schemas = components["schemas"];
/** What a server answers with a refusal: RFC 9457, and more. */
export type Problem = Schemas["Problem"];
/** Codes that say what no server said. */
export type OwnCode = "unreachable" | "not_held" | "aborted";
export type Code = ServerCode | OwnCode;
export type { ServerCode };

/** What went wrong. `message` is for people, `hint` says what to do, `code` never changes its meaning. */
export class SojournError extends Error {
  override get name(): string {
    return "SojournError";
  }

  constructor(
    readonly code: Code,
    message: string,
    readonly hint = "",
    /** Of HTTP; 0: no server said it. */
    readonly status = 0,
    /** Seconds after which it is worth asking again, if the server said so. */
    readonly retryAfter?: number,
    readonly problem?: Partial<Problem>,
  ) {
    super(message);
  }

  is<C extends Code>(...codes: C[]): this is this & { readonly code: C } {
    return (codes as Code[]).includes(this.code);
  }

  /** Whether the same request may succeed in a moment. */
  get passing(): boolean {
    return this.code === "unreachable" || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** Every seat is in use. `problem` has all that the server told. */
export class SeatDenied extends SojournError {
  override get name(): string {
    return "SeatDenied";
  }

  /** The asking user's own leases: `acquire({ takeover: true })` takes one of them. */
  get mine(): Schemas["LeaseBody"][] {
    return this.problem?.mine ?? [];
  }
  /** The place in the line, from 1; undefined: not in it. */
  get position(): number | undefined {
    return this.problem?.position ?? undefined;
  }
}

/** The seat is not held (any more): do nothing that needs it. */
export class SeatLost extends SojournError {
  override get name(): string {
    return "SeatLost";
  }

  constructor(
    readonly reason: string,
    readonly resumable = false,
    problem?: Partial<Problem>,
  ) {
    super(
      (problem?.code ?? "not_held") as Code,
      problem?.error ?? `The seat is not held: ${reason}.`,
      problem?.details,
      problem?.status,
      undefined,
      problem,
    );
  }
}

/** Makes an error of a refusal, as it came. */
export function refusal(status: number, problem: Partial<Problem>, retryAfter?: number): SojournError {
  const wait = problem.retryAfter ?? retryAfter;
  const code = (problem.code ?? "internal") as Code;
  if (code === "lease_lost") return new SeatLost(problem.reason ?? code, !!problem.resumable, problem);
  return new (code === "seat_limit" ? SeatDenied : SojournError)(code, problem.error ?? code, problem.details, status, wait, problem);
}

/** An error as it goes from tab to tab. */
export type Fault = [status: number, problem: Partial<Problem>, retryAfter?: number];

export function faultOf({ status, problem, code, message, retryAfter }: SojournError): Fault {
  return [status, problem ?? { code, error: message }, retryAfter];
}

export function aborted(): SojournError {
  return new SojournError("aborted", "Called off.");
}

export function unreachable(message: string): SojournError {
  return new SojournError("unreachable", message);
}
