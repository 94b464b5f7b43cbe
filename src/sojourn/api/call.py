"""A call of the API, described once: the router leads to it, a hot lane may answer it, and the OpenAPI
document is written from it.

    @operator("GET", "/api/licenses/{licenseId}", may=Permission.READ, problems=("license_unknown",))
    def get_license(ask: OperatorCall, license_id: Name) -> Done[LicenseBody]:

A parameter called `body` or `query` says what those must hold; any other is a piece of the path. What
does not fit its type never reaches the handler.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
import typing
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Struct

from sojourn.api.context import Context
from sojourn.api.incoming import AUTHORIZATION, Incoming, caller_of
from sojourn.api.limits import read_body, read_whole
from sojourn.api.metrics import Tally
from sojourn.decoding import prepared
from sojourn.errors import InvalidInput, SojournError, Unauthenticated
from sojourn.ledger import ApiKey
from sojourn.service.caller import Abandoned
from sojourn.service.keys import Permission, unknown_key
from sojourn.wire.bodies import Done, camel
from sojourn.wire.problems import crash, invalid, refuse
from sojourn.wire.proof import bearer
from sojourn.wire.reply import Reply, done

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Scope = typing.MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Respond = Callable[[Context, Scope, Receive], Awaitable[Reply]]

QUERY_FIELDS_MAX = 50
STOPPED = "The server is shutting down. Whether this was carried out is not known."
UNHEARD = Reply(503, [], b"", Abandoned.code)
"""The answer to somebody who has hung up: nobody reads it. It counts under its code."""


NO_BODY = (b"", b"{}")


class Who(StrEnum):
    """Whose proof a call takes."""

    OPERATOR = "operator"
    CLIENT = "client"  # a license key, a user's JWT, or a lease token
    HOLDER = "holder"  # a lease token
    BACKEND = "backend"  # an application's API key
    SIGN_IN = "sign-in"  # likewise, and the token of a session to replace, if there is one
    PERSON = "person"  # likewise, and the token of the session it is about
    SELF = "self"  # a person, about their own sessions: by their cookie, or their session token
    ANYONE = "anyone"


class Words(Struct, frozen=True):
    """What the OpenAPI document says of a call."""

    summary: str
    description: str


class Call(Struct, frozen=True, kw_only=True):
    """One method of one path. `respond` may raise a SojournError."""

    name: str
    method: Method
    path: str
    who: Who
    respond: Respond
    words: Words
    takes_key: bool = False  # an Idempotency-Key
    may: Permission | None = None
    body: Any = None
    body_required: bool = True
    query: Any = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    answer: Any = None  # None: described by hand in `openapi`
    status: int = 200
    problems: tuple[str, ...] = ()
    for_pages: bool = False  # pages of other origins may be let in: see `cross_origin`


class OperatorCall(Struct, frozen=True):
    """The operator who calls. Each handler gets one besides its parameters."""

    context: Context
    key: ApiKey

    @property
    def actor(self) -> str:
        """Name who asks, for the audit trail."""
        return f"key:{self.key.id}"


async def answer(
    call: Call, tally: Tally, context: Context, scope: Scope, receive: Receive
) -> Reply:
    """Carry a call out in a task, whatever happens."""
    began = time.perf_counter()
    if context.traces is None:
        reply = await _answer(call, context, scope, receive)
    else:
        span = context.traces.begin(call, dict(scope["headers"]))
        with context.traces.within(span):
            reply = await _answer(call, context, scope, receive)
        context.traces.end(span, reply)
    tally.add(reply.code, time.perf_counter() - began)
    return context.cross_origin.finish(reply, dict(scope["headers"])) if call.for_pages else reply


async def _answer(call: Call, context: Context, scope: Scope, receive: Receive) -> Reply:
    try:
        return await call.respond(context, scope, receive)
    except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
        return excuse(fault)


def excuse(fault: BaseException) -> Reply:
    """Turn a fault into an answer. An unexpected one is logged, and answered without its trace."""
    if isinstance(fault, Abandoned):
        return UNHEARD
    if isinstance(fault, SojournError):
        return refuse(fault)
    if isinstance(fault, asyncio.CancelledError):
        # The server has waited for us as long as it may; the task ends here.
        return refuse(SojournError(STOPPED, code="shutting_down", hint="Ask again."))
    return crash(fault)


async def admit_key(context: Context, presented: str, key_hash: bytes, client: Any) -> None:
    """Let an API key in that is valid, as far as can be told before it is asked for again. `client`:
    whose address it comes from, as a scope says. Raises Unauthenticated."""
    if not await context.api_keys.admit(
        key_hash, address=client[0] if client else None, prefix=presented
    ):
        raise unknown_key()


def operator(
    method: Method,
    path: str,
    *,
    may: Permission,
    status: int = 200,
    problems: tuple[str, ...] = (),
    patience: float | None = None,
    body_required: bool = True,
    body_max: int = 0,
) -> Callable[[Callable[..., Any]], Call]:
    """Make a call of a plain function that runs on a thread, for callers whose key permits it.

    What it returns may have to be awaited: that is done on the event loop, for as long as it takes.

    `patience`: how long to wait for it, in seconds, instead of the setting `request_timeout`.
    `body_required`: without, no body means one that says nothing. `body_max`: bytes that a body may have, if
    the setting says less.
    """

    def decorate(handler: Callable[..., Any]) -> Call:
        reader = Reader(handler, path, body_required=body_required)

        async def respond(context: Context, scope: Scope, receive: Receive) -> Reply:
            settings = context.settings
            most = max(settings.body_max, body_max)
            incoming = Incoming.of(scope, most)
            presented = bearer(incoming.one(AUTHORIZATION), "<API key>")
            key_hash = context.services.keys.recognize(presented)
            await admit_key(context, presented, key_hash, incoming.client)
            body = await _body_of(reader, incoming, receive, most)

            def work() -> Reply | Awaitable[Done[Any]]:
                key = context.services.keys.known(key_hash)
                context.services.keys.require(key, may)
                if reader.query is None and incoming.query:
                    raise InvalidInput("This call takes no parameters after `?`.")
                given = reader.read(incoming.params, incoming.query, body)
                said = handler(OperatorCall(context, key), **given)
                return said if isinstance(said, Awaitable) else done(said, status)

            try:
                reply = await context.blocking.run(
                    patience or settings.request_timeout, work, caller=caller_of(scope)
                )
            except Unauthenticated:  # revoked since it was seen last
                context.api_keys.forget(key_hash)
                raise
            return reply if isinstance(reply, Reply) else done(await reply, status)

        return Call(
            name=handler.__name__,
            method=method,
            path=path,
            who=Who.OPERATOR,
            may=may,
            respond=respond,
            body=reader.body,
            body_required=body_required,
            query=reader.query,
            params=reader.params,
            answer=reader.answer,
            status=status,
            problems=problems,
            words=words(handler),
        )

    return decorate


async def _body_of(reader: Reader, incoming: Incoming, receive: Receive, body_max: int) -> bytes:
    """Return the body of a call that takes one. Raises InvalidInput where it takes none and one is sent:
    a `licenseId` in it must not be passed over."""
    if reader.body is not None:
        return await read_body(receive, incoming.content_type, body_max)
    if (await read_whole(receive, body_max)).strip() not in NO_BODY:
        raise InvalidInput("This call takes no body.", hint="Its path and `?` say it all.")
    return b""


def answered(tell: Callable[..., Any]) -> Any:
    """Return what a function answers, as its signature says."""
    return typing.get_type_hints(tell)["return"]


def words(handler: Callable[..., Any]) -> Words:
    """Split a docstring into the summary and the description of a call."""
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n")
    return Words(summary.strip().removesuffix("."), " ".join(description.split()))


class Reader:
    """Reads a request into the parameters that a handler's signature names."""

    def __init__(
        self, handler: Callable[..., Any], path: str, *, body_required: bool = True
    ) -> None:
        hints = typing.get_type_hints(handler, include_extras=True)
        self.answer = _outcome(hints.pop("return"))  # not of a hot call, which `tell` answers
        del hints["ask"]  # what it is given besides
        self.body = hints.pop("body", None)
        self.query = hints.pop("query", None)
        if self.query is not None:
            prepared(self.query)
        self.params = {camel(name): kind for name, kind in hints.items()}
        self._names = {camel(name): name for name in hints}
        assert set(re.findall(r"{(\w+)}", path)) == set(self.params), path
        self._body_required = body_required
        self._decode = msgspec.json.Decoder(self.body).decode if self.body else None

    def read(self, pieces: Mapping[str, str], query: bytes, body: bytes) -> dict[str, Any]:
        if not query and self._decode is None and not pieces:
            return {} if self.query is None else {"query": _nothing_asked(self.query)}
        values: dict[str, Any] = {}
        for name, raw in pieces.items():
            values[self._names[name]] = _piece(name, raw, self.params[name])
        if self.query is not None:
            values["query"] = read_query(query, self.query)
        if self._decode is not None:
            if not body and self._body_required:
                raise InvalidInput("The body is empty; JSON is expected.")
            values["body"] = decode(self._decode, body or b"{}")
        return values


def _outcome(hint: Any) -> Any:
    """Return what a handler answers in the end, perhaps after it has been awaited."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Awaitable else hint


def _piece(name: str, raw: str, kind: Any) -> Any:
    """Decode a piece of the path, which may hold encoded slashes."""
    try:
        return msgspec.convert(unquote(raw, errors="strict"), kind)
    except UnicodeDecodeError:
        raise InvalidInput(f"{name}: not UTF-8, percent-encoded.") from None
    except msgspec.ValidationError as fault:
        raise invalid(fault, name) from None


def read_query(query_string: bytes, kind: Any) -> Any:
    """Read a query string into a Struct. A name given twice is refused unless its field is a list."""
    if not query_string:
        return _nothing_asked(kind)
    values: dict[str, Any] = {}
    fields = _query_fields(kind)
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=QUERY_FIELDS_MAX,
            errors="strict",
        )
    except ValueError:
        raise InvalidInput("The query string cannot be read.") from None
    for name, value in pairs:
        if typing.get_origin(fields.get(name)) is tuple:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidInput(f"{name}: given more than once.")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise invalid(fault, "query") from None


@cache
def _query_fields(kind: Any) -> dict[str, Any]:
    """Name a Struct's fields and their types: msgspec evaluates the annotations anew each time."""
    return {f.encode_name: f.type for f in msgspec.structs.fields(kind)}


@cache
def _nothing_asked(kind: Any) -> Any:
    """Return what an empty query string means; Structs of queries are frozen, and may be shared."""
    try:
        return msgspec.convert({}, kind)
    except msgspec.ValidationError as fault:
        raise invalid(fault, "query") from None


def decode(decoder: Callable[[bytes], Any], body: bytes) -> Any:
    """Decode a JSON body. Raises InvalidInput, naming the field."""
    try:
        return decoder(body)
    except msgspec.ValidationError as fault:
        raise invalid(fault, "body") from None
    except msgspec.DecodeError as fault:
        raise InvalidInput(f"The body is not JSON: {fault}.") from None
    except (RecursionError, UnicodeDecodeError):
        raise InvalidInput("The body is not JSON that anybody would write.") from None
