"""What is recalled of secrets: what was put there, for as long as it is used, and never for another one."""

from __future__ import annotations

from sojourn.recalled import Recalled


def test_only_the_same_secret_is_answered() -> None:
    recalled: Recalled[str, int] = Recalled(4)
    recalled.put("abc", 1)
    assert recalled.get("abc") == 1
    assert recalled.get("abd") is None
    recalled.forget("abc")
    assert recalled.get("abc") is None


def test_a_hash_that_is_the_same_is_not_enough() -> None:
    recalled: Recalled[str, int] = Recalled(4)
    recalled.put("abc", 1)
    recalled._young[hash("other")] = recalled._young[hash("abc")]
    assert recalled.get("other") is None


def test_what_is_no_ascii_is_not_kept() -> None:
    recalled: Recalled[str, int] = Recalled(4)
    recalled.put("schlüssel", 1)
    assert recalled.get("schlüssel") is None
    assert len(recalled) == 0


def test_it_keeps_what_is_used_and_no_more_than_twice_as_many_as_it_may() -> None:
    recalled: Recalled[str, int] = Recalled(10)
    for i in range(1_000):
        recalled.put(f"key-{i}", i)
        assert recalled.get("key-0") == 0  # used all the time
        assert len(recalled) <= 20
    assert recalled.get("key-999") == 999
    assert recalled.get("key-100") is None


def test_all_that_are_in_use_are_kept() -> None:
    recalled: Recalled[str, int] = Recalled(100)
    for i in range(100):
        recalled.put(f"key-{i}", i)
    for _ in range(3):
        assert [recalled.get(f"key-{i}") for i in range(100)] == list(range(100))
