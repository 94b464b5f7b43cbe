"""Two of the ends of `make campaign-extension`, with leases that outlast a machine that stalls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.extension.ends import ENDS, Seen
from tests.extension.report import PAGE, RESULTS, Report, faults, page, read
from tests.extension.stage import Rival, staged
from tests.serving import Served, served
from tests.typescript.toolchain import built, node, run

POLICY = {"heartbeatInterval": 60, "lostAfter": 600, "linger": 300}
BY_NAME = {end.name: end for end in ENDS}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "data") as server:
        yield server


def test_a_reload_keeps_the_seat_and_a_killed_browser_gives_it_up(
    server: Served, tmp_path: Path
) -> None:
    """Reloaded, the extension has its lease again. Killed, its browser holds it only until somebody asks."""
    with staged(server, tmp_path, policy=POLICY) as stage:
        stage.sign_in()
        fence = stage.lease()["fence"]
        BY_NAME["extension reloaded"].act(stage)
        # What it knew of the lease is gone: it has asked for it anew, perhaps more than once.
        stage.until(lambda: stage.holds() and stage.lease()["fence"] > fence)
        assert stage.lease()["leaseId"] == stage.lease_id
        assert stage.browser.complaints() == []
        BY_NAME["whole tree killed by SIGKILL"].act(stage)
        rival = Rival(server, stage.key).start()
        try:
            assert rival.granted(POLICY["linger"] / 2)
        finally:
            rival.give_back()
        stage.until(lambda: stage.sockets() == 0)


CONTENT = """
const [{ readFileSync }, vm] = [require('fs'), require('vm')];
const [ports, pauses] = [[], []];
let now = 0;
const connect = () => {
  const port = { onMessage: { addListener() {} }, disconnect() {} };
  port.onDisconnect = { addListener: (f) => (port.drop = f) };
  ports.push(port);
  return port;
};
vm.runInNewContext(readFileSync(process.argv[1], 'utf8'), {
  chrome: { runtime: { id: 'x', connect } },
  Date: { now: () => now },
  addEventListener() {},
  setTimeout: (f, ms) => { pauses.push(ms); now += ms; f(); },
});
now += 60_000;
ports[0].drop();
ports[1].drop();
console.log(JSON.stringify(pauses));
"""


def test_a_tab_starts_a_stopped_worker_in_time() -> None:
    """Who needs a seat waits for its holder for 1.5 s. Where it is in vain, it is tried more seldom."""
    content = built().parent / "chrome-extension" / "out" / "content.js"
    first, second = json.loads(run(node("-e", CONTENT, str(content)), content.parent))
    assert first <= 200
    assert second >= 1_000


def test_the_table_is_that_of_the_results() -> None:
    report = read(RESULTS)
    assert page(report) == PAGE.read_text()
    assert {each.end for each in report.seen} | set(report.failed) <= set(BY_NAME)


def test_faults_are_told() -> None:
    """The campaign fails for what must not be, and for nothing else."""

    def told(**seen: Any) -> list[str]:
        whole = {"end": "an end", "needed": True, "sockets": 0, **seen}
        return faults(Report(day="", browser="", load=0, policy={}, seen=[Seen(**whole)]))

    assert told(kept="kept") == told(free_after=2.9, within=3.0) == []
    assert told(kept="again", yields=True, free_after=2.0) == []
    assert told(kept="again", free_after=2.0) == [
        "an end, needed: she lost it, though she could speak"
    ]
    assert told(kept="lost", yields=True) == ["an end, needed: she has not got it back"]
    assert told(free_after=3.1, within=3.0) == ["an end, needed: a ghost held it for 3.1 s"]
    assert told() == ["an end, needed: nobody has got it"]
    assert told(kept="kept", sockets=1) == ["an end, needed: 1 sockets are left"]
