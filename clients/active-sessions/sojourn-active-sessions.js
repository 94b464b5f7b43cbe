// Put together from clients/active-sessions/src by build.py there: change that.
const ELEMENT = `:host { display: block; container-type: inline-size; color-scheme: light dark; }
:host([hidden]) { display: none !important; }
:host([theme=light]) { color-scheme: light; }
:host([theme=dark]) { color-scheme: dark; }
.danger, a { color: var(--panel) !important; background: var(--accent) !important; }
.danger { background: var(--bad) !important; }
:is(.danger, a):hover { opacity: .9; }
.row [aria-expanded=true] { visibility: hidden; }
.ask { background: var(--bad-soft); }
form.ask { background: var(--ground); }
input { font: inherit; padding: 6px 12px; color: var(--ink); background: var(--panel); border: 1px solid var(--edge); border-radius: var(--sojourn-control-radius, 8px); }
li .ask { padding-inline-start: 76px; }
.bone { height: 12px; margin: 4px 0; max-width: 260px; border-radius: 6px; background: var(--line); animation: pulse 1.6s infinite; }
.bone.icon { height: 40px; }
[data-state=""] ul { min-height: 231px; }
.new, .ask { animation: in .15s; }
@keyframes in { from { opacity: 0; } }
@keyframes pulse { 50% { opacity: .5; } }
`;
const PANEL = `[hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }
section {
background: var(--panel); color: var(--ink); border: 1px solid var(--line);
border-radius: var(--sojourn-radius, 12px); overflow: clip;
font: 400 14px/20px var(--sojourn-font, Inter, ui-sans-serif, system-ui, sans-serif);
font-feature-settings: "cv11"; overflow-wrap: anywhere; }
header, footer, .actions, .name, .ask, .notice { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; }
header, footer, .ask, .notice, .row { padding: 12px 20px; gap: 12px 16px; }
header { padding-block: 20px; }
footer { justify-content: space-between; }
footer, li, .notice, .state { border-top: 1px solid var(--line); }
.words, .ask p, .notice p { flex: 1 1 240px; }
h2 { font-size: 16px; line-height: 24px; }
h2, h3, b { font-weight: 650; }
.dim { color: var(--dim); }
.others:not([aria-disabled=true]) { color: var(--bad); }
.why { flex-basis: 100%; margin-top: -4px; text-align: end; }
button, a { display: inline-flex; gap: 8px; align-items: center; justify-content: center;
min-height: 36px; padding: 4px 12px; font: inherit; font-weight: 500; text-decoration: none;
color: var(--ink); background: var(--panel); border: 1px solid var(--edge);
border-radius: var(--sojourn-control-radius, 8px); cursor: pointer; white-space: nowrap; transition: .12s; }
.name .rename { min-height: 24px; padding: 0 4px; font-size: 13px; color: var(--dim); background: none; border-color: transparent; text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
button:hover, a:hover { background: var(--ground); border-color: var(--dim); }
[aria-disabled=true] { color: var(--dim); background: var(--ground); border-color: var(--edge) !important; cursor: default; }
svg { width: 20px; height: 20px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.75;
stroke-linecap: round; stroke-linejoin: round; }
:is(button, a) svg { width: 16px; height: 16px; }
ul { list-style: none; padding: 0; }
li { content-visibility: auto; contain-intrinsic-size: auto 77px; }
.row { display: grid; grid-template-columns: 40px minmax(0, 1fr) minmax(0, auto) auto; align-items: center; row-gap: 4px; min-height: 76px; }
.icon { display: grid; place-items: center; width: 40px; height: 40px; border-radius: 10px;
color: var(--dim); background: var(--ground); }
.name { font-weight: 500; row-gap: 2px; }
.tag { padding: 0 8px; border-radius: 10px; font-size: 13px; white-space: nowrap; color: var(--dim); background: var(--ground); }
.current .icon, .here { color: var(--accent); background: var(--accent-soft); }
.times { text-align: end; }
.parts > span:not(:empty, :has(> bdi:empty)) ~ span:not(:empty, :has(> bdi:empty))::before { content: " · "; }
.row bdi { text-align: -webkit-match-parent; text-align: match-parent; }
.notice { color: var(--ok); background: var(--ok-soft); }
.warn { color: var(--warn); background: var(--warn-soft); }
.notice, .state { text-wrap: balance; }
.state { display: grid; justify-items: center; gap: 4px; padding: 40px 24px 48px; text-align: center; }
.state p { max-width: 46ch; }
.state .icon { margin-bottom: 8px; }
.state :is(button, a) { margin-top: 16px; }
.vh { position: absolute; width: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.slim { display: none; }
summary { cursor: pointer; }
summary { padding: 10px 0; color: var(--dim); width: fit-content; }
.row > .name { grid-column: 2 / -2; }
li > details > summary { margin-block: -12px 12px; margin-inline: 76px 20px; }
li li .row { padding-inline-start: 48px; }
@container (max-width: 639px) {
header, footer, .ask, .notice, .row { padding-inline: 16px !important; }
.row { grid-template-columns: 40px minmax(0, 1fr) auto; align-items: start; column-gap: 12px; }
.row { padding-block: 6px 0; row-gap: 0; }
.row bdi { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.parts bdi { display: inline; }
.row > .slim { margin-top: -8px; }
.row:not(:has(.slim)) { padding-bottom: 12px; }
.times, .wide { display: none; }
.slim { display: revert; }
.row > .slim { grid-area: 2 / 2 / 2 / 4; }
.why { text-align: start; }
p.slim { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
details > .parts { display: block; padding-bottom: 8px; }
li > details > summary { margin-block: -8px 8px; margin-inline: 68px 16px; }
li li .row { padding-inline-start: 28px !important; }
.actions { flex: 1 1 100%; }
.others, .ask button { flex: 1; }
}
@media (pointer: coarse) { button, a { min-height: 44px; } }
@media (prefers-reduced-motion) { * { animation: none !important; transition: none !important; } }
@media (forced-colors: active) {
.tag, .icon, .notice, .ask { border: 1px solid CanvasText; }
.danger { border: 2px solid Highlight; }
}
`;
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
refresh: '<path d="M21 12a9 9 0 1 1-9-9c2.52 0 4.93 1 6.74 2.74L21 8"/><path d="M21 3v5h-5"/>',
error: '<path d="m21.73 18-8-14a2 2 0 0 0-3.48 0l-8 14A2 2 0 0 0 4 21h16a2 2 0 0 0 1.73-3M12 9v4M12 17h.01"/>',
gone: '<path d="m16 17 5-5-5-5M21 12H9M9 21H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2h4"/>',
done: '<path d="M20 6 9 17l-5-5"/>',
};
const TOKENS = `ground f7f9fb 0b1113, panel ffffff 131a1d, line e1e6e8 272f34, edge c7cfd3 3d474c,
ink 141d22 edf1f3, dim 5b676d 939da2, accent 006c6c 60d3cd, accent-soft e0f5f5 0a2e2e, ok 1b6c3a 78d694,
ok-soft e3f7e7 172e1d, warn 895709 efba64, warn-soft fff1d5 382810, bad b12725 f68880,
bad-soft ffedeb 421c19`.replace(/(\S+) (\w+) (\w+),?/g, "--$1:var(--sojourn-$1,light-dark(#$2,#$3));");
let sheet;
const XHTML = "http://www.w3.org/1999/xhtml";
const SVG = "http://www.w3.org/2000/svg";
const STYLE = `section { ${TOKENS} } ${PANEL} ${ELEMENT}`;
const SHELL = `<section part=panel aria-labelledby=title>
<header part=header>
<div class=words><h2 id=title part=title></h2><p class=dim part=summary></p></div>
<div class=actions part=actions>
<button part="refresh button"></button><button class=others part="others button" aria-describedby=why></button>
</div>
<p class="dim why" id=why part=why></p>
</header>
<div class=notice part=notice></div>
<div class=state part=state></div>
<ul part=list role=list></ul>
<footer part=footer><p class=dim part=shown></p><button part="more button"></button></footer>
<div class=vh part=log role=log></div>
</section>`;
const ROW = `<li part=row><div class=row>
<span class=icon part=icon></span>
<div>
<div class=name><bdi part=device></bdi><span class="tag here" part=here></span><span class=tag part=seats></span><button class=rename part="rename button"></button></div>
<p class="dim parts wide"><span><bdi part=says></bdi></span><span><bdi part=place></bdi></span><span><bdi dir=ltr part=ip></bdi></span><span><bdi part=last></bdi></span></p>
<p class="dim parts slim"><span><bdi part=there></bdi></span><span part=lately></span></p>
</div>
<div class=times>
<div><time part=used></time><span class=vh></span></div>
<div class="dim parts"><span><time part=begun></time><span class=vh></span></span><span><time part=ends></time><span class=vh></span></span></div>
</div>
<details class=slim part=more-of-it><summary part=facts></summary><p class="dim parts"></p></details>
<button part="end button"></button>
</div></li>`;
const GROUP = `<li part=group><div class=row>
<span class=icon part=icon></span>
<div class=name><bdi part=device></bdi><span class=tag part=count></span></div>
<button part="all button"></button>
</div><details><summary part=unfold></summary><ul part=members role=list></ul></details></li>`;
const ASK = `<div class=ask part=confirm role=group aria-labelledby=question aria-describedby=effect>
<p><b id=question part=question></b> <span id=effect part=effect></span></p>
<div class=actions><button part="cancel button"></button><button class=danger part="go button"></button></div>
</div>`;
const NAMING = `<form class=ask part=naming>
<label><b part=question></b> <input part=name maxlength=64 autocomplete=off /></label> <span role=alert part=effect></span>
<div class=actions><button type=button part="cancel button"></button><button part="go button"></button></div>
</form>`;
const BONE = `<li aria-hidden=true><div class=row><div class="icon bone"></div>
<div><div class=bone></div><div class=bone></div></div></div></li>`;
const make = (markup) => {
const open = [document.createDocumentFragment()];
for (const [, close, tag, attributes, empty] of markup.matchAll(/<(\/?)(\w+)([^>]*?)(\/?)>/g)) {
if (close) open.pop();
else {
const space = tag === "svg" ? SVG : (open.at(-1).namespaceURI ?? XHTML);
const element = document.createElementNS(space, tag);
for (const [, name, a, b] of attributes.matchAll(/([\w-]+)(?:=(?:"([^"]*)"|([^\s"]+)))?/g))
element.setAttribute(name, a ?? b ?? "");
open.at(-1).append(element);
if (!empty) open.push(element);
}
}
return open[0].firstElementChild;
};
const parts = (root) => {
const found = { root };
for (const each of root.querySelectorAll("[part]")) found[each.part[0]] = each;
return found;
};
const icon = (name) => make(`<svg viewBox="0 0 24 24" aria-hidden=true>${ICONS[name] ?? ICONS.unknown}</svg>`);
const say = (element, text) => {
if (element.textContent !== text) element.textContent = text;
};
const line = (text, tag = "<p>") => {
const element = make(tag);
say(element, text);
return element;
};
const show = (element, shown) => (element.hidden = !shown);
const build = (host) => {
const root = host.attachShadow({ mode: "open" });
if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
root.adoptedStyleSheets = [sheet];
root.append(make("<slot part=before>"), make(SHELL));
return root;
};
class Asking {
now = null;
open(markup, opener, words) {
this.close();
const ask = (this.now = parts(make(markup)));
say(ask.cancel, words.text("cancel"));
ask.opener = opener;
ask.cancel.onclick = () => this.close(opener);
ask.root.onkeydown = ({ key }) => {
if (key === "Escape") this.close(opener);
};
opener.ariaExpanded = "true";
opener.closest(".row, header").after(ask.root);
return ask;
}
close(focus) {
if (!this.now) return;
this.now.root.remove();
this.now.opener.ariaExpanded = "false";
this.now = null;
focus?.focus();
}
}
const POLL = 60_000;
const RETRY_WITHIN = 30_000;
const EVENTS = ["pagehide", "pageshow", "online", "visibilitychange", "sojourn:translated"];
class News {
#socket = null;
#drops = 0;
#tabs = null;
#poll;
#again;
#look;
#leave;
constructor(look, leave) {
this.#look = look;
this.#leave = leave;
}
get live() {
return this.#socket?.readyState === 1;
}
listen(base, live, alone) {
if (!this.#tabs) {
this.#tabs = new BroadcastChannel("sojourn-active-sessions");
this.#tabs.onmessage = () => this.#look();
}
if (live === null || this.#socket) return;
clearTimeout(this.#again);
clearInterval(this.#poll);
this.#poll = setInterval(() => (this.live && !alone()) || this.#look(), POLL);
if (live === "poll") return;
const socket = (this.#socket = new WebSocket(`${base}/live`));
socket.onopen = () => {
if (this.#drops) this.#look();
this.#drops = 0;
};
socket.onmessage = ({ data }) => {
const { type, reason } = JSON.parse(data);
if (type === "changed") this.#look();
if (type === "signedOut") this.#leave(reason);
};
socket.onclose = ({ code }) => {
if (this.#socket !== socket) return;
this.#socket = null;
if (code === 4401) return this.#leave("");
const wait = Math.min(RETRY_WITHIN, 1_000 * 2 ** this.#drops++) * (0.5 + Math.random() / 2);
this.#again = setTimeout(() => this.listen(base, live, alone), wait);
};
}
tell() {
this.#tabs?.postMessage(0);
}
hangUp() {
const socket = this.#socket;
this.#socket = null;
clearTimeout(this.#again);
clearInterval(this.#poll);
socket?.close();
this.#tabs?.close();
this.#tabs = null;
}
}
const ALIKE = 8;
const nameOf = (session, words) => session.name || session.device || words.text("unknownDevice");
const tellApart = (all, words, now) => {
const names = all.map((each) => nameOf(each, words));
const more = [
(each) => each.location || each.ipAddress,
(each) => words.text("used", { when: words.ago(now - new Date(each.lastUsedAt), "used") }),
(each) => words.text("begun", { when: words.exact(new Date(each.createdAt), "begun") }),
(_, n) => n + 1,
];
for (const word of more) {
const known = [...names];
known.forEach((name, i) => {
if (known.indexOf(name) === known.lastIndexOf(name)) return;
const said = word(all[i], i);
if (said) names[i] += `, ${said}`;
});
}
return new Map(all.map((each, i) => [each.id, names[i]]));
};
const fill = (row, session, name, words, canRename) => {
const { kind, isCurrent, seats, location, ipAddress, device, lastLocation, lastIpAddress } = session;
const last = lastLocation || lastIpAddress;
if (row.session?.kind !== kind) row.icon.replaceChildren(icon(kind));
row.session = session;
row.root.classList.toggle("current", isCurrent);
say(row.device, nameOf(session, words));
say(row.here, words.text("thisDevice"));
show(row.here, isCurrent);
say(row.seats, words.text("seats", { n: seats }));
show(row.seats, seats);
say(row.place, location ?? "");
say(row.there, location ?? "");
say(row.ip, ipAddress ?? "");
say(row.says, session.name ? device : "");
say(row.last, last && words.text("lastFrom", { place: last }));
show(row.rename, canRename);
say(row.rename, words.text("rename"));
row.rename.ariaLabel = words.text("renameOf", { device: name });
say(row.end, words.text("signOut"));
row.end.ariaLabel = words.text("signOutOf", { device: name });
};
const setTimes = ({ session, used, begun, ends, lately, facts, says, last }, name, words, now) => {
const set = (time, sentence, instant) => {
const at = new Date(instant);
say(time, words.text(sentence, { when: words.ago(now - at, sentence) }));
time.dateTime = instant;
time.title = words.exact(at, sentence);
say(time.nextSibling, ` (${time.title})`);
};
set(used, session.isCurrent ? "now" : "used", session.lastUsedAt);
set(begun, "begun", session.createdAt);
set(ends, "ends", session.expiresAt);
say(lately, session.isCurrent ? "" : used.textContent);
say(facts, words.text("facts"));
facts.ariaLabel = `${facts.textContent}: ${name}`;
say(facts.nextSibling, [says.textContent, session.ipAddress, last.textContent, begun.textContent, ends.textContent].filter(Boolean).join(" · "));
};
const fillGroup = (group, sessions, device, words) => {
const n = sessions.length;
group.sessions = sessions;
say(group.unfold, words.text("unfold"));
group.unfold.ariaLabel = `${group.unfold.textContent}: ${device}`;
say(group.count, words.text("grouped", { n }));
say(group.all, words.text("endAll", { n }));
group.all.ariaLabel = words.text("endAllOf", { n, device });
};
const placing = () => {
const placed = new Map();
return (list, root) => {
const last = placed.get(list);
const at = last ? last.nextSibling : list.firstChild;
if (root !== at) list.insertBefore(root, at);
placed.set(list, root);
};
};
const PAGE = 50;
const TIMEOUT = 15_000;
class Server {
skew = 0;
#element;
constructor(element) {
this.#element = element;
}
get base() {
return this.#element.getAttribute("src") ?? "/api/user/active-sessions";
}
async ask(path, method = "GET", signals = [], sent = undefined) {
let response;
try {
response = await fetch(this.base + path, {
method,
body: sent,
headers: { Accept: "application/json", ...this.#element.headers },
cache: "no-store",
credentials: "include",
signal: AbortSignal.any([...signals, AbortSignal.timeout(TIMEOUT)]),
});
} catch {
if (/^http/.test(this.base)) console.warn(`SOJOURN_TRUSTED_ORIGINS=${location.origin}?`);
throw { status: 0, body: {}, wait: 0 };
}
const { ok, status, headers } = response;
this.skew = (Date.parse(headers.get("Date")) || Date.now()) - Date.now();
const body = await response.json().catch(() => ({}));
if (ok && body.success) return body;
throw { status, body, wait: Number(headers.get("Retry-After")) || 0 };
}
page(shown, after, signals) {
const limit = Math.min(200, Math.max(PAGE, shown));
return this.ask(`?limit=${limit}` + (after ? `&after=${encodeURIComponent(after)}` : ""), "GET", signals);
}
end(session) {
return session ? this.ask(`/${encodeURIComponent(session.id)}`, "DELETE") : this.ask("/logout-others", "POST");
}
rename(id, name) {
return this.ask(`/${encodeURIComponent(id)}`, "PATCH", [], JSON.stringify({ name }));
}
async endEach(sessions) {
let ended = 0;
for (const each of sessions) {
const { data } = await this.end(each).catch((fault) => {
if (fault.status !== 404) throw fault;
return { data: { ended: 0 } };
});
ended += data.ended;
}
return ended;
}
}
const STRINGS = {
title: "Where you’re signed in",
intro: "Sign out any device that you don’t recognize.",
count: {
one: "{n} active session",
other: "{n} active sessions"
},
thisDevice: "This device",
unknownDevice: "Unknown device",
now: "Active now",
justNow: "just now",
used: "Active {when}",
begun: "Signed in {when}",
ends: "Expires {when}",
facts: "Details",
grouped: {
one: "{n} session",
other: "{n} sessions"
},
unfold: "Show each of them",
endAll: "Sign out all {n}",
endAllOf: "Sign out all {n} of {device}",
seats: {
one: "{n} seat in use",
other: "{n} seats in use"
},
lastFrom: "Last used from {place}",
rename: "Rename",
renameOf: "Rename {device}",
nameOf: "Name for {device}",
save: "Save",
signOut: "Sign out",
signOutOf: "Sign out {device}",
ask: "Sign out {device}?",
askEffect: "It will need to sign in again.",
askHere: "Sign out of this device?",
askHereEffect: "You will need to sign in again here.",
askSeats: {
one: "Its seat becomes free.",
other: "Its {n} seats become free."
},
askAll: "Sign out all {n} sessions of {device}?",
askAllEffect: "They will need to sign in again.",
askOthers: {
one: "Sign out {n} other device?",
other: "Sign out {n} other devices?"
},
askOthersEffect: {
one: "It will need to sign in again.",
other: "They will need to sign in again."
},
signingOut: "Signing out…",
done: "{device} is signed out.",
doneBefore: "{device} was signed out already.",
doneOthers: {
one: "{n} other device is signed out.",
other: "{n} other devices are signed out."
},
freed: {
one: "{n} seat is free again.",
other: "{n} seats are free again."
},
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
retrying: {
one: "Trying again in {n} second.",
other: "Trying again in {n} seconds."
},
stale: "This list may be out of date.",
failed: "We can’t tell whether that worked. It is safe to try again.",
reauth: "First confirm that it is you: sign in again.",
goneTitle: "You have been signed out",
goneText: "Sign in again to see where else you are signed in.",
signIn: "Sign in again",
onlyHere: "This is the only place where you are signed in. Whenever you sign in on another device, it appears here.",
notSetUp: "Active sessions have not been set up on this site yet, so there is nothing to show. The site's operators have been told.",
reasons: {
signed_out_elsewhere: "This device was signed out from another one.",
signed_out_everywhere: "You signed out everywhere.",
signed_out: "You signed out.",
revoked: "The site’s operators signed this device out.",
signed_out_by_operator: "The site’s operators signed this device out.",
cut_off: "The site’s operators signed everybody out.",
idle: "This device had not been used for a while.",
expired: "Your sign-in had reached its end."
}
};
const RIGHT_TO_LEFT = /^(ar|dv|fa|he|ps|ur|yi)\b/;
const TRANSLATIONS = new Map();
const kindOf = (tag) => {
try {
const { language, script } = new Intl.Locale(tag).maximize();
return `${language}-${script}`;
} catch {
return "";
}
};
const translate = (lang, strings) => {
TRANSLATIONS.set(kindOf(lang), { lang, strings });
dispatchEvent(new Event("sojourn:translated"));
};
const UNITS = { month: 2_629_800, day: 86_400, hour: 3_600, minute: 60 };
class Words {
own = {};
#element;
#tag;
#found;
constructor(element) {
this.#element = element;
}
get #here() {
return this.#element.closest("[lang]")?.lang || undefined;
}
get #known() {
const here = this.#here ?? "";
if (here !== this.#tag || !this.#found) [this.#tag, this.#found] = [here, TRANSLATIONS.get(kindOf(here))];
return this.#found;
}
lang(name) {
if (this.own[name]) return this.#here;
return this.#known?.strings[name] ? this.#known.lang : "en";
}
theirs(said) {
return /^en\b/.test(this.lang("title") ?? "en") ? said : undefined;
}
mark(element) {
const lang = this.#known?.lang ?? "en";
for (const [name, value] of Object.entries({ lang, dir: RIGHT_TO_LEFT.test(lang) ? "rtl" : "ltr" })) {
if (Object.keys(this.own).length) element.removeAttribute(name);
else element.setAttribute(name, value);
}
}
#words(name) {
return this.own[name] ?? this.#known?.strings[name] ?? STRINGS[name];
}
text(name, values = {}) {
const lang = this.lang(name);
let words = this.#words(name);
if (words.other) words = words[new Intl.PluralRules(lang).select(values.n)] ?? words.other;
const apart = (_, key) => values[key].toLocaleString(lang).replace(/.*[^ -~].*/, "\u2068$&\u2069");
return words.replace(/{(\w+)}/g, apart);
}
reason(name) {
return this.#words("reasons")[name] ?? "";
}
ago(ms, name) {
const seconds = Math.abs(ms) / 1000;
const lang = this.lang(name);
const format = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
if (seconds < 60) return lang === this.lang("justNow") ? this.text("justNow") : format.format(0, "second");
const [unit, size] = Object.entries(UNITS).find((each) => seconds >= each[1]);
return format.format(ms > 0 ? -Math.floor(seconds / size) : Math.round(seconds / size), unit);
}
exact(instant, name) {
return new Intl.DateTimeFormat(this.lang(name), { dateStyle: "medium", timeStyle: "short" }).format(instant);
}
}
const SKELETON_AFTER = 150;
const FRESH = 30_000;
const BACKOFF = 30_000;
const TICK = 30_000;
class ActiveSessions extends HTMLElement {
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
#loaded = 0;
#failures = 0;
#quiet = 0;
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
get strings() {
return this.#words.own;
}
set strings(value) {
this.#words.own = value ?? {};
this.#draw();
}
connectedCallback() {
if (Object.hasOwn(this, "strings")) {
const { strings } = this;
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
this.#dirty = true;
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
#page(after, signals) {
return this.#server.page(this.#sessions.size, after, signals);
}
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
#stumble({ status, body, wait }) {
if (status === 401) return this.#leave("");
wait = Math.max(wait * 1000, Math.min(BACKOFF, 2_500 * 2 ** this.#failures++));
this.#quiet = Date.now() + wait;
this.#look();
const why = this.#words.theirs(body.error) ?? (status || navigator.onLine ? "" : this.#text("offline"));
const retrying = this.#text("retrying", { n: Math.round(wait / 1000) });
if (this.#state === "list") return this.#tell(`${this.#text("stale")} ${why} ${retrying}`, true);
if (this.#stands && this.querySelector("li")) return;
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
#listen() {
if (this.#state === "gone") return;
this.#news.listen(this.#server.base, this.getAttribute("live"), () => this.#state === "empty");
}
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
get #stands() {
return !this.#at.before.hidden;
}
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
export { ActiveSessions, STRINGS, translate };
