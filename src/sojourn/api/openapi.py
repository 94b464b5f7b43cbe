"""The OpenAPI 3.1 document, written from the same types that go over the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sojourn import __version__
from sojourn.api.call import Call, Who
from sojourn.api.examples import example
from sojourn.idempotency import ANSWERS_KEPT, KEY_MAX
from sojourn.ledger import Role
from sojourn.service.keys import GRANTS
from sojourn.wire.bodies import STATUS, Problem, title
from sojourn.wire.reply import encode
from sojourn.wire.sessions import SessionProblem

REF = "#/components/schemas/{name}"
PROBLEM = "application/problem+json"

_MODULE = re.compile(r"(?<![A-Za-z])[a-z]+(?:[._][a-z]+)*\.(?=[A-Z])")
"""Where a type stands in our code, which is nobody's business: generated clients are called after schemas."""

EVERY = ("invalid_request", "request_timeout", "body_too_large", "headers_too_large", "internal")
"""What any call may answer, besides its own refusals."""
OF_OBJECTS = ("properties", "additionalProperties")
ALWAYS = {"Done_": "success", "Page_": "next"}
"""Fields with a default that no answer leaves out, by how the names of their schemas begin."""
FULL = frozenset({"seat_limit", "session_limit"})
OF_KEYS = (
    "unauthenticated",
    "token_malformed",
    "token_wrong_kind",
    "forbidden",
    "store_unavailable",
    "store_broken",
    "overloaded",
)
OF_WHO: dict[Who, tuple[str, ...]] = {
    Who.ANYONE: (),
    Who.OPERATOR: OF_KEYS,
    Who.BACKEND: OF_KEYS,
    Who.SIGN_IN: OF_KEYS,
    Who.PERSON: OF_KEYS,
    Who.SELF: (
        "unauthenticated",
        "token_wrong_kind",
        "session_absent",
        "session_idle",
        "session_expired",
        "session_ended",
        "session_forged",
        "store_unavailable",
        "store_broken",
        "overloaded",
    ),
    Who.CLIENT: (
        "unauthenticated",
        "token_malformed",
        "token_forged",
        "token_expired",
        "token_wrong_kind",
        "store_unavailable",
        "store_broken",
        "overloaded",
    ),
    Who.HOLDER: (
        "unauthenticated",
        "token_malformed",
        "token_forged",
        "token_wrong_kind",
        "store_unavailable",
        "store_broken",
        "overloaded",
    ),
}
SECURITY: dict[Who, list[dict[str, list[str]]]] = {
    Who.ANYONE: [],
    Who.OPERATOR: [{"apiKey": []}],
    Who.BACKEND: [{"apiKey": []}],
    Who.SIGN_IN: [{"apiKey": []}, {"apiKey": [], "sessionToken": []}],
    Who.PERSON: [{"apiKey": [], "sessionToken": []}],
    Who.SELF: [{"sessionCookie": []}, {"personToken": []}],
    Who.CLIENT: [{"licenseKey": []}, {"userJwt": []}, {"leaseToken": []}],
    Who.HOLDER: [{"leaseToken": []}],
}
SCHEMES = {
    "apiKey": ("sja_…", "An API key: an operator's, or an application's."),
    "licenseKey": ("sjk_…", "A license's key, held by the application that hands out seats."),
    "leaseToken": ("sjl_…", "What an acquire answered; it proves one lease."),
    "personToken": ("sjs_…", "A person's session token, which vouches for that person."),
    "userJwt": ("JWT", "A JWT of a user, by an issuer that the server's settings name."),
}
SESSION_TOKEN = {
    "type": "apiKey",
    "in": "header",
    "name": "X-Session-Token",
    "description": "A person's session token (sjs_…), which proves nothing without the API key.",
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names this request, of all that its caller sends: a UUID. A copy under the same key, "
    f"within {ANSWERS_KEPT // 60_000} minutes, is given the first answer, and does nothing.",
    "schema": {"type": "string", "pattern": f"^[!-~]{{1,{KEY_MAX}}}$"},
}
REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true`: this is the first answer to a request that came again.",
        "schema": {"type": "string", "const": "true"},
    }
}
SESSION_COOKIE = {
    "type": "apiKey",
    "in": "cookie",
    "name": "__Host-sojourn",
    "description": "The signed cookie that applications set; over HTTP `sojourn`, or as `cookie_name` "
    "says. Changes must come from a page of the same origin.",
}


def document(calls: Iterable[Call]) -> bytes:
    """Write the document. The same calls always give the same bytes."""
    described = tuple(calls)
    schemas = _schemas(described)
    return encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Sojourn",
                "version": __version__,
                "description": "Sessions of users, and seats on licenses as leases kept by heartbeats.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/", "description": "This server."}],
            "paths": _with_examples(_paths(described), schemas),
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    name: {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": form,
                        "description": text,
                    }
                    for name, (form, text) in SCHEMES.items()
                }
                | {"sessionToken": SESSION_TOKEN, "sessionCookie": SESSION_COOKIE},
            },
        }
    )


def _paths(calls: tuple[Call, ...]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return paths


def _with_examples(paths: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Give each body and each answer of a call that succeeds an example."""
    for operations in paths.values():
        for operation in operations.values():
            good = [x for status, x in operation["responses"].items() if status.startswith("2")]
            for part in [*good, *filter(None, [operation.get("requestBody")])]:
                for kind, content in part["content"].items():
                    if kind == "application/json":
                        content["example"] = example(content["schema"], schemas)
                    else:
                        content["example"] = "sojourn_build_info 1.0\n"
    return paths


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": call.name,
        "tags": [_tag(call)],
        "summary": call.words.summary,
        "security": SECURITY[call.who],
        "responses": _responses(call),
    }
    if call.words.description:
        operation["description"] = call.words.description
    if call.may is not None:
        operation["x-permission"] = call.may.value
        operation["x-roles"] = [role.value for role in Role if call.may in GRANTS[role]]
    own = [KEY] if call.takes_key else []
    if parameters := [*_path_parameters(call), *_query_parameters(call), *own]:
        operation["parameters"] = parameters
    if call.body is not None:
        operation["requestBody"] = {
            "required": call.body_required,
            "content": {"application/json": {"schema": _schema(call.body)}},
        }
    return operation


def _tag(call: Call) -> str:
    if call.who is Who.ANYONE:
        return "machines"
    if call.who in (Who.CLIENT, Who.HOLDER):
        return "seats"
    if call.who is Who.SELF:
        return "people"
    return "licenses" if call.path.startswith("/api/licenses") else call.path.split("/")[2]


def _path_parameters(call: Call) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _schema(kind)}
        for name, kind in call.params.items()
    ]


def _query_parameters(call: Call) -> list[dict[str, Any]]:
    if call.query is None:
        return []
    (_, components) = msgspec.json.schema_components([call.query], ref_template=REF)
    described = components[call.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in described.get("required", ()),
            "schema": _portable(schema),
        }
        for name, schema in described["properties"].items()
    ]


def _responses(call: Call) -> dict[str, Any]:
    if call.answer is None:
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _schema(call.answer)}}
    responses: dict[str, Any] = {str(call.status): {"description": "Done.", "content": content}}
    if call.takes_key:
        responses[str(call.status)]["headers"] = REPLAYED
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*EVERY, *OF_WHO[call.who], *_of_shape(call), *call.problems)):
        by_status.setdefault(STATUS[code], []).append(code)
    for status in sorted(by_status):
        responses[str(status)] = _refusal(status, by_status[status])
    return responses


def _of_shape(call: Call) -> tuple[str, ...]:
    codes = ("unsupported_media_type",) if call.body is not None else ()
    return (*codes, "idempotency_key_reused") if call.takes_key else codes


def _refusal(status: int, codes: list[str]) -> dict[str, Any]:
    told = {
        "code": {"type": "string", "enum": codes},
        "status": {"type": "integer", "enum": [status]},
    }
    coded = {"type": "object", "properties": told}
    says_more = any(code.startswith("session_") for code in codes)
    name = SessionProblem.__name__ if says_more else Problem.__name__
    schema = {"allOf": [{"$ref": REF.format(name=name)}, coded]}
    refusal: dict[str, Any] = {
        "description": "; ".join(title(code) for code in codes) + ".",
        "content": {PROBLEM: {"schema": schema}},
    }
    seconds = {"schema": {"type": "string", "pattern": "^[0-9]+$"}}
    if status == 401:
        refusal["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    elif status == 503 or not FULL.isdisjoint(codes):
        always = status == 503 or FULL.issuperset(codes)
        refusal["headers"] = {
            "Retry-After": {"description": "Seconds.", "required": always, **seconds}
        }
    return refusal


def _schemas(calls: tuple[Call, ...]) -> dict[str, Any]:
    """Describe every Struct that is a body or an answer."""
    kinds = [Problem, SessionProblem]
    for call in calls:
        kinds += [kind for kind in (call.body, call.answer) if kind is not None]
    _, components = msgspec.json.schema_components(_unique(kinds), ref_template=REF)
    named = {_published(name): _portable(schema) for name, schema in components.items()}
    for name, schema in named.items():
        for begins, field in ALWAYS.items():
            if name.startswith(begins):
                schema["required"] = [field, *schema["required"]]
                schema["properties"][field].pop("description", None)
    return dict(sorted(named.items()))


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REF)
    portable: dict[str, Any] = _portable(schema)
    return portable


def _unique(kinds: list[Any]) -> list[Any]:
    return list({repr(kind): kind for kind in kinds}.values())


def _portable(schema: Any) -> Any:
    r"""Write what other readers of the document know: patterns as ECMA 262 has them, which knows no `\A`, and
    defaults in words. Generators take a field that has a default for one that is always there, so that
    clients would have to send it, and could rely on it in answers that leave it out."""
    if isinstance(schema, dict):
        written = {key: _WRITTEN.get(key, _portable)(value) for key, value in schema.items()}
        if schema.get("type") == "object" and schema.keys().isdisjoint(OF_OBJECTS):
            written["additionalProperties"] = True  # some take no word of it for no field at all
        if "default" not in schema or {"type", "anyOf", "$ref"}.isdisjoint(schema):
            return written
        default = written.pop("default")
        if default not in (None, "", [], {}):
            said = [written.get("description"), f"Left out: {json.dumps(default)}."]
            return written | {"description": " ".join(filter(None, said))}
        return written
    if isinstance(schema, list):
        return [_portable(value) for value in schema]
    return schema


def _ecma(pattern: str) -> str:
    return re.sub(r"\\Z$", "$", re.sub(r"^\\A", "^", pattern))


def _published(name: str) -> str:
    return _MODULE.sub("", name)


_WRITTEN: dict[str, Callable[[Any], Any]] = {
    "$ref": lambda ref: ref.rpartition("/")[0] + "/" + _published(ref.rpartition("/")[2]),
    "pattern": _ecma,
    "title": lambda title: _published(title) if isinstance(title, str) else _portable(title),
}
