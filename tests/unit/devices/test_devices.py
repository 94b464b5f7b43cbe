"""Devices by names that people recognize; where they are; and what a hostile one costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import ua_parser
from tests.mmdb import write_mmdb

from sojourn.device import Device, shortened
from sojourn.devices import HINTS, Devices, agents, recognize
from sojourn.devices.agents import _recognize
from sojourn.devices.places import Places, place_in_headers
from sojourn.settings import Settings

WIN = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
MAC_WEBKIT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
)
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPAD = "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
DROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
WEBVIEW = "Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) AppleWebKit/537.36 (KHTML, like Gecko)"
LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = "Chrome/139.0.0.0 Safari/537.36"
MOBILE = "Chrome/139.0.0.0 Mobile Safari/537.36"

AGENTS = [
    # browsers on desks
    (f"{WIN} {CHROME}", "Chrome on Windows", "desktop"),
    (f"{MAC} {CHROME}", "Chrome on Mac", "desktop"),
    (f"{LINUX} {CHROME}", "Chrome on Linux", "desktop"),
    (f"{LINUX.replace('Linux x86_64', 'CrOS x86_64 14541.0.0')} {CHROME}", "Chrome on ChromeOS", "desktop"),
    (f"{WIN} {CHROME} Edg/139.0.0.0", "Edge on Windows", "desktop"),
    (f"{WIN} {CHROME} OPR/124.0.0.0", "Opera on Windows", "desktop"),
    (f"{WIN} {CHROME} Vivaldi/7.5.3735.44", "Vivaldi on Windows", "desktop"),
    (
        f"{WIN} Chrome/138.0.0.0 YaBrowser/25.6.0.0 Safari/537.36",
        "Yandex Browser on Windows",
        "desktop",
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:141.0) Gecko/20100101 Firefox/141.0",
        "Firefox on Windows",
        "desktop",
    ),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
        "Firefox on Linux",
        "desktop",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:141.0) Gecko/20100101 Firefox/141.0",
        "Firefox on Mac",
        "desktop",
    ),
    (f"{MAC_WEBKIT} Version/18.5 Safari/605.1.15", "Safari on Mac", "desktop"),  # or iPadOS
    (f"{MAC_WEBKIT} Version/17.5 Safari/605.1.15 Ddg/17.5", "DuckDuckGo on Mac", "desktop"),
    (
        "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
        "Internet Explorer on Windows",
        "desktop",
    ),
    # in hands
    (f"{IPHONE} Version/18.5 Mobile/15E148 Safari/604.1", "Safari on iPhone", "phone"),
    (f"{IPHONE} CriOS/139.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone", "phone"),
    (f"{IPHONE} FxiOS/141.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPhone", "phone"),
    (f"{IPHONE} Version/18.0 EdgiOS/139.0 Mobile/15E148 Safari/604.1", "Edge on iPhone", "phone"),
    (f"{IPAD} Version/17.5 Mobile/15E148 Safari/604.1", "Safari on iPad", "tablet"),
    (f"{IPAD} CriOS/139.0 Mobile/15E148 Safari/604.1", "Chrome on iPad", "tablet"),
    (f"{DROID} {MOBILE}", "Chrome on Android", "phone"),
    (f"{DROID} {CHROME}", "Chrome on Android", "tablet"),
    (f"{DROID} {MOBILE} EdgA/139.0.0.0", "Edge on Android", "phone"),
    (f"{DROID} {MOBILE} OPR/90.0.0.0", "Opera on Android", "phone"),
    (
        f"{DROID} SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
        "Samsung Internet on Android",
        "phone",
    ),
    (
        "Mozilla/5.0 (Android 14; Mobile; rv:141.0) Gecko/141.0 Firefox/141.0",
        "Firefox on Android",
        "phone",
    ),
    # inside applications
    (f"{WEBVIEW} Version/4.0 {MOBILE}", "App on Android", "phone"),
    (f"{IPHONE} Mobile/15E148", "App on iPhone", "phone"),
    (f"{IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/400.0.0]", "Facebook app on iPhone", "phone"),
    # programs
    ("sojourn/0.1.0 python/3.12.3 (Linux)", "Python client on Linux", "server"),
    ("python-requests/2.32.3", "Python client", "server"),
    ("python-httpx/0.28.1", "Python client", "server"),
    ("Python/3.12 aiohttp/3.9.5", "Python client", "server"),
    ("curl/8.5.0", "curl", "server"),
    ("Wget/1.21.4", "Wget", "server"),
    ("Go-http-client/1.1", "Go client", "server"),
    ("node", "Node client", "server"),
    ("PostmanRuntime/7.39.0", "Postman", "server"),
    (f"{WIN} HeadlessChrome/139.0.0.0 Safari/537.36", "Headless Chrome on Windows", "server"),
    (
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Googlebot",
        "server",
    ),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2)",
        "GPTBot",
        "server",
    ),
    ("some-unheard-of-crawler 1.0", "some-unheard-of-crawler", "server"),
    # nothing to go by
    (
        "Mozilla/5.0 (PlayStation 5 8.40) AppleWebKit/605.1.15 Version/15.4 Safari/605.1.15",
        "Safari on PlayStation",
        "unknown",
    ),
    ("", "Unknown device", "unknown"),
    ("\x00\ud800 '; DROP TABLE sessions; --", "Unknown device", "unknown"),
]  # fmt: skip


LIKE = "(KHTML, like Gecko)"
OTHERS = [
    # applications with an engine of a browser
    (MAC_WEBKIT, "App on Mac", "desktop"),
    (
        f"{WIN} Code/1.95.0 Chrome/128.0 Electron/32.2.1 Safari/537.36",
        "VS Code on Windows",
        "desktop",
    ),
    (f"{WIN} Code - Insiders/1.96 Chrome/128.0 Electron/32.2", "VS Code on Windows", "desktop"),
    (
        f"{MAC} Acme/4.41.98 Chrome/130.0.0.0 Electron/33.0.0 Safari/537.36",
        "Acme on Mac",
        "desktop",
    ),
    (f"{MAC} Notion/4.0 Chrome/130 Electron/33 Safari/537.36", "Notion on Mac", "desktop"),
    (
        f"{WIN} discord/1.0 Chrome/128.0 Electron/32.0 Safari/537.36",
        "Discord on Windows",
        "desktop",
    ),
    (f"{LINUX} Chrome/130.0.0.0 Electron/33.0.0 Safari/537.36", "App on Linux", "desktop"),
    ("okhttp/4.12.0", "App", "unknown"),
    ("Acme/1.2 (com.acme.app; build:3; iOS 18.1.0) Alamofire/5.9.1", "Acme on iOS", "phone"),
    # systems and browsers that pass for others
    (f"{LINUX} Version/17.0 Safari/605.1.15", "GNOME Web on Linux", "desktop"),
    (f"{LINUX} Version/16.0 Safari/605.1.15 Epiphany/605.1.15", "GNOME Web on Linux", "desktop"),
    (
        (
            f"Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 {LIKE} Chrome/114.0.0.0 "
            "Safari/537.36 ArkWeb/4.1.6.1 Mobile HuaweiBrowser/5.0.4.300"
        ),
        "Huawei Browser on HarmonyOS",
        "phone",
    ),
    (
        f"Mozilla/5.0 (Tablet; OpenHarmony 5.0) AppleWebKit/537.36 {LIKE} Chrome/114 ArkWeb/4.1",
        "App on HarmonyOS",
        "tablet",
    ),
    (
        f"{WIN.replace('x64)', 'x64; Xbox; Xbox Series X)')} {CHROME} Edg/130.0.0.0",
        "Edge on Xbox",
        "unknown",
    ),
    (
        (
            f"Mozilla/5.0 (Linux; U; Android 13; en-us; 2201116SG) AppleWebKit/537.36 {LIKE} "
            "Version/4.0 Chrome/112.0.5615.136 Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.7.0-gn"
        ),
        "Mi Browser on Android",
        "phone",
    ),
    (
        (
            f"Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Lumia 950) AppleWebKit/537.36 {LIKE} "
            "Chrome/52.0.2743.116 Mobile Safari/537.36 Edge/15.15254"
        ),
        "Edge on Windows Phone",
        "phone",
    ),
    (
        f"Mozilla/5.0 (Nintendo Switch; WebApplet) AppleWebKit/609.4 {LIKE} NF/6.0 NintendoBrowser/5.1",
        "Browser on Nintendo Switch",
        "unknown",
    ),
]


@pytest.mark.parametrize(("agent", "name", "kind"), AGENTS + OTHERS)
def test_people_recognize_their_devices(agent: str, name: str, kind: str) -> None:
    device = recognize(agent)
    assert (device.name, device.kind) == (name, kind)


def hints(**said: str) -> tuple[str, ...]:
    named = {name.replace("_", "-"): value for name, value in said.items()}
    assert named.keys() <= set(HINTS)
    return tuple(named.get(name, "") for name in HINTS)


GREASED = '"Not;A=Brand";v="99", "{}";v="139", "Chromium";v="139"'
HINTED = [
    (
        f"{MAC} Acme/4.1 Chrome/130.0.0.0 Electron/33.0.0 Safari/537.36",
        {"sec_ch_ua": GREASED.format("Google Chrome")},
        "Acme on Mac",
        "desktop",
    ),
    (f"{WIN} {CHROME}", {"sec_ch_ua": GREASED.format("Brave")}, "Brave on Windows", "desktop"),
    (f"{WIN} {CHROME}", {"sec_ch_ua": GREASED.format("Microsoft Edge")}, "Edge on Windows", "desktop"),
    (f"{WIN} {CHROME}", {"sec_ch_ua": GREASED.format("Google Chrome")}, "Chrome on Windows", "desktop"),
    (f"{WIN} {CHROME}", {"sec_ch_ua": '"Not)A;Brand";v="8"'}, "Chrome on Windows", "desktop"),
    (
        f"{LINUX} {CHROME}",  # a phone that asks for desktop pages
        {"sec_ch_ua_platform": '"Android"', "sec_ch_ua_mobile": "?1"},
        "Chrome on Android",
        "phone",
    ),
    (
        f"{DROID} {MOBILE}",
        {"sec_ch_ua_model": '"Pixel 9 Pro"', "sec_ch_ua_mobile": "?1"},
        "Chrome on Pixel 9 Pro",
        "phone",
    ),
    (f"{DROID} {MOBILE}", {"sec_ch_ua_form_factors": '"Tablet"'}, "Chrome on Android", "tablet"),
    (f"{MAC} {CHROME}", {"sec_ch_ua_platform": '"Chromium OS"'}, "Chrome on ChromeOS", "desktop"),
    (
        f"{WIN} {CHROME} Edg/139.0.0.0",
        {"origin": "chrome-extension://abcdefghijklmnop"},
        "Sojourn extension in Edge",
        "extension",
    ),
    (f"{WIN} {CHROME}", {"x_sojourn_client": "extension/1.2"}, "Sojourn extension in Chrome", "extension"),
    ("", {"x_sojourn_client": "extension/1.2"}, "Sojourn extension", "extension"),
]  # fmt: skip


@pytest.mark.parametrize(("agent", "said", "name", "kind"), HINTED)
def test_hints_win_over_the_agent(agent: str, said: dict[str, str], name: str, kind: str) -> None:
    device = recognize(agent, hints(**said))
    assert (device.name, device.kind) == (name, kind)


def test_a_name_is_short_and_holds_no_control_characters() -> None:
    """Whatever a client claims to be ends up in lists, logs and mails."""
    for agent, model in (
        ("x" * 100 + "bot/1.0", ""),
        (f"{DROID} {MOBILE}", "\x1b[31m" + "y" * 200),
    ):
        device = recognize(agent, hints(sec_ch_ua_model=model))
        for text in (device.name, device.browser):
            assert text
            assert text.isprintable()
            assert len(text) <= 130


def test_agents_are_read_by_the_engine_in_rust() -> None:
    """That in Python takes thirteen times as long, or more, for an agent that no pattern knows."""
    recognize("zork7/1.0", tuple("" for _ in HINTS))
    assert type(vars(ua_parser.parser.resolver)["parser"]).__module__ == "ua_parser.regex"


def test_a_hostile_agent_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte is not looked through, nor kept: neither in the cache nor with the session."""
    shapes = ["(" * 1_000_000, "a/1 " * 250_000, "Mozilla/5.0 (" + "; " * 500_000, "\n" * 1_000_000]
    looked_through: list[int] = []
    look = agents._recognize.__wrapped__

    def counting(agent: str, hints: tuple[str, ...]) -> Device:
        looked_through.extend(map(len, (agent, *hints)))
        return look(agent, hints)

    monkeypatch.setattr(agents, "_recognize", counting)
    for shape in shapes:
        recognize(shape, tuple(shape for _ in HINTS))
    assert len(looked_through) == len(shapes) * (1 + len(HINTS))
    assert max(looked_through) <= agents.AGENT_MAX
    device = Devices().complete(Device(user_agent=shapes[0]))
    assert device is not None
    assert len(device.user_agent or "") == 512
    assert _recognize.cache_info().maxsize == 4_096


def test_a_device_that_says_what_it_is_is_called_that() -> None:
    """An application may know the browser and the system without a user agent that says so."""
    device = Devices().complete(Device(browser="Firefox", os="Linux", user_agent="Mozilla/5.0"))
    assert device is not None
    assert device.name == "Firefox on Linux"


class TestCompletion:
    def test_what_a_device_says_of_itself_stays(self) -> None:
        said = Device(name="Ann's tractor", kind="vehicle", user_agent="curl/8.5.0")
        assert Devices().complete(said) == said
        assert Devices().complete(None) is None

    def test_addresses_are_shortened_where_that_is_set(self) -> None:
        devices = Devices.from_settings(Settings(ip_shorten=True))
        for ip, kept in (
            ("192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3::4", "2001:db8:1::"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("garbled", None),
        ):
            device = devices.complete(Device(name="x", ip=ip))
            assert device is not None
            assert device.ip == kept
            assert shortened(ip) == (kept or "")


class TestPlaces:
    def test_an_address_is_looked_up_before_it_is_shortened(self, tmp_path: Path) -> None:
        file = tmp_path / "places.mmdb"
        write_mmdb(file, {"192.0.2.77/32": ("Berlin", "Germany"), "2001:db8::/32": ("", "France")})
        devices = Devices(geo_database=str(file), ip_shorten=True)
        places = []
        for ip in ("192.0.2.77", "192.0.2.78", "2001:db8::1", "10.0.0.1", "garbled"):
            device = devices.complete(Device(name="x", ip=ip))
            assert device is not None
            places.append(device.place)
        assert places == ["Berlin, Germany", None, "France", None, None]

    def test_a_new_file_is_read_without_a_restart(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And a broken or missing one costs the place alone, and one line in the log."""
        file = tmp_path / "places.mmdb"
        places = Places(str(file), look_every=0)
        assert places.of("192.0.2.1") is places.of("192.0.2.1") is None
        write_mmdb(file, {"192.0.2.0/24": ("Oslo", "Norway")})
        assert places.of("192.0.2.1") == "Oslo, Norway"
        file.write_bytes(file.read_bytes()[:40])
        assert places.of("192.0.2.1") is places.of("192.0.2.1") is None
        write_mmdb(file, {"192.0.2.0/24": ("Bergen", "Norway")})
        assert places.of("192.0.2.1") == "Bergen, Norway"
        said = [getattr(record, "event", None) for record in caplog.records]
        assert said == ["geo_database_unusable", "geo_database_unusable"]

    def test_headers_count_only_from_trusted_proxies(self) -> None:
        headers = {"x-vercel-ip-city": "S%C3%A3o%20Paulo", "cf-ipcountry": "BR"}
        devices = Devices(geo_headers=("X-Vercel-IP-City", "CF-IPCountry"))
        for trusted, place in ((True, "São Paulo, BR"), (False, None)):
            device = devices.of_request(
                ip="192.0.2.1", user_agent=None, header=headers.get, trusted=trusted
            )
            assert device.place == place
        assert place_in_headers(("cf-ipcountry",), {"cf-ipcountry": "XX"}.get) is None
        assert place_in_headers(("cf-ipcountry",), {"cf-ipcountry": "D\x1b[31m"}.get) is None
