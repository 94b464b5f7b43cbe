"""An application's own `logging` hears what its sessions say, and its standard output stays its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SECRET = "a-secret-for-tests-0123456789-abcdefghij"
AWAY = "postgresql://nobody:a-secret-password@127.0.0.1:1/gone"
"""Nothing listens on port 1."""

ASGI = """
from starlette.testclient import TestClient
from sojourn.adapters.asgi import SessionMiddleware

async def page(scope, receive, send):
    scope["session"]["seen"] = True
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

answer = TestClient(SessionMiddleware(page, store=AWAY)).get("/")
"""
FASTAPI = """
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from sojourn.adapters.asgi import SessionMiddleware

app = FastAPI()
app.add_middleware(SessionMiddleware, store=AWAY)

@app.get("/")
async def page(request: Request) -> str:
    request.session["seen"] = True
    return "ok"

answer = TestClient(app).get("/")
"""
FLASK = """
from flask import Flask, session
from sojourn.adapters.flask import Sojourn

app = Flask(__name__)
app.secret_key = "a-secret-for-tests-0123456789-abcdefghij"
app.config["SOJOURN_STORE"] = AWAY
Sojourn(app)

@app.get("/")
def page():
    session["seen"] = True
    return "ok"

answer = app.test_client().get("/")
"""
DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

def page(request):
    request.session["seen"] = True
    return HttpResponse("ok")

urlpatterns = [path("", page)]
settings.configure(
    SECRET_KEY="a-secret-for-tests-0123456789-abcdefghij", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    SESSION_ENGINE="sojourn.adapters.django", SOJOURN={"store": AWAY}, LOGGING_CONFIG=None,
    MIDDLEWARE=["sojourn.adapters.django.SessionMiddleware"],
)
django.setup()
from django.test import Client
answer = Client().get("/")
"""
HEARD = 'logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="HEARD %(name)s %(message)s")'
APPLICATIONS = {"asgi": ASGI, "fastapi": FASTAPI, "flask": FLASK, "django": DJANGO}


def run(application: str, setup: str) -> subprocess.CompletedProcess[str]:
    script = f"import logging, sys\n{setup}\nAWAY = {AWAY!r}\n{application}\n"
    script += "assert answer.status_code == 503, answer.status_code\n"
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "SOJOURN_SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("application", APPLICATIONS.values(), ids=APPLICATIONS)
def test_what_fails_reaches_the_applications_log(application: str) -> None:
    """The store is down: one record that says so, without the password that it was opened with."""
    done = run(application, HEARD)
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("HEARD sojourn.adapters.")]
    assert [line for line in ours if "sessions_unavailable code=store_unavailable" in line]
    assert done.stdout == ""
    assert "a-secret-password" not in done.stderr


@pytest.mark.parametrize("application", APPLICATIONS.values(), ids=APPLICATIONS)
def test_nothing_is_said_unless_asked_for(application: str) -> None:
    """An application that has not set up logging finds nothing of ours on its terminal."""
    done = run(application, "")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "sojourn" not in done.stderr
    assert "sessions_unavailable" not in done.stderr


STRUCTLOG = """
import structlog
structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
said = structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level],
    processor=structlog.processors.JSONRenderer(),
)
handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(said)
logging.basicConfig(level=logging.INFO, handlers=[handler])
"""


@pytest.mark.parametrize("application", APPLICATIONS.values(), ids=APPLICATIONS)
def test_an_application_with_structlog_hears_it_too(application: str) -> None:
    """Our records are plain ones of `logging`, so its formatter makes lines of its own kind of them."""
    done = run(application, STRUCTLOG)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    ours = [line for line in said if line["logger"].startswith("sojourn.adapters.")]
    assert [line for line in ours if "sessions_unavailable code=store_unavailable" in line["event"]]
    assert {line["level"] for line in ours} <= {"error", "warning"}
    assert done.stdout == ""
    assert "a-secret-password" not in done.stderr
