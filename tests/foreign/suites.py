"""Which suites run on our sessions, and which of their cases are left out, with the reason."""

from __future__ import annotations

from msgspec import Struct

ID_STAYS = (
    "the key is the session's public id: it stays when the token, which is the secret, is renewed"
)
NOT_A_TABLE = "counts queries: one less is made, as sessions are not in this database"
ITS_TABLE = "looks into the table of Django's own store"
NOT_ADOPTED = "has a key of its own accepted: a key that was not made here is never adopted"
IS_NOT_SENT = "wants the cookie sent with each answer: a use is noted on the server instead"
COOKIE_IS_READ = "decodes Flask's own cookie: ours holds nothing that can be read"
NO_KEY = "wants no session without a SECRET_KEY: ours has a secret of its own"


class Suite(Struct, frozen=True, kw_only=True):
    """A published test suite.

    Attributes:
        package: whose source archive brings it.
        labels: what of it is run.
        needs: packages that it imports, and we do not have.
        left_out: cases that fail on our sessions, and why that is as it should be. By the end of their name.
    """

    package: str
    labels: tuple[str, ...]
    needs: tuple[str, ...] = ()
    left_out: dict[str, str]


DJANGO = Suite(
    package="django",
    labels=(
        *("sessions_tests", "auth_tests", "messages_tests", "csrf_tests"),
        *("admin_changelist", "admin_custom_urls", "admin_default_site", "admin_docs"),
        *("admin_filters", "admin_inlines", "admin_views", "admin_widgets"),
    ),
    left_out={
        "SojournSessionTests.test_cycle": ID_STAYS,
        "SojournSessionTests.test_cycle_async": ID_STAYS,
        "SojournSessionTests.test_session_key_valid_string_saved": NOT_ADOPTED,
        "SessionMiddlewareTests.test_empty_session_saved": ITS_TABLE,
        "SessionAuthenticationTests.test_user_password_change_updates_session": ID_STAYS,
        "TestGetUser.test_get_user_fallback_secret": ID_STAYS,
        "TestGetUser.test_aget_user_fallback_secret": ID_STAYS,
        "ChangeListTests.test_changelist_view_list_editable_changed_objects_uses_filter": NOT_A_TABLE,
        "AdminCustomQuerysetTest.test_changelist_view_count_queries": NOT_A_TABLE,
        "AdminSearchTest.test_no_total_count": NOT_A_TABLE,
        "AdminSearchTest.test_reset_link": NOT_A_TABLE,
        "GroupAdminTest.test_group_permission_performance": NOT_A_TABLE,
        "UserAdminTest.test_user_permission_performance": NOT_A_TABLE,
    },
)
FLASK = Suite(
    package="flask",
    labels=("tests",),
    left_out={
        "test_missing_session": NO_KEY,
        "test_session_transactions_no_null_sessions": NO_KEY,
        "test_session_secret_key_fallbacks": "SECRET_KEY does not sign our cookies, nor do its fallbacks",
        "test_session_using_session_settings": "wants a cookie without HttpOnly: ours always has it",
        "test_session_using_samesite_attribute": "a wrong SameSite is refused with the settings",
        "test_session_expiration": "reads Expires: ours says Max-Age, which goes before it",
        "test_session_accessed": "asks for `modified` after the save: there is nothing to save any more",
        "test_session_cookie_setting": IS_NOT_SENT,
        "test_session_refresh_vary": IS_NOT_SENT,
    },
)
FLASK_LOGIN = Suite(
    package="flask-login", labels=("tests",), needs=("semantic-version",), left_out={}
)
FLASK_SECURITY = Suite(
    package="flask-security",
    labels=("tests/test_basic.py", "tests/test_changeable.py", "tests/test_trackable.py"),
    needs=("flask-mail", "flask-sqlalchemy", "flask-sqlalchemy-lite", "peewee", "nh3", "zxcvbn"),
    left_out={
        "test_remember_fresh": COOKIE_IS_READ,
        "test_change_invalidates_session": COOKIE_IS_READ,
        "test_no_cache_control": "wants no Cache-Control: with our Set-Cookie it says that none may keep it",
    },
)
ALLAUTH = Suite(
    package="django-allauth", labels=("tests/apps/account",), needs=("pytest-django",), left_out={}
)
SUITES = {each.package: each for each in (DJANGO, FLASK, FLASK_LOGIN, FLASK_SECURITY, ALLAUTH)}
