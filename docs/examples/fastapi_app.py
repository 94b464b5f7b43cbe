"""A FastAPI application with sessions that hold.

    pip install sojourn fastapi
    uvicorn fastapi_app:app

Sessions live in ./sojourn-data/sojourn.db until SOJOURN_STORE says postgresql://… and SOJOURN_SECRET
is set, for all servers alike.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request

from sojourn.adapters.account import Account
from sojourn.adapters.fastapi import CurrentSession, SignedIn, install, require_recent_sign_in

app = FastAPI()
install(app, account=Account(site_name="Baskets"))  # /account/security

PASSWORDS = {"ann": "correct horse", "bob": "battery staple"}  # yours come from your own database


@app.post("/login")
async def login(user: str, password: str, session: CurrentSession) -> dict[str, str]:
    if PASSWORDS.get(user) != password:
        raise HTTPException(403, "That is not the password.")
    await session.begin(user)  # a new token: whatever cookie the browser had is worth nothing now
    return {"hello": user}


@app.post("/basket/{item}")
async def put(item: str, request: Request) -> dict[str, Any]:
    """Visitors have a basket, too; signing in keeps it."""
    request.session.setdefault("basket", []).append(item)
    return {"basket": request.session["basket"]}


@app.get("/basket")
async def basket(request: Request) -> dict[str, Any]:
    return {"basket": request.session.get("basket", [])}


@app.get("/me")
async def me(session: SignedIn) -> dict[str, Any]:
    others = await session.others()
    return {"user": session.user_id, "elsewhere": len(others)}


@app.post("/password", dependencies=[require_recent_sign_in(minutes=5)])
async def change_password(session: SignedIn) -> dict[str, int]:
    """A new password ends every other session (ASVS 5.0 7.4.3)."""
    return {"ended": len(await session.end_others("password_changed"))}


@app.post("/logout")
async def logout(session: CurrentSession) -> dict[str, bool]:
    await session.end()
    return {"signedOut": True}
