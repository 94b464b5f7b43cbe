/** <sojourn-active-sessions>: where a person is signed in. See README.md. */
import { Asking } from "./asking.js";
import { ASK, BONE, GROUP, NAMING, ROW, build, icon, line, make, parts, say, show } from "./markup.js";
import { EVENTS, News } from "./news.js";
import { ALIKE, fill, fillGroup, nameOf, placing, setTimes, tellApart } from "./rows.js";
import { Server } from "./server.js";
import { Words, translate } from "./words.js";

const SKELETON_AFTER = 150; // ms
const FRESH = 30_000; // ms for which a list will do while changes are told
const BACKOFF = 30_000; // ms at most until the next try
const TICK = 30_000; // ms between updates of relative times

export class ActiveSessions extends HTMLElement {
  static observedAttributes = ["src", "live", "lang", "strings", "sign-in-url"];

  headers = this.headers ?? {};
  #words = new Words(this);
  #server = new Server(this);
  #news = new News(
    () => this.#look(),
    (reason) => this.#leave(reason),
  );
  #sessions = new Map();
  #rows = new Map();
  #names = new Map();
  #groups = new Map();
  #next = null;
  #total = 0;
  #state = "";
  #reason = "";
  #asking = new Asking();
  #canRename = false;
  #busy = null;
  #loaded = 0; // when
  #failures = 0;
  #quiet = 0; // until when not to ask the server
  #dirty = false;
  #timers = {};
  #at;

  constructor() {
    super();
    const at = (this.#at = parts(build(this)));
    at.refresh.onclick = () => this.#again();
    at.others.onclick = () => at.others.ariaDisabled !== "true" && this.#ask(null, at.others);
    at.more.onclick = () => this.#more();
  }

  /** Words in the place of STRINGS, or of some of them. */
  get strings() {
    return this.#words.own;
  }

  set strings(value) {
    this.#words.own = value ?? {};
    this.#draw();
  }

  connectedCallback() {
    if (Object.hasOwn(this, "strings")) {
      const { strings } = this; // set before this module was there
      delete this.strings;
      this.strings = strings;
    }
    EVENTS.forEach((type) => addEventListener(type, this));
    show(this.#at.before, !this.#state && this.childElementCount);
    this.#timers.tick = setInterval(() => document.hidden || this.#rows.forEach((row) => this.#time(row)), TICK);
    this.#draw();
    this.refresh();
    this.#listen();
  }

  disconnectedCallback() {
    EVENTS.forEach((type) => removeEventListener(type, this));
    this.#busy?.abort();
    this.#news.hangUp();
    Object.values(this.#timers).forEach(clearTimeout);
    this.#timers = {};
  }

  handleEvent({ type, persisted }) {
    if (type === "sojourn:translated") return this.#draw();
    if (type === "pagehide") {
      this.#dirty = true; // when it comes back
      this.#news.hangUp();
    } else if (!document.hidden && (type !== "pageshow" || persisted)) this.#wake();
  }

  attributeChangedCallback(name, _, value) {
    if (name === "strings") this.strings = JSON.parse(value || "{}");
    if (!this.#timers.tick) return;
    if (name === "src" || name === "live") {
      this.#news.hangUp();
      this.#listen();
      this.refresh();
    }
    this.#draw();
  }

  #text(name, values) {
    return this.#words.text(name, values);
  }

  // The list

  #page(after, signals) {
    return this.#server.page(this.#sessions.size, after, signals);
  }

  /** Read the list again, as far as it is shown. */
  async refresh() {
    this.#busy?.abort();
    const { signal } = (this.#busy = new AbortController());
    clearTimeout(this.#timers.look);
    this.#timers.look = 0;
    this.#dirty = false;
    clearTimeout(this.#timers.bones);
    this.#timers.bones = setTimeout(() => this.#state || this.#stands || this.#enter("loading"), SKELETON_AFTER);
    this.#at.panel.ariaBusy = "true";
    try {
      const found = new Map();
      let page;
      do {
        page = await this.#page(page?.next, [signal]);
        page.data.forEach((session) => found.set(session.id, session));
      } while (page.next && found.size < this.#sessions.size);
      this.#take(found, page);
    } catch (fault) {
      if (!signal.aborted) this.#stumble(fault);
    }
    if (signal.aborted) return;
    clearTimeout(this.#timers.bones);
    this.#at.panel.ariaBusy = "false";
  }

  async #more() {
    try {
      const page = await this.#page(this.#next);
      const size = this.#sessions.size;
      page.data.forEach((session) => this.#sessions.set(session.id, session));
      this.#take(this.#sessions, page);
      this.#announce(this.#shown());
      if (!this.#next) [...this.#rows.values()][size]?.end.focus();
    } catch (fault) {
      this.#stumble(fault);
    }
  }

  #take(found, page) {
    const before = this.#loaded ? this.#total : -1;
    this.#sessions = new Map([...found].sort(([, a], [, b]) => b.isCurrent - a.isCurrent));
    this.#next = page.next;
    this.#total = page.total ?? found.size;
    this.#reason = this.#words.theirs(page.message) ?? (page.message && this.#text(found.size ? "onlyHere" : "notSetUp"));
    this.#canRename = page.canRename ?? this.#canRename;
    this.#loaded = Date.now();
    this.#failures = this.#quiet = 0;
    if (this.#at.notice.classList.contains("warn")) this.#tell("");
    this.#enter(found.size ? "list" : "empty");
    if (found.size && before !== this.#total) this.#announce(this.#text("count", { n: this.#total }));
    this.#listen();
  }

  /** Say why there is no list; one that is there stays. */
  #stumble({ status, body, wait }) {
    if (status === 401) return this.#leave("");
    wait = Math.max(wait * 1000, Math.min(BACKOFF, 2_500 * 2 ** this.#failures++));
    this.#quiet = Date.now() + wait;
    this.#look();
    const why = this.#words.theirs(body.error) ?? (status || navigator.onLine ? "" : this.#text("offline"));
    const retrying = this.#text("retrying", { n: Math.round(wait / 1000) });
    if (this.#state === "list") return this.#tell(`${this.#text("stale")} ${why} ${retrying}`, true);
    if (this.#stands && this.querySelector("li")) return; // what the server has listed will do
    this.#reason = `${why || this.#text("errorText")} ${retrying}`;
    this.#enter("error");
  }

  #leave(reason) {
    this.#news.hangUp();
    this.#busy?.abort();
    if (this.#state === "gone") return;
    this.#reason = this.#words.reason(reason);
    this.#enter("gone");
    this.#emit("signed-out", { reason });
  }

  #emit(name, detail) {
    return this.dispatchEvent(new CustomEvent(`sojourn:${name}`, { detail, bubbles: true, cancelable: true }));
  }

  // Signing out

  /** Ask in place, about a session or (null) all others. */
  #ask(session, opener) {
    const values = session?.length
      ? { n: session.length, device: nameOf(session[0], this.#words) }
      : { n: this.#total - 1, device: this.#names.get(session?.id) };
    const what = !session ? "askOthers" : session.length ? "askAll" : session.isCurrent ? "askHere" : "ask";
    const ask = this.#asking.open(ASK, opener, this.#words);
    say(ask.question, this.#text(what, values));
    ask.question.after(" ");
    const seats = session?.seats ? this.#text("askSeats", { n: session.seats }) : "";
    say(ask.effect, `${this.#text(`${what}Effect`, values)} ${seats}`);
    say(ask.go, this.#text("signOut"));
    ask.go.onclick = () => this.#end(session, ask);
    ask.cancel.focus();
  }

  /** Ask in place what a device is to be called. */
  #rename({ id, name, device }, opener) {
    const ask = this.#asking.open(NAMING, opener, this.#words);
    say(ask.question, this.#text("nameOf", { device: device || this.#text("unknownDevice") }));
    say(ask.go, this.#text("save"));
    ask.name.value = name ?? "";
    ask.root.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await this.#server.rename(id, ask.name.value);
      } catch ({ status, body }) {
        return status === 401 ? this.#leave("") : say(ask.effect, this.#words.theirs(body.error) || this.#text("failed"));
      }
      this.#asking.close(opener);
      return this.refresh();
    };
    ask.name.focus();
  }

  async #end(session, ask) {
    if (ask.go.ariaDisabled) return;
    ask.go.ariaDisabled = "true";
    say(ask.go, this.#text("signingOut"));
    if (session?.length) return this.#endAll(session, ask);
    const device = session && this.#names.get(session.id);
    let words;
    try {
      const { data } = await this.#server.end(session);
      words = this.#text(session ? "done" : "doneOthers", { n: data.ended, device });
      if (data.seats) words += ` ${this.#text("freed", { n: data.seats })}`;
      this.#emit("ended", { id: session?.id, ...data });
      this.#news.tell();
    } catch (fault) {
      if (fault.status === 401) return this.#leave("");
      if (fault.status !== 404 || !session) return this.#decline(fault, session, ask);
      words = this.#text("doneBefore", { device });
    }
    if (session?.isCurrent) return this.#leave("signed_out");
    this.#asking.close(this.#at.refresh);
    const ids = [...this.#sessions.keys()];
    const left = [...this.#sessions].filter(([id, each]) => (session ? id !== session.id : each.isCurrent));
    this.#total = session ? this.#total - 1 : left.length;
    this.#take(new Map(left), { next: session && this.#next, total: this.#total });
    this.#tell(words);
    if (session) this.#rows.get(left[Math.min(ids.indexOf(session.id), left.length - 1)]?.[0])?.end.focus();
    return this.refresh();
  }

  /** End each of one device's sessions, and say how many that were. */
  async #endAll(sessions, ask) {
    try {
      const ended = await this.#server.endEach(sessions);
      this.#emit("ended", { ended });
      this.#news.tell();
      this.#asking.close(this.#at.refresh);
      this.#tell(this.#text("doneOthers", { n: ended }));
    } catch (fault) {
      if (fault.status === 401) return this.#leave("");
      this.#decline(fault, sessions, ask);
    }
    return this.refresh();
  }

  /** Say in the place where it was asked why it was not done. */
  #decline({ body }, session, ask) {
    const reauth = body.code === "reauth_required";
    ask.go.ariaDisabled = null;
    say(ask.go, this.#text("signOut"));
    say(ask.effect, reauth ? this.#text("reauth") : this.#words.theirs(body.error) || this.#text("failed"));
    this.#announce(ask.effect.textContent);
    const ours = reauth && this.#emit("reauth-required", { retry: () => this.#end(session, ask) });
    const link = ours && this.#link();
    if (!link) return;
    ask.go.replaceWith(link);
    link.focus();
  }

  #link() {
    const url = this.getAttribute("sign-in-url");
    if (!url) return null;
    const link = line(this.#text("signIn"), "<a part=link>");
    link.href = url;
    return link;
  }

  // Live

  #listen() {
    if (this.#state === "gone") return;
    this.#news.listen(this.#server.base, this.getAttribute("live"), () => this.#state === "empty");
  }

  /** Read the list soon: once for a burst, and while somebody looks. */
  #look() {
    this.#dirty = true;
    if (document.hidden || this.#timers.look) return;
    const look = () => {
      this.#timers.look = 0;
      if (!document.hidden) this.refresh();
    };
    this.#timers.look = setTimeout(look, Math.max(100, this.#quiet - Date.now()));
  }

  #wake() {
    this.#listen();
    const old = !this.#news.live || Date.now() - this.#loaded > FRESH;
    if (this.#dirty || this.#failures || old) this.#look();
  }

  // On the screen

  async #again() {
    await this.refresh();
    if (this.#failures || this.#state === "gone") return;
    this.#tell("");
    this.#announce(this.#text("refreshed"));
    this.#at.refresh.firstChild.replaceWith(icon("done"));
    setTimeout(() => this.#draw(), 2_000);
  }

  #announce(words) {
    const { log } = this.#at;
    log.append(line(words));
    if (log.childElementCount > 3) log.firstChild.remove();
  }

  #shown() {
    return this.#text("shown", { n: this.#sessions.size, total: this.#total });
  }

  /** Say above the list what was done, or is wrong. */
  #tell(words, wrong) {
    const { notice } = this.#at;
    notice.classList.toggle("warn", !!wrong);
    show(notice, words);
    if (!words) return;
    notice.replaceChildren(icon(wrong ? "error" : "done"), line(words), wrong ? this.#retry() : "");
    this.#announce(words);
  }

  #retry() {
    const button = line(this.#text("retry"), '<button part="retry button">');
    button.onclick = () => this.refresh();
    return button;
  }

  /** Whether what is between the element's tags still stands in for the panel. */
  get #stands() {
    return !this.#at.before.hidden;
  }

  /** Take the place of what stood in; the focus, and what was said there, stay. */
  #takeOver() {
    const { before, refresh } = this.#at;
    const focused = this.contains(document.activeElement) && document.activeElement;
    const said = this.querySelector("[role=status]")?.textContent.trim();
    show(before);
    this.replaceChildren();
    this.#draw();
    if (focused) (this.#rows.get(focused.dataset.session)?.end ?? refresh).focus();
    if (said && this.#state === "list") this.#tell(said);
  }

  #enter(state) {
    const { state: words, refresh } = this.#at;
    const root = this.shadowRoot;
    const focused = root.activeElement;
    const changed = this.#state !== state;
    this.#state = state;
    if (this.#stands) this.#takeOver();
    else this.#draw();
    if (!changed || state === "list") return;
    if (state === "loading") return this.#announce(this.#text("loading"));
    this.#announce(words.innerText);
    if (focused && !root.activeElement) (words.querySelector("button, a") ?? refresh).focus();
  }

  #draw() {
    const at = this.#at;
    const state = this.#state;
    const list = state === "list";
    const alone = this.#total < 2;
    at.panel.dataset.state = state;
    show(at.panel, !this.#stands);
    this.#words.mark(at.panel);
    say(at.title, this.#text("title"));
    const panel = ["empty", "error", "gone"].includes(state) ? state : "";
    const intro = (list && this.#reason) || this.#text("intro");
    say(at.summary, (list ? `${this.#text("count", { n: this.#total })}. ` : "") + (panel ? "" : intro));
    at.refresh.replaceChildren(icon("refresh"), this.#text("refresh"));
    show(at.actions, list || state === "empty");
    say(at.others, this.#text("others"));
    show(at.others, list);
    at.others.ariaDisabled = alone;
    say(at.why, this.#text("noOthers"));
    show(at.why, list && alone);
    show(at.footer, list && this.#next);
    say(at.shown, this.#shown());
    say(at.more, this.#text("more"));
    show(at.notice, !at.notice.hidden && at.notice.textContent);
    show(at.list, list || !state || state === "loading");
    if (list) this.#drawRows();
    else {
      this.#asking.close();
      this.#rows.clear();
      this.#groups.clear();
      at.list.replaceChildren(...(state === "loading" ? [0, 1, 2].map(() => make(BONE)) : []));
    }
    this.#drawState(panel);
  }

  #drawState(state) {
    const panel = this.#at.state;
    show(panel, state);
    panel.replaceChildren();
    if (!state) return;
    if (state !== "empty") this.#tell("");
    const words = state === "gone" ? `${this.#reason} ${this.#text("goneText")}` : this.#reason || this.#text("emptyText");
    const badge = make("<div class=icon>");
    badge.append(icon(state === "empty" ? "desktop" : state));
    const next = state === "error" ? this.#retry() : state === "gone" && this.#link();
    panel.append(badge, line(this.#text(`${state}Title`), "<h3>"), line(words.trim(), "<p class=dim>"), next || "");
  }

  /** Put each row in its place. Those that stay are not moved: they keep focus and selection. */
  #drawRows() {
    const { list, refresh } = this.#at;
    if (!this.#rows.size) list.replaceChildren();
    for (const [id, { root }] of this.#rows) {
      if (this.#sessions.has(id)) continue;
      const next = root.nextElementSibling ?? root.previousElementSibling;
      if (root.contains(this.shadowRoot.activeElement)) (next?.querySelector("[part~=end]") ?? refresh).focus();
      if (root.contains(this.#asking.now?.root)) this.#asking.now = null;
      root.remove();
      this.#rows.delete(id);
    }
    const fresh = this.#rows.size > 0;
    const all = [...this.#sessions.values()];
    this.#names = tellApart(all, this.#words, Date.now() + this.#server.skew);
    const kin = Map.groupBy(all.filter((each) => !each.isCurrent), (each) => nameOf(each, this.#words));
    const put = placing();
    for (const [id, session] of this.#sessions) {
      const row = this.#rows.get(id) ?? this.#row(id, fresh);
      fill(row, session, this.#names.get(id), this.#words, this.#canRename);
      this.#time(row);
      const alike = session.isCurrent ? [] : kin.get(nameOf(session, this.#words));
      if (alike.length <= ALIKE) {
        put(list, row.root);
        continue;
      }
      const { root, members } = this.#group(alike);
      if (alike[0] === session) put(list, root);
      put(members, row.root);
    }
    for (const [name, { root }] of this.#groups) {
      if (kin.get(name)?.length > ALIKE) continue;
      root.remove();
      this.#groups.delete(name);
    }
  }

  /** Show sessions of one device as one row that opens. */
  #group(sessions) {
    const device = nameOf(sessions[0], this.#words);
    let group = this.#groups.get(device);
    if (!group) {
      this.#groups.set(device, (group = parts(make(GROUP))));
      group.icon.append(icon(sessions[0].kind));
      say(group.device, device);
      group.all.onclick = () => this.#ask(group.sessions, group.all);
    }
    fillGroup(group, sessions, device, this.#words);
    return group;
  }

  #row(id, fresh) {
    const row = parts(make(ROW));
    row.root.classList.toggle("new", fresh);
    row.end.onclick = () => this.#ask(row.session, row.end);
    row.rename.onclick = () => this.#rename(row.session, row.rename);
    this.#rows.set(id, row);
    return row;
  }

  #time(row) {
    setTimes(row, this.#names.get(row.session.id), this.#words, Date.now() + this.#server.skew);
  }
}

if (!customElements.get("sojourn-active-sessions")) customElements.define("sojourn-active-sessions", ActiveSessions);
