"""A Python application beside an Express one: whoever is signed in there is signed in here.

export SOJOURN_STORE=express+postgresql://app@db/app SOJOURN_SECRET=… (express-session's `secret`)
sojourn express install
uvicorn beside_express:app
"""

from __future__ import annotations

from fastapi import FastAPI, Request

from sojourn.adapters.account import Account
from sojourn.adapters.asgi import SessionMiddleware

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    account=Account(site_name="Shop"),  # /account/security, for both
)


@app.get("/hello")
async def hello(request: Request) -> dict[str, str | None]:
    request.session["hellos"] = request.session.get("hellos", 0) + 1  # Express: req.session.hellos
    return {"user": request.state.sojourn.user_id}
