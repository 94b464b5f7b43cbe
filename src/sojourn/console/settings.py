"""The page `/console/settings`: what is effective, where it came from, and what is risky about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from msgspec import Struct

from sojourn.console.seats import Heading
from sojourn.console.words import count
from sojourn.service.effective import Effective, as_text
from sojourn.settings import SECRETS, Settings

OF_COMMANDS = ("url", "key")
"""Settings of commands that are a server's clients: no server reads them."""


class SettingRow(Struct, frozen=True, kw_only=True):
    name: str
    what: str
    value: str  # empty: none
    secret: bool
    fingerprints: tuple[str, ...]
    origin: str
    changed: bool
    risk: str


class SettingsView(Struct, frozen=True, kw_only=True):
    """`sections`: titles with their settings. `variables`: what is changed and no secret, for a shell."""

    answer: Heading
    sections: tuple[tuple[str, tuple[SettingRow, ...]], ...]
    variables: str
    shown: int


def settings_view(
    found: Sequence[Effective],
    settings: Settings,
    words: Mapping[str, tuple[str, str, str]],
    *,
    wanted: str = "",
    only_changed: bool = False,
) -> SettingsView:
    """Show settings. `wanted`: words that a setting's name, value or meaning must have in it."""
    risks = risks_of(settings)
    rows = [
        (words.get(each.name, ("Settings",))[0], _row(each, words, risks))
        for each in found
        if each.name not in OF_COMMANDS
    ]
    shown = [
        (section, row)
        for section, row in rows
        if (row.changed or not only_changed) and _means(row, wanted)
    ]
    ordered = (*(each[0] for each in words.values()), *(section for section, _ in rows))
    titles = dict.fromkeys(ordered)
    sections = [(title, tuple(r for s, r in shown if s == title)) for title in titles]
    changed = [row for _, row in rows if row.changed]
    return SettingsView(
        answer=_answer(len(changed), len(rows), [row.name for _, row in rows if row.risk]),
        sections=tuple((title, inside) for title, inside in sections if inside),
        variables="\n".join(
            f"{each.variable}={_quoted(as_text(each.value))}"
            for each in found
            if each.changed and each.given and each.name not in (*SECRETS, *OF_COMMANDS)
        ),
        shown=len(shown),
    )


def risks_of(settings: Settings) -> dict[str, str]:
    """Say what is risky, by the setting's name."""
    risks: dict[str, str] = {}
    if settings.dev:
        risks["dev"] = "For developing only: sample sessions can be made and opened by operators."
    if _is_open(settings) and not (settings.metrics_key or settings.metrics_listen):
        risks["metrics_key"] = "Whoever reaches this server may read /metrics."
    if settings.webhook_reach == "private":
        risks["webhook_reach"] = "Webhooks may reach servers within your network."
    if settings.reauth_within == 0 and settings.trusted_origins:
        risks["trusted_origins"] = "Pages of these sites may end sessions without a recent sign-in."
    if len(settings.secret) > 1:
        risks["secret"] = (
            f"{len(settings.secret)} secrets verify: take old ones away once nobody needs them."
        )
    return risks


def _is_open(settings: Settings) -> bool:
    """Tell whether other machines may reach the server."""
    try:
        return not ip_address(settings.host).is_loopback
    except ValueError:
        return settings.host != "localhost"


def _row(
    each: Effective, words: Mapping[str, tuple[str, str, str]], risks: Mapping[str, str]
) -> SettingRow:
    secret = each.name in SECRETS
    value = as_text(each.value) if each.given and not secret else ""
    return SettingRow(
        name=each.name,
        what=words.get(each.name, ("", "", ""))[2],
        value=value,
        secret=secret and each.given,
        fingerprints=each.fingerprints,
        origin="made here" if secret and each.given and not each.changed else each.origin,
        changed=each.changed,
        risk=risks.get(each.name, ""),
    )


def _means(row: SettingRow, wanted: str) -> bool:
    text = f"{row.name} {row.value} {row.what} {row.origin}".casefold().replace("_", " ")
    return all(word in text for word in wanted.casefold().replace("_", " ").split())


def _answer(changed: int, all_: int, risky: Sequence[str]) -> Heading:
    good = (
        f"{changed} of {count(all_, 'setting')} {'is' if changed == 1 else 'are'} not the default."
    )
    bad = (
        "1 of them deserves a look." if len(risky) == 1 else f"{len(risky)} of them deserve a look."
    )
    return Heading(good, bad if risky else "", "They are read when the server starts.")


def _quoted(text: str) -> str:
    plain = all(each.isalnum() or each in "-_./:,@%+=" for each in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
