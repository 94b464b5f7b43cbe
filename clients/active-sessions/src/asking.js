/** What asks in place, below the row or the header that it is about: one at a time. */
import { make, parts, say } from "./markup.js";

export class Asking {
  /** The parts of what is asked now. */
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
