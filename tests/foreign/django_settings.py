"""Settings of Django's own tests for the campaign: copied beside `runtests.py`."""

SECRET_KEY = "ein langes Geheimnis, das sonst niemand kennt 8471"
SESSION_ENGINE = "sojourn.adapters.django"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 7 * 2  # Django's default, said: it counts where it is set
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
