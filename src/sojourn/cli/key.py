"""`sojourn key`: API keys, for operators, dashboards, backends and relays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, Yes, command, confirm, group
from sojourn.cli.license import parse_date
from sojourn.cli.output import Column, Output, count, when
from sojourn.cli.server import Server, segment
from sojourn.ledger import Role

app = group("Make and revoke API keys.")

ROLES = (
    "admin: everything. operator: licenses, seats, ends sessions. viewer: reads. app: sessions. "
    "relay: a node."
)


@command(app, "create")
def create(
    server: Server,
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")],
    role: Annotated[Role, typer.Option("--role", metavar="ROLE", help=ROLES)],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help="When it stops; default: never.")
    ] = None,
) -> None:
    """Make an API key and print it, this once."""
    body: dict[str, Any] = {"name": name, "role": role}
    if expires is not None:
        body["expiresAt"] = parse_date(expires)
    made = server.post("/api/keys", body)
    if out.as_json:
        out.json(made)
        return
    out.say(f"Made an API key for {made['name']}, shown this once.")
    out.facts([("id", made["keyId"]), ("role", made["role"]), ("key", made["key"])])


@command(app, "list")
def list_(server: Server, out: Output, limit: Limit = 1_000) -> None:
    """List API keys, the oldest first.

    Their secrets are known to nobody but who was given them.
    """
    found = list(server.pages("/api/keys", limit=limit))
    if out.as_json:
        out.json(found)
        return
    valid = sum(_state(key) == "active" for key in found)
    out.say(f"{count(len(found), 'key')}, {valid} of them active.")
    out.table(
        [
            Column("Name"),
            Column("Role"),
            Column("State"),
            Column("Made", whole=True, drop=1),
            Column("Expires", whole=True, drop=2),
            Column("Last use", whole=True, drop=3),
            Column("Id", whole=True),
        ],
        [
            (
                key["name"],
                key["role"],
                _state(key),
                when(key["createdAt"]),
                when(key.get("expiresAt")),
                when(key.get("lastUsedAt")),
                key["keyId"],
            )
            for key in found
        ],
    )


@command(app, "revoke")
def revoke(
    server: Server,
    out: Output,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Id of a key, such as key_7Hs….")],
    yes: Yes = False,
) -> None:
    """Revoke an API key.

    The next call that uses it is refused. It cannot be undone.
    """
    confirm(f"Revoke the API key {key_id}? What uses it is refused from now on.", yes=yes)
    data = server.ask("DELETE", f"/api/keys/{segment(key_id)}").data
    if out.as_json:
        out.json(data)
        return
    out.say(f"Revoked the API key of {data['name']} ({key_id}).")


def _state(key: dict[str, Any]) -> str:
    if key.get("revokedAt"):
        return "revoked"
    expires = key.get("expiresAt")
    over = expires is not None and datetime.fromisoformat(expires) <= datetime.now(UTC)
    return "expired" if over else "active"
