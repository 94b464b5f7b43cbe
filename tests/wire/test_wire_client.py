"""The Python client sends what spec/wire has, and understands what it says is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.wire.vectors import ANSWERS, REQUESTS, TOKENS

from sojourn.client.errors import SeatDenied, SeatLost, passing
from sojourn.client.hold import Wish
from sojourn.client.http import Grant, Http
from sojourn.client.transport import Answer, Request
from sojourn.device import Device
from sojourn.errors import SojournError
from sojourn.token import Secret


class Canned:
    """Answers with one vector, whatever it is asked."""

    closed = False

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: list[Request] = []

    def send(self, request: Request, *, timeout: float, limit: int) -> Answer:
        self.asked.append(request)
        headers = {"content-type": self.answer["type"]}
        if "retryAfter" in self.answer:
            headers["retry-after"] = self.answer["retryAfter"]
        body = json.dumps(self.answer["body"]).encode()
        return Answer(status=self.answer["status"], headers=headers, body=body)

    def close(self) -> None:
        return


def http_of(answer: dict[str, Any]) -> tuple[Http, Canned]:
    canned = Canned(answer)
    http = Http("http://127.0.0.1:1", now=lambda: 100.0, transport=canned)
    http.open()
    return http, canned


def ask(http: Http, case: dict[str, Any]) -> Any:
    proof = Secret(TOKENS["lease" if case["proof"] == "leaseToken" else "license"]["sample"])
    if case["path"].endswith("/heartbeat"):
        return http.beat(proof, case.get("body", {}), timeout=5)
    if case["method"] == "DELETE":
        return http.release(proof, timeout=5)
    return http.acquire(proof, case["body"], timeout=5)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_it_understands_the_answer(case: dict[str, Any]) -> None:
    answer = ANSWERS[case["answer"]]
    body = answer["body"]
    http, canned = http_of(answer)
    if answer["means"] in ("seat", "beat", "released"):
        got = ask(http, case)
        if answer["means"] == "seat":
            assert isinstance(got, Grant)
            assert (got.lease_id, got.fence) == (body["data"]["leaseId"], body["data"]["fence"])
            assert (got.resumed, got.sent_at) == (body["data"]["resumed"], 100.0)
        elif answer["means"] == "beat":
            assert got.expires_in == body["data"]["expiresIn"]
    else:
        with pytest.raises(SojournError) as caught:
            ask(http, case)
        _judge(caught.value, answer)
    (asked,) = canned.asked
    assert (asked.method, asked.path) == (case["method"], case["path"])


def _judge(fault: SojournError, answer: dict[str, Any]) -> None:
    body = answer["body"]
    if answer["means"] == "denied":
        assert isinstance(fault, SeatDenied)
        assert fault.retry_after == body["retryAfter"]
        assert (fault.limit, fault.in_use, len(fault.mine)) == (
            body["limit"],
            body["inUse"],
            len(body["mine"]),
        )
    elif answer["means"] == "lost":
        assert isinstance(fault, SeatLost)
        assert (fault.reason, fault.resumable) == (body["reason"], body["resumable"])
    else:
        assert fault.code == body["code"]
        assert fault.hint == body["details"]
    assert passing(fault) == (answer["means"] == "passing")


def test_a_busy_server_is_asked_again() -> None:
    http, _ = http_of(ANSWERS["busy"])
    with pytest.raises(SojournError) as caught:
        ask(http, REQUESTS[0])
    _judge(caught.value, ANSWERS["busy"])


def test_its_wishes_are_as_is_written() -> None:
    bodies = {case["name"]: case.get("body") for case in REQUESTS}
    wish = Wish(feature="editor", user="ada", client_id="ada@studio-7")
    assert wish.body(takeover=False, wait=0) == bodies["acquire"]
    assert wish.body(takeover=True, wait=0) == bodies["acquire by takeover"]
    assert wish.resume_body(wait=0) == bodies["resume"]
    device = Device(name="Chrome on Windows", browser="Chrome", os="Windows", kind="desktop")
    told = Wish(feature="editor", user="ada", client_id="ada@studio-7", device=device)
    assert told.body(takeover=False, wait=0) == bodies["acquire with a device"]
