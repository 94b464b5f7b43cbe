"""Every setting, command, path, port and file that deploy/ names exists, and each file is as it must be."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sojourn import __version__
from sojourn.api import doctor, sweeps
from sojourn.api.app import CALLS
from sojourn.api.limits import DATA_BODY_MAX
from sojourn.cli.main import command_tree
from sojourn.guessable import guessable
from sojourn.settings import Settings, listen_address, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and "secrets" not in path.relative_to(DEPLOY).parts
)
TEXTS = {str(path.relative_to(DEPLOY)): path.read_text() for path in FILES}
UID = 10_001
DEFAULTS = Settings()
METRICS_PORT = "9464"


def commands() -> set[str]:
    return set(command_tree().commands)


def every(text: str, *kinds: str) -> list[dict[str, Any]]:
    found = [each for each in yaml.safe_load_all(text) if each]
    return [each for each in found if not kinds or each["kind"] in kinds]


@pytest.mark.parametrize("name", TEXTS)
def test_settings_that_are_named_exist(name: str) -> None:
    named = set(re.findall(r"\bSOJOURN_([A-Z_]+)\b", TEXTS[name])) - {"IMAGE"}  # of compose's own
    fields = {field.upper() for field in Settings.__struct_fields__}
    assert {each for each in named if each.removesuffix("_FILE") not in fields} == set()


@pytest.mark.parametrize("name", TEXTS)
def test_commands_and_ports_that_are_named_exist(name: str) -> None:
    text = TEXTS[name]
    said = re.findall(r"(?:/opt/sojourn/bin/|\$\(|-- |exec sojourn )sojourn (\w+)", text)
    said += re.findall(r'(?:args|command|CMD): ?\["?([a-z]+)"?\]', text)
    said += re.findall(r'CMD \["(?:sojourn", ")?([a-z]+)"\]', text)
    assert set(said) <= commands() | {"sleep"}
    ports = set(re.findall(r"(?:127\.0\.0\.1:|EXPOSE |containerPort: |SOJOURN_PORT=)(\d+)", text))
    assert ports <= {str(DEFAULTS.port), METRICS_PORT}


@pytest.mark.parametrize("name", TEXTS)
def test_paths_of_the_api_that_are_named_exist(name: str) -> None:
    served = {call.path for call in CALLS} | {"/api/licenses/sessions/live"}
    said = set(re.findall(r"(/livez|/readyz|/metrics|/api/[a-z/-]+[a-z])", TEXTS[name]))
    assert said <= served | {"/api/user/active-sessions/live"}


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_taken_from_an_address(name: str) -> None:
    """No registry, no download: names of images are each cluster's own to resolve."""
    own = ("127.0.0.1", "db:", "valkey:", "sojourn.example", "sojourn:", "…", "sojourn;")
    for where in re.findall(r"[a-z+]+://([^\s'\"]+)", TEXTS[name]):
        assert where.startswith(own) or where.startswith("$host"), where


# --- the image ---


def test_the_image_runs_as_nobody_and_asks_itself() -> None:
    text = TEXTS["container/Dockerfile"]
    stages = text.split("\nFROM ")
    assert f"USER {UID}:{UID}" in stages[-1]
    assert stages[-1].index("USER") > stages[-1].index("RUN")
    assert (
        'HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=3 CMD ["sojourn",'
        in text
    )
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)
    assert text.count("--require-hashes") == 2
    assert "SOJOURN_DATA=/var/lib/sojourn" in text


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    text = TEXTS["container/Dockerfile"]
    allowed = re.findall(r"^!(\S+)$", TEXTS["container/Dockerfile.dockerignore"], re.MULTILINE)
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert set(copied) == set(allowed)
    assert all((ROOT / source).exists() for source in copied)


# --- compose ---


def test_compose_runs_what_is_pinned_and_nothing_as_it_likes(tmp_path: Path) -> None:
    services = yaml.safe_load(TEXTS["compose/compose.yaml"])["services"]
    assert set(services) == {"db", "valkey", "migrate", "sojourn"}
    for name in ("db", "valkey"):
        assert re.search(r":\d+(\.\d+)?-[a-z]+$", services[name]["image"])
        assert services[name]["networks"] == ["back"]
        assert services[name]["healthcheck"]
    for name in ("migrate", "sojourn"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["command"] == [{"migrate": "migrate", "sojourn": "serve"}[name]]
    assert services["sojourn"]["ports"] == [f"127.0.0.1:{DEFAULTS.port}:{DEFAULTS.port}"]
    grace = float(services["sojourn"]["stop_grace_period"].removesuffix("s"))
    assert grace > DEFAULTS.shutdown_timeout


def test_the_secrets_of_compose_are_made_once_and_are_good(tmp_path: Path) -> None:
    """Each file that compose.yaml hands over; the folder its owner's alone; a second run changes nothing."""
    composed = yaml.safe_load(TEXTS["compose/compose.yaml"])
    script = tmp_path / "secrets.sh"
    shutil.copy(DEPLOY / "compose" / "secrets.sh", script)
    files = {name: tmp_path / each["file"] for name, each in composed["secrets"].items()}
    for _ in range(2):
        subprocess.run(["sh", str(script)], check=True, capture_output=True, timeout=60)
        texts = {name: path.read_text() for name, path in files.items()}
    assert {path.name for path in (tmp_path / "secrets").iterdir()} == set(files)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    environ = {
        name: value.replace("/run/secrets", str(tmp_path / "secrets"))
        for name, value in composed["services"]["sojourn"]["environment"].items()
    }
    settings = load(environ=environ).settings
    assert texts["postgres_password"].strip() in settings.ledger_url
    assert settings.store_url == "redis://valkey:6379/0"
    assert not guessable(settings.secret[0])
    assert len({each.strip() for each in texts.values()}) == len(texts)


# --- systemd ---


def unit(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in TEXTS[f"systemd/{name}.service"].splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", ["sojourn", "sojourn-migrate"])
def test_units_give_nothing_away(name: str) -> None:
    found = unit(name)
    assert found["CapabilityBoundingSet"] == [""]
    for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices"):
        assert found[key] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    credentials = {each.partition(":")[0] for each in found["LoadCredential"]}
    read = {each.partition("=%d/")[2] for each in found["Environment"] if each.partition("=%d/")[2]}
    assert read == credentials
    writable = [each.partition("=")[2] for each in found["Environment"] if "SOJOURN_DATA" in each]
    assert writable == [f"/var/lib/{found['StateDirectory'][0]}"]


def test_the_unit_waits_for_requests_under_way() -> None:
    assert float(unit("sojourn")["TimeoutStopSec"][0]) > DEFAULTS.shutdown_timeout


# --- Kubernetes ---


def leaves(values: dict[str, Any], above: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        path = f"{above}.{name}".lstrip(".")
        free = path in ("secret.keys", "settings", "resources", "ingress.annotations")
        found |= leaves(value, path) if isinstance(value, dict) and not free else {path}
    return found


def test_the_chart_uses_every_value_that_it_declares_and_no_other() -> None:
    templates = "\n".join(
        text for name, text in TEXTS.items() if name.startswith("helm/sojourn/templates/")
    )
    used = set(re.findall(r"\.Values\.([a-zA-Z.]+)", templates))
    assert used == leaves(yaml.safe_load(TEXTS["helm/sojourn/values.yaml"]))
    opened = len(re.findall(r"\{\{-? *(?:if|with|range|define)\b", templates))
    assert opened == len(re.findall(r"\{\{-? *end\b", templates))


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load(TEXTS["helm/sojourn/Chart.yaml"])
    assert chart["appVersion"] == chart["version"] == __version__
    for each in every(TEXTS["kubernetes/sojourn.yaml"], "Job", "Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"sojourn:{__version__}"


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_pods_run_as_nobody_and_read_secrets_as_files(kind: str) -> None:
    (found,) = every(TEXTS["kubernetes/sojourn.yaml"], kind)
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["enableServiceLinks"] is False  # SOJOURN_PORT=tcp://… of a Service named sojourn
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsUser"] == UID
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert DEFAULTS.data == "./sojourn-data"  # the image says where it is instead
    assert mounts == {"/var/lib/sojourn", "/tmp", "/run/secrets/sojourn"}
    values = yaml.safe_load(TEXTS["helm/sojourn/values.yaml"])
    files = {f"/run/secrets/sojourn/{key}" for key in values["secret"]["keys"].values()}
    said = {each["name"]: each["value"] for each in container["env"]}
    assert {v for k, v in said.items() if k.endswith("_FILE")} == files
    assert {k: v for k, v in said.items() if not k.endswith("_FILE")} == values["settings"]


def test_no_ingress_leads_to_metrics() -> None:
    """They have a port of their own, in pods and before them, and an ingress names the other one."""
    values = yaml.safe_load(TEXTS["helm/sojourn/values.yaml"])
    _, port = listen_address(values["settings"]["SOJOURN_METRICS_LISTEN"])
    assert str(port) == METRICS_PORT
    manifests = TEXTS["kubernetes/sojourn.yaml"]
    (service,), (found,) = every(manifests, "Service"), every(manifests, "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": DEFAULTS.port, "metrics": port}
    fronts = {each["targetPort"]: each["port"] for each in service["spec"]["ports"]}
    assert fronts == {"http": values["service"]["port"], "metrics": port}
    for name, line in (("deployment", "containerPort"), ("service", "port")):
        chart = TEXTS[f"helm/sojourn/templates/{name}.yaml"]
        assert re.search(rf"- name: metrics\n +{line}: {port}\n", chart)
    ingress = TEXTS["helm/sojourn/templates/ingress.yaml"]
    assert re.findall(r"port:\s+name: (\w+)", ingress) == ["http"]
    assert "- port: metrics" in TEXTS["helm/sojourn/templates/networkpolicy.yaml"]


def test_a_pod_has_the_time_to_stop() -> None:
    (found,) = every(TEXTS["kubernetes/sojourn.yaml"], "Deployment")
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + DEFAULTS.shutdown_timeout
    assert (
        container["livenessProbe"]["httpGet"]["path"] == "/livez"
    )  # a store that is away restarts nobody
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    (service,) = every(TEXTS["kubernetes/sojourn.yaml"], "Service")
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (job,) = every(TEXTS["kubernetes/sojourn.yaml"], "Job")
    taken = job["spec"]["template"]["metadata"]["labels"]
    assert (
        not service["spec"]["selector"].items() <= taken.items()
    )  # no request goes to a migration


# --- Prometheus ---


def test_no_rule_adds_up_the_seats_of_licenses() -> None:
    """A license that is full is not noticed among others that have room."""
    rules = yaml.safe_load(TEXTS["prometheus/alerts.yaml"])["groups"][0]["rules"]
    seats = {each["alert"]: each["expr"] for each in rules if "sojourn_seats_" in each["expr"]}
    assert seats["SojournSeatsFull"] == "max by (feature) (sojourn_seats_licenses_full) > 0"
    assert not any(
        name in expr
        for expr in seats.values()
        for name in ("sojourn_seats_in_use", "sojourn_seats_capacity")
    )


# --- proxies ---


def test_proxies_let_through_what_sojourn_takes() -> None:
    nginx = TEXTS["proxy/nginx.conf"]
    (body,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(body) * 2**20 >= DATA_BODY_MAX
    (header,) = re.findall(r"large_client_header_buffers \d+ (\d+)k;", nginx)
    assert int(header) * 2**10 >= DEFAULTS.header_max
    (wait,) = re.findall(r"proxy_read_timeout (\d+)s;", nginx)
    assert int(wait) > max(DEFAULTS.request_timeout, doctor.PATIENCE, sweeps.PATIENCE)
    (caddy,) = re.findall(r"max_size (\d+)MB", TEXTS["proxy/Caddyfile"])
    assert int(caddy) * 10**6 >= DATA_BODY_MAX


def test_traefik_is_told_of_one_service_and_holds_no_stream_back() -> None:
    static = yaml.safe_load(TEXTS["proxy/traefik.yaml"])
    dynamic = yaml.safe_load(TEXTS["proxy/traefik-sojourn.yaml"])["http"]
    (router,) = dynamic["routers"].values()
    assert router["service"] in dynamic["services"]
    assert set(router["entryPoints"]) <= set(static["entryPoints"])
    assert "!Path(`/metrics`)" in router["rule"]
    assert "middlewares" not in dynamic  # `buffering` would gather answers
    balancer = dynamic["services"][router["service"]]["loadBalancer"]
    assert balancer["responseForwarding"]["flushInterval"] == "-1"
    assert balancer["servers"] == [{"url": f"http://127.0.0.1:{DEFAULTS.port}"}]
    for point in static["entryPoints"].values():
        assert "forwardedHeaders" not in point  # what strangers say of themselves is not believed
    timeouts = static["entryPoints"]["websecure"]["transport"]["respondingTimeouts"]
    assert float(timeouts["readTimeout"].removesuffix("s")) > DEFAULTS.request_timeout
