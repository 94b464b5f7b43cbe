"""The page `/docs`: every call of the API with its proof, an example of what to send and of what comes back,
and what may go wrong; written from the OpenAPI document. No script is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from shlex import quote
from typing import Any

from msgspec import Struct

from sojourn.console.render import ASSETS, render
from sojourn.people.pages import SECURED, HtmlPage
from sojourn.people.render import BELOW

GROUPS = {
    "seats": ("Seats", "What a license client asks for: take a seat, keep it, give it back."),
    "sessions": ("Sessions", "What an application's backend asks for, for the people it signs in."),
    "people": ("People", "What the security page asks for, for the person who is signed in."),
    "licenses": (
        "Licenses",
        "What operators do: licenses, features, who holds what, and freeing seats.",
    ),
    "sweeps": ("Sweeps", "Clean-up: what was done, what is planned."),
    "events": ("Events", "What happened."),
    "webhooks": ("Webhooks", "What is sent to other servers."),
    "keys": ("API keys", ""),
    "doctor": ("Doctor", "What is wrong, and mending it."),
    "machines": ("Machines", "For load balancers and monitoring."),
    "dev": ("Developing", "On a server that was started with --dev alone."),
}
PROOFS = {
    "apiKey": "API key",
    "licenseKey": "license key",
    "leaseToken": "lease token",
    "userJwt": "the user’s JWT",
    "sessionToken": "session token",
    "sessionCookie": "session cookie",
    "personToken": "the person’s token",
}
BEARERS = ("licenseKey", "leaseToken", "personToken", "apiKey", "userJwt")
TOKENS = {"sessionToken": "-H 'X-Session-Token: sjs_…'", "sessionCookie": "-b 'sojourn=…'"}
ADDRESS = "http://127.0.0.1:8700"


class Trouble(Struct, frozen=True, kw_only=True):
    status: str
    said: str


class CallRow(Struct, frozen=True, kw_only=True):
    """One call. `asks` and `answers` are examples, as JSON; empty where there is nothing to show."""

    name: str
    method: str
    path: str
    summary: str
    proofs: str
    curl: str
    answers: str
    status: str
    troubles: tuple[Trouble, ...]
    parameters: tuple[tuple[str, str], ...]


class Group(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    text: str
    calls: tuple[CallRow, ...]


def reference_page(site_name: str, document: bytes) -> HtmlPage:
    """Write the page from an OpenAPI document, as JSON."""
    found = json.loads(document)
    body = render(
        "docs.html",
        site_name=site_name,
        groups=groups(found),
        version=found["info"]["version"],
        asset=lambda name: f"console/{BELOW}{ASSETS.asset(name).name}",
    )
    return HtmlPage(200, SECURED, body)


def groups(document: Mapping[str, Any]) -> list[Group]:
    """Return the calls by what they are about, in the order of GROUPS."""
    calls: dict[str, list[CallRow]] = {}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if method != "parameters":
                calls.setdefault(said["tags"][0], []).append(_call(path, method, said))
    known = {name: GROUPS.get(name, (name.capitalize(), "")) for name in (*GROUPS, *calls)}
    return [
        Group(name=name, title=title, text=text, calls=tuple(calls[name]))
        for name, (title, text) in known.items()
        if name in calls
    ]


def _call(path: str, method: str, said: Mapping[str, Any]) -> CallRow:
    answers = said["responses"]
    status = next(code for code in answers if code.startswith("2"))
    troubles = tuple(
        Trouble(status=code, said=each["description"].rstrip("."))
        for code, each in answers.items()
        if code[0] in "45"
    )
    return CallRow(
        name=said["operationId"],
        method=method.upper(),
        path=path,
        summary=said["summary"],
        proofs=_proofs(said.get("security", [])),
        curl=_curl(path, method, said),
        answers=_example(answers[status].get("content")),
        status=status,
        troubles=troubles,
        parameters=tuple(
            (each["name"], each.get("description", "") or _kind(each.get("schema", {})))
            for each in said.get("parameters", ())
            if each["in"] in ("query", "path")
        ),
    )


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type") or next(
        (x["type"] for x in schema.get("anyOf", ()) if "type" in x), ""
    )
    return str(kind)


def _proofs(security: list[Mapping[str, Any]]) -> str:
    """Say what proves who asks: alternatives with "or", what goes together with "and"."""
    ways = [" and ".join(PROOFS.get(name, name) for name in way) for way in security]
    return " or ".join(ways) or "nobody has to prove anything"


def _curl(path: str, method: str, said: Mapping[str, Any]) -> str:
    parts = ["curl" + (f" -X {method.upper()}" if method != "get" else "")]
    way: Mapping[str, Any] = next(iter(said.get("security", [])), {})
    bearer = next((name for name in BEARERS if name in way), None)
    if bearer is not None:
        parts.append(f'-H "Authorization: Bearer {_variable(bearer)}"')
    parts += [TOKENS[name] for name in way if name in TOKENS]
    body = _example(said.get("requestBody", {}).get("content"))
    if body:
        parts += ["-H 'Content-Type: application/json'", f"-d {quote(body)}"]
    return " \\\n  ".join([*parts, f"{ADDRESS}{path}"])


def _variable(proof: str) -> str:
    return {
        "apiKey": "$SOJOURN_KEY",
        "licenseKey": "$LICENSE_KEY",
        "leaseToken": "$LEASE_TOKEN",
        "userJwt": "$USER_JWT",
        "personToken": "$PERSON_TOKEN",
    }[proof]


def _example(content: Mapping[str, Any] | None) -> str:
    """Return the example of a body, indented; empty if there is none."""
    for kind in (content or {}).values():
        if "example" in kind:
            found = kind["example"]
            return (
                found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False)
            )
    return ""
