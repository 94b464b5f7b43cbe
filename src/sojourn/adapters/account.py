"""The security page and its calls, in the application's own process: what every adapter mounts.

    SessionMiddleware(app, account=Account(site_name="Acme", sign_in_url="/sign-in"))

The page is `/account/security` below wherever the application is, the calls are those of
`/api/user/active-sessions`. There are no WebSockets here: the page reads its list again each minute, and
whenever somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.adapters.desk import Desk
from sojourn.api.people import Answer, People, asked
from sojourn.clock import SECOND
from sojourn.console.account import AccountPages
from sojourn.console.pages import Look
from sojourn.errors import SettingsError


class Account(Struct, frozen=True, kw_only=True):
    """What an application says about its people's pages.

    Attributes:
        site_name: in the header and in titles.
        sign_in_url: where people sign in; they are sent there with `next`, the page to come back to.
        reauth_within: ending other sessions takes a sign-in as recent as this, in seconds; 0: any.
        trusted_origins: other sites whose pages may end a person's sessions.
    """

    site_name: str = "Sojourn"
    sign_in_url: str = ""
    reauth_within: float = 0.0
    trusted_origins: tuple[str, ...] = ()

    @property
    def look(self) -> Look:
        """Raises SettingsError for an address that is none."""
        return Look(site_name=self.site_name, sign_in_url=self.sign_in_url, socket=False)


def make_account(options: Account | Mapping[str, Any] | None) -> Account | None:
    """Read what a framework's configuration says. Raises SettingsError."""
    if options is None:
        return None
    if not isinstance(options, Account):
        unknown = set(options) - set(Account.__struct_fields__)
        if unknown:
            raise SettingsError(f"account: there is no option {min(unknown)!r}.")
        try:
            options = msgspec.convert(dict(options), Account)
        except msgspec.ValidationError as fault:
            raise SettingsError(f"account: {fault}.") from None
    return options if options.look else None


class Mount:
    """The pages over whatever desk is open: one per process, made when first asked for."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._look = account.look
        self._made: tuple[Desk, AccountPages] | None = None

    def respond(
        self,
        desk: Desk,
        *,
        method: str,
        path: str,
        query: str,
        prefix: str,
        peer: str | None,
        scheme: str,
        header: Callable[[str], str | None],
    ) -> Answer | None:
        """Answer a request: status, headers, body; None if it is not ours. `header` looks one up by its
        name in lower case; `path` is what follows `prefix`."""
        origin = desk.origin(
            peer, scheme, header("x-forwarded-for") or "", header("x-forwarded-proto") or ""
        )
        request = asked(method, path, query, header, origin)
        encoding = header("accept-encoding") or ""
        return self._pages(desk).respond(request, prefix=prefix, accept_encoding=encoding)

    def _pages(self, desk: Desk) -> AccountPages:
        if self._made is None or self._made[0] is not desk:
            account = self._account
            people = People(
                desk.sessions,
                desk.codec,
                rules=desk.rules,
                within=round(account.reauth_within * SECOND) or None,
                trusted_origins=account.trusted_origins,
            )
            self._made = desk, AccountPages(people, self._look)
        return self._made[1]


__all__ = ["Account", "Mount", "make_account"]
