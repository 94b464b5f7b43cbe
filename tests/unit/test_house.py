"""The house rules that no linter checks."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "bench", "docs", "clients")
SCRIPTS_NOT_HELD = {
    "clients/active-sessions/sojourn-active-sessions.js",  # put together from short files
}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
MEANING_LINES_MAX = 8_000  # domain, services and people together
NOT_DOMAIN = {
    "log",
    "exchange",
}  # how everybody speaks, how strangers are asked; the domain does neither
NO_REASON = re.compile(
    r"#\s*(noqa|type:\s*ignore|pragma)\b(:?\s*[\w-]+|\[[\w, -]+\])?(,\s*\w+)*\s*$"
)
LOCKS = ("requirements-build.lock", "requirements.lock", "requirements-dev.lock")


def modules() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if "__pycache__" not in path.parts]


def scripts() -> list[Path]:
    """List our JavaScript and TypeScript; what is vendored says so in its name."""
    found = [
        path
        for folder in FOLDERS
        for end in ("js", "ts")
        for path in (ROOT / folder).rglob(f"*.{end}")
    ]
    foreign = {"node_modules", "vendor", "dist"}
    return [
        path
        for path in found
        if not foreign & set(path.relative_to(ROOT).parts)
        and not path.name.endswith((".min.js", ".d.ts"))
        and name(path) not in SCRIPTS_NOT_HELD
    ]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_are_short() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in (*modules(), *scripts())}
    assert {path: n for path, n in lengths.items() if n > FILE_LINES_MAX} == {}


def test_functions_fit_on_one_screen() -> None:
    long = {}
    for path in modules():
        for function in functions(ast.parse(path.read_text())):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long[f"{name(path)}:{function.lineno} {function.name}"] = lines
    assert long == {}


def test_meaning_is_small() -> None:
    """The domain and the services can be read in a day; explanations are not what is saved on (ADR 15)."""
    package = ROOT / "src" / "sojourn"
    files = [*package.glob("*.py")]
    files += [each for part in ("service", "people") for each in (package / part).rglob("*.py")]
    assert sum(lines_of_code(path) for path in files) <= MEANING_LINES_MAX


def lines_of_code(path: Path) -> int:
    """Count lines, but for blank ones, comments and docstrings."""
    text = path.read_text()
    explained = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in explained
        for number, line in enumerate(text.splitlines(), start=1)
    )


def test_exemptions_carry_a_reason() -> None:
    bare = [
        f"{name(path)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if NO_REASON.search(line)
    ]
    assert bare == []


def test_tests_never_sleep() -> None:
    """Tests move the clock or wait for a signal."""
    sleeping = [
        f"{name(path)}:{node.lineno}"
        for path in modules()
        if "tests" in path.relative_to(ROOT).parts[:1]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep")
        and ast.unparse(node.args[0]) != "0"  # to let other tasks run is not to sleep
    ]
    assert sleeping == []


def test_domain_contract_names_every_domain_module() -> None:
    """A module at the root of the package is domain, and is held to it."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    named = set(config["importlinter:contract:domain"]["source_modules"].split())
    package = ROOT / "src" / "sojourn"
    assert named == {
        f"sojourn.{p.stem}"
        for p in package.glob("*.py")
        if not p.stem.startswith("__") and p.stem not in NOT_DOMAIN
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_address(lock: str) -> None:
    """Where packages come from is each machine's own setting; what they are is pinned by hash."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--hash=sha256:" in text
