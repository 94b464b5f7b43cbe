"""What doctor found, as the workers of one server show it to each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.patient import DEADLINE, MISSING, SLOW, Patient

from sojourn.clock import ManualClock
from sojourn.console.doctor import Stream, digest
from sojourn.doctor.findings import SIZE_MAX, FindingsFolder
from sojourn.doctor.runs import Rounds
from sojourn.finding import Posted, Verdict, failure, ok

START = 1_750_000_000_000


class Worker:
    """One of two processes: each posts under a name of its own."""

    def __init__(self, folder: Path, name: str, patient: Patient, clock: ManualClock) -> None:
        self.board = FindingsFolder(folder)
        self.board._own = folder / f"{name}.json"
        self.rounds = Rounds(patient.doctor(), board=self.board, now=clock.now)

    def found(self) -> dict[str, str]:
        return {name: each.seen.finding.title for name, each in self.rounds.latest().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "findings"


def test_all_show_what_any_of_them_found_last(folder: Path) -> None:
    patient, clock = Patient(schema_tables=MISSING), ManualClock(START)
    one, two = (Worker(folder, name, patient, clock) for name in ("one", "two"))
    one.rounds.look().wait_for_end()
    assert two.found() == one.found()
    assert len(two.found()) == 6
    assert two.rounds.areas(Verdict.FAILURE) == ["schema"]
    assert len(two.rounds.latest()["schema.tables"].seen.steps) == 2
    clock.advance(seconds=60)
    two.rounds.mend(actor="ann").wait_for_end()
    assert one.rounds.areas(Verdict.FAILURE) == []
    assert one.found() == two.found()
    patient.wrong["store.speed"] = SLOW
    clock.advance(seconds=60)
    one.rounds.quick()
    assert two.found()["store.speed"] == SLOW.title
    assert digest(two.rounds) == digest(one.rounds)


def test_a_page_hears_of_what_was_found_before_it_listened() -> None:
    """A check may be over before the answer to the page begins. What is wrong is shown apart all the same."""
    patient, clock = Patient(schema_tables=MISSING), ManualClock(START)
    rounds = Rounds(patient.doctor(), now=clock.now)
    rounds.look().wait_for_end()
    gate = patient.hold("store.clock")
    run = rounds.look()
    assert patient.asked.wait(DEADLINE)
    said = Stream(rounds, run, may_repair=True).news(clock.now()).decode()
    gate.set()
    run.wait_for_end()
    apart = said.partition('id="problems"')[2].partition("</section>")[0]
    assert 'id="check-schema-tables"' in apart
    assert "Repair this alone" in apart


def test_what_cannot_be_shared_is_shown_where_it_was_found(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that cannot be used, a garbled file, and what another version of us knows."""
    patient, clock = Patient(), ManualClock(START)
    one, two = (Worker(folder, name, patient, clock) for name in ("one", "two"))
    folder.write_text("in the way")
    one.rounds.look().wait_for_end()
    assert len(one.found()) == 6
    assert two.found() == {}
    assert "findings_not_shared" in caplog.text
    folder.unlink()
    strange = Posted(check="schema.nobody-knows", finding=ok("Fine."), milliseconds=1, at=START)
    two.board.post([strange])
    (folder / "three.json").write_text("{")
    assert len(one.found()) == 6
    assert two.found() == {}
    one.board.clear()
    assert list(folder.iterdir()) == []
    assert one.board.read() == ()


def test_a_file_is_bounded(folder: Path) -> None:
    """Evidence gives way first."""
    board = FindingsFolder(folder)
    long = failure("Wrong.", evidence=("x" * SIZE_MAX,))
    board.post([Posted(check="schema.tables", finding=long, milliseconds=1, at=START)])
    (read,) = board.read()
    assert (read.finding.title, read.finding.evidence) == ("Wrong.", ())
    board.post([Posted(check="schema.tables", finding=ok("y" * SIZE_MAX), milliseconds=1, at=1)])
    assert board.read() == (read,)
