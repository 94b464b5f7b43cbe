"""Users for Django's tests: named by themselves, and kept in no table."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class Person(AbstractBaseUser):  # type: ignore[misc]  # Django ships no types
    username = models.CharField(max_length=50, primary_key=True)
    last_login = None  # or every sign-in would want a database
    USERNAME_FIELD = "username"


class Everybody:
    """An authentication backend that knows whoever is named."""

    def authenticate(self, request: Any, username: str | None = None) -> Person | None:
        return None if username is None else self.get_user(username)

    async def aauthenticate(self, request: Any, username: str | None = None) -> Person | None:
        return self.authenticate(request, username)

    async def aget_user(self, user_id: str) -> Person:
        return self.get_user(user_id)

    def get_user(self, user_id: str) -> Person:
        return Person(username=user_id, password="x")
