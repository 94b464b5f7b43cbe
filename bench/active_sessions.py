"""What does the list of active sessions cost a person with 10,000 of them, beside one with 10?

A whole request, from its headers to its bytes, without a socket: proof, look-up, page, seats, JSON. Then
what it takes when 50 devices of one person refresh at once, and when one of them ends all the others.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec
from places import BACKENDS, SECRET, backend

from sojourn.cookie import SignedTokens
from sojourn.device import Device
from sojourn.origin import Origin
from sojourn.people.calls import BASE, People, PersonRequest
from sojourn.service.sessions import SessionService
from sojourn.session import Begin, Begun
from sojourn.stores.open import migrate, open_store

FEW = 10
DEVICES = 50
BATCH = 250
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/139.0.0.0 Safari/537.36"
)
DEVICE = Device(
    name="Chrome on Windows",
    browser="Chrome",
    os="Windows",
    kind="desktop",
    ip="192.0.2.7",
    user_agent=AGENT,
    place="Berlin, Germany",
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    sessions: int
    few_ms: float  # the first page of a person with ten
    many_ms: float  # and of one with so many
    ratio: float
    deep_ms: float  # the last page of those
    page_bytes: int  # a page of 50, of so many
    page_of_200_bytes: int
    devices_at_once_ms: float  # until the last of 50 has its page
    end_others_ms: float


def measure(many: int, rounds: int, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for name in BACKENDS:
        say(f"active sessions · {name}")
        with backend(name) as url:
            migrate(url)
            with closing(open_store(url)) as store:
                rows.append(_store(name, SessionService(store), many, rounds))
    return rows


def _store(name: str, sessions: SessionService, many: int, rounds: int) -> Row:
    people = People(sessions, SignedTokens([SECRET.encode()]))
    few = _sign_in(sessions, "few", FEW)
    crowd = _sign_in(sessions, "many", many)
    asked = [_get(token) for token in crowd[-DEVICES:]]
    few_ms, _ = _median(people, _get(few[-1]), rounds)
    many_ms, page = _median(people, asked[-1], rounds)
    _, large = _median(people, _get(crowd[-1], "limit=200"), 1)
    cursor = str(msgspec.json.decode(large)["data"][0]["id"])
    oldest = sessions.of("few", limit=1)[0].created_at  # before all of the crowd
    deep_ms, _ = _median(people, _get(crowd[-1], f"after={oldest + 200}~{cursor}"), rounds)
    together = _together(people, asked)
    began = time.perf_counter()
    _ask(people, _get(crowd[-1], method="POST", path=BASE + "/logout-others"))
    return Row(
        store=name,
        sessions=many,
        few_ms=few_ms,
        many_ms=many_ms,
        ratio=many_ms / few_ms,
        deep_ms=deep_ms,
        page_bytes=len(page),
        page_of_200_bytes=len(large),
        devices_at_once_ms=together,
        end_others_ms=(time.perf_counter() - began) * 1000,
    )


def _sign_in(sessions: SessionService, user: str, count: int) -> list[str]:
    tokens: list[str] = []
    while len(tokens) < count:
        wanted = [Begin(user_id=user, device=DEVICE)] * min(BATCH, count - len(tokens))
        tokens += [each.token for each in sessions.begin(wanted) if isinstance(each, Begun)]
    return tokens


def _get(token: str, query: str = "", *, method: str = "GET", path: str = BASE) -> PersonRequest:
    return PersonRequest(
        method=method,
        path=path,
        query=query,
        authorization=f"Bearer {token}",
        origin=Origin(https=True, ip=None),
    )


def _ask(people: People, request: PersonRequest) -> bytes:
    status, _, body = people.respond(request)
    if status != 200:
        raise RuntimeError(f"{status}: {body!r}")
    return body


def _median(people: People, request: PersonRequest, rounds: int) -> tuple[float, bytes]:
    times = []
    body = _ask(people, request)
    for _ in range(rounds):
        began = time.perf_counter()
        body = _ask(people, request)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), body


def _together(people: People, requests: list[PersonRequest]) -> float:
    barrier = threading.Barrier(len(requests) + 1)

    def refresh(request: PersonRequest) -> None:
        barrier.wait()
        _ask(people, request)

    threads = [threading.Thread(target=refresh, args=(each,)) for each in requests]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) * 1000
