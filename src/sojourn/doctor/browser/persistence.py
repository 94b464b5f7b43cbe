"""Does a browser keep the cookie, and to whom does it send it: each rule a question."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from sojourn.doctor.browser.jar import PAIR_MAX, Cookie, default_path, within
from sojourn.doctor.browser.login import BrowserLogin
from sojourn.finding import Finding, Fix, failure, ok, warning

FULL = 3_072
"""Bytes of a cookie from which on another key in a session may be the one that drops it."""
HEADER_MAX = 8_192
"""Bytes of all cookies together that servers commonly take in one header."""

PROXY = Fix(
    text="Let the proxy say that people came by HTTPS, and the application believe that proxy. nginx: "
    "proxy_set_header X-Forwarded-Proto $scheme; Express: app.set('trust proxy', 1); Django: "
    "SECURE_PROXY_SSL_HEADER; Flask and FastAPI: trusted_proxies of Sojourn's adapter."
)


def _dropped(visit: BrowserLogin, why: str) -> list[Cookie]:
    return [x for x in visit.seen().cookies if x.dropped == why]


def size(visit: BrowserLogin) -> Finding:
    cookies = visit.seen().cookies
    sizes = {x.name: len(x.name.encode()) + len(x.value.encode()) for x in cookies}
    told = [f"{name}: {size:,} bytes" for name, size in sizes.items()]
    if _dropped(visit, "size"):
        return failure(
            f"Browsers drop a cookie of more than {PAIR_MAX:,} bytes, without a word.",
            evidence=told,
            means="Signing in seems to work, and the next page knows nobody.",
            fix=Fix(text="Keep the data on the server, and its token only in the cookie."),
        )
    if any(size > FULL for size in sizes.values()) or sum(sizes.values()) > HEADER_MAX:
        return warning(
            "Cookies are nearly as large as browsers and servers take them.",
            evidence=told,
            means="One more thing in the session, and people are signed out.",
            fix=Fix(text="Keep the data on the server, and its token only in the cookie."),
        )
    return ok("The cookie is small enough for browsers to keep.", *told)


def domain(visit: BrowserLogin) -> Finding:
    seen, host = visit.seen(), visit.probe.host
    if found := _dropped(visit, "domain"):
        return failure(
            f"The cookie is for {found[0].domain}, and people are at {host}: browsers drop it.",
            evidence=[x.told() for x in found],
            means="Nobody stays signed in at this address.",
            fix=Fix(text="Leave Domain out: then the cookie belongs to the host that sets it."),
        )
    if found := _dropped(visit, "public-suffix"):
        return failure(
            f"The cookie is for all of {found[0].domain}, which strangers share: browsers drop it.",
            evidence=[
                *(x.told() for x in found),
                f"{found[0].domain} is in the Public Suffix List.",
            ],
            means="Nobody stays signed in.",
            fix=Fix(text="Leave Domain out: then the cookie belongs to the host that sets it."),
        )
    wide = [x for x in seen.session if x.domain]
    if wide:
        return warning(
            f"The session's cookie goes to every host below {wide[0].domain}.",
            evidence=[x.told() for x in wide],
            means="Whoever runs one of them, or takes it over, can read the session and plant one.",
            fix=Fix(text="Leave Domain out, unless several hosts share the session on purpose."),
        )
    return ok("The cookie belongs to this host, and to no other.")


def path(visit: BrowserLogin) -> Finding:
    seen = visit.seen()
    path = urlsplit(seen.page).path or "/"
    astray = [x for x in seen.session if not x.dropped and not within(path, x.scope)]
    if astray:
        given = [x for x in astray if x.path]
        return failure(
            f"The cookie belongs to {astray[0].scope}, and is not sent to {path}.",
            evidence=[x.told() for x in astray]
            + ([] if given else [f"Without Path it belongs to {default_path(astray[0].at)}."]),
            means="People are signed in on some pages and not on others.",
            fix=Fix(text="Set Path=/."),
        )
    narrow = [x for x in seen.session if x.scope != "/"]
    if narrow:
        return warning(
            f"The cookie is sent below {narrow[0].scope} only.",
            evidence=[x.told() for x in narrow],
            means="Pages elsewhere on this host know nobody.",
            fix=Fix(text="Set Path=/, unless that is meant."),
        )
    return ok("The cookie is sent with every page.")


def secure(visit: BrowserLogin) -> Finding:
    seen, probe = visit.seen(), visit.probe
    if found := _dropped(visit, "secure"):
        return failure(
            "The cookie is Secure, and people come by plain HTTP: browsers drop it.",
            evidence=[x.told() for x in found],
            means="Signing in seems to work, and the next page knows nobody.",
            fix=Fix(text="Serve by HTTPS; for a trial on this host, use localhost."),
        )
    bare = [x for x in seen.session if not x.secure]
    if bare and probe.https:
        return failure(
            "The session's cookie is not Secure.",
            evidence=[x.told() for x in bare],
            means="One link by http:// sends it in clear over whatever network people are in.",
            fix=Fix(text="Set Secure. If it is set to follow the connection: " + PROXY.text),
        )
    if bare:
        return warning(
            "People come by plain HTTP.",
            evidence=[x.told() for x in bare],
            means="Whoever is on the way reads the session, and can act as they.",
            fix=Fix(text="Serve by HTTPS, and look again with https://."),
        )
    return ok("The cookie is sent by HTTPS only.")


def prefix(visit: BrowserLogin) -> Finding:
    if found := _dropped(visit, "prefix"):
        name = found[0].name.partition("-")[0] + "-"
        return failure(
            f"Browsers drop a cookie called {name}… that does not keep to its rules.",
            evidence=[x.told() for x in found],
            means="Nobody stays signed in.",
            fix=Fix(
                text="__Host- takes Secure, Path=/ and no Domain; __Secure- takes Secure; __Http- takes "
                "Secure and HttpOnly; all take HTTPS. Set that, or give the cookie another name."
            ),
        )
    promised = [x.name for x in visit.seen().cookies if x.name.startswith("__")]
    if promised:
        return ok("The cookie keeps what its name promises.", *promised)
    return ok("The cookie's name promises nothing that it could break.")


def http_only(visit: BrowserLogin) -> Finding:
    open_ones = [x for x in visit.seen().session if not x.http_only]
    if open_ones:
        return failure(
            "Scripts can read the session's cookie.",
            evidence=[x.told() for x in open_ones],
            means="One script that does not belong there takes everybody's session away with it.",
            fix=Fix(text="Set HttpOnly."),
        )
    return ok("Scripts cannot read the session's cookie.")


def same_site(visit: BrowserLogin) -> Finding:
    if found := _dropped(visit, "same-site"):
        return failure(
            "Browsers drop a cookie with SameSite=None or Partitioned that is not Secure.",
            evidence=[x.told() for x in found],
            means="Nobody stays signed in.",
            fix=Fix(text="Serve by HTTPS and set Secure, or choose SameSite=Lax."),
        )
    session = visit.seen().session
    said = {x.same_site for x in session}
    told = [x.told() for x in session]
    if "none" in said:
        return warning(
            "Pages of any site make browsers send the session's cookie.",
            evidence=told,
            means="Only the application's own guard keeps others from acting in people's name.",
            fix=Fix(text="Choose SameSite=Lax, unless the page is embedded elsewhere on purpose."),
        )
    if None in said:
        return warning(
            "The session's cookie says nothing of other sites: browsers guess, and differ.",
            evidence=told,
            fix=Fix(text="Set SameSite=Lax."),
        )
    if "strict" in said:
        return ok(
            "Browsers send the cookie for this site's own pages only:"
            " who follows a link from elsewhere is not known at first.",
            *told,
        )
    return ok("Browsers send the cookie for this site's own pages, and for links to them.", *told)


def lifetime(visit: BrowserLogin) -> Finding:
    short = [x for x in visit.seen().session if x.goes]
    if short:
        return failure(
            "The cookie has expired when it arrives.",
            evidence=[x.told() for x in short],
            means="Nobody stays signed in.",
            fix=Fix(text="Set the application's clock by NTP, and look at its maxAge."),
        )
    return ok("The cookie lives when it arrives.")


def duplicates(visit: BrowserLogin) -> Finding:
    seen = visit.seen()
    lines = Counter(
        line.partition("=")[0].strip() for x in seen.answers[:1] for line in x.all("set-cookie")
    )
    twice = [name for name, count in lines.items() if count > 1]
    sent = Counter(x.name for x in seen.sent)
    both = [name for name, count in sent.items() if count > 1]
    if both or twice:
        name = (both or twice)[0]
        return failure(
            f"There is more than one cookie called {name}.",
            evidence=[x.told() for x in seen.sent if x.name in both]
            or [f"One answer sets {name} {lines[name]} times."],
            means="Which one counts depends on the browser and the framework: people are signed out "
            "by chance, or stay signed in after signing out.",
            fix=Fix(text="Set it in one place, with one Domain and one Path; clear the other."),
        )
    return ok("There is one cookie of each name.")
