// Put together from clients/active-sessions/src by build.py there: change that.
/** A sentence with a number `{n}`: by plural category of its language; `other` stands for all that is left out. */
export type Plural = string | ({ other: string } & Partial<Record<Intl.LDMLPluralRule, string>>);

/** What the element says. `{n}`, `{total}`, `{device}`, `{place}` and `{when}` stand for what is put there. */
export interface Strings {
  title: string;
  intro: string;
  count: Plural;
  thisDevice: string;
  unknownDevice: string;
  now: string;
  justNow: string;
  used: string;
  begun: string;
  ends: string;
  facts: string;
  grouped: Plural;
  unfold: string;
  endAll: string;
  endAllOf: string;
  seats: Plural;
  lastFrom: string;
  rename: string;
  renameOf: string;
  nameOf: string;
  save: string;
  signOut: string;
  signOutOf: string;
  ask: string;
  askEffect: string;
  askHere: string;
  askHereEffect: string;
  askSeats: Plural;
  askAll: string;
  askAllEffect: string;
  askOthers: Plural;
  askOthersEffect: Plural;
  signingOut: string;
  done: string;
  doneBefore: string;
  doneOthers: Plural;
  freed: Plural;
  others: Plural;
  noOthers: Plural;
  cancel: string;
  refresh: string;
  refreshed: string;
  retry: string;
  more: string;
  shown: string;
  loading: string;
  emptyTitle: string;
  emptyText: string;
  errorTitle: string;
  errorText: string;
  offline: string;
  retrying: Plural;
  stale: string;
  failed: string;
  reauth: string;
  goneTitle: string;
  goneText: string;
  signIn: string;
  onlyHere: Plural;
  notSetUp: string;
  reasons: Record<"signed_out_elsewhere" | "signed_out_everywhere" | "signed_out" | "revoked" | "signed_out_by_operator" | "cut_off" | "idle" | "expired", string>;
}

export declare const STRINGS: Strings;

/** Says what elements say where the language is `lang` (BCP 47), for all readers of that language and script. */
export declare function translate(lang: string, strings: Partial<Strings>): void;

/** `id`: the session that was ended; without it: all others. */
export interface Ended {
  id?: string;
  ended: number;
  seats?: number;
}

export interface ActiveSessionsEventMap {
  "sojourn:ended": CustomEvent<Ended>;
  /** This device's own session is over; `reason` may be empty. */
  "sojourn:signed-out": CustomEvent<{ reason: string }>;
  /** The server wants a recent sign-in first. Cancel it to ask for one yourself, then call `retry`. */
  "sojourn:reauth-required": CustomEvent<{ retry: () => Promise<void> }>;
}

export declare class ActiveSessions extends HTMLElement {
  /** Words in the place of the language's, or of some of them. */
  get strings(): Partial<Strings>;
  set strings(value: Partial<Strings> | null);
  /** Headers to send along, such as a token against CSRF. */
  headers: Record<string, string>;
  /** Reads the list again. */
  refresh(): Promise<void>;
  addEventListener<K extends keyof ActiveSessionsEventMap>(
    type: K,
    listener: (this: ActiveSessions, event: ActiveSessionsEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "sojourn-active-sessions": ActiveSessions;
  }
}
