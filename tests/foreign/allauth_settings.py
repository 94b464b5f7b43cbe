"""Settings of allauth's own tests for the campaign: copied beside its `tests`."""

from tests.projects.account_only.settings import *  # type: ignore[import-not-found]  # noqa: F403 - allauth's own
from tests.projects.account_only.settings import MIDDLEWARE as THEIRS

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
SECRET_KEY = "ein langes Geheimnis, das sonst niemand kennt 8471"
SESSION_ENGINE = "sojourn.adapters.django"
MIDDLEWARE = tuple(
    "sojourn.adapters.django.SessionMiddleware" if each == DJANGOS else each for each in THEIRS
)
