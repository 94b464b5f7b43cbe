"""What applications import: it stays where they look for it, and needs nothing of what serves."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.metadata import requires

import msgspec
import pytest
from packaging.requirements import Requirement

from sojourn.api.app import CALLS
from sojourn.api.openapi import document
from sojourn.token import TokenKind, new_token

MOVED = {
    "sojourn.api.people": ("sojourn.people.calls", ("People", "PersonRequest", "asked")),
    "sojourn.outside.jar": ("sojourn.doctor.browser.jar", ("Cookie", "Jar", "drops", "read")),
    "sojourn.service.visit": (
        "sojourn.service.request_session",
        ("AdoptedCookie", "RawTokens", "Request", "Rules", "Visit"),
    ),
}
"""What guides named, by its old module: its new one, and the names."""


SERVER = (
    *("click", "cryptography", "httptools", "jinja2", "jwt", "prometheus_client"),
    *("rich", "structlog", "typer", "uvicorn", "uvloop", "websockets"),
)
"""Packages of what serves, which a process that only uses the library need not have."""
DJANGO = "from django.conf import settings; settings.configure()"
LIBRARY = {
    "client": "",
    "stores.open": "",
    "stores.sql.store": "",
    "stores.redis.store": "",
    "adapters.account": "",
    "adapters.asgi": "",
    "adapters.desk": "",
    "adapters.express": "",
    "adapters.fastapi": "import fastapi",
    "adapters.flask": "import flask",
    "adapters.django": f"import django.contrib.sessions.backends.base, django.test; {DJANGO}",
    "adapters.django_urls": f"import django.urls, django.http; {DJANGO}",
}
"""Modules that applications import, and what loads the framework first: it may bring what we may not."""


def run(first: str, then: str) -> subprocess.CompletedProcess[str]:
    """Run Python, with what serves taken away after `first`."""
    code = f"import sys\n{first}\nsys.modules.update(dict.fromkeys({SERVER!r}))\n{then}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("module", LIBRARY)
def test_the_library_stands_alone(module: str) -> None:
    ran = run(LIBRARY[module], f"import sojourn.{module}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_store_opens_without_what_serves() -> None:
    """Tables and all: an application brings its own database up to date."""
    ran = run(
        "",
        "from sojourn.stores.open import open_store\nopen_store('sqlite:///:memory:', migrate=True).close()",
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_library_requires_little() -> None:
    """Whoever wants three lines in an application installs no server."""
    own = [each for each in requires("sojourn") or () if "extra ==" not in each]
    names = {re.split(r"[^\w.-]", each)[0] for each in own}
    assert names == {"alembic", "certifi", "msgspec", "sqlalchemy", "ua-parser"}


@pytest.mark.parametrize(
    ("package", "version"),
    [("sqlalchemy", "2.0.43"), ("redis", "5.2.1"), ("websockets", "15.0.1")],
)
def test_versions_in_wide_use_are_let_in(package: str, version: str) -> None:
    """A bound that is months old shuts us out of applications; `make campaign-bounds` tries them."""
    needed = [Requirement(each) for each in requires("sojourn") or ()]
    bounds = [each.specifier for each in needed if each.name == package]
    assert bounds
    assert all(bound.contains(version) for bound in bounds)


OPENING = "from sojourn.stores.open import open_store"
HOLDING = """
import http.server, threading
from sojourn.client import Client
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
threading.Thread(target=server.handle_request, daemon=True).start()
client = Client(f"http://127.0.0.1:{server.server_port}", license_key=sys.argv[1], retries=0)
try:
    client.seat("render", user="ada").acquire()
except Exception as refused:
    assert refused.code == "server_unreachable", refused
"""
LOADED = """
new = [sys.modules[name] for name in set(sys.modules) - before]
new = [m.__name__.partition(".")[0] for m in new if "site-packages" in (getattr(m, "__file__", None) or "")]
print(*set(new) - {"sojourn"})
"""


@pytest.mark.parametrize(
    ("code", "most"), [("import sojourn.client", ()), (HOLDING, ("certifi", "msgspec"))]
)
def test_a_client_loads_little(code: str, most: tuple[str, ...]) -> None:
    """A program that may hold a seat pays for nothing, and one that does for sockets and JSON."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys\nbefore = set(sys.modules)\n{code}\n{LOADED}",
            new_token(TokenKind.LICENSE),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert set(ran.stdout.split()) <= {*most, "typing_extensions"}  # msgspec's, where it is there
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import sojourn.__main__", "server"),
        ("from sojourn.adapters.account import Account, Mount\nMount(Account())", "pages"),
        ("sys.modules['hypothesis'] = None\nimport sojourn.testing.machine", "testing"),
        ("sys.modules['flask'] = None\nimport sojourn.adapters.flask", "flask"),
        ("sys.modules['django'] = None\nimport sojourn.adapters.django", "django"),
        ("sys.modules['django'] = None\nimport sojourn.adapters.django_urls", "django"),
        (f"sys.modules['redis'] = None\n{OPENING}\nopen_store('redis://a')", "redis"),
        (f"sys.modules['psycopg'] = None\n{OPENING}\nopen_store('postgresql://a/b')", "postgres"),
        (f"sys.modules['pymysql'] = None\n{OPENING}\nopen_store('mysql://a/b')", "mysql"),
    ],
)
def test_what_is_missing_says_what_to_run(code: str, extra: str) -> None:
    inner = code.replace("\n", "\n    ")
    shown = f"try:\n    {inner}\nexcept Exception as e:\n    sys.exit(e.hint)"
    ran = run("", shown)
    assert ran.returncode == 1
    assert f"Run: pip install 'sojourn[{extra}]'" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_new_one(old: str) -> None:
    new, names = MOVED[old]
    before, after = importlib.import_module(old), importlib.import_module(new)
    assert [getattr(before, name) for name in names] == [getattr(after, name) for name in names]


def test_names_of_schemas_say_nothing_of_our_modules() -> None:
    """Generated clients are called after them, and our modules move."""
    schemas = msgspec.json.decode(document(CALLS))["components"]["schemas"]
    assert "Done_Page_LeaseBody__" in schemas
    assert [name for name in schemas if "." in name or "." in schemas[name].get("title", "")] == []
