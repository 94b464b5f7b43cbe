"""Examples for the OpenAPI document: a body and an answer for each call, written from their schemas.

A field is shown with the value that stands here under its name; whatever has none is left out if it may be,
and is as plain as its schema allows otherwise. Tokens are made up: their checksums are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOW = "2026-11-30T09:30:00.000Z"
EARLIER = "2026-11-30T09:12:41.218Z"
LATER = "2026-12-07T09:12:41.218Z"
DIGITS = "0123456789" * 5
DEPTH_MAX = 16

VALUES: Mapping[str, Any] = {
    # who
    "userId": "ada",
    "clientId": "ada@studio-7",
    "actor": "key:key_3kZ0p9Qw2Yb7Nf5Tr1Ls8M",
    "impersonator": None,
    "name": "Acme Works",
    "role": "operator",
    # which
    "licenseId": "lic_7Hq2Vd9Xc4Bn6Mk1Zs3Ty0",
    "licenseName": "Acme Works",
    "leaseId": "lse_5Yb8Nw1Qe7Rt4Ui0Op2As6",
    "sessionId": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
    "id": "ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4",
    "ids": ["ses_9Gf3Kd7Ls1Pz5Xc8Vb2Nm4"],
    "keyId": "key_3kZ0p9Qw2Yb7Nf5Tr1Ls8M",
    "webhookId": "whk_2Tr6Yu0Io4Pa8Sd1Fg5Hj9",
    "messageId": "msg_41872",
    "feature": "editor",
    "subject": "lse_5Yb8Nw1Qe7Rt4Ui0Op2As6",
    # proofs
    "token": f"sjs_{DIGITS[:49]}",
    "key": f"sja_{DIGITS[:49]}",
    "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "cookie": f"sjs_{DIGITS[:49]}",
    # when, in RFC 3339
    "at": NOW,
    "acquiredAt": EARLIER,
    "authenticatedAt": EARLIER,
    "createdAt": EARLIER,
    "startedAt": EARLIER,
    "lastBeatAt": NOW,
    "lastUsedAt": NOW,
    "lastAttemptAt": NOW,
    "expiresAt": LATER,
    "validUntil": "2027-12-31T23:59:59.000Z",
    # how long, in seconds
    "expiresIn": 90.0,
    "heartbeatInterval": 30.0,
    "lostAfter": 90.0,
    "suspectAfter": 60.0,
    "linger": 10.0,
    "resumeWindow": 900.0,
    "lastBeatAgo": 12.4,
    "heldFor": 1039.2,
    "idleIn": 86400.0,
    "idleTimeout": 86400.0,
    "lifetime": 604800.0,
    "grace": 20.0,
    "took": 0.031,
    "retryAfter": 15.0,
    # how many
    "capacity": 5,
    "limit": 5,
    "seats": 5,
    "inUse": 3,
    "free": 2,
    "overdraft": 1,
    "overdrawn": 0,
    "suspect": 1,
    "fence": 4711,
    "count": 1,
    "total": 2,
    "ended": 1,
    "remaining": 0,
    "revision": 3,
    "level": 1,
    "attempts": 1,
    "fromEvent": 41000,
    "eventId": 41872,
    "deliveryId": 512,
    "readTo": 41872,
    "lastStatus": 200,
    "milliseconds": 3,
    # what
    "success": True,
    "enabled": True,
    "running": False,
    "repairing": False,
    "resumed": False,
    "released": True,
    "wouldGrant": True,
    "isCurrent": True,
    "takeover": False,
    "closing": False,
    "dead": False,
    "verdict": "ok",
    "worst": "ok",
    "area": "schema",
    "countBy": "lease",
    "whenFull": "reclaim_suspect",
    "atLimit": "end_oldest",
    "browser": "Chrome",
    "os": "Windows",
    "place": "Oslo, Norway",
    "lookedAt": "the tables of the store",
    "state": "active",
    "status": "active",
    "data": {"cart": ["book"], "locale": "en"},
    "set": {"cart": ["book", "pen"]},
    "unset": ["coupon"],
    "reason": "signed_out",
    "device": {
        "name": "Chrome on Windows",
        "browser": "Chrome",
        "os": "Windows",
        "kind": "desktop",
    },
    "location": "Oslo, Norway",
    "ipAddress": "192.0.2.7",
    "url": "https://example.com/hooks/sojourn",
    "description": "Seats to the dashboard",
    "kinds": ["lease.denied"],
    "timeouts": "default",
    "text": "Make them; what else is there stays as it is.",
    "command": "sojourn migrate",
    "message": "Done.",
    "error": "There is no such license.",
    "details": "List licenses with `sojourn license list`.",
    "code": "license_unknown",
    "type": "/problems/license_unknown",
}
OF: Mapping[tuple[str, str], Any] = {
    ("EventBody", "id"): 41872,
    ("EventBody", "kind"): "lease.acquired",
    ("EventBody", "data"): {"fence": 4711},
    ("ReservationBody", "name"): "support",
    ("ReservationBody", "seats"): 2,
    ("ReservationBody", "users"): ["ada", "grace"],
    ("ReservationBody", "groups"): ["support"],
    ("ReservationBody", "kinds"): ["desktop"],
    ("ReservedBody", "name"): "support",
    ("ReservedBody", "seats"): 2,
    ("ReservedBody", "inUse"): 1,
    ("LeaseBody", "memberOf"): ["support"],
    ("SeatBody", "token"): "sjl_gqd2ZXJzaW9uAadwb29sX2lk",
    ("LicenseBody", "name"): "Acme Works",
    ("KeyBody", "name"): "dashboard",
    ("DeliveryBody", "state"): "delivered",
    ("DeliveryBody", "status"): "delivered",
    ("CheckBody", "id"): "schema.tables",
    ("CheckBody", "title"): "Are all tables there?",
    ("CheckBody", "finding"): "All tables are there.",
    ("Problem", "status"): 404,
    ("SessionProblem", "status"): 404,
    ("Device", "name"): "Chrome on Windows",
    ("Device", "kind"): "desktop",
    ("DeviceBody", "name"): "Chrome on Windows",
    ("DeviceBody", "kind"): "desktop",
    ("SessionDevice", "name"): "Chrome on Windows",
    ("SessionDevice", "kind"): "desktop",
    ("SessionBody", "name"): "Kitchen tablet",
    ("DeviceNameBody", "name"): "Kitchen tablet",
    ("DeviceNameAnswer", "name"): "Kitchen tablet",
    ("DeviceName", "name"): "Kitchen tablet",
    ("Renamed", "name"): "Kitchen tablet",
    ("ActiveSession", "name"): "Kitchen tablet",
    ("ActiveSession", "device"): "Chrome on Windows",
    ("ActiveSession", "kind"): "desktop",
    ("ActiveSession", "seats"): 1,
    ("SessionBody", "expiresIn"): 604800.0,
    ("BeginBody", "limit"): 3,
}
"""What means something else in one schema than elsewhere."""
SKIP = object()


def example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """Return a value that fits a JSON schema whose `$ref`s are among the components."""
    found = _value(schema, components, "", "", 0)
    return None if found is SKIP else found


def _value(
    schema: Mapping[str, Any], components: Mapping[str, Any], name: str, owner: str, depth: int
) -> Any:
    if depth > DEPTH_MAX:
        return SKIP
    if "$ref" in schema:
        title = str(schema["$ref"]).rpartition("/")[2]
        return _value(components[title], components, name, title, depth + 1)
    if "anyOf" in schema:
        return _first(schema["anyOf"], components, name, owner, depth)
    if "enum" in schema:
        told = VALUES.get(name)
        return told if told in schema["enum"] else schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        return _object(schema, components, owner, depth)
    told = OF.get((owner, name), VALUES.get(name, SKIP))
    if told is not SKIP and told is not None and _is(told, kind, schema):
        return told
    return _plain(kind, schema, components, name, depth)


def _first(
    choices: list[Mapping[str, Any]],
    components: Mapping[str, Any],
    name: str,
    owner: str,
    depth: int,
) -> Any:
    """Return a value of the first choice that is more than nothing; where we know no value, nothing."""
    some = [each for each in choices if each.get("type") != "null"]
    if len(some) < len(choices) and (owner, name) not in OF and VALUES.get(name) is None:
        return SKIP  # it may be left out, and nobody has said what it would be
    return _value(some[0], components, name, owner, depth + 1)


def _object(
    schema: Mapping[str, Any], components: Mapping[str, Any], owner: str, depth: int
) -> dict[str, Any]:
    title = str(schema.get("title") or owner)
    required = schema.get("required", ())
    made = {}
    for name, each in schema["properties"].items():
        value = _value(each, components, name, title, depth + 1)
        if value is SKIP and name in required:
            value = None
        if value is SKIP or (name not in required and value in ("", [], {}, 0, None)):
            continue
        made[name] = value
    return made


def _is(value: Any, kind: Any, schema: Mapping[str, Any]) -> bool:
    """Tell whether a value that is known by its name is of the kind that this schema wants."""
    if kind == "object":
        return isinstance(value, dict)
    if kind == "array":
        return isinstance(value, list) and schema.get("items", {}).get("type") == "string"
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return kind is None or (number and (kind == "number" or isinstance(value, int)))


def _plain(
    kind: Any, schema: Mapping[str, Any], components: Mapping[str, Any], name: str, depth: int
) -> Any:
    if kind == "array":
        item = _value(schema.get("items", {}), components, name.removesuffix("s"), "", depth + 1)
        return [] if item is SKIP or item in ("", "x", None) else [item]
    if kind == "object":
        return {}
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    if kind == "string":
        return "x" if schema.get("minLength") or "+$" in schema.get("pattern", "") else ""
    return SKIP
