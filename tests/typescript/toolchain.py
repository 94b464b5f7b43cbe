"""The TypeScript packages as their users get them: installed from the lock file, compiled, bundled.

Packages and what is built stand in a cache folder of the user's, under a digest of what they are made of.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.adapters.express.node import programs

ROOT = Path(__file__).parents[2]
SDK = ROOT / "clients" / "typescript"
EXTENSION = ROOT / "clients" / "chrome-extension"
PACKAGES = ("package.json", "package-lock.json", ".npmrc")
SOURCES = ("src", "test")
SOURCES_OF_EXTENSION = ("src", "static")
INSTALL_TIMEOUT = 300  # seconds
RUN_TIMEOUT = 600
UNUSED_MAX = 86_400
"""Seconds after which a build that nobody has used is removed."""


def cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sojourn-tests"
    base.mkdir(parents=True, exist_ok=True)
    return base


def digest_of(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Let one process at a time make what has a name."""
    with (cache() / f"{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(
    command: Sequence[str], folder: Path, *, timeout: float = RUN_TIMEOUT, **environ: str
) -> str:
    """Run a program to its end; return what it said. Raises RuntimeError with that if it fails."""
    done = subprocess.run(
        list(command),
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} failed:\n{done.stdout}")
    return done.stdout


def node(*arguments: str) -> list[str]:
    return [programs()[0], *arguments]


def packages(of: Path = SDK) -> Path:
    """Install the packages of a lock file, unless they are there; return their node_modules."""
    name = f"{of.name}-{digest_of([of / each for each in PACKAGES])}"
    folder = cache() / name
    with turn(name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for each in PACKAGES:
                shutil.copy(of / each, folder)
            npm = [*programs()[1], "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            run(npm, folder, timeout=INSTALL_TIMEOUT)
            (folder / "complete").touch()
    return folder / "node_modules"


def generate() -> None:
    """Write the client's types anew from spec/openapi.json."""
    modules = packages()
    with tempfile.TemporaryDirectory() as made:
        sdk = Path(made) / "clients" / "typescript"
        (sdk / "src").mkdir(parents=True)
        shutil.copy(SDK / "generate.mjs", sdk)
        (sdk / "node_modules").symlink_to(modules)
        (Path(made) / "spec").symlink_to(ROOT / "spec")
        run(node("generate.mjs"), sdk)
        shutil.copy(sdk / "src" / "generated.ts", SDK / "src")


def sources() -> list[Path]:
    found = [path for each in SOURCES for path in (SDK / each).rglob("*") if path.is_file()]
    found += [path for each in SOURCES_OF_EXTENSION for path in (EXTENSION / each).rglob("*")]
    found += [EXTENSION / "build.mjs", EXTENSION / "tsconfig.json"]
    found += [SDK / "package.json", SDK / "package-lock.json", SDK / "tsconfig.json"]
    found += [SDK / "generate.mjs", *(ROOT / "spec").rglob("*.json")]
    return sorted(found)


def built() -> Path:
    """Compile everything with every check of TypeScript's; return the folder of clients/typescript there.

    The extension is then beside it, in chrome-extension/out.
    What the document's own generator makes of the whole of it is compiled along, as `test/whole.ts`.
    """
    modules = packages()
    found = sources()
    folder = cache() / f"sdk-{digest_of(found)}"
    sdk = folder / "clients" / "typescript"
    with turn("sdk"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            for path in found:
                (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / path.relative_to(ROOT))
            (folder / "clients" / "node_modules").symlink_to(modules)
            generator = modules / "openapi-typescript" / "bin" / "cli.js"
            whole = node(str(generator), "../../spec/openapi.json", "-o", "test/whole.ts")
            run(whole, sdk)
            compiler = str(modules / "typescript" / "bin" / "tsc")
            run(node(compiler, "-p", "test"), sdk)
            run(node(compiler, "-p", "../chrome-extension"), sdk)
            run(node("build.mjs", str(modules)), sdk.parent / "chrome-extension")
            (folder / "complete").touch()
            _forget_unused(folder)
        os.utime(folder)
    return sdk


def packed() -> Path:
    """Return the package's folder as its users have it: compiled, with its types."""
    sdk = built()
    folder = sdk / "packed"
    with turn("sdk"):
        if not (folder / "package.json").exists():
            compiler = str(sdk.parent / "node_modules" / "typescript" / "bin" / "tsc")
            run(node(compiler, "-p", ".", "--outDir", "packed/dist"), sdk)
            shutil.copy(SDK / "package.json", folder)
    return folder


def _forget_unused(newest: Path) -> None:
    for each in newest.parent.glob("sdk-*/"):
        if time.time() - each.stat().st_mtime > UNUSED_MAX:
            shutil.rmtree(each, ignore_errors=True)


def bundle(entry: str, sdk: Path, *, external: Sequence[str] = (), folder: str = "src") -> bytes:
    """Return an entry point as one minified module, as a bundler makes it."""
    target = sdk / "out" / f"{entry}-{os.getpid()}.min.js"
    options = ["--bundle", "--minify", "--format=esm", "--target=es2022", f"--outfile={target}"]
    options += [f"--external:{each}" for each in external]
    options += ['--define:process.env.NODE_ENV="development"'] if folder == "test" else []
    esbuild = sdk.parent / "node_modules" / "esbuild" / "bin" / "esbuild"
    run(node(str(esbuild), f"{folder}/{entry}.ts", "--log-level=warning", *options), sdk)
    return target.read_bytes()


def zipped(content: bytes) -> int:
    """Return how many bytes gzip makes of it: the same everywhere."""
    return len(gzip.compress(content, 9, mtime=0))


if __name__ == "__main__":
    generate()
