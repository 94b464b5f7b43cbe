"""Lets `allauth.usersessions` list our sessions.

    INSTALLED_APPS = [..., "allauth.usersessions", "sojourn.adapters.allauth_app.Allauth"]

It opens sessions by their keys to see whether they are live. Ours are public ids, which open nothing; so
without this its list is empty.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig

from sojourn.adapters.django_settings import lazy_desk

LISTED_MAX = 1_000
"""Sessions of a user that are looked through."""


class _Data(dict[str, Any]):
    """What a session holds, for who verifies whose it is."""

    def flush(self) -> None:
        """Do nothing: allauth then drops it from its list."""

    cycle_key = flush


def purge(self: Any) -> bool:
    """Forget a row of `allauth.usersessions` whose session is over, or no longer its user's; tell whether."""
    from allauth.core.internal.sessionkit import get_session_user  # noqa: PLC0415  # apps come first

    live = lazy_desk.get().sessions.of(str(self.user_id), limit=LISTED_MAX)
    found = next((each for each in live if each.id == self.session_key), None)
    if found is not None and get_session_user(_Data(found.data)):
        return False
    self.delete()
    return True


class Allauth(AppConfig):  # type: ignore[misc]  # Django ships no types
    name = "sojourn.adapters.allauth_app"
    label = "sojourn_allauth"

    def ready(self) -> None:
        from allauth.usersessions.models import UserSession  # noqa: PLC0415  # apps come first

        UserSession.purge = purge


__all__ = ["Allauth"]
