"""Sample sessions: made where that is allowed, known from all others, and taken away alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api_harness import Api, api

from sojourn.api.sample_sessions import LABEL, PREFIX, Samples
from sojourn.devices import recognize
from sojourn.session import Begin, Begun, Save

BASE = "/api/dev/sample-sessions"
SECRET = "a-secret-for-tests-0123456789-abcdefghij"


@pytest.fixture
def world() -> Iterator[Api]:
    with api(dev=True, secret=(SECRET,)) as world:
        yield world


def test_they_look_like_a_persons_and_say_that_they_are_none(world: Api) -> None:
    made = world.admin("POST", BASE, json={"userId": "ann"}).data
    assert made["userId"] == "ann"
    sessions = made["sessions"]
    known = [recognize(each["device"]["userAgent"]) for each in sessions]
    assert len({each.name for each in known}) == 7
    assert {each.kind for each in known} == {"desktop", "phone", "tablet", "server"}
    assert len({each["expiresIn"] for each in sessions}) > 2
    for each in sessions:
        assert each["id"].startswith(PREFIX)
        assert each["data"] == {LABEL: True}
        assert "ample" in each["device"]["place"]
    seen = world.call("GET", "/api/user/active-sessions", headers=[("cookie", made["cookie"])])
    assert seen.json["total"] == 7
    assert sum(each["isCurrent"] for each in seen.data) == 1


def test_only_a_server_for_developing_makes_them() -> None:
    with api() as world:
        refused = world.admin("POST", BASE, json={})
        assert (refused.status, refused.code) == (403, "not_dev")
        assert "sojourn serve --dev" in refused.json["details"]
        assert world.services.sessions.list() == []


def test_removing_takes_them_alone_page_by_page(world: Api) -> None:
    """Not what only says that it is a sample, nor what only is called so."""
    sessions = world.services.sessions
    kept = []
    for begin, prefix in (
        (Begin(user_id="ann", data={LABEL: True}), "ses_"),
        (Begin(user_id="ann"), PREFIX),
        (Begin(user_id="bob"), "ses_sample"),
        (Begin(user_id="bob"), "ses_z"),
    ):
        (begun,) = sessions.begin([begin], prefix=prefix)
        assert isinstance(begun, Begun)
        kept.append(begun.session.id)
    samples = Samples(sessions, dev=True)
    changed = samples.make("ann", 9)[0].session.id
    sessions.save([Save(id=changed, unset=(LABEL,))])
    samples.make("cy", 4)
    after, ended, pages = None, 0, 0
    while pages == 0 or after is not None:
        done = samples.remove(after=after, limit=5, actor="test")
        after, ended, pages = done.next, ended + done.ended, pages + 1
    assert (ended, pages) == (12, 3)
    assert {each.id for each in sessions.list()} == {*kept, changed}
    assert samples.remove(after=None, limit=5, actor="test").ended == 0
