"""How an application wants its sessions, and what a request brings to one."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from sojourn.cookie import LIFETIME_MAX, CookieOptions
from sojourn.device import Device
from sojourn.errors import SettingsError
from sojourn.origin import Origin
from sojourn.service.adopted import AdoptedCookie
from sojourn.session import GRACE_MAX, ROTATION_GRACE, AtLimit, Timeouts


class Rules(Struct, frozen=True, kw_only=True):
    """How an application wants its sessions.

    Attributes:
        timeouts: of a signed-in user's sessions; `visitors` of those without a user.
        limit: how many sessions a user may have at once; None: any number.
        grace: ms for which a rotated token still works, for tabs whose requests were under way.
        no_touch: prefixes of paths whose requests do not count as use, such as a page's own polling.
        adopted: cookies from before the move, looked at where there is none of ours. The session that
            answers gets a token of ours at once, and the browser our cookie in the old one's place.
        user_key: a key of the data that names the user, for libraries that sign in by setting one. When
            its value changes, a session of that user begins under a new token; when it goes, the session
            ends. None: only `begin` and `end` do so.
        header_tokens: whether `Authorization: Bearer …` opens a session in a cookie's place, for clients of
            an API. Such a request is given no cookie.
    """

    cookie: CookieOptions = CookieOptions()
    timeouts: Timeouts = Timeouts()
    visitors: Timeouts = Timeouts()
    limit: int | None = None
    at_limit: AtLimit = AtLimit.END_OLDEST
    grace: int = ROTATION_GRACE
    no_touch: tuple[str, ...] = ()
    adopted: tuple[AdoptedCookie, ...] = ()
    user_key: str | None = None
    header_tokens: bool = False

    def validate(self) -> Rules:
        """Return itself. Raises SettingsError for what would fail, or be cut short, with a request."""
        self.cookie.validate()
        for name, timeouts in (("timeouts", self.timeouts), ("visitors", self.visitors)):
            for each in (timeouts.lifetime, timeouts.idle_timeout):
                if not 0 < each <= LIFETIME_MAX:
                    raise SettingsError(
                        f"{name}: a session's timeouts lie between 1 ms and 400 days; {each} ms do not.",
                        hint="Browsers keep no cookie for longer than 400 days (34,560,000,000 ms).",
                    )
        if self.limit is not None and self.limit < 1:
            raise SettingsError("limit: a user needs room for one session at least.")
        if not 0 <= self.grace <= GRACE_MAX:
            raise SettingsError(f"grace: a rotated token is good for {GRACE_MAX} ms at most.")
        return self


class Request(Struct, frozen=True, kw_only=True):
    """What a visit needs to know of a request.

    Attributes:
        cookies: the Cookie header, "" if there is none.
        token: what was sent as `Authorization: Bearer sjs_…`. It goes before cookies, and none is set.
        describe: says on which device a session begins; asked when one does.
        header: looks a header up by its name in lower case; asked when cookies of other places are cleared.
        tentative: the framework may answer with an error that no cookie can be put on, or never. What a
            sign-in replaces is then ended when the response leaves, and without one all stays as it was.
    """

    cookies: str
    origin: Origin
    path: str = "/"
    token: str | None = None
    describe: Callable[[], Device] | None = None
    header: Callable[[str], str | None] | None = None
    tentative: bool = False
