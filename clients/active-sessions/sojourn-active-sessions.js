/**
 * <sojourn-active-sessions>: where a person is signed in, and signing out elsewhere.
 * One module, no dependencies, no build step, at home under `script-src 'self'`. README.md has the rest.
 */

export const STRINGS = {
  title: "Where you’re signed in",
  intro: "Sign out any device that you don’t recognize.",
  count: { one: "{n} active session", other: "{n} active sessions" },
  thisDevice: "This device",
  unknownDevice: "Unknown device",
  now: "Active now",
  justNow: "just now",
  used: "Active {when}",
  begun: "Signed in {when}",
  seats: { one: "{n} seat in use", other: "{n} seats in use" },
  signOut: "Sign out",
  signOutOf: "Sign out {device}",
  ask: "Sign out {device}?",
  askEffect: "It will need to sign in again.",
  askHere: "Sign out of this device?",
  askHereEffect: "You will need to sign in again here.",
  askSeats: { one: "Its seat becomes free.", other: "Its {n} seats become free." },
  askOthers: { one: "Sign out {n} other device?", other: "Sign out {n} other devices?" },
  askOthersEffect: { one: "It will need to sign in again.", other: "They will need to sign in again." },
  signingOut: "Signing out…",
  done: "{device} is signed out.",
  doneBefore: "{device} was signed out already.",
  doneOthers: { one: "{n} other device is signed out.", other: "{n} other devices are signed out." },
  freed: { one: "{n} seat is free again.", other: "{n} seats are free again." },
  others: "Sign out other devices",
  noOthers: "No other device is signed in.",
  cancel: "Cancel",
  refresh: "Refresh",
  refreshed: "Up to date.",
  retry: "Try again",
  more: "Show more",
  shown: "Showing {n} of {total}",
  loading: "Loading your sessions…",
  emptyTitle: "No active sessions",
  emptyText: "When you sign in on a device, it appears here.",
  errorTitle: "Your sessions can’t be shown right now",
  errorText: "You are still signed in, and nothing has changed.",
  offline: "There is no connection to the network.",
  retrying: { one: "Trying again in {n} second.", other: "Trying again in {n} seconds." },
  stale: "This list may be out of date.",
  failed: "That did not work. Nothing has changed.",
  reauth: "First confirm that it is you: sign in again.",
  goneTitle: "You have been signed out",
  goneText: "Sign in again to see where else you are signed in.",
  signIn: "Sign in again",
  reasons: {
    signed_out_elsewhere: "This device was signed out from another one.",
    signed_out_everywhere: "You signed out everywhere.",
    signed_out: "You signed out in another tab.",
    idle: "This device had not been used for a while.",
    expired: "Your sign-in had reached its end.",
  },
};

const PAGE = 50; // rows asked for at a time
const SKELETON_AFTER = 150; // ms; less would only flicker
const TIMEOUT = 15_000; // ms for an answer
const POLL = 60_000; // ms between looks while there is no socket
const FRESH = 30_000; // ms for which a list is not read again because its tab was looked at
const BACKOFF = [1_000, 30_000]; // ms until a socket is opened, or a list read, again: first, longest
const TICK = 30_000; // ms between updates of relative times
const SIGNED_OUT = 4401; // code of a socket that was closed because the session ended

// Lucide (ISC)
const ICONS = {
  desktop: '<rect width="20" height="14" x="2" y="3" rx="2"/><path d="M8 21h8M12 17v4"/>',
  phone: '<rect width="14" height="20" x="5" y="2" rx="2"/><path d="M12 18h.01"/>',
  tablet: '<rect width="16" height="20" x="4" y="2" rx="2"/><path d="M12 18h.01"/>',
  extension:
    '<rect width="7" height="7" x="14" y="3" rx="1"/><path d="M10 21V8a1 1 0 0 0-1-1H4a1 1 0 0 0-1 1v12a1 1 0 0 0 1 1h12a1 1 0 0 0 1-1v-5a1 1 0 0 0-1-1H3"/>',
  server:
    '<rect width="20" height="8" x="2" y="2" rx="2"/><rect width="20" height="8" x="2" y="14" rx="2"/><path d="M6 6h.01M6 18h.01"/>',
  unknown:
    '<circle cx="12" cy="12" r="10"/><path d="M9.09 9a3 3 0 0 1 5.83 1c0 2-3 3-3 3M12 17h.01"/>',
  refresh:
    '<path d="M3 12a9 9 0 0 1 9-9 9.75 9.75 0 0 1 6.74 2.74L21 8"/><path d="M21 3v5h-5M21 12a9 9 0 0 1-9 9 9.75 9.75 0 0 1-6.74-2.74L3 16"/><path d="M8 16H3v5"/>',
  error: '<path d="m21.73 18-8-14a2 2 0 0 0-3.48 0l-8 14A2 2 0 0 0 4 21h16a2 2 0 0 0 1.73-3M12 9v4M12 17h.01"/>',
  gone: '<path d="m16 17 5-5-5-5M21 12H9M9 21H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2h4"/>',
  done: '<path d="M20 6 9 17l-5-5"/>',
};

// Each color: light, dark
const TOKENS = `ground #f7f8fa #0f1318, panel #ffffff #171c23, line #e3e7ee #2a323d, ink #12161c #eef1f5,
  dim #57606f #a3adbb, accent #0b6e6e #5fd0c9, accent-soft #e2f3f2 #11312f, ok #17693a #6fd694,
  ok-soft #e3f5e9 #12301f, warn #855000 #f0b65a, warn-soft #fdf1dc #35270f, bad #b3261e #ff8f87,
  bad-soft #fdeceb #3b1a18`.replace(/([\w-]+) (#\w+) (#\w+),?/g, "--$1:var(--sojourn-$1,light-dark($2,$3));");

const STYLE = `
:host { display: block; container-type: inline-size; color-scheme: light dark; }
:host([theme="light"]) { color-scheme: light; }
:host([theme="dark"]) { color-scheme: dark; }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }
section { ${TOKENS}
  background: var(--panel); color: var(--ink); border: 1px solid var(--line);
  border-radius: var(--sojourn-radius, 12px); overflow: clip;
  font: 400 14px/20px var(--sojourn-font, Inter, ui-sans-serif, system-ui, sans-serif);
  font-feature-settings: "tnum", "cv11"; overflow-wrap: anywhere; text-align: start; }
header, .foot { display: flex; flex-wrap: wrap; gap: 12px 16px; align-items: center; padding: 20px; }
.words { flex: 1 1 240px; }
h2 { font-size: 16px; line-height: 24px; font-weight: 650; }
.dim { color: var(--dim); }
.actions { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.why { flex-basis: 100%; font-size: 13px; color: var(--dim); text-align: end; }
button, a { display: inline-flex; gap: 8px; align-items: center; justify-content: center;
  min-height: 36px; padding: 6px 12px; font: inherit; font-weight: 500; text-decoration: none;
  color: var(--ink); background: var(--panel); border: 1px solid var(--line);
  border-radius: var(--sojourn-control-radius, 8px); cursor: pointer; white-space: nowrap;
  transition: background-color .12s, border-color .12s; }
button:hover, a:hover { background: var(--ground); border-color: var(--dim); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
[tabindex="-1"]:focus { outline: none; }
[aria-disabled="true"] { color: var(--dim); background: var(--ground); border-color: var(--line); cursor: default; }
.danger { color: var(--panel); background: var(--bad); border-color: var(--bad); }
.danger:hover { background: color-mix(in srgb, var(--bad) 88%, var(--ink)); border-color: transparent; }
a { color: var(--panel); background: var(--accent); border-color: var(--accent); }
a:hover { background: color-mix(in srgb, var(--accent) 88%, var(--ink)); border-color: transparent; }
svg { width: 20px; height: 20px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.75;
  stroke-linecap: round; stroke-linejoin: round; }
button svg { width: 16px; height: 16px; }
ul { list-style: none; padding: 0; }
li { border-top: 1px solid var(--line); content-visibility: auto; contain-intrinsic-size: auto 77px; }
li.new { animation: in .15s; }
.row { display: grid; grid-template-columns: 40px minmax(0, 1fr) minmax(0, auto) auto; gap: 4px 16px;
  align-items: center; padding: 16px 20px; min-height: 76px; }
.icon { display: grid; place-items: center; width: 40px; height: 40px; border-radius: 10px;
  color: var(--dim); background: var(--ground); }
.here .icon { color: var(--accent); background: var(--accent-soft); }
.name { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; font-weight: 500; }
.tag { padding: 1px 8px; border-radius: 99px; font-size: 13px; line-height: 18px; font-weight: 500;
  color: var(--accent); background: var(--accent-soft); white-space: nowrap; }
.seats { color: var(--dim); background: var(--ground); }
.times { text-align: end; }
.ask { display: flex; flex-wrap: wrap; gap: 12px 16px; align-items: center; padding: 12px 20px;
  background: var(--bad-soft); border-top: 1px solid var(--line); animation: in .12s; }
.ask p { flex: 1 1 240px; }
b { font-weight: 650; }
.notice { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; padding: 10px 20px;
  border-top: 1px solid var(--line); color: var(--ok); background: var(--ok-soft); }
.notice p { flex: 1 1 200px; }
.notice.warn { color: var(--warn); background: var(--warn-soft); }
.state { display: flex; flex-direction: column; gap: 4px; align-items: center; text-align: center;
  padding: 40px 24px 48px; border-top: 1px solid var(--line); }
.state .icon { margin-bottom: 8px; }
.state p { max-width: 46ch; }
.state :is(button, a) { margin-top: 16px; }
.foot { border-top: 1px solid var(--line); padding-block: 12px; justify-content: space-between; }
.bone { border-radius: 6px; background: var(--line); height: 12px; margin: 4px 0; animation: pulse 1.6s infinite; }
.bone.icon { height: 40px; margin: 0; }
.bone:first-child { max-width: 180px; }
.bone + .bone { max-width: 260px; }
[data-state=""] ul { min-height: 231px; }
.vh { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@keyframes in { from { opacity: 0; } }
@keyframes pulse { 50% { opacity: .5; } }
@container (max-width: 639px) {
  header, .row, .ask, .notice, .foot { padding-inline: 16px; }
  .row { grid-template-columns: 40px minmax(0, 1fr) auto; align-items: start; gap: 4px 12px; }
  .times { grid-area: 2 / 2; text-align: start; }
  .row > button { grid-area: 1 / 3 / 3; }
  header .actions, header .actions .wide { flex: 1 1 100%; }
  header .actions .wide { flex: 1 1 auto; }
  .why { text-align: start; }
  .ask .actions { flex: 1 1 100%; }
  .ask button { flex: 1 1 0; }
}
@media (pointer: coarse) { button, a { min-height: 44px; } }
@media (prefers-reduced-motion: reduce) { *, li.new { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { button, a { border: 1px solid; } }
`;

let sheet;

/** Make an element; strings become text, so nothing that a server says is ever read as markup. */
const make = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
};

const icon = (name) => {
  const holder = document.createElement("template");
  holder.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${ICONS[name] ?? ICONS.unknown}</svg>`;
  return holder.content.firstChild;
};

const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text; // what is selected stays selected
};

class Refused extends Error {
  constructor(status, problem = {}, wait = 0) {
    super(problem.error ?? "");
    Object.assign(this, { status, code: problem.code, wait, details: problem.details });
  }
}

export class ActiveSessions extends HTMLElement {
  static observedAttributes = ["src", "live", "lang", "strings", "sign-in-url"];

  headers = this.headers ?? {}; // sent along with each request, such as a CSRF token
  #strings = {};
  #sessions = new Map(); // by id, in the order of the list
  #rows = new Map();
  #next = null;
  #total = 0;
  #state = "";
  #reason = "";
  #asking = null;
  #busy = null;
  #loaded = 0; // when, on this machine's clock
  #skew = 0; // ms by which the server's clock is ahead
  #failures = 0;
  #drops = 0;
  #socket = null;
  #timers = {};
  #dirty = false;
  #quiet = 0; // until when the server asked not to be asked
  #watch = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    this.#build(root);
  }

  /** Words in the place of ours: an object like STRINGS; what it leaves out stays as it is. */
  get strings() {
    return this.#strings;
  }

  set strings(value) {
    this.#strings = value ?? {};
    if (this.isConnected) this.#draw();
  }

  connectedCallback() {
    if (Object.hasOwn(this, "strings")) {
      const { strings } = this; // set before this module was there
      delete this.strings;
      this.strings = strings;
    }
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    addEventListener(
      "pagehide",
      () => {
        this.#dirty = true; // for when it comes back from the back/forward cache
        this.#hangUp();
      },
      { signal },
    );
    addEventListener("pageshow", (event) => event.persisted && this.#wake(), { signal });
    addEventListener("online", () => this.#wake(), { signal });
    document.addEventListener("visibilitychange", () => !document.hidden && this.#wake(), { signal });
    this.#timers.tick = setInterval(() => this.#tick(), TICK);
    this.#draw();
    this.refresh();
    this.#listen();
  }

  disconnectedCallback() {
    this.#watch.abort();
    this.#busy?.abort();
    this.#hangUp();
    Object.values(this.#timers).forEach(clearTimeout);
  }

  attributeChangedCallback(name, before, after) {
    if (name === "strings") this.strings = JSON.parse(after || "{}");
    else if (!this.isConnected || before === after) return;
    else if (name === "src") this.refresh();
    if (name === "src" || name === "live") {
      this.#hangUp();
      this.#listen();
    }
    this.#draw();
  }

  // Words

  #text(name, values = {}) {
    let words = this.#strings[name] ?? STRINGS[name];
    if (typeof words === "object") words = words[new Intl.PluralRules(this.#lang).select(values.n)] ?? words.other;
    return words.replace(/{(\w+)}/g, (_, key) => {
      const value = values[key];
      return typeof value === "number" ? value.toLocaleString(this.#lang) : value;
    });
  }

  get #lang() {
    return this.closest("[lang]")?.lang || undefined;
  }

  #ago(instant) {
    const seconds = Math.max(0, (Date.now() + this.#skew - instant) / 1000);
    if (seconds < 60) return this.#text("justNow");
    const units = { year: 31_557_600, month: 2_629_800, day: 86_400, hour: 3_600, minute: 60 };
    const [unit, size] = Object.entries(units).find((each) => seconds >= each[1]);
    return new Intl.RelativeTimeFormat(this.#lang, { numeric: "auto" }).format(-Math.floor(seconds / size), unit);
  }

  #name(session) {
    return session.device || this.#text("unknownDevice");
  }

  // Asking the server

  async #fetch(path, method = "GET", signal = null) {
    const limit = AbortSignal.timeout(TIMEOUT);
    let response;
    try {
      response = await fetch(this.#base + path, {
        method,
        headers: { Accept: "application/json", ...this.headers },
        credentials: "same-origin",
        cache: "no-store",
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
    } catch (fault) {
      if (signal?.aborted) throw fault;
      throw new Refused(0, { error: navigator.onLine ? "" : this.#text("offline") });
    }
    this.#skew = (Date.parse(response.headers.get("Date")) || Date.now()) - Date.now();
    const body = await response.json().catch(() => ({}));
    if (response.ok && body.success) return body;
    throw new Refused(response.status, body, Number(response.headers.get("Retry-After")) || 0);
  }

  get #base() {
    return this.getAttribute("src") || "/api/user/active-sessions";
  }

  /** Read the list again, as far as it was shown. */
  async refresh() {
    this.#busy?.abort();
    const { signal } = (this.#busy = new AbortController());
    clearTimeout(this.#timers.look);
    this.#timers.look = 0;
    this.#dirty = false;
    if (!this.#loaded) {
      clearTimeout(this.#timers.bones);
      this.#timers.bones = setTimeout(() => this.#loaded || this.#enter("loading"), SKELETON_AFTER);
    }
    this.#box.ariaBusy = "true";
    try {
      const wanted = Math.max(PAGE, this.#sessions.size);
      const found = new Map();
      let page;
      do {
        page = await this.#fetch(this.#query(page?.next), "GET", signal);
        page.data.forEach((session) => found.set(session.id, session));
      } while (page.next && found.size < wanted);
      this.#take(found, page);
    } catch (fault) {
      if (!signal.aborted) this.#stumble(fault);
    } finally {
      if (!signal.aborted) {
        clearTimeout(this.#timers.bones);
        this.#box.ariaBusy = "false";
      }
    }
  }

  #query(after) {
    return `?limit=${PAGE}${after ? `&after=${encodeURIComponent(after)}` : ""}`;
  }

  async #more() {
    try {
      const page = await this.#fetch(this.#query(this.#next));
      const before = new Set(this.#sessions.keys());
      page.data.forEach((session) => this.#sessions.set(session.id, session));
      this.#take(this.#sessions, page);
      this.#announce(this.#shown());
      const first = [...this.#sessions.keys()].find((id) => !before.has(id));
      if (!this.#next && first) this.#rows.get(first).button.focus();
    } catch (fault) {
      this.#stumble(fault);
    }
  }

  #shown() {
    return this.#text("shown", { n: this.#sessions.size, total: this.#total });
  }

  #take(found, page) {
    const before = this.#loaded ? this.#total : -1;
    // "This device" first, the others as they came
    const order = [...found.values()].sort((a, b) => b.isCurrent - a.isCurrent);
    this.#sessions = new Map(order.map((session) => [session.id, session]));
    this.#next = page.next ?? null;
    this.#total = page.total ?? found.size;
    this.#reason = page.message ?? "";
    this.#loaded = Date.now();
    this.#failures = this.#quiet = 0;
    if (this.#note.classList.contains("warn")) this.#tell("");
    this.#enter(found.size ? "list" : "empty");
    if (found.size && before !== this.#total) this.#announce(this.#text("count", { n: this.#total }));
    if (!this.#socket) this.#listen();
  }

  /** Say why the list could not be read; what is on the screen stays. */
  #stumble(fault) {
    if (fault.status === 401) {
      this.#leave("");
      return;
    }
    const wait = Math.max(fault.wait * 1000, Math.min(BACKOFF[1], 2_500 * 2 ** this.#failures++));
    this.#quiet = Date.now() + wait;
    this.#look();
    const retrying = this.#text("retrying", { n: Math.round(wait / 1000) });
    if (this.#loaded && this.#state !== "error") {
      this.#tell(`${this.#text("stale")} ${fault.message || ""} ${retrying}`, this.#text("retry"));
      return;
    }
    this.#reason = `${fault.message || this.#text("errorText")} ${retrying}`;
    this.#enter("error");
  }

  #leave(reason) {
    this.#hangUp();
    this.#busy?.abort();
    if (this.#state === "gone") return;
    this.#reason = this.#strings.reasons?.[reason] ?? STRINGS.reasons[reason] ?? "";
    this.#enter("gone");
    this.#emit("signed-out", { reason });
  }

  #emit(name, detail) {
    const options = { bubbles: true, composed: true, cancelable: true, detail };
    return this.dispatchEvent(new CustomEvent(`sojourn:${name}`, options));
  }

  // Signing out

  async #end(session, box) {
    const path = session ? `/${encodeURIComponent(session.id)}` : "/logout-others";
    const [cancel, confirm] = box.querySelectorAll("button");
    if (confirm.ariaDisabled === "true") return;
    confirm.ariaDisabled = cancel.ariaDisabled = "true";
    say(confirm, this.#text("signingOut"));
    let words;
    try {
      const { data } = await this.#fetch(path, session ? "DELETE" : "POST");
      words = session ? this.#text("done", { device: this.#name(session) }) : this.#text("doneOthers", { n: data.ended });
      if (data.seats) words += ` ${this.#text("freed", { n: data.seats })}`;
      this.#emit("ended", { id: session?.id ?? null, ended: data.ended, seats: data.seats });
    } catch (fault) {
      if (fault.status === 401) return this.#leave("");
      if (fault.status !== 404 || !session) return this.#decline(fault, session, box);
      words = this.#text("doneBefore", { device: this.#name(session) });
    }
    if (session?.isCurrent) return this.#leave("signed_out");
    const next = session ? this.#neighbor(session.id) : this.#refresh;
    this.#cancel();
    const left = [...this.#sessions].filter(([id, each]) => (session ? id !== session.id : each.isCurrent));
    this.#total = session ? this.#total - 1 : left.length;
    this.#tell(words);
    this.#take(new Map(left), { next: session && this.#next, total: this.#total });
    next.focus();
    return this.refresh();
  }

  /** Say in the place where it was asked why it was not done. */
  #decline(fault, session, box) {
    const [cancel, confirm] = box.querySelectorAll("button");
    confirm.ariaDisabled = cancel.ariaDisabled = null;
    const reauth = fault.code === "reauth_required";
    const words = reauth ? this.#text("reauth") : fault.message || this.#text("failed");
    say(confirm, this.#text("signOut"));
    say(box.querySelector("span"), words);
    this.#announce(words);
    if (!reauth) return;
    const retry = () => this.#end(session, box);
    if (!this.#emit("reauth-required", { retry, details: fault.details })) return;
    const url = this.getAttribute("sign-in-url");
    if (url) confirm.replaceWith(this.#link(url));
  }

  #link(href) {
    return make("a", { href, part: "link" }, this.#text("signIn"));
  }

  /** Ask in place; nothing is sent before it is confirmed. */
  #ask(session, opener) {
    this.#cancel();
    const others = this.#total - 1;
    const [question, effect] = !session
      ? [this.#text("askOthers", { n: others }), this.#text("askOthersEffect", { n: others })]
      : session.isCurrent
        ? [this.#text("askHere"), this.#text("askHereEffect")]
        : [this.#text("ask", { device: this.#name(session) }), this.#text("askEffect")];
    const seats = session?.seats ? ` ${this.#text("askSeats", { n: session.seats })}` : "";
    const box = make(
      "div",
      { className: "ask", part: "confirm", role: "group", "aria-labelledby": "question", "aria-describedby": "effect" },
      make("p", {}, make("b", { id: "question" }, question), " ", make("span", { id: "effect" }, effect + seats)),
      make(
        "div",
        { className: "actions" },
        this.#button(this.#text("cancel"), () => this.#cancel(opener)),
        this.#button(this.#text("signOut"), () => this.#end(session, box), "danger"),
      ),
    );
    box.addEventListener("keydown", (event) => event.key === "Escape" && this.#cancel(opener));
    this.#asking = { id: session?.id, box };
    opener.ariaExpanded = "true";
    opener.closest(".row, header").after(box);
    box.querySelector("button").focus();
  }

  #cancel(focus = null) {
    this.#asking?.box.remove();
    this.#asking = null;
    this.#box.querySelectorAll("[aria-expanded=true]").forEach((each) => (each.ariaExpanded = "false"));
    focus?.focus();
  }

  /** Return what takes the focus when a row goes: the next one, else the one before, else Refresh. */
  #neighbor(id) {
    const ids = [...this.#sessions.keys()];
    const at = ids.indexOf(id);
    return this.#rows.get(ids[at + 1] ?? ids[at - 1])?.button ?? this.#refresh;
  }

  // Live

  #listen() {
    const live = this.getAttribute("live");
    if (live === null || this.#state === "gone" || this.#socket) return;
    clearTimeout(this.#timers.socket);
    clearInterval(this.#timers.poll);
    this.#timers.poll = setInterval(() => this.#socket?.readyState !== 1 && this.#look(), POLL);
    if (live === "poll") return;
    const url = new URL(`${this.#base}/live`, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    socket.onopen = () => {
      if (this.#drops) this.#look();
      this.#drops = 0;
    };
    socket.onmessage = ({ data }) => {
      let message = {};
      try {
        message = JSON.parse(data);
      } catch {} // a keep-alive
      if (message.type === "changed") this.#look();
      else if (message.type === "signedOut") this.#leave(message.reason);
    };
    socket.onclose = ({ code }) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      if (code === SIGNED_OUT) return this.#leave("");
      const wait = Math.min(BACKOFF[1], BACKOFF[0] * 2 ** this.#drops++) * (0.5 + Math.random() / 2);
      this.#timers.socket = setTimeout(() => this.#listen(), wait);
    };
  }

  #hangUp() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timers.socket);
    clearInterval(this.#timers.poll);
    socket?.close();
  }

  /** Something may have changed: read the list, once for a burst, when we may, and while somebody looks. */
  #look() {
    this.#dirty = true;
    if (document.hidden || this.#timers.look) return;
    this.#timers.look = setTimeout(() => {
      this.#timers.look = 0;
      if (!document.hidden) this.refresh();
    }, Math.max(100, this.#quiet - Date.now()));
  }

  #wake() {
    if (!this.#socket) this.#listen();
    if (this.#dirty || this.#failures || Date.now() - this.#loaded > FRESH) this.#look();
  }

  // On the screen

  #box;
  #note;
  #list;
  #panel;
  #refresh;
  #others;
  #moreButton;
  #live;
  #at = {};

  #build(root) {
    this.#refresh = this.#button("", () => this.#again());
    this.#others = this.#button("", () => this.#others.ariaDisabled !== "true" && this.#ask(null, this.#others), "wide");
    this.#others.setAttribute("aria-describedby", "why");
    this.#moreButton = this.#button("", () => this.#more());
    const at = this.#at;
    const part = (name, tag, properties) => (at[name] = make(tag, { part: name, ...properties }));
    this.#box = make(
      "section",
      { part: "panel", "aria-labelledby": "title" },
      make(
        "header",
        { part: "header" },
        make("div", { className: "words" }, part("title", "h2", { id: "title" }), part("summary", "p", { className: "dim" })),
        make(
          "div",
          { className: "actions", part: "actions" },
          this.#refresh,
          this.#others,
          part("why", "p", { id: "why", className: "why" }),
        ),
      ),
      (this.#note = make("div", { part: "notice", hidden: true })),
      (this.#panel = make("div", { className: "state", part: "state", hidden: true })),
      (this.#list = make("ul", { part: "list", role: "list" })),
      make("div", { className: "foot", part: "footer" }, part("shown", "p", { className: "dim" }), this.#moreButton),
      (this.#live = make("div", { className: "vh", role: "log" })),
    );
    root.append(this.#box);
  }

  #button(label, onclick, className = "") {
    return make("button", { type: "button", part: `button ${className}`.trim(), className, onclick }, label);
  }

  async #again() {
    await this.refresh();
    if (this.#failures || this.#state === "gone") return;
    this.#tell("");
    this.#announce(this.#text("refreshed"));
    this.#refresh.firstChild.replaceWith(icon("done"));
    setTimeout(() => this.#draw(), 2_000);
  }

  #announce(words) {
    this.#live.append(make("p", {}, words));
    if (this.#live.childElementCount > 3) this.#live.firstChild.remove();
  }

  /** Show a line above the list, until the next one: what was done, or what is wrong. */
  #tell(words, retry = "") {
    this.#note.className = retry ? "notice warn" : "notice";
    this.#note.replaceChildren();
    this.#note.hidden = !words;
    if (!words) return;
    this.#note.append(icon(retry ? "error" : "done"), make("p", {}, words));
    if (retry) this.#note.append(this.#button(retry, () => this.refresh()));
    this.#announce(words);
  }

  #enter(state) {
    const focused = this.#box.contains(this.shadowRoot.activeElement);
    const changed = this.#state !== state;
    this.#state = state;
    this.#draw();
    if (!changed || state === "loading") return;
    if (state !== "list") this.#announce([...this.#panel.querySelectorAll("h3, p")].map((each) => each.textContent).join(". "));
    // Whatever had the focus may be gone with the old state.
    if (focused && !this.#box.contains(this.shadowRoot.activeElement)) {
      (this.#panel.querySelector("button, a") ?? this.#refresh).focus();
    }
  }

  #draw() {
    const state = this.#state;
    const list = state === "list";
    const others = this.#total - 1;
    this.#box.dataset.state = state;
    say(this.#at.title, this.#text("title"));
    say(this.#at.summary, list ? `${this.#text("count", { n: this.#total })}. ${this.#text("intro")}` : this.#text("intro"));
    this.#refresh.replaceChildren(icon("refresh"), this.#text("refresh"));
    this.#refresh.hidden = !list && state !== "empty";
    say(this.#others, this.#text("others"));
    this.#others.hidden = !list;
    this.#others.ariaDisabled = String(others < 1);
    say(this.#at.why, list && others < 1 ? this.#text("noOthers") : "");
    this.#at.why.hidden = !this.#at.why.textContent;
    this.#drawList(list);
    const foot = this.#at.shown.parentElement;
    foot.hidden = !list || !this.#next;
    say(this.#at.shown, foot.hidden ? "" : this.#shown());
    say(this.#moreButton, this.#text("more"));
    this.#drawPanel(state);
  }

  #drawPanel(state) {
    const shown = ["empty", "error", "gone"].includes(state);
    this.#panel.hidden = !shown;
    if (!shown) return this.#panel.replaceChildren();
    if (state !== "empty") this.#tell("");
    const words = state === "gone" ? `${this.#reason} ${this.#text("goneText")}`.trim() : this.#reason || this.#text("emptyText");
    const url = this.getAttribute("sign-in-url");
    const next = { error: () => this.#button(this.#text("retry"), () => this.refresh()), gone: () => url && this.#link(url) }[state];
    const badge = make("div", { className: "icon" }, icon({ empty: "desktop" }[state] ?? state));
    return this.#panel.replaceChildren(
      badge,
      make("h3", { part: "state-title" }, this.#text(`${state}Title`)),
      make("p", { className: "dim" }, words),
      ...[next?.()].filter(Boolean),
    );
  }

  #drawList(list) {
    const state = this.#state;
    if (!list) {
      this.#cancel();
      this.#rows.clear();
      this.#list.replaceChildren(...(state === "loading" ? [0, 1, 2].map(() => this.#bone()) : []));
      this.#list.hidden = state !== "loading" && state !== "";
      if (state === "loading") this.#announce(this.#text("loading"));
      return;
    }
    if (!this.#rows.size) this.#list.replaceChildren();
    this.#list.hidden = false;
    const focused = this.shadowRoot.activeElement;
    for (const [id, row] of this.#rows) {
      if (this.#sessions.has(id)) continue;
      const next = row.item.contains(focused) ? row.item.nextElementSibling ?? row.item.previousElementSibling : null;
      if (this.#asking?.id === id) this.#asking = null;
      row.item.remove();
      this.#rows.delete(id);
      if (row.item.contains(focused)) (next?.querySelector("button") ?? this.#refresh).focus();
    }
    const fresh = this.#rows.size > 0;
    let at = this.#list.firstElementChild;
    for (const [id, session] of this.#sessions) {
      let row = this.#rows.get(id);
      if (!row) this.#rows.set(id, (row = this.#row(fresh)));
      this.#fill(row, session);
      if (row.item === at) at = at.nextElementSibling;
      else this.#list.insertBefore(row.item, at); // only what is new: a row that moves loses the focus
    }
  }

  #bone() {
    const bar = () => make("div", { className: "bone" });
    const bars = make("div", {}, bar(), bar());
    return make("li", { ariaHidden: "true" }, make("div", { className: "row" }, make("div", { className: "icon bone" }), bars));
  }

  #row(fresh) {
    const row = { when: {} };
    const span = (name, className, tag = "span") => (row[name] = make(tag, { className, part: name }));
    const time = (name) =>
      make("div", {}, (row.when[name] = make("time", { part: "time" })), (row.when[`${name}Exact`] = make("span", { className: "vh" })));
    row.button = this.#button(this.#text("signOut"), () => this.#ask(row.session, row.button));
    row.item = make(
      "li",
      { part: "row", className: fresh ? "new" : "" },
      make(
        "div",
        { className: "row" },
        span("icon", "icon"),
        make("div", {}, make("div", { className: "name" }, span("device"), span("badge", "tag"), span("seats", "tag seats")), span("place", "dim", "p")),
        make("div", { className: "times", part: "times" }, time("used"), make("div", { className: "dim" }, time("begun"))),
        row.button,
      ),
    );
    return row;
  }

  #fill(row, session) {
    const name = this.#name(session);
    if (row.session?.kind !== session.kind) row.icon.replaceChildren(icon(session.kind));
    row.session = session;
    row.item.classList.toggle("here", session.isCurrent);
    say(row.device, name);
    say(row.badge, this.#text("thisDevice"));
    row.badge.hidden = !session.isCurrent;
    say(row.seats, session.seats ? this.#text("seats", { n: session.seats }) : "");
    row.seats.hidden = !session.seats;
    say(row.place, [session.location, session.ipAddress].filter(Boolean).join(" · "));
    say(row.button, this.#text("signOut"));
    row.button.ariaLabel = this.#text("signOutOf", { device: name });
    this.#time(row);
  }

  #time({ session, when }) {
    const exact = new Intl.DateTimeFormat(this.#lang, { dateStyle: "medium", timeStyle: "short" });
    for (const [name, instant] of [["used", session.lastUsedAt], ["begun", session.createdAt]]) {
      const at = new Date(instant);
      const now = name === "used" && session.isCurrent;
      say(when[name], now ? this.#text("now") : this.#text(name, { when: this.#ago(at) }));
      when[name].dateTime = instant;
      when[name].title = exact.format(at);
      say(when[`${name}Exact`], ` (${exact.format(at)})`);
    }
  }

  #tick() {
    if (!document.hidden) this.#rows.forEach((row) => this.#time(row));
  }
}

if (!customElements.get("sojourn-active-sessions")) customElements.define("sojourn-active-sessions", ActiveSessions);
