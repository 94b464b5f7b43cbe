"""What doctor says of each check, in each of its states, is a sentence that stands alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from tests.doctor.app import GOOD, App, serving
from tests.doctor.planted import ward
from tests.doctor.test_express import TABLE

from sojourn.adapters.express import EXPRESS, install
from sojourn.doctor.doctor import Examined
from sojourn.doctor.examiners import Outside, doctor
from sojourn.settings import Settings
from sojourn.stores.sql import schema
from sojourn.testing.redis_server import redis_server

SOURCE = Path(__file__).parents[2] / "src" / "sojourn"
MAKERS = {"ok", "skipped", "warning", "failure"}
WORDS_MIN = 3
PRONOUN = re.compile(
    r"(It|They|This|That|These|Those|He|She|Yes|No|None|Nobody|Not|All of them|Each of|Of|As|There (is|are)"
    r"( not| none)?)(\W*$|[.:,] )|(It|They|There are not|As it must|All of them|Yes|No)\b"
)
"""How an answer begins whose question has to be known."""
ASKED = re.compile(r"(Is|Are|Does|Do|Has|Have|Can|May|Was|Were) (it|they|its|their)\b")
LOGIN = "POST /login\n\nname=canary&password=correct+horse"
SECRET = "a-secret-for-the-words-of-doctor-0123456789"


def stands_alone(title: str) -> bool:
    return (
        len(title.split()) >= WORDS_MIN
        and not PRONOUN.match(title)
        and title.rstrip("”")[-1:] in ".?…"
    )


def written() -> Iterator[tuple[str, str]]:
    """Yield every title that is written in the source, and where; what is filled in is `…`."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in MAKERS and node.args:
                for text in texts(node.args[0]):
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", text


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(x.value) if isinstance(x, ast.Constant) else "…" for x in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


@pytest.mark.parametrize(
    "answer",
    [
        "Fine: Nobody.",
        "Nobody.",
        "They do not.",
        "There are not.",
        "All of them do.",
        "It is.",
        "Yes.",
        "No.",
    ],
)
def test_answers_without_their_question_are_told(answer: str) -> None:
    """What the pages once said is what this test is against."""
    assert not stands_alone(answer)


def test_every_title_in_the_source_stands_alone() -> None:
    """Also those of states that no test here comes into."""
    found = list(written())
    assert len(found) > 150
    assert [each for each in found if not stands_alone(each[1])] == []


def judge(seen: Sequence[Examined]) -> None:
    for each in seen:
        assert stands_alone(each.finding.title), (each.check.id, each.finding.title)
        assert stands_alone(each.check.title), (each.check.id, each.check.title)
        assert each.check.title.endswith("?"), each.check.title
        assert not ASKED.match(each.check.title), each.check.title
    titles = [each.finding.title for each in seen]
    assert len(set(titles)) == len(titles), [x for x in titles if titles.count(x) > 1]


def examined(settings: Settings, outside: Outside | None = None) -> list[Examined]:
    with closing(doctor(settings, outside, express=EXPRESS)) as opened:
        return list(opened.examine())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=str(tmp_path), secret=(SECRET,))


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mariadb"])
def test_what_is_found_in_a_database_stands_alone(
    kind: str, settings: Settings, request: pytest.FixtureRequest
) -> None:
    """Well, with tables gone, and without any."""
    url = request.getfixturevalue(f"{kind}_url")
    looked = replace(settings, store=url)
    judge(examined(looked))  # nothing is there yet
    with ward(url) as patient:
        judge(examined(looked))
        for table in (schema.webhooks, schema.sessions):
            patient.execute(f"DROP TABLE {table.name}")
            judge(examined(looked))


def test_what_is_found_of_redis_stands_alone(settings: Settings, empty_sqlite: str) -> None:
    """With a ledger beside it, and while neither is there."""
    with redis_server() as server:
        judge(examined(replace(settings, store=server.url, ledger=empty_sqlite)))
    nobody = "redis://127.0.0.1:1"
    judge(examined(replace(settings, store=nobody, ledger=empty_sqlite + ".not-there")))


def test_what_is_found_beside_express_stands_alone(
    settings: Settings, postgres_url: str, empty_sqlite: str
) -> None:
    """Before Sojourn is installed beside it, afterwards, and without the table."""
    looked = replace(settings, store=empty_sqlite, express=f"express+{postgres_url}")
    judge(examined(looked))
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(TABLE)
        judge(examined(looked))
        install(postgres_url)
        judge(examined(looked))
        db.execute('DROP TABLE "session" CASCADE')
        judge(examined(looked))


def test_what_is_found_of_cookies_stands_alone(settings: Settings, empty_sqlite: str) -> None:
    """Of an application that signs people in, and of one that sets no cookie."""
    looked = replace(settings, store=empty_sqlite)
    for app in (App(attributes=GOOD), App(attributes="")):
        with serving(app) as where:
            outside = Outside(url="http://app.test/", login=LOGIN, page="/me", via=where)
            judge(examined(looked, outside))
    judge(examined(looked, Outside(url="http://127.0.0.1:1/")))
