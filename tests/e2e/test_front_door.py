"""What a person meets who opens an address of the server, and what a machine is answered there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
from tests.api_harness import Answer, Api, api

from sojourn.api.call import UNHEARD
from sojourn.api.front_door import for_people
from sojourn.wire.bodies import STATUS

PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(scope="module")
def world() -> Iterator[Api]:
    with api(site_name="Acme") as world:
        yield world


def get(world: Api, path: str, accept: str = PAGE, method: str = "GET") -> Answer:
    return world.call(method, path, headers=[("accept", accept)])


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nowhere", 404, "There is nothing at this path."),
        ("/console/nope", 404, "There is nothing at this path."),
        ("/api/licenses", 401, "API key"),
        ("/api/licenses/sessions/heartbeat", 405, "This path does not take this method."),
    ],
)
def test_a_problem_is_a_page_for_people(world: Api, path: str, status: int, said: str) -> None:
    page = get(world, path)
    assert page.status == status
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert said in page.body.decode()
    assert "Go to the start page" in page.body.decode()
    assert "script" not in str(page.header("content-security-policy"))
    assert page.header("vary") == "Accept"
    machine = get(world, path, "application/json")
    assert machine.status == status
    assert machine.header("content-type") == "application/problem+json"


@pytest.mark.parametrize(
    "accept", ["*/*", "", "application/json, text/html", "text/*", "application/problem+json"]
)
def test_whoever_does_not_ask_for_a_page_gets_a_document(world: Api, accept: str) -> None:
    assert get(world, "/nowhere", accept).header("content-type") == "application/problem+json"


def test_whoever_changes_something_gets_a_document(world: Api) -> None:
    answer = get(world, "/api/licenses", method="POST")
    assert answer.header("content-type") == "application/problem+json"


def test_what_nobody_hears_is_no_page() -> None:
    """A browser that hung up: its problem has a code, and no body."""
    scope = {"method": "GET", "path": "/api/licenses", "headers": [(b"accept", PAGE.encode())]}
    assert for_people(scope, UNHEARD) is UNHEARD


def test_what_was_sent_is_text_on_the_page(world: Api) -> None:
    page = get(world, "/<script>alert(1)</script>")
    assert b"<script>" not in page.body


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/console/doctor/", "../doctor"),
        ("/docs/", "../docs"),
        ("/account/security/", "../security"),
        ("/api/licenses/?limit=2", "../licenses?limit=2"),
        ("/api/keys/key_x/", "../key_x"),
    ],
)
def test_a_slash_too_many_leads_to_the_path_that_is_there(world: Api, path: str, to: str) -> None:
    answer = get(world, path)
    assert (answer.status, answer.header("location")) == (308, to)


@pytest.mark.parametrize("path", ["//evil.example/", "/nowhere/", "/docs//", "/console/doctor//"])
def test_a_path_that_is_not_there_leads_nowhere(world: Api, path: str) -> None:
    assert get(world, path).status in (400, 404)


def test_the_icon(world: Api) -> None:
    answer = get(world, "/favicon.ico")
    assert answer.status == 307
    icon = get(world, "/" + str(answer.header("location")))
    assert (icon.status, icon.header("content-type")) == (200, "image/svg+xml")


def test_the_reference_names_every_call(world: Api) -> None:
    page = get(world, "/docs").body.decode()
    document = world.call("GET", "/openapi.json").json
    names = [
        said["operationId"]
        for methods in document["paths"].values()
        for method, said in methods.items()
        if method != "parameters"
    ]
    assert [name for name in names if f'id="{name}"' not in page] == []
    assert "<script" not in page.replace('<script src="console/assets/theme', "")
    assert "-X POST" in page
    assert '"leaseId"' in page.replace("&#34;", '"')


def test_the_type_of_a_problem_leads_to_its_page(world: Api) -> None:
    """Followed as a browser resolves it: from the address that was asked."""
    refused = get(world, "/api/licenses", "application/json")
    kind = refused.json["type"]
    assert kind == "/problems/unauthenticated"
    page = get(world, kind).body.decode()
    assert "There is no proof in the request" in page
    assert "<code>sojourn key list</code>" in page
    assert page.count("<article") == 1


def test_every_code_has_a_page_and_links_on_it_lead_somewhere(world: Api) -> None:
    every = get(world, "/problems").body.decode()
    assert [
        code for code in STATUS if f'<article class="panel call" id="{code}"' not in every
    ] == []
    for code in STATUS:
        page = get(world, f"/problems/{code}")
        assert (page.status, page.header("content-type")) == (200, "text/html; charset=utf-8")
    text = get(world, "/problems/seat_limit").body.decode()
    assert "](" not in every, "a link of the guides, as Markdown"
    for link in set(re.findall(r'(?:href|src)="([^"#]+)"', text)):
        to = urljoin("http://host/problems/seat_limit", link).removeprefix("http://host")
        assert get(world, to).status in (200, 303), link


def test_a_code_that_there_is_not_has_no_page(world: Api) -> None:
    assert get(world, "/problems/nothing_of_ours").status == 404
    assert get(world, "/problems/<script>").status == 404
