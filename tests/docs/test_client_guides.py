"""The code of the guides for pages, extensions and Node is compiled, and runs as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserType, Page, expect, sync_playwright
from tests.browser.chromium import FLAGS, find
from tests.serving import Served, served
from tests.typescript.site import DEADLINE, POLICY, Site, Stage
from tests.typescript.toolchain import SDK, node, packages, packed, run

GUIDES = Path(__file__).parents[2] / "docs" / "guide"
MS = DEADLINE * 1000
TSCONFIG = {
    "compilerOptions": {
        "target": "ES2022",
        "module": "ESNext",
        "moduleResolution": "Bundler",
        "lib": ["ES2022", "DOM", "DOM.Iterable"],
        "types": ["chrome", "node"],
        "jsx": "react-jsx",
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
    },
    "include": ["*.ts", "*.tsx"],
}


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (GUIDES / guide).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose packages are installed, with the guides' code: compiled, and bundled into out/."""
    folder = tmp_path_factory.mktemp("guides")
    modules = folder / "node_modules"
    modules.mkdir()
    for each in packages().iterdir():
        (modules / each.name).symlink_to(each)
    (modules / "@sojourn").mkdir()
    shutil.copytree(packed(), modules / "@sojourn" / "client")
    [page] = blocks("web-app.md", "ts")
    [editor] = blocks("web-app.md", "tsx")
    worker, popup = blocks("extension.md", "ts")
    [server] = blocks("sessions-for-node.md", "js")
    code = {"page.ts": page, "editor.tsx": editor, "worker.ts": worker, "popup.ts": popup}
    for name, text in code.items():
        # Each is a module of its own, whatever it imports.
        (folder / name).write_text(text if "import" in text else f"{text}\nexport {{}};\n")
    (folder / "server.mjs").write_text(server)
    (folder / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    run(node(str(modules / "typescript" / "bin" / "tsc"), "-p", "."), folder)
    options = [
        "--bundle",
        "--format=esm",
        "--target=chrome120",
        "--outdir=out",
        "--log-level=warning",
    ]
    esbuild = str(modules / "esbuild" / "bin" / "esbuild")
    run(node(esbuild, "page.ts", "editor.tsx", "worker.ts", "popup.ts", *options), folder)
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[BrowserType]:
    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="module")
def browser(chromium: BrowserType) -> Iterator[Browser]:
    browser = chromium.launch(executable_path=find(), args=FLAGS, timeout=MS)
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def no_stray_children(browser: Browser) -> None:
    """The browser starts and keeps processes as it likes; they end with it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("server")) as server:
        yield server


def said(page: Page, text: str) -> None:
    expect(page.locator("#said")).to_have_text(text, timeout=MS)


def test_the_page_of_the_guide(workshop: Path, browser: Browser, server: Served) -> None:
    """Two people and one seat: one waits, and is served; a loss is told, and what cannot be saved."""
    site = Site(b"", (workshop / "out" / "page.js").read_bytes(), script_path="/app.js")
    contexts = [browser.new_context(), browser.new_context()]
    stage = Stage(contexts[0], site, server)
    [body] = blocks("web-app.md", "html")
    try:
        pages = {}
        for user, context in zip(("ada", "bob"), contexts, strict=True):
            context.set_default_timeout(MS)
            page = body.replace("https://licenses.example.com", server.url)
            page = page.replace('"…"', f'"{stage.key}"').replace('"ada"', f'"{user}"')
            site.files["/"] = (b"text/html", f"<!doctype html><meta charset=utf-8>{page}".encode())
            pages[user] = context.new_page()
            pages[user].goto(site.origin)
            if user == "ada":
                said(pages[user], "You can edit.")
        ada, bob = pages["ada"], pages["bob"]
        said(bob, "All seats are in use. You are number 1 in the line.")
        ada.click("#save")
        said(ada, "Saved.")
        bob.click("#save")
        said(bob, "Not saved: you have no seat.")
        ada.click("#leave")
        said(bob, "You can edit.")
        said(ada, "You have no seat.")
        ada.click("#here")  # there is none of her own to take over
        expect(ada.locator("#said")).to_contain_text("Maximum user limit reached", timeout=MS)
        (lease,) = stage.leases()
        stage.admin.delete(f"/api/licenses/sessions/{lease['leaseId']}")
        said(bob, "Read only: revoked.")
    finally:
        for context in contexts:
            context.close()
        stage.admin.close()
        site.close()


def test_the_extension_of_the_guide(
    workshop: Path, chromium: BrowserType, server: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "extension"
    folder.mkdir()
    (folder / "manifest.json").write_text(blocks("extension.md", "json")[0])
    (folder / "popup.html").write_text(blocks("extension.md", "html")[0])
    for name in ("worker.js", "popup.js"):
        shutil.copy(workshop / "out" / name, folder)
    loaded = [f"--disable-extensions-except={folder}", f"--load-extension={folder}"]
    context = chromium.launch_persistent_context(
        tmp_path / "profile",
        executable_path=find(),
        args=[*FLAGS, "--headless=new", *loaded],
        timeout=MS,
    )
    try:
        context.set_default_timeout(MS)
        worker = next(iter(context.service_workers), None)
        worker = worker or context.wait_for_event("serviceworker", timeout=MS)
        origin = worker.url.rpartition("/")[0]
        made = {"name": "Acme", "features": {"editor": POLICY}, "allowedOrigins": [origin]}
        with server.admin() as admin:
            license_ = admin.post("/api/licenses", json=made).json()["data"]

            def states() -> list[str]:
                asked = {"licenseId": license_["licenseId"]}
                found = admin.get("/api/licenses/sessions", params=asked).json()["data"]["items"]
                return [each["state"] for each in found]

            popup = context.new_page()
            popup.goto(f"{origin}/popup.html")
            state = popup.locator("#state")
            expect(state).to_have_text("signed out", timeout=MS)
            settings = {"url": server.url, "proof": license_["key"], "userId": "ada"}
            popup.evaluate("(settings) => chrome.storage.local.set({ settings })", settings)
            expect(state).to_have_text("safe", timeout=MS)
            assert states() == ["active"]
            popup.click("#release")
            expect(state).to_have_text("released", timeout=MS)
            popup.click("#acquire")
            expect(state).to_have_text("safe", timeout=MS)
            popup.evaluate("chrome.storage.local.remove('settings')")
            expect(state).to_have_text("signed out", timeout=MS)
            assert states() == []
    finally:
        context.close()


@contextmanager
def express(workshop: Path, server: Served) -> Iterator[str]:
    with server.admin() as http:
        key = http.post("/api/keys", json={"name": "shop", "role": "app"}).json()["data"]["key"]
    settings = {"SOJOURN_URL": server.url, "SOJOURN_KEY": key, "SECRET": "guides' own", "PORT": "0"}
    process = subprocess.Popen(
        node("server.mjs"),
        cwd=workshop,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_the_express_application_of_the_guide(workshop: Path, server: Served) -> None:
    with express(workshop, server) as base:
        here, there = (httpx.Client(base_url=base, timeout=DEADLINE) for _ in range(2))
        with here, there:
            for client in (here, there):
                client.headers["User-Agent"] = (
                    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"
                )
                client.post("/sign-in", data={"user": "ada"})
                assert client.get("/").json() == {"user": "ada", "visits": 1}
            listed = here.get("/api/user/active-sessions").json()
            assert [each["device"] for each in listed["data"]] == ["Firefox on Linux"] * 2
            others = here.post("/api/user/active-sessions/logout-others").json()
            assert others["data"]["ended"] == 1
            assert there.get("/").json() == {"user": None, "visits": 1}
            assert here.get("/").json() == {"user": "ada", "visits": 2}
            here.post("/sign-out")
            assert here.get("/").json() == {"user": None, "visits": 1}


def test_what_the_guide_shows_of_nextjs_is_the_example() -> None:
    example = SDK / "examples" / "nextjs"
    texts = [
        path.read_text() for each in ("lib", "app") for path in (example / each).rglob("*.ts*")
    ]
    shown = blocks("sessions-for-node.md", "tsx?")
    assert len(shown) == 4
    for block in shown:
        assert any(block.strip("\n") in text for text in texts), block
