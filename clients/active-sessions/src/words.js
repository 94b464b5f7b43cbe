/** The words of an element, in the language of where it stands. */
import { STRINGS } from "./strings.js";

const RIGHT_TO_LEFT = /^(ar|dv|fa|he|ps|ur|yi)\b/;
const TRANSLATIONS = new Map();

/** What two tags have in common that can be read by the same people: language and script. */
const kindOf = (tag) => {
  try {
    const { language, script } = new Intl.Locale(tag).maximize();
    return `${language}-${script}`;
  } catch {
    return "";
  }
};

/** Say what elements say where the language is `lang`; what is left out stays English. */
export const translate = (lang, strings) => {
  TRANSLATIONS.set(kindOf(lang), { lang, strings });
  dispatchEvent(new Event("sojourn:translated"));
};

const UNITS = { month: 2_629_800, day: 86_400, hour: 3_600, minute: 60 }; // seconds

export class Words {
  own = {};
  #element;
  #tag; // where the element stood last, and what is known of that language
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

  /** The language of a sentence: that of where the element stands, if it was translated. */
  lang(name) {
    if (this.own[name]) return this.#here;
    return this.#known?.strings[name] ? this.#known.lang : "en";
  }

  /** What a server says, which is English, if it can be read among these words. */
  theirs(said) {
    return /^en\b/.test(this.lang("title") ?? "en") ? said : undefined;
  }

  /** Say of an element in which language its words are, unless they are those of the page. */
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
    // FSI and PDI keep a text's direction of writing from what stands around it.
    const apart = (_, key) => values[key].toLocaleString(lang).replace(/.*[^ -~].*/, "\u2068$&\u2069");
    return words.replace(/{(\w+)}/g, apart);
  }

  /** Say why a session is over; nothing if there are no words for it. */
  reason(name) {
    return this.#words("reasons")[name] ?? "";
  }

  /** Say when something was, or will be, so many ms ago, in the language of the sentence `name`. */
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
