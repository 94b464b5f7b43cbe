/** The words of an element, in the language of where it stands. */
import { STRINGS } from "./strings.js";

const UNITS = { month: 2_629_800, day: 86_400, hour: 3_600, minute: 60 }; // seconds

export class Words {
  own = {};
  #element;

  constructor(element) {
    this.#element = element;
  }

  get #lang() {
    return this.#element.closest("[lang]")?.lang || undefined;
  }

  text(name, values = {}) {
    let words = this.own[name] ?? STRINGS[name];
    if (words.other) words = words[new Intl.PluralRules(this.#lang).select(values.n)] ?? words.other;
    // FSI and PDI keep a text's direction of writing from what stands around it.
    const apart = (_, key) => values[key].toLocaleString(this.#lang).replace(/.*[^ -~].*/, "\u2068$&\u2069");
    return words.replace(/{(\w+)}/g, apart);
  }

  /** Say why a session is over; nothing if there are no words for it. */
  reason(name) {
    return (this.own.reasons ?? STRINGS.reasons)[name] ?? "";
  }

  /** Say when something was, or will be, so many ms ago. */
  ago(ms) {
    const seconds = Math.abs(ms) / 1000;
    if (seconds < 60) return this.text("justNow");
    const [unit, size] = Object.entries(UNITS).find((each) => seconds >= each[1]);
    const format = new Intl.RelativeTimeFormat(this.#lang, { numeric: "auto" });
    return format.format(ms > 0 ? -Math.floor(seconds / size) : Math.round(seconds / size), unit);
  }

  exact(instant) {
    return new Intl.DateTimeFormat(this.#lang, { dateStyle: "medium", timeStyle: "short" }).format(instant);
  }
}
