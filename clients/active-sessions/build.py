"""Puts the web component together: `src/` becomes one ES module, and the style of the page beside it.

    python clients/active-sessions/build.py

Its words are those of src/sojourn/people/catalogs: English within the module, the others as modules of their
own in `locales/`, and their names in its types.

What comes of it is committed; a test holds it to its sources. Modules are put one after another, those that
are imported first: so a name at the top of one must not be used by another, which is checked. What nobody
needs to run it goes: imports and exports between them, comments that fill lines, indentation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = HERE / "src"
ENTRY = "element.js"
MODULE = HERE / "sojourn-active-sessions.js"
LOCALES = HERE / "locales"
TYPES = HERE / "sojourn-active-sessions.d.ts"
PEOPLE = HERE.parents[1] / "src" / "sojourn" / "people"
STYLE = PEOPLE / "static" / "sessions.css"
CATALOGS = PEOPLE / "catalogs"
FORMATS = "formats.json"
STRINGS = "strings.js"
PUBLIC = ("ActiveSessions", "STRINGS", "translate")
NOTE = "Put together from clients/active-sessions/src by build.py there: change that."

IMPORT = re.compile(
    r'^import (?:(?P<name>\w+)|\{[^}]*\}) from "\./(?P<file>[\w.]+)";\n', re.MULTILINE
)
EXPORT = re.compile(r"^export (?=const |class |function )", re.MULTILINE)
TOP = re.compile(r"^(?:const|let|class|function) (\w+)", re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*(?://.*|/\*(?:[^*]|\*(?!/))*\*/)[ \t]*\n", re.MULTILINE)
TRAILING = re.compile(r"[;,{] // .*$", re.MULTILINE)


def built() -> dict[Path, str]:
    """Return what belongs into which file. Raises ValueError if two modules use the same name."""
    return {MODULE: module(), STYLE: page_style(), TYPES: types(), **locales()}


def strings(language: str) -> dict[str, Any]:
    catalog = json.loads((CATALOGS / f"{language}.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = catalog["component"]
    return found


def literal(value: Any) -> str:
    """Write strings as JavaScript does: names without quotes, one sentence a line."""
    text = json.dumps(value, ensure_ascii=False, indent=0)
    return re.sub(r'^"(\w+)": ', r"\1: ", text, flags=re.MULTILINE)


def locales() -> dict[Path, str]:
    """Return a module for each language but English, and one that has them all."""
    others = [
        path.stem for path in CATALOGS.glob("*.json") if path.name != FORMATS and path.stem != "en"
    ]
    start = f'// {NOTE}\nimport {{ translate }} from "../{MODULE.name}";\n'
    made = {
        LOCALES / f"{each}.js": f'{start}translate("{each}", {literal(strings(each))});\n'
        for each in others
    }
    every = "".join(f'import "./{each}.js";\n' for each in sorted(others))
    nothing = (
        f"// {NOTE}\nexport {{}};\n"  # a module for its effect: there is nothing to import by name
    )
    return {**made, LOCALES / "all.js": f"// {NOTE}\n{every}", LOCALES / "all.d.ts": nothing}


def types() -> str:
    """Return the types, with the names of the words put where they belong."""
    names = []
    for name, value in strings("en").items():
        kind = "Plural" if "other" in value else "string"
        if name == "reasons":
            kind = "Record<" + " | ".join(f'"{each}"' for each in value) + ", string>"
        names.append(f"  {name}: {kind};\n")
    text = (SOURCES / "types.d.ts").read_text(encoding="utf-8")
    return f"// {NOTE}\n" + text.replace("  // the names of the words\n", "".join(names))


def module() -> str:
    pieces: dict[str, str] = {}
    _collect(ENTRY, pieces)
    names = [name for piece in pieces.values() for name in TOP.findall(piece)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Two modules use the same name: {', '.join(sorted(twice))}.")
    code = "".join(_small(piece) for piece in pieces.values())
    return f"// {NOTE}\n{code}export {{ {', '.join(PUBLIC)} }};\n"


def _collect(name: str, pieces: dict[str, str]) -> None:
    """Add a module after those it imports, each once."""
    if name == STRINGS:
        pieces[name] = f"const STRINGS = {literal(strings('en'))};\n"
        return
    text = (SOURCES / name).read_text(encoding="utf-8")
    if name.endswith(".css"):
        pieces[name] = f"const {name[:-4].upper()} = `{_small(text)}`;\n"
        return
    for found in IMPORT.finditer(text):
        if found["file"] not in pieces:
            _collect(found["file"], pieces)
    pieces[name] = EXPORT.sub("", IMPORT.sub("", text))


def _small(text: str) -> str:
    text = TRAILING.sub(lambda found: found[0][0], COMMENT.sub("", text))
    return "\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n"


def page_style() -> str:
    """Return the panel's style as the page has it, where scripts are off: below one class."""
    panel = _small((SOURCES / "panel.css").read_text(encoding="utf-8"))
    return f"/* {NOTE} */\n.sessions {{\ncontainer-type: inline-size;\n{panel}}}\n"


if __name__ == "__main__":
    for path, text in built().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
