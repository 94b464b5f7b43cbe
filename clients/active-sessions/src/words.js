/** The words of an element, in the language of where it stands. */
import { STRINGS } from "./strings.js";

const UNITS = { month: 2_629_800, day: 86_400, hour: 3_600, minute: 60 }; // seconds

export class Words {
  own = {};
  #element;

  constructor(element) {
    this.#element = element;
  }

  /** The language of a sentence: that of where the element stands, if it was translated. */
  lang(name) {
    return this.own[name] ? this.#element.closest("[lang]")?.lang || undefined : "en";
  }

  /** Say of an element that its words are English, if nothing was translated. */
  mark(element) {
    for (const [name, value] of Object.entries({ lang: "en", dir: "ltr" })) {
      if (Object.keys(this.own).length) element.removeAttribute(name);
      else element.setAttribute(name, value);
    }
  }

  text(name, values = {}) {
    const lang = this.lang(name);
    let words = this.own[name] ?? STRINGS[name];
    if (words.other) words = words[new Intl.PluralRules(lang).select(values.n)] ?? words.other;
    // FSI and PDI keep a text's direction of writing from what stands around it.
    const apart = (_, key) => values[key].toLocaleString(lang).replace(/.*[^ -~].*/, "\u2068$&\u2069");
    return words.replace(/{(\w+)}/g, apart);
  }

  /** Say why a session is over; nothing if there are no words for it. */
  reason(name) {
    return (this.own.reasons ?? STRINGS.reasons)[name] ?? "";
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
