// Light or dark: what the system prefers, unless the switch in the header says otherwise. It is read
// before the page is drawn, so that nothing flashes.
const KEY = "sojourn-theme";
const root = document.documentElement;

const stored = () => {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is refused: the system decides
  }
};

const apply = (theme) => {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
};

apply(stored());

document.addEventListener("DOMContentLoaded", () => {
  const choices = document.querySelector(".theme");
  if (!choices) return;
  const show = () => {
    apply(stored());
    choices.querySelector(`[value="${stored()}"]`).checked = true;
  };
  choices.hidden = false;
  choices.addEventListener("change", ({ target }) => {
    try {
      if (target.value) localStorage.setItem(KEY, target.value);
      else localStorage.removeItem(KEY);
    } catch {} // then it holds for this page
    apply(target.value);
  });
  addEventListener("storage", show); // another tab has switched
  show();
});
