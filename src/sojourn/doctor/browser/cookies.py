"""What is wrong with an application's cookies, as a browser sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from urllib.parse import urlsplit

from sojourn.doctor.browser import cross_site, persistence
from sojourn.doctor.browser.jar import Cookie, read
from sojourn.doctor.browser.login import FORM, LOOKS, BrowserLogin, known
from sojourn.doctor.browser.persistence import PROXY
from sojourn.errors import InvalidToken
from sojourn.finding import Area, Check, Finding, Fix, failure, ok, skipped

Opener = Callable[[str], str]
"""Opens a cookie's value with the secrets here. Raises InvalidToken."""
NO_OPENERS: Mapping[str, Opener] = MappingProxyType({})

SAVE_FIRST = Fix(
    text="Wait until the session is saved before answering. Express: req.session.save(() => "
    "res.redirect('/')). Sojourn's adapters save before the first byte of an answer."
)


RULES = (
    ("size", "Is the cookie small enough for browsers to keep?", persistence.size),
    ("domain", "Does the cookie belong to this host?", persistence.domain),
    ("path", "Is the cookie sent with every page?", persistence.path),
    ("secure", "Is the cookie sent by HTTPS only?", persistence.secure),
    ("prefix", "Does the cookie keep what its name promises?", persistence.prefix),
    ("http-only", "Is the cookie out of reach for scripts?", persistence.http_only),
    ("same-site", "Which sites may make a browser send the cookie?", persistence.same_site),
    ("lifetime", "Does the cookie live?", persistence.lifetime),
    ("duplicates", "Is there one cookie of each name?", persistence.duplicates),
)


class CookieExaminer:
    """Follows an application's cookies like a browser; signs a canary in, if it is told how."""

    def __init__(
        self,
        visit: BrowserLogin,
        *,
        origin: str | None = None,
        openers: Mapping[str, Opener] = NO_OPENERS,
    ) -> None:
        """`origin`: another site whose pages ask this one with cookies. `openers`: by what they read."""
        self._visit = visit
        self._origin = origin
        self._openers = openers

    def checks(self) -> Sequence[Check]:
        answers, one = ("cookies.address",), ("cookies.address", "cookies.set")
        found = [
            self._check("cookies.address", "Does the application answer?", self._address, ()),
            self._check("cookies.set", "Does signing in set a cookie?", self._set, answers),
        ]
        found += [
            self._check(f"cookies.{name}", title, partial(look, self._visit), one)
            for name, title, look in RULES
        ]
        found += [
            self._check(f"cookies.{name}", title, look, one)
            for name, title, look in (
                ("proxy", "Does the application know that people come by HTTPS?", self._proxy),
                ("cached", "Can a cache hand the cookie to somebody else?", self._cached),
                ("renewed", "Does signing in change the cookie?", self._renewed),
                ("returns", "Is who comes back with the cookie known?", self._returns),
                ("redirect", "Is the session saved before the redirect?", self._redirect),
                (
                    "instances",
                    "Does every server behind the address know the session?",
                    self._instances,
                ),
            )
        ]
        title = "Can pages of other sites use the session as they should?"
        found.append(self._check("cookies.cors", title, self._cors, answers))
        if self._openers:
            title = "Do the secrets here open a live cookie?"
            found.append(self._check("secrets.cookie", title, self._signed, one))
        return found

    def close(self) -> None:
        """Forget the visit: another look visits again."""
        self._visit.forget()

    def _check(
        self, name: str, title: str, look: Callable[[], Finding], needs: tuple[str, ...]
    ) -> Check:
        return Check(
            id=name,
            area=Area(name.partition(".")[0]),
            title=title,
            looked_at=self._visit.probe.origin,
            look=look,
            needs=needs,
        )

    # Is there one?

    def _address(self) -> Finding:
        self._visit.forget()  # the first question: what was seen before is old
        seen = self._visit.seen()
        if seen.front.status >= 500:
            return failure(
                f"The application answers {seen.front.status}.",
                evidence=[f"GET {urlsplit(seen.front.url).path}: {seen.front.status}"],
                means="Nobody gets in.",
                fix=Fix(text="See its log: a session store that is away shows here."),
            )
        return ok(
            "The application answers.", f"GET {urlsplit(seen.front.url).path}: {seen.front.status}"
        )

    def _set(self) -> Finding:
        seen = self._visit.seen()
        answer = seen.login
        told = f"{'sign-in' if self._visit.login else 'page'} answered {answer.status}"
        if seen.renewed or (seen.cookies and any(self._known())):
            return ok("Signing in sets a cookie.", told, *(x.told() for x in seen.cookies))
        if self._visit.login is None:
            return skipped(
                "The page sets no cookie for visitors; give a sign-in request with --login."
            )
        if answer.status >= 400:
            return failure(
                "The sign-in request was refused.",
                evidence=[told],
                fix=Fix(text="Check the request given with --login: its path, names and password."),
            )
        if self._visit.probe.https and self._believing():
            return failure(
                "Signing in sets no cookie: the proxy hides HTTPS from the application.",
                evidence=[told, "With the header X-Forwarded-Proto: https, a cookie is set."],
                means="Nobody can sign in: the page comes back as if nothing had happened.",
                fix=PROXY,
            )
        return failure(
            "Signing in sets no cookie.",
            evidence=[told, "There is no Set-Cookie in any of its answers."],
            means="Nobody stays signed in.",
            fix=Fix(
                text="If the cookie is `secure` and the application sits behind a proxy, it believes that "
                "people came by HTTP. " + PROXY.text
            ),
        )

    def _believing(self) -> list[Cookie]:
        """Sign in once more, saying what a proxy says; return the cookies that are set then."""
        login = self._visit.login
        if login is None:
            return []
        headers = {**dict(login.headers), "X-Forwarded-Proto": "https"}
        headers.setdefault("Content-Type", FORM)
        answer = self._visit.probe.ask(
            login.method, login.path, headers=headers, body=login.body.encode() or None
        )
        return [read(line, answer.url) for line in answer.all("set-cookie")]

    # What comes of it

    def _proxy(self) -> Finding:
        seen, probe = self._visit.seen(), self._visit.probe
        if not probe.https:
            return skipped("People come by plain HTTP here, which no proxy can hide.")
        back = [
            x.goes_to
            for x in (seen.front, *seen.answers, seen.anonymous)
            if x.goes_to
            and x.goes_to.startswith("http://")
            and urlsplit(x.goes_to).hostname == probe.host
        ]
        if back:
            return failure(
                "The application sends people from HTTPS back to HTTP: the proxy hides HTTPS from it.",
                evidence=[f"Location: {each}" for each in back[:3]],
                means="Secure cookies are not set, or not sent: nobody stays signed in.",
                fix=PROXY,
            )
        bare = {x.name for x in seen.session if not x.secure}
        told = [x.told() for x in self._believing() if x.secure and x.name in bare] if bare else []
        if told:
            return failure(
                "The proxy hides HTTPS from the application: its cookie is not Secure.",
                evidence=["With the header X-Forwarded-Proto: https it is:", *told],
                means="One link by http:// sends the session in clear.",
                fix=PROXY,
            )
        return ok("The application knows that people come by HTTPS.")

    def _cached(self) -> Finding:
        for answer in self._visit.seen().answers:
            control = (answer.get("cache-control") or "").lower()
            shared = "public" in control or "s-maxage" in control
            if answer.all("set-cookie") and shared:
                return failure(
                    "An answer that sets the session's cookie may be kept by caches.",
                    evidence=[f"{urlsplit(answer.url).path}: Cache-Control: {control}"],
                    means="The next visitor is handed somebody else's session.",
                    fix=Fix(text="Answer with Cache-Control: no-store wherever a cookie is set."),
                )
        return ok("Caches may not keep an answer that sets the session's cookie.")

    def _renewed(self) -> Finding:
        seen = self._visit.seen()
        if self._visit.login is None:
            return skipped("Nobody signed in; give a sign-in request with --login.")
        had = {x.name: x.value for x in seen.before}
        names = {x.name for x in seen.session} or set(had)
        sent = {x.name: x.value for x in seen.sent}
        same = [n for n in names if n in had and sent.get(n) == had[n]]
        if same and known(seen.looks[-1], seen.anonymous, seen.session) is not False:
            return failure(
                "The session's cookie is the same before and after signing in.",
                evidence=[f"{name} was not changed." for name in same],
                means="Who plants a cookie in somebody's browser is signed in with them (fixation).",
                fix=Fix(
                    text="Change it. Express: req.session.regenerate(); Sojourn: sign_in does."
                ),
            )
        return ok("Signing in changes the session's cookie.")

    def _known(self) -> list[bool | None]:
        seen = self._visit.seen()
        return [known(x, seen.anonymous, seen.session) for x in seen.looks]

    def _returns(self) -> Finding:
        seen, answers = self._visit.seen(), self._known()
        page = urlsplit(seen.page).path
        if not seen.looks:
            return failure(
                "The browser does not send the cookie back.",
                evidence=[
                    x.told() + f" ({x.dropped or 'not for this page'})" for x in seen.cookies
                ],
                means="Whoever has signed in is a stranger on the next page.",
                fix=Fix(text="See the other findings: they say why browsers keep or send nothing."),
            )
        if all(each is None for each in answers):
            if seen.looks[0].status >= 500:
                return failure(
                    f"The page fails for who is signed in: {seen.looks[0].status}.",
                    evidence=[f"GET {page} with the cookie: {seen.looks[0].status}"],
                    means="The session cannot be read.",
                    fix=Fix(text="See the application's log."),
                )
            return skipped(
                f"The page {page} is the same for everybody: name one that is not, with --page."
            )
        if not any(answers):
            return failure(
                "The cookie comes back, and the application does not know it.",
                evidence=[f"GET {page} with the cookie: {seen.looks[-1].status}, as without it."],
                means="Whoever has signed in is a stranger on the next page.",
                fix=Fix(
                    text="Look at its session store, and at the secret that signs its cookies."
                ),
            )
        return ok(
            "The application knows who comes back with the cookie.",
            f"GET {page}: {seen.looks[-1].status}; a stranger gets {seen.anonymous.status}.",
        )

    def _redirect(self) -> Finding:
        if self._visit.login is None:
            return skipped("Nobody signed in; give a sign-in request with --login.")
        first, *rest = self._known() or [None]
        if first is False and rest and all(rest):
            return failure(
                "The session is not saved yet when the browser follows the redirect.",
                evidence=[
                    "The first page after signing in knew nobody; the same page soon after did."
                ],
                means="People have to sign in twice, now and then: who is fast, or the store slow.",
                fix=SAVE_FIRST,
            )
        return (
            ok("The session is saved before the redirect: the first page after it knew who it was.")
            if first
            else skipped("The first page after signing in does not tell whether it knows anybody.")
        )

    def _instances(self) -> Finding:
        answers = self._known()[1:]
        yes, no = answers.count(True), answers.count(False)
        if yes and no:
            return failure(
                "Some servers behind this address know the session, others do not.",
                evidence=[
                    f"Of {LOOKS - 1} requests with one cookie, {yes} were known and {no} were not."
                ],
                means="People are signed out at random. The servers have different secrets, or stores.",
                fix=Fix(
                    text="Give every server the same secrets and the same store. Where they are Sojourn's, "
                    "secrets.instances says which one differs.",
                    command="sojourn doctor --area secrets",
                ),
            )
        if yes:
            return ok("Every server behind the address knows the session.", f"{yes} requests")
        return skipped(
            "Whether every server knows the session cannot be told: see cookies.returns."
        )

    def _cors(self) -> Finding:
        page = self._visit.seen().page
        return cross_site.judge(self._visit.probe, page, self._origin)

    def _signed(self) -> Finding:
        session = [x for x in self._visit.seen().session if not x.dropped]
        reasons = []
        for cookie in session:
            for kind, opens in self._openers.items():
                try:
                    opens(cookie.value)
                except InvalidToken as error:
                    if error.code == "token_forged":
                        reasons.append(f"{cookie.name}, as a cookie of {kind}: {error.message}")
                else:
                    return ok(
                        "The secrets here open a live cookie.",
                        f"{cookie.name} is a cookie of {kind}.",
                    )
        if reasons:
            return failure(
                "The application signs its cookies with another secret than the ones here.",
                evidence=reasons,
                means="Servers with the secrets of these settings take its people for strangers.",
                fix=Fix(text="Give both the same list of secrets: the first signs, all verify."),
            )
        return skipped("The cookie is of another make: it is not signed, or signed otherwise.")
