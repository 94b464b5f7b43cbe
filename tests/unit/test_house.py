"""The house rules that no linter checks."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "bench", "docs", "clients", "release")
SCRIPTS_NOT_HELD = {
    "clients/active-sessions/sojourn-active-sessions.js",  # put together from short files
    "clients/typescript/src/generated.ts",  # made from spec/openapi.json
}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
MEANING_LINES_MAX = 12_000  # domain, services and people together
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
    foreign = {"node_modules", "vendor", "dist", "out"}
    return [
        path
        for path in found
        if not foreign & set(path.relative_to(ROOT).parts)
        and not path.name.endswith((".min.js", ".d.ts"))
        and name(path) not in SCRIPTS_NOT_HELD
    ]


class Parsed(NamedTuple):
    """What is kept of a file that was parsed: syntax trees of all files would take a gigabyte."""

    long: dict[str, int]  # functions that are too long
    sleeping: list[str]  # calls that sleep


@cache
def parsed() -> Parsed:
    """Parse every file, once."""
    kept = Parsed({}, [])
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    kept.long[f"{name(path)}:{node.lineno} {node.name}"] = lines
            elif isinstance(node, ast.Call) and sleeps(node):
                kept.sleeping.append(f"{name(path)}:{node.lineno}")
    return kept


def sleeps(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "sleep"
        and ast.unparse(call.func) in ("time.sleep", "asyncio.sleep")
        and ast.unparse(call.args[0]) != "0"  # to let other tasks run is not to sleep
    )


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_are_short() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in (*modules(), *scripts())}
    assert {path: n for path, n in lengths.items() if n > FILE_LINES_MAX} == {}


def test_functions_fit_on_one_screen() -> None:
    assert parsed().long == {}


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
    assert [place for place in parsed().sleeping if place.startswith("tests/")] == []


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


def _struct_names(node: ast.AST) -> set[str]:
    """Name the classes in a type, such as the _Session of tuple[_Session, ...]."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return {each for each in names if each.lstrip("_")[:1].isupper()} - {"Any", "Name"}


def test_structs_that_threads_decode_are_prepared() -> None:
    """msgspec reads a Struct's annotations at first use, and two threads that do so at once end the
    process: see `decoding`. (Commands have one thread.)"""
    decoded: dict[str, str] = {}
    classes: set[str] = (
        set()
    )  # not what merely narrows a number or a text, which has no annotations
    prepared: set[str] = set()
    source = ROOT / "src" / "sojourn"
    for path in source.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.add(node.name)
                if any(isinstance(x, ast.Name) and x.id == "prepared" for x in node.decorator_list):
                    prepared.add(node.name)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                kinds = [word.value for word in node.keywords if word.arg == "type"]
                if node.func.attr == "Decoder":
                    prepared |= {each for arg in node.args for each in _struct_names(arg)}
                elif node.func.attr in ("convert", "ask"):
                    kinds += node.args[1:2]
                if (
                    node.func.attr in ("decode", "convert", "ask")
                    and path.parts[len(source.parts)] != "cli"
                ):
                    decoded |= {each: name(path) for kind in kinds for each in _struct_names(kind)}
    unprepared = {each: at for each, at in decoded.items() if each in classes - prepared}
    assert decoded
    assert not unprepared


def test_threads_may_decode_a_prepared_struct_at_once() -> None:
    """In a process of its own, which a Struct that is not prepared would end."""
    script = """
import sys, threading, types
sys.setswitchinterval(1e-6)
from sojourn.decoding import prepared
import msgspec
for number in range(40):
    module = types.ModuleType(f"m{number}")
    sys.modules[module.__name__] = module
    exec('''
from __future__ import annotations
import msgspec
class Part(msgspec.Struct): names: tuple[str, ...] = ()
class Whole(msgspec.Struct): parts: list[Part] = []
''', module.__dict__)
    prepared(module.Whole)
    together = threading.Barrier(8)
    def decode():
        together.wait()
        msgspec.json.decode(b'{"parts":[{"names":["a"]}]}', type=module.Whole)
    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    ran = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert ran.returncode == 0


PACKAGE = ROOT / "src" / "sojourn"
BESIDE_DOMAIN = {"log", "exchange"}


def _imported(path: Path) -> Iterator[str]:
    """Name the modules at the root of the package that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sojourn":
            pieces = (node.module or "").split(".")
            yield from pieces[1:2] or [each.name for each in node.names]
        elif isinstance(node, ast.Import):
            yield from (
                each.name.split(".")[1] for each in node.names if each.name.startswith("sojourn.")
            )


@cache
def _squashed() -> dict[str, set[str]]:
    """Return what imports what, with the modules of the domain as one."""
    packages = {each.name for each in PACKAGE.iterdir() if each.is_dir()}

    def room(name: str) -> str:
        apart = name in packages or name in BESIDE_DOMAIN or name == "__main__"
        return name if apart else "domain"

    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        here = room(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
        found.setdefault(here, set()).update(room(each) for each in _imported(path))
    return {here: there - {here} for here, there in found.items()}


def test_architecture_prints_what_imports_what() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    lines = text.partition("```imports\n")[2].partition("```")[0].splitlines()
    printed = {here: set(there.split()) for here, _, there in (x.partition(" → ") for x in lines)}
    assert printed == {here: there for here, there in _squashed().items() if there}


def test_nothing_imports_in_a_circle() -> None:
    graph, done = _squashed(), set[str]()
    while left := {here: there - done for here, there in graph.items() if here not in done}:
        ready = {here for here, there in left.items() if not there & left.keys()}
        assert ready, f"a circle among {sorted(left)}"
        done |= ready
