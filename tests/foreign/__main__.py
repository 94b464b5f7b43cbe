"""Runs published test suites of others on our sessions: `make campaign-foreign`.

Each comes as the source archive of the version that is installed. It runs as it is first, so that what fails
without us is known from what fails with us. Ends with 1 if a case fails that `suites.py` does not name, or if
one that it names does not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.foreign.suites import SUITES, Suite

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "foreign"
DEADLINE = 1_800  # seconds, of a run
OURS = '"sojourn.adapters.django.SessionMiddleware"'
DJANGOS = '"django.contrib.sessions.middleware.SessionMiddleware"'


class Outcome(NamedTuple):
    ran: int
    failed: frozenset[str]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True)


def fetch(suite: Suite) -> Path:
    """Return the folder of a suite's sources, fetched if it is not there."""
    wanted = f"{suite.package}=={version(suite.package)}"
    folder = CACHE / wanted
    if not folder.is_dir():
        archives = CACHE / "archives" / wanted
        source = ("--no-deps", "--no-binary", suite.package)
        pip("download", *source, "--dest", str(archives), wanted)
        (archive,) = archives.glob("*.tar.gz")
        with tarfile.open(archive) as sources:
            sources.extractall(CACHE / "unpacked", filter="data")
        name = archive.name.removesuffix(".tar.gz")
        (CACHE / "unpacked" / name).rename(folder)
    extra = CACHE / "extra"
    for each in suite.needs:
        if not list(extra.glob(f"{each.replace('-', '_')}-*")):
            pip("install", "--no-deps", "--target", str(extra), each)
    return folder


def run(command: list[str], folder: Path) -> str:
    paths = os.pathsep.join(map(str, (CACHE / "extra", ROOT)))
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
    )
    return done.stdout


def run_django(suite: Suite, folder: Path, *, ours: bool) -> Outcome:
    """Run Django's tests, with our engine and middleware in the place of Django's own."""
    tests = folder / "tests"
    runner, added = tests / "runtests.py", tests / "sessions_tests" / "test_sojourn.py"
    runner.write_text(runner.read_text().replace(OURS, DJANGOS))
    added.unlink(missing_ok=True)
    settings = "test_sqlite"
    if ours:
        runner.write_text(runner.read_text().replace(DJANGOS, OURS))
        shutil.copy(HERE / "django_store.py", added)
        shutil.copy(HERE / "django_settings.py", tests / "sojourn_settings.py")
        settings = "sojourn_settings"
    command = [sys.executable, "runtests.py", f"--settings={settings}", "--parallel=1"]
    said = run([*command, *suite.labels], tests)
    found = re.search(r"^Ran (\d+) tests", said, re.MULTILINE)
    if found is None:
        raise SystemExit(said[-3_000:])
    failed = re.findall(r"^(?:ERROR|FAIL): \S+ \((\S+)\)", said, re.MULTILINE)
    return Outcome(int(found[1]), frozenset(failed))


def run_pytest(suite: Suite, folder: Path, *, ours: bool) -> Outcome:
    """Run a suite for pytest, with our sessions in each Flask application. What it is run with is put beside
    it: some suites are a package called `tests` themselves."""
    plugins: list[str] = []
    for name in ("older_pytest", "flask_sessions") if ours else ("older_pytest",):
        shutil.copy(HERE / f"{name}.py", folder / f"sojourn_{name}.py")
        plugins += ["-p", f"sojourn_{name}"]
    return outcome_of(run(pytest_command(*plugins, *suite.labels), folder))


def pytest_command(*more: str) -> list[str]:
    options = ["-q", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull]
    return [sys.executable, "-m", "pytest", *options, "--rootdir", ".", *more]


def outcome_of(said: str) -> Outcome:
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", said)}
    if not counts.get("passed"):
        raise SystemExit(said[-3_000:])
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return Outcome(sum(counts.values()), frozenset(failed))


def run_allauth(suite: Suite, folder: Path, *, ours: bool) -> Outcome:
    """Run allauth's tests of accounts, with our engine and middleware in its project's settings."""
    settings = "tests.projects.account_only.settings"
    if ours:
        shutil.copy(HERE / "allauth_settings.py", folder / "sojourn_settings.py")
        settings = "sojourn_settings"
    options = ["-p", "pytest_django", "--ds", settings]
    return outcome_of(run(pytest_command(*options, *suite.labels), folder))


def judge(suite: Suite) -> bool:
    """Run a suite without us and with us; say what came of it, and tell whether that was known."""
    folder = fetch(suite)
    once = {"django": run_django, "django-allauth": run_allauth}.get(suite.package, run_pytest)
    before, after = once(suite, folder, ours=False), once(suite, folder, ours=True)
    caused = after.failed - before.failed
    known = {
        each: why for each, why in suite.left_out.items() if any(x.endswith(each) for x in caused)
    }
    unknown = [x for x in sorted(caused) if not any(x.endswith(each) for each in known)]
    gone = sorted(set(suite.left_out) - set(known))
    say(f"{suite.package} {version(suite.package)}: {after.ran} cases ran on our sessions.")
    say(f"  {len(before.failed)} fail without us, too; {len(caused)} with us alone:")
    for each, why in known.items():
        say(f"    {each}: {why}")
    for each in unknown:
        say(f"    {each}: NOBODY KNOWS WHY")
    for each in gone:
        say(f"    {each}: IS LEFT OUT, AND DOES NOT FAIL")
    return not unknown and not gone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=list(SUITES), help=", ".join(SUITES))
    results = [judge(SUITES[each]) for each in parser.parse_args().packages]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
