"""Writes the pages of docs/reference that follow from the code, and the parts of others between two markers.

    python docs/reference/make.py          write them (`make reference`)
    python docs/reference/make.py --check  name those that are not as the code is; 1 if there are any

What the code cannot say stands in words.toml.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sojourn.api.app import CALLS
from sojourn.api.call import Call, Who
from sojourn.api.openapi import EVERY, OF_WHO, document
from sojourn.cli.failure import EXIT_CODES
from sojourn.cli.help import Group, paragraphs
from sojourn.cli.main import command_tree
from sojourn.cli.policy import HELP as OPTION_WORDS
from sojourn.cli.policy import flag_of
from sojourn.cli.source import HELP
from sojourn.event import EventKind
from sojourn.license import CHOICES, DURATIONS, POLICY, SEATS, Policy
from sojourn.service.keys import GRANTS
from sojourn.settings import BOUNDS
from sojourn.wire.bodies import STATUS, camel

HERE = Path(__file__).parent
NONE: Mapping[str, str] = {}
GUIDE = HERE.parent / "guide"
BEGIN, END = "<!-- begin: made by `make reference` -->", "<!-- end -->"
MADE = "<!-- made by `make reference` from the code and words.toml -->\n\n"
PROOF = {
    Who.OPERATOR: "an API key",
    Who.CLIENT: "a license key, a user's JWT, or a lease token",
    Who.HOLDER: "a lease token",
    Who.BACKEND: "an application's API key",
    Who.SIGN_IN: "an application's API key; in `X-Session-Token`, if there is one, the token to replace",
    Who.PERSON: "an application's API key, and the person's token in `X-Session-Token`",
    Who.SELF: "a person's cookie or session token",
    Who.ANYONE: "nobody's",
}


class Unexplained(Exception):
    """The code has names for which there are no words, or words are left of what is gone."""


def words(part: str, names: Iterable[str], *, unless: Mapping[str, str] = NONE) -> dict[str, Any]:
    """Return the words of each name. Raises Unexplained unless they are of exactly these.

    `unless` has words that do where there are no others.
    """
    found: dict[str, Any] = {**unless, **tomllib.loads((HERE / "words.toml").read_text())[part]}
    known = set(names)
    for label, which in (("has no", known - found.keys()), ("is left over", found.keys() - known)):
        if which:
            said = f"docs/reference/words.toml [{part}]: {', '.join(sorted(which))} {label}"
            raise Unexplained(f"{said} words." if label == "has no" else f"{said}.")
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def errors() -> str:
    said = words("errors", STATUS)
    text = (
        f"{MADE}# Error codes\n\n"
        "Each failure is a document of RFC 9457 (`application/problem+json`): `code` is stable, for "
        "programs; `error` says what happened, `details` what to do, for people. 409 `seat_limit`, 429 "
        "and 503 carry `Retry-After`. `type` is `/problems/<code>`, where a server shows what this page says "
        "of the code, and `/problems` all of them; an application that answers for itself has no such "
        "page.\n\n"
    )
    for status in sorted(set(STATUS.values())):
        text += f"## {status}\n\n"
        for code in (each for each, number in STATUS.items() if number == status):
            happened, todo = said[code]
            text += f"### {code}\n\n{happened}\n\n**Do:** {todo}\n\n"
    return text.rstrip("\n") + "\n"


def problems() -> str:
    """Return the words of codes for the pages of a server, which has no guides to lead to."""

    def alone(text: str) -> str:
        return re.sub(
            r"\[[^]]*\]\((?:\.\./)?([^)#]+)[^)]*\)",
            lambda link: f"`docs/{link[1] if '/' in link[1] else 'reference/' + link[1]}`",
            text,
        )

    said = words("errors", STATUS)
    plain = {code: list(map(alone, said[code])) for code in STATUS}
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def events() -> str:
    kinds = [kind.value for kind in EventKind]
    said = words("events", kinds)
    return (
        f"{MADE}# Event kinds\n\n"
        "An event is written in the same step as the change it tells of. `sojourn events`, `GET /api/events` "
        "and [webhooks](../guide/webhooks.md) show them. A plain heartbeat is no event.\n\n"
        + table(("kind", "happened"), ((f"`{kind}`", said[kind]) for kind in kinds))
    )


def policy() -> str:
    said = words("policy", POLICY, unless=OPTION_WORDS)

    def row(name: str) -> tuple[str, ...]:
        default = getattr(Policy(capacity=1), name)
        unit = "s" if name in DURATIONS else "seats" if name in SEATS else ""
        if name == "capacity":
            shown = "required"
        elif default is None:
            shown = "two intervals" if name == "suspect_after" else "none"
        elif name == "reservations":
            shown = "none"
        else:
            shown = f"`{default / 1_000:g}`" if name in DURATIONS else f"`{default}`"
        kinds = ", ".join(f"`{each}`" for each in CHOICES.get(name, ()))
        return f"`{camel(name)}`", f"`{flag_of(name)}`", shown, unit or kinds, said[name]

    return (
        f"{MADE}# The policy of a feature\n\n"
        "`POST /api/licenses` and `PUT /api/licenses/{licenseId}/features/{feature}` take these fields, "
        "`sojourn feature set` these options. Durations are seconds, from 0.05 to 365 days; `linger` and "
        "`resumeWindow` may be 0, and `resumeWindow` is a day at most. `lostAfter` is longer than "
        "`heartbeatInterval`, `suspectAfter` lies between the two, `linger` is no longer than `lostAfter`. "
        "A shorter time counts at once for those who hold a seat, from their last beat.\n\n"
        + table(("field", "option", "default", "unit or values", ""), map(row, POLICY))
    )


def http() -> str:
    text = (
        f"{MADE}# HTTP\n\n"
        'JSON in camelCase. A success is `{"success": true, "data": …}`, a failure one of the '
        "[error codes](errors.md). Durations are seconds, instants RFC 3339. A server shows every body, "
        "answer and example in `/openapi.json`. WebSockets: `/api/licenses/sessions/live` and "
        "`/api/user/active-sessions/live`. Any call may answer "
        f"{', '.join(f'[{code}](errors.md#{code})' for code in EVERY)}.\n\n"
    )
    for who in Who:
        of_who = [call for call in CALLS if call.who is who]
        if not of_who:
            continue
        text += f"## With {PROOF[who]}\n\n"
        if OF_WHO[who]:
            codes = ", ".join(f"[{code}](errors.md#{code})" for code in OF_WHO[who])
            text += f"Besides, each may answer {codes}.\n\n"
        text += table(("call", "does", "may", "answers"), map(_call, of_who)) + "\n"
    return text.rstrip("\n") + "\n"


def _call(call: Call) -> tuple[str, ...]:
    roles = [role.value for role, may in GRANTS.items() if call.may in may]
    codes = ", ".join(f"[{code}](errors.md#{code})" for code in call.problems)
    return f"`{call.method} {call.path}`", call.words.summary, ", ".join(roles), codes


def cli() -> str:
    root: Any = command_tree()
    text = (
        f"{MADE}# The command `sojourn`\n\n"
        "`sojourn COMMAND --help` says the same. Every command that prints data has `--json`. Settings of "
        "`sojourn serve` are in [settings.md](../guide/settings.md).\n\n"
    )
    text += table(
        ("exit code", "means"), ((f"`{int(code)}`", said) for code, said in EXIT_CODES.items())
    )
    for path, command in _commands(root, ()):
        text += f"\n## sojourn {' '.join(path)}\n\n"
        text += "\n\n".join(map(_prose, paragraphs(command.help or ""))) + "\n"
        if path in {("serve",), ("settings",)}:
            text += "\nTakes every [setting](../guide/settings.md) as an option.\n"
        options = [p for p in command.params if not p.hidden and not _is_setting(path, p)]
        if options:
            text += "\n" + table(("", ""), map(_option, options))
    return text


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in group.list_commands(None):
        command = group.commands[name]
        if command.hidden:
            continue
        if isinstance(command, Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _prose(text: str) -> str:
    """Escape what would be a tag, but for code between backticks."""
    pieces = text.split("`")
    pieces[::2] = [each.replace("<", "\\<") for each in pieces[::2]]
    return "`".join(pieces)


def _is_setting(path: tuple[str, ...], param: Any) -> bool:
    return path in {("serve",), ("settings",)} and param.name in HELP


def _option(param: Any) -> tuple[str, str]:
    if param.param_type_name == "argument":
        return f"`{param.display_name_raw}`", getattr(param, "help", None) or "required"
    flags = ", ".join(f"`{each}`" for each in (*param.opts, *param.secondary_opts))
    value = "" if param.is_flag else f" `{param.metavar or 'TEXT'}`"
    return flags + value, param.help or ""


def bounds() -> str:
    rows = (
        (f"`SOJOURN_{name.upper()}`", f"{low:,.10g}", f"{high:,.10g}")
        for name, (low, high) in BOUNDS.items()
    )
    return table(("setting", "least", "most"), rows)


def described() -> str:
    """Return the OpenAPI document over many lines, so that changes can be read, and without a version: what a
    release does not change stays as it is."""
    found = json.loads(document(CALLS))
    found["info"]["version"] = "0"
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    HERE / "errors.md": errors,
    HERE / "events.md": events,
    HERE / "policy.md": policy,
    HERE / "http.md": http,
    HERE / "cli.md": cli,
    HERE.parents[1] / "spec" / "openapi.json": described,
    HERE.parents[1] / "src" / "sojourn" / "console" / "problems.json": problems,
}
PARTS: dict[Path, Callable[[], str]] = {GUIDE / "settings.md": bounds}
"""Pages of which a part is made, between the markers."""


def made() -> Iterator[tuple[Path, str]]:
    """Yield each page and its text. Raises Unexplained."""
    for path, write in PAGES.items():
        yield path, write()
    for path, write in PARTS.items():
        before, _, rest = path.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        yield path, f"{before}{BEGIN}\n\n{write()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    try:
        old = [
            (path, text) for path, text in made() if not path.exists() or path.read_text() != text
        ]
    except Unexplained as fault:
        print(fault, file=sys.stderr)
        return 1
    for path, text in old:
        print(path.relative_to(HERE.parents[1]))
        if "--check" not in arguments:
            path.write_text(text)
    return int(bool(old) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
