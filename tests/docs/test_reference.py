"""docs/reference says what the code has, all of it, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.serving import acquire, new_client, served

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
NAME = re.compile(r"sojourn_[a-z_]+")


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_reference", REFERENCE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_as_the_code_is() -> None:
    """Where they are not: `make reference`. What has no words gets them in docs/reference/words.toml."""
    old = [str(path.relative_to(ROOT)) for path, text in maker().made() if path.read_text() != text]
    assert old == []


def test_what_has_no_words_is_told() -> None:
    make = maker()
    with pytest.raises(make.Unexplained, match=r"\[events\]: a\.new\.kind has no words"):
        make.words("events", [*make.words("events", make.EventKind), "a.new.kind"])
    with pytest.raises(make.Unexplained, match=r"lease_lost is left over"):
        make.words("errors", set(make.STATUS) - {"lease_lost"})


def told() -> dict[str, tuple[str, set[str]]]:
    """Return each metric of the page, its type and its labels."""
    found = {}
    for line in (REFERENCE / "metrics.md").read_text().splitlines():
        if line.startswith("| `sojourn_"):
            name, kind, labels, _ = (cell.strip() for cell in line.strip("|").split("|"))
            found[name.strip("`")] = kind, set(re.findall(r"`(\w+)`", labels))
    return found


def test_every_metric_of_the_code_is_on_the_page() -> None:
    named = {
        node.value
        for path in (ROOT / "src" / "sojourn" / "api").glob("*.py")
        if path.name != "shared_metrics.py"  # which names families by their beginnings
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and NAME.fullmatch(node.value)
    }
    assert named == set(told())


def test_a_scrape_is_as_the_page_says(tmp_path: Path) -> None:
    """By type and labels, after a seat was taken and another refused."""
    page = told()
    with served(tmp_path) as server, new_client() as http:
        _, key = server.license(editor={"capacity": 1})
        for user in ("ada", "grace"):
            acquire(http, server.url, key, "editor", user)
        text = http.get(f"{server.url}/metrics").text
    seen = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("sojourn_"):
            continue
        name = family.name.removesuffix("_info")
        kind = "info" if name != family.name else family.type
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert page[name][0] == kind, name
        assert labels <= page[name][1], name
        seen[name] = labels
    assert {"sojourn_seats_in_use", "sojourn_http_answers", "sojourn_doctor_findings"} <= set(seen)


def expressions() -> dict[str, str]:
    """Return what alerts and dashboards ask of Prometheus, by where."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    found = {rule["alert"]: rule["expr"] for group in rules for rule in group["rules"]}
    for panel in json.loads((ROOT / "deploy/grafana/sojourn.json").read_text())["panels"]:
        for number, target in enumerate(panel["targets"]):
            found[f"{panel['title']} {number}"] = target["expr"]
    return found


@pytest.mark.parametrize("name", expressions())
def test_what_alerts_and_dashboards_ask_for_exists(name: str) -> None:
    expression = expressions()[name]
    page = told()
    suffixes = {
        "counter": ("_total",),
        "gauge": ("",),
        "info": ("_info",),
        "histogram": ("_bucket", "_sum", "_count"),
    }
    samples = {f"{each}{end}": each for each, (kind, _) in page.items() for end in suffixes[kind]}
    for sample, labels in re.findall(r"(sojourn_\w+)(?:\{([^}]*)\})?", expression):
        assert sample in samples, sample
        asked = set(re.findall(r"(\w+)(?:=~?|!=)\"", labels)) - {"instance", "job"}
        assert asked <= page[samples[sample]][1]


def test_every_alert_is_on_the_page_and_leads_to_one() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    alerts = [rule for group in rules for rule in group["rules"]]
    assert set(re.findall(r"^\| `(Sojourn\w+)`", page, re.MULTILINE)) == {
        each["alert"] for each in alerts
    }
    for each in alerts:
        symptom = each["annotations"]["page"]
        assert symptom.startswith("docs/guide/symptoms.md#"), symptom
        assert f"(../guide/{symptom.removeprefix('docs/guide/')})" in page, symptom
        codes = re.findall(r'code="(\w+)"', each["expr"])
        assert set(codes) <= set(maker().STATUS)
