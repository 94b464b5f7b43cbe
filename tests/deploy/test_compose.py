"""compose.yaml without containers: its services' commands and settings, in its order, on this host."""

from __future__ import annotations

from pathlib import Path

import httpx
import yaml
from tests.e2e.cli_harness import READY, Program, run, run_json
from tests.serving import free_port

from sojourn.stores.folder import new_secret
from sojourn.testing.redis_server import redis_server

FILE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"


def options(command: list[str]) -> dict[str, str]:
    """Return Valkey's options as the file has them: --name value."""
    _, *rest = command
    return {n.removeprefix("--"): v for n, v in zip(rest[::2], rest[1::2], strict=True)}


def test_what_compose_starts_works_together(tmp_path: Path, postgres_url: str) -> None:
    """Migrate, serve, the health check, doctor, a seat; and it stops in good order."""
    services = yaml.safe_load(FILE.read_text())["services"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    said = {"secret": new_secret(), "admin_key": new_secret(), "ledger_url": postgres_url}
    for name, text in said.items():
        (secrets / name).write_text(text + "\n")
    with redis_server(options=options(services["valkey"]["command"])) as valkey:
        env = {
            name: value.replace("/run/secrets", str(secrets)).replace(
                "valkey:6379", f"127.0.0.1:{valkey.port}"
            )
            for name, value in services["sojourn"]["environment"].items()
        }
        env |= {"SOJOURN_DATA": str(tmp_path / "data"), "SOJOURN_PORT": str(free_port())}
        run(tmp_path, "health", code=6, env=env)
        run(tmp_path, *services["migrate"]["command"], env=env)
        with Program(tmp_path, *services["sojourn"]["command"], env=env) as server:
            url = server.wait_for(READY)[1]
            assert run_json(tmp_path, "health", env=env) == {
                "url": url,
                "status": "ready",
                "degraded": [],
            }
            assert "alive" in run(tmp_path, "health", "--live", env=env).stdout
            found = run_json(tmp_path, "doctor", env=env)
            assert [x for x in found["checks"] if x["verdict"] == "failure"] == []
            made = run_json(tmp_path, "license", "create", "Acme", "--feature", "editor=1", env=env)
            seat = httpx.post(
                f"{url}/api/licenses/sessions",
                headers={"Authorization": f"Bearer {made['key']}"},
                json={"feature": "editor", "userId": "ada", "clientId": "one"},
            )
            assert seat.status_code == 201, seat.text
            assert server.end() == 0
        assert "No server answers" in run(tmp_path, "health", code=6, env=env).stderr
