"""A Python application beside an Express one: whoever is signed in there is signed in here.

export SOJOURN_STORE=express+postgresql://app@db/app SOJOURN_SECRET=… (express-session's `secret`)
sojourn express install
uvicorn beside_express:app
"""

from __future__ import annotations

from fastapi import FastAPI, Request

from sojourn.adapters.account import Account
from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.express import EXPRESS_COOKIE
from sojourn.service.visit import Rules

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    rules=Rules(cookie=EXPRESS_COOKIE),
    account=Account(site_name="Shop"),  # /account/security, for both
)


@app.get("/hello")
async def hello(request: Request) -> dict[str, str | None]:
    request.session["hellos"] = request.session.get("hellos", 0) + 1  # Express: req.session.hellos
    return {"user": request.state.sojourn.user_id}
