"""`sojourn webhook`: events sent to receivers of your own."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, Yes, command, confirm, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Column, Output, count, span, when
from sojourn.cli.server import Server, segment

TEST_PATIENCE = 30.0
"""Seconds to wait for a test to be delivered."""
TEST_INTERVAL = 0.2

WebhookId = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="Id of a webhook, such as whk_4kD….")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", metavar="KIND", help="Only these, such as lease.denied. Repeat."),
]

app = group(
    """Send events to receivers of your own, signed and retried.

    A receiver verifies the signature with the secret that `create` prints once, and answers 2xx.
    """
)


@command(app, "create")
def create(
    server: Server,
    out: Output,
    to: Annotated[str, typer.Argument(metavar="URL", help="Where events are posted: https://….")],
    kind: Kinds = None,
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="What it is for.")
    ] = "",
) -> None:
    """Make a webhook and print its secret, this once.

    It gets what happens from now on; without --kind, everything.
    """
    body = {"url": to, "kinds": kind or [], "description": description}
    made = server.post("/api/webhooks", body)
    if out.as_json:
        out.json(made)
        return
    out.say(f"Made a webhook to {made['url']}. Its secret is shown this once.")
    out.facts([("id", made["webhookId"]), ("events", _kinds(made)), ("secret", made["secret"])])


@command(app, "list")
def list_(server: Server, out: Output) -> None:
    """List webhooks."""
    found = server.items("/api/webhooks")
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("There are no webhooks. Make one: sojourn webhook create URL")
        return
    out.table(
        [
            Column("URL"),
            Column("Events"),
            Column("State"),
            Column("Description", drop=2),
            Column("Made", whole=True, drop=1),
            Column("Id", whole=True),
        ],
        [
            (
                x["url"],
                _kinds(x),
                _state(x),
                x.get("description"),
                when(x["createdAt"]),
                x["webhookId"],
            )
            for x in found
        ],
    )


@command(app, "change")
def change(
    server: Server,
    out: Output,
    webhook_id: WebhookId,
    to: Annotated[str | None, typer.Option("--to", metavar="URL", help="Post there.")] = None,
    kind: Kinds = None,
    all_kinds: Annotated[
        bool, typer.Option("--all-kinds", help="Send every event.", show_default=False)
    ] = False,
    enabled: Annotated[
        bool | None,
        typer.Option("--enable/--disable", help="Go on where it stopped, or stop sending."),
    ] = None,
) -> None:
    """Change a webhook, or stop and resume it."""
    body: dict[str, Any] = {}
    if to is not None:
        body["url"] = to
    if kind or all_kinds:
        body["kinds"] = [] if all_kinds else kind
    if enabled is not None:
        body["enabled"] = enabled
    if not body:
        raise Failure(
            "There is nothing to change.",
            why="Neither --to, --kind, --all-kinds, --enable nor --disable was given.",
            todo="Say what is to change.",
            exit_code=ExitCode.USAGE,
        )
    data = server.ask("PATCH", _path(webhook_id), body=body).data
    if out.as_json:
        out.json(data)
        return
    out.facts([("url", data["url"]), ("events", _kinds(data)), ("state", _state(data))])


@command(app, "deliveries")
def deliveries(
    server: Server,
    out: Output,
    webhook_id: WebhookId,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only these: pending, delivered or dead."),
    ] = None,
    limit: Limit = 50,
) -> None:
    """List deliveries, newest first."""
    found = list(server.pages(_path(webhook_id, "deliveries"), limit=limit, state=state))
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("There are no such deliveries.")
        return
    out.table(
        [
            Column("Delivery", figure=True),
            Column("Event", figure=True, drop=2),
            Column("Kind"),
            Column("State"),
            Column("Attempts", figure=True),
            Column("Last attempt", whole=True, drop=1),
            Column("Next", whole=True, drop=3),
            Column("Answer", drop=1),
        ],
        [
            (
                x["deliveryId"],
                x.get("eventId"),
                x["kind"],
                x["state"],
                x["attempts"],
                when(x.get("lastAttemptAt")),
                when(x.get("nextAttemptAt")),
                x.get("lastError") or x.get("lastStatus"),
            )
            for x in found
        ],
    )


@command(app, "replay")
def replay(
    server: Server,
    out: Output,
    webhook_id: WebhookId,
    delivery: Annotated[
        int | None, typer.Option("--delivery", min=1, metavar="N", help="This delivery.")
    ] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="All dead letters.", show_default=False)
    ] = False,
    from_event: Annotated[
        int | None,
        typer.Option("--from-event", min=1, metavar="ID", help="Everything from this event on."),
    ] = None,
) -> None:
    """Send again: one delivery, all dead letters, or everything from an event on."""
    if sum((delivery is not None, dead, from_event is not None)) != 1:
        raise Failure(
            "It is not clear what is to be sent again.",
            why="Exactly one of --delivery, --dead and --from-event is needed.",
            todo="List deliveries with `sojourn webhook deliveries`.",
            exit_code=ExitCode.USAGE,
        )
    body: dict[str, Any] = {"dead": True} if dead else {"fromEvent": from_event}
    if delivery is not None:
        body = {"deliveryId": delivery}
    data = server.post(_path(webhook_id, "replay"), body)
    if out.as_json:
        out.json(data)
    elif from_event is not None:
        out.say(f"Everything from event {from_event} on is sent again.")
    else:
        out.say(f"{count(data['replayed'], 'delivery', 'deliveries')} to be sent again.")


@command(app, "test")
def test(server: Server, out: Output, webhook_id: WebhookId) -> None:
    """Send an event of the kind webhook.test, and say what came of it."""
    sent = server.post(_path(webhook_id, "test"))
    began = time.monotonic()
    with out.waiting("Sending"):
        while sent["attempts"] == 0 and time.monotonic() - began < TEST_PATIENCE:
            time.sleep(TEST_INTERVAL)
            latest = server.items(
                _path(webhook_id, "deliveries"), after=sent["deliveryId"] + 1, limit=1
            )
            sent = latest[0] if latest else sent
    if sent["state"] == "delivered":
        if out.as_json:
            out.json(sent)
            return
        out.say(f"The receiver took it ({sent['lastStatus']}), within {span(_took(began))}.")
        return
    raise Failure(
        "The receiver has not taken it." if sent["attempts"] else "It has not been sent yet.",
        why=sent.get("lastError") or f"No server has sent it within {TEST_PATIENCE:.0f} s.",
        todo="See to the receiver; it is tried again by itself."
        if sent["attempts"]
        else "See whether the webhook is enabled: sojourn webhook list",
    )


@command(app, "rotate")
def rotate(
    server: Server,
    out: Output,
    webhook_id: WebhookId,
    keep: Annotated[
        int,
        typer.Option(
            "--keep-old", min=0, metavar="SECONDS", help="How long the old secret signs too."
        ),
    ] = 86_400,
) -> None:
    """Make a new secret and print it, this once.

    Until the old one has run out, messages carry a signature by each.
    """
    data = server.post(_path(webhook_id, "rotate-secret"), {"keepOld": keep})
    if out.as_json:
        out.json(data)
        return
    out.say(f"Made a new secret, shown this once; the old one signs for {span(keep)} more.")
    out.facts([("id", data["webhookId"]), ("secret", data["secret"])])


@command(app, "delete")
def delete(server: Server, out: Output, webhook_id: WebhookId, yes: Yes = False) -> None:
    """Delete a webhook, and what waits for it."""
    confirm(f"Delete the webhook {webhook_id}, and what waits for it?", yes=yes)
    server.ask("DELETE", _path(webhook_id))
    if out.as_json:
        out.json({"webhookId": webhook_id, "deleted": True})
        return
    out.say(f"Deleted the webhook {webhook_id}.")


def _path(webhook_id: str, *rest: str) -> str:
    return "/".join(("/api/webhooks", segment(webhook_id), *rest))


def _kinds(webhook: dict[str, Any]) -> str:
    return ", ".join(webhook["kinds"]) or "all"


def _state(webhook: dict[str, Any]) -> str:
    return "active" if webhook["enabled"] else webhook.get("disabledBecause") or "disabled"


def _took(began: float) -> float:
    return max(0.01, time.monotonic() - began)
