"""/metrics at an address of its own, with one process and with several."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from tests.serving import TICK, Served, free_port, new_client, served
from tests.waiting import ended


def refused(http: httpx.Client, url: str) -> bool:
    answer = http.get(url)
    return answer.status_code == 404 and answer.json()["code"] == "not_found"


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_are_apart(workers: int, tmp_path: Path, postgres_url: str) -> None:
    """They are there, whichever worker is scraped, and nothing else is: no call, hot or not."""
    port = free_port()
    environ = {
        "SOJOURN_METRICS_LISTEN": f"127.0.0.1:{port}",
        "SOJOURN_WORKERS": str(workers),
    }
    store = postgres_url if workers > 1 else ""
    with served(tmp_path, store=store, environ=environ) as server, new_client() as http:
        apart = f"http://127.0.0.1:{port}"
        _, key = server.license(editor={"capacity": 20})
        for n in range(10):
            _take(server, key, f"tab-{n}").raise_for_status()
        assert refused(http, f"{server.url}/metrics")
        assert ended(lambda: counted(f"{apart}/metrics", 10)) == 10  # whichever worker tells it
        assert each_scrape_grows(f"{apart}/metrics", "sojourn_leases_begun_total{", 10)
        for path in ("/livez", "/", "/api/licenses", "/metrics/", "//metrics", "/console"):
            assert refused(http, f"{apart}{path}"), path
        body = {"feature": "editor", "userId": "u", "clientId": "c"}
        hot = http.post(
            f"{apart}/api/licenses/sessions",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
        )
        assert hot.status_code == 404
        assert "sojourn_http_answers" in http.get(f"{apart}/metrics").text
    assert f"http://127.0.0.1:{port}/metrics" in server.log.read_text()


def counted(url: str, enough: int) -> float:
    """Scrape until so many acquires are told of; each time by another connection."""
    while True:
        with new_client() as fresh:
            text = fresh.get(url).raise_for_status().text
        found = re.search(r'sojourn_http_answers_total{call="acquire",code="ok"} (\S+)', text)
        if found is not None and float(found[1]) >= enough:
            return float(found[1])
        TICK.wait(0.2)


def each_scrape_grows(url: str, name: str, all_of: float) -> bool:
    """Scrape again and again, by connections that any worker may take: no counter steps back, and it tells of
    all that was done."""
    told = []
    for _ in range(20):
        with new_client() as fresh:
            lines = fresh.get(url).raise_for_status().text.splitlines()
        told.append(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))
    return told == sorted(told) and told[-1] == all_of


def _take(server: Served, key: str, client: str) -> httpx.Response:
    body = {"feature": "editor", "userId": "ann", "clientId": client}
    url = f"{server.url}/api/licenses/sessions"
    return httpx.post(url, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30)
