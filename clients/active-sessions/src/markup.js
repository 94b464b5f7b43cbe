/** What is on the screen: elements of our own markup, and the style that they have. */
import ELEMENT from "./element.css";
import PANEL from "./panel.css";

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
  refresh: '<path d="M21 12a9 9 0 1 1-9-9c2.52 0 4.93 1 6.74 2.74L21 8"/><path d="M21 3v5h-5"/>',
  error: '<path d="m21.73 18-8-14a2 2 0 0 0-3.48 0l-8 14A2 2 0 0 0 4 21h16a2 2 0 0 0 1.73-3M12 9v4M12 17h.01"/>',
  gone: '<path d="m16 17 5-5-5-5M21 12H9M9 21H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2h4"/>',
  done: '<path d="M20 6 9 17l-5-5"/>',
};

// Each color: light, dark
const TOKENS = `ground f7f9fb 0b1113, panel ffffff 131a1d, line e1e6e8 272f34, edge c7cfd3 3d474c,
  ink 141d22 edf1f3, dim 5b676d 939da2, accent 006c6c 60d3cd, accent-soft e0f5f5 0a2e2e, ok 1b6c3a 78d694,
  ok-soft e3f7e7 172e1d, warn 895709 efba64, warn-soft fff1d5 382810, bad b12725 f68880,
  bad-soft ffedeb 421c19`.replace(/(\S+) (\w+) (\w+),?/g, "--$1:var(--sojourn-$1,light-dark(#$2,#$3));");

let sheet;
const XHTML = "http://www.w3.org/1999/xhtml";
const SVG = "http://www.w3.org/2000/svg";
const STYLE = `section { ${TOKENS} } ${PANEL} ${ELEMENT}`;

export const SHELL = `<section part=panel aria-labelledby=title>
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
export const ROW = `<li part=row><div class=row>
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
export const GROUP = `<li part=group><div class=row>
  <span class=icon part=icon></span>
  <div class=name><bdi part=device></bdi><span class=tag part=count></span></div>
  <button part="all button"></button>
</div><details><summary part=unfold></summary><ul part=members role=list></ul></details></li>`;
export const ASK = `<div class=ask part=confirm role=group aria-labelledby=question aria-describedby=effect>
  <p><b id=question part=question></b> <span id=effect part=effect></span></p>
  <div class=actions><button part="cancel button"></button><button class=danger part="go button"></button></div>
</div>`;
export const NAMING = `<form class=ask part=naming>
  <label><b part=question></b> <input part=name maxlength=64 autocomplete=off /></label> <span role=alert part=effect></span>
  <div class=actions><button type=button part="cancel button"></button><button part="go button"></button></div>
</form>`;
export const BONE = `<li aria-hidden=true><div class=row><div class="icon bone"></div>
  <div><div class=bone></div><div class=bone></div></div></div></li>`;

/** Make an element of our own markup, without texts. A browser reads no HTML for it: Trusted Types forbid that. */
export const make = (markup) => {
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

/** Return an element's parts by name, itself as `root`. */
export const parts = (root) => {
  const found = { root };
  for (const each of root.querySelectorAll("[part]")) found[each.part[0]] = each;
  return found;
};

export const icon = (name) => make(`<svg viewBox="0 0 24 24" aria-hidden=true>${ICONS[name] ?? ICONS.unknown}</svg>`);

export const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text; // what is selected stays selected
};

export const line = (text, tag = "<p>") => {
  const element = make(tag);
  say(element, text);
  return element;
};

export const show = (element, shown) => (element.hidden = !shown);


/** Give an element a shadow root with our style in it: the panel, and a slot for what stands in for it. */
export const build = (host) => {
  const root = host.attachShadow({ mode: "open" });
  if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  root.append(make("<slot part=before>"), make(SHELL));
  return root;
};
