"""Devices by names that people recognize, from User-Agent and client hints.

    Chrome on Windows · Safari on iPhone · Sojourn extension in Edge · Python client on Linux

The parsing is ua-parser's, whose data is kept up to date by many; here is only how its families are
called. Client hints win where a browser sends them, for its User-Agent is frozen (every Android is "10; K",
every Windows "10.0"). What cannot be told apart is not guessed: Safari on an iPad that asks for desktop
pages is "Safari on Mac", and says so itself.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ua_parser import parse_os, parse_user_agent

from sojourn.device import UNKNOWN, Device

AGENT_MAX = 512
"""Characters of a User-Agent, or a hint, that are looked at: no browser sends as many."""
WORD_MAX = 60
CACHED = 4_096

HINTS = (
    "sec-ch-ua",
    "sec-ch-ua-platform",
    "sec-ch-ua-mobile",
    "sec-ch-ua-model",
    "sec-ch-ua-form-factors",
    "x-sojourn-client",
    "origin",
)
"""Headers that tell more than the User-Agent, in the order in which `recognize` takes their values."""
Hints = tuple[str, ...]
NO_HINTS: Hints = ("",) * len(HINTS)

BRANDS = {  # the more particular first: each of them also calls itself Chromium
    "Brave": "Brave",
    "Microsoft Edge": "Edge",
    "Microsoft Edge WebView2": "Edge",
    "Opera": "Opera",
    "Opera GX": "Opera",
    "OperaMobile": "Opera",
    "Samsung Internet": "Samsung Internet",
    "Vivaldi": "Vivaldi",
    "YaBrowser": "Yandex Browser",
    "Yandex": "Yandex Browser",
    "DuckDuckGo": "DuckDuckGo",
    "HeadlessChrome": "Headless Chrome",
    "Android WebView": "App",
    "Google Chrome": "Chrome",
    "Chromium": "Chromium",
}
FAMILIES = {
    "Chrome Mobile": "Chrome",
    "Chrome Mobile iOS": "Chrome",
    "Chrome Mobile WebView": "App",
    "HeadlessChrome": "Headless Chrome",
    "Mobile Safari": "Safari",
    "Mobile Safari UI/WKWebView": "App",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox",
    "Firefox Focus": "Firefox",
    "Edge Mobile": "Edge",
    "Opera Mobile": "Opera",
    "Opera Mobi": "Opera",
    "Opera Mini": "Opera",
    "Opera Touch": "Opera",
    "IE": "Internet Explorer",
    "IE Mobile": "Internet Explorer",
    "Yandex Browser": "Yandex Browser",
    "DuckDuckGo Mobile": "DuckDuckGo",
    "Android": "App",
    "Python Requests": "Python client",
    "Python aiohttp": "Python client",
    "Python-urllib": "Python client",
    "okhttp": "App",
    "Epiphany": "GNOME Web",
    "MiuiBrowser": "Mi Browser",
    "Go-http-client": "Go client",
    "axios": "Node client",
    "Java": "Java client",
    "Apache-HttpClient": "Java client",
    "PostmanRuntime": "Postman",
}
APPS = (
    "Facebook",
    "Instagram",
    "LinkedIn",
    "Snapchat",
    "Pinterest",
    "Twitter",
    "TikTok",
    "WhatsApp",
)
PRODUCTS = (  # what ua-parser does not know, by how the User-Agent begins
    ("sojourn/", "Python client"),
    ("python", "Python client"),
    ("node", "Node client"),
    ("undici", "Node client"),
    ("dart", "App"),
)
DESKTOP_APPS = {  # built with Electron, by the word that they put before Chrome's
    "Code": "VS Code",
    "Insiders": "VS Code",
    "discord": "Discord",
    "Slack_SSB": "Slack",
    "StandardNotes": "Standard Notes",
}
ELECTRON = re.compile(r"Electron/\d")
BEFORE_CHROME = re.compile(r"\) ([^()]{1,200}?)\s?Chrome/")
PRODUCT = re.compile(r"([A-Za-z][\w.+-]{0,40})/\d")
WEB_VIEW = re.compile(r"AppleWebKit/[\d.]+ \(KHTML, like Gecko\)\Z")
"""An application's page on a Mac or Linux: a browser, and a mail program of its own, would say more."""
LATER = (("YaBrowser/", "Yandex Browser"), ("Vivaldi/", "Vivaldi"), ("Instagram", "Instagram"))
SYSTEMS = {
    "Mac OS X": "macOS",
    "Chrome OS": "ChromeOS",
    "Web0S": "webOS",
    "Chromium OS": "ChromeOS",
    "Ubuntu": "Linux",
    "Fedora": "Linux",
    "Debian": "Linux",
    "Red Hat": "Linux",
    "Arch Linux": "Linux",
}
PLACES = {"macOS": "Mac"}
"""How people call what runs a system, where it is not the system's own name."""
DESKTOPS = frozenset({"Windows", "macOS", "Linux", "ChromeOS", "FreeBSD", "OpenBSD", "NetBSD"})
CLIENTS = frozenset({"curl", "Wget", "Postman", "Headless Chrome"})
BOT = re.compile(r"bot\b|crawl|spider|slurp|externalhit|monitor", re.IGNORECASE)
BRAND = re.compile(r'"([^"]{1,64})"')
EXTENSION = re.compile(r"[a-z]{1,10}-(web-)?extension://")


@lru_cache(CACHED)
def _recognize(agent: str, hints: Hints) -> Device:
    brands, platform, mobile, model, factors, client, origin = hints
    os = _particular(agent) or SYSTEMS.get(platform, platform) or _system(agent)
    browser = _application(agent) or _brand(brands) or _family(agent)
    if browser == "Safari" and os == "Linux":
        browser = "GNOME Web"  # it says no more; nothing else that people use there says so
    if BOT.search(browser or "") or (browser is None and BOT.search(agent)):
        return Device(name=browser or "Bot", browser=browser, os=os, kind="server")
    if client.lower().startswith("extension") or EXTENSION.match(origin):
        name = f"Sojourn extension in {browser}" if browser else "Sojourn extension"
        return Device(name=name, browser=browser, os=os, kind="extension")
    if browser is not None and (browser.endswith(" client") or browser in CLIENTS):
        name = f"{browser} on {PLACES.get(os, os)}" if os else browser
        return Device(name=name, browser=browser, os=os, kind="server")
    kind = _kind(agent, os, mobile, factors)
    on = model or _hardware(agent) or (PLACES.get(os, os) if os else None)
    named = f"{browser or 'Browser'} on {on}" if on else browser
    return Device(name=named or UNKNOWN, browser=browser, os=os, kind=kind)


def recognize(user_agent: str, hints: Hints = NO_HINTS) -> Device:
    """Name a device. `hints` are the values of HINTS, in their order; what is missing is empty."""
    cut = tuple(_unquoted(i, value[:AGENT_MAX]) for i, value in enumerate(hints))
    # A lone surrogate, which JSON can name and no header can hold, is no text to the parser.
    return _recognize(user_agent[:AGENT_MAX].encode(errors="replace").decode(), cut)


def _unquoted(index: int, value: str) -> str:
    """Return the text of a hint; all but the list of brands and the last two are quoted strings."""
    if index in (0, 5):
        return value
    return _shown(value.strip().strip('"'))


def _shown(text: str) -> str:
    """Cut what a client says of itself to what a list, a log or a mail may hold."""
    return "".join(each for each in text if each.isprintable())[:WORD_MAX].strip()


def _application(agent: str) -> str | None:
    """Name an application that shows pages of its own, though its engine calls itself a browser."""
    if ELECTRON.search(agent):
        before = BEFORE_CHROME.search(agent)
        own = PRODUCT.findall(before.group(1)) if before else []
        return (DESKTOP_APPS.get(own[0]) or _shown(own[0])) if own else "App"
    if WEB_VIEW.search(agent) or ("ArkWeb/" in agent and "HuaweiBrowser/" not in agent):
        return "App"
    if agent and not agent.startswith("Mozilla/") and "Alamofire/" in agent:
        own = PRODUCT.findall(agent[:60])
        return _shown(own[0]) if own else "App"
    return None


def _particular(agent: str) -> str | None:
    """Name a system that passes for another one."""
    if "HarmonyOS" in agent or "OpenHarmony" in agent:
        return "HarmonyOS"
    return "Xbox" if "; Xbox" in agent else None


def _brand(text: str) -> str | None:
    said = set(BRAND.findall(text))
    return next((name for brand, name in BRANDS.items() if brand in said), None)


def _family(agent: str) -> str | None:
    for start, name in PRODUCTS:
        if agent[:16].lower().startswith(start):
            return name
    for inside, name in LATER:
        if inside in agent:
            return name
    found = parse_user_agent(agent)
    if found is None:
        return None
    if found.family in APPS:
        return f"{found.family} app"
    return FAMILIES.get(found.family) or _shown(found.family) or None


def _system(agent: str) -> str | None:
    found = parse_os(agent)
    if found is not None:
        return SYSTEMS.get(found.family, found.family)
    for word, name in (("(Linux)", "Linux"), ("(Windows)", "Windows"), ("(Darwin)", "macOS")):
        if word in agent:
            return name
    return None


def _hardware(agent: str) -> str | None:
    return next(
        (
            each
            for each in ("iPhone", "iPad", "iPod", "PlayStation", "Nintendo Switch")
            if each in agent
        ),
        None,
    )


def _kind(agent: str, os: str | None, mobile: str, factors: str) -> str:
    if "Tablet" in factors or "iPad" in agent:
        return "tablet"
    if mobile == "?1" or "iPhone" in agent or "iPod" in agent or os == "Windows Phone":
        return "phone"
    if os == "HarmonyOS":
        return "tablet" if "(Tablet;" in agent or "Mobile" not in agent else "phone"
    if os == "Android":  # a tablet's browser leaves the word out, and its hint says ?0
        small = mobile != "?0" and ("Mobile" in agent or "Dalvik" in agent)
        return "phone" if small else "tablet"
    if os == "iOS":
        return "phone"
    return "desktop" if os in DESKTOPS else "unknown"
