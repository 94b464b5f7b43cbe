"""Flask-Session on Redis."""

from __future__ import annotations

import os
from typing import Any

import redis
from flask import Flask, Response, jsonify, session
from flask_session import Session

application = Flask(__name__)
application.config.update(
    SESSION_TYPE="redis",
    SESSION_REDIS=redis.Redis.from_url(os.environ["STORE"]),
    SECRET_KEY=os.environ["SECRETS"],
)
Session(application)


@application.post("/login")
def login() -> Response:
    session.update(user="ann", n=0)
    return jsonify({})


@application.get("/me")
def me() -> Response:
    return jsonify({"user": session["user"], "n": session["n"]})


@application.post("/set")
def put() -> Any:
    session["n"] += 1
    return jsonify({})
