"""Settings: each is a flag, `SOJOURN_<NAME>` in the environment, or a line of `sojourn.toml`, in that order.

`SOJOURN_<NAME>_FILE` names a file that holds the value, as containers hand secrets over: so none stands in
an environment or a list of processes. `load` is handed the flags, the environment, the text of sojourn.toml,
and what reads such a file. `sojourn settings` prints each value and where it came from.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from sojourn.address import spelled
from sojourn.errors import SettingsError
from sojourn.guessable import guessable

PREFIX = "SOJOURN_"
FILE_MAX = 65_536
"""Characters of a file that holds a setting's value."""
ORIGIN = re.compile(r"(https?|(chrome|moz|safari-web)-extension)://[^\s/?#*]+")
"""An origin as browsers write it: scheme, host and perhaps a port."""
LISTS = ("secret", "trusted_proxies", "trusted_origins", "geo_headers")
"""Settings that are lists of texts."""
SECRETS = ("secret", "admin_key", "metrics_key", "relay_key", "key")
"""Settings whose values are never shown, not even their lengths."""
BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "workers": (1, 256),
    "sweep_interval": (1, 86_400 * 7),
    "doctor_interval": (0, 86_400),
    "pulse_interval": (0.05, 60),
    "max_pause": (0.2, 3_600),
    "event_retention_days": (0.01, 3_650),
    "ip_retention_days": (0, 3_650),
    "reauth_within": (0, 31_536_000),
    "queue_max": (1, 1_000_000),
    "body_max": (1_024, 16_777_216),
    "header_max": (1_024, 1_048_576),
    "request_timeout": (0.1, 600),
    "shutdown_timeout": (0, 600),
    "webhook_timeout": (0.1, 60),
    "webhook_interval": (0, 3_600),
    "plan_interval": (0, 3_600),
    "relay_interval": (0.05, 60),
    "allotment_ttl": (60, 86_400 * 30),
}
"""Of settings that are numbers: the least and the most."""


class JwtIssuer(Struct, frozen=True, kw_only=True):
    """A party whose users' JWTs prove a license client (RFC 7519, keys as RFC 7517)."""

    issuer: str
    jwks_url: str | None = None  # fetched and cached; or
    jwks_file: str | None = None
    audience: str | None = None
    license_id: str | None = None  # every user of this issuer is under this license; or
    license_claim: str = "license_id"  # the claim that names it
    user_claim: str = "sub"
    group_claim: str | None = None  # names the user's groups, for which seats may be reserved
    priority_claim: str | None = None  # says the highest priority that the user may have in a line
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Durations in seconds, as people write them."""

    data: str = "./sojourn-data"
    store: str = ""  # empty: sqlite:///<data>/sojourn.db
    ledger: str = ""  # empty: the store's database, or <data>/sojourn.db when the store is not SQL
    host: str = "127.0.0.1"
    port: int = 8700
    workers: int = 1
    dev: bool = False
    secret: tuple[str, ...] = ()  # the first signs, all verify; empty: made and kept in <data>
    admin_key: str = ""
    metrics_key: str = (
        ""  # /metrics takes it as `Authorization: Bearer …`; empty: anybody may scrape
    )
    metrics_listen: str = ""  # host:port where /metrics is, and only there; empty: with the rest
    traces: bool = False  # spans by OpenTelemetry's API; what collects them is set up outside
    jwt_issuers: tuple[JwtIssuer, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    trusted_origins: tuple[str, ...] = ()  # other sites whose pages may end a person's sessions
    cookie_name: str = "sojourn"  # of the cookie by which people are known, as applications set it
    cookie_domain: str = ""  # likewise; empty: the host's own
    site_name: str = "Sojourn"  # in the pages that people see
    sign_in_url: str = ""  # where those pages send people to sign in
    change_password_url: str = ""  # where those pages send people to change their password
    reauth_within: float = 0.0  # ending sessions takes a sign-in as recent as this; 0: any
    geo_database: str = ""  # a MaxMind-format file that says where addresses are
    geo_headers: tuple[str, ...] = ()  # headers in which trusted proxies say it, the finest first
    ip_shorten: bool = False  # keep addresses of devices as networks: IPv4 /24, IPv6 /48
    ip_retention_days: float = (
        0.0  # forget addresses of devices so long after the sign-in; 0: never
    )
    sweep_interval: float = 900.0
    doctor_interval: float = 300.0  # between doctor's quick checks; 0: only when asked for
    pulse_interval: float = 2.0
    max_pause: float = 10.0  # a gap between pulses longer than this was an outage of ours
    event_retention_days: float = 30.0
    queue_max: int = 10_000
    body_max: int = 65_536  # bytes
    header_max: int = 32_768  # bytes, all headers together
    request_timeout: float = 10.0  # to receive a request, and to answer it
    shutdown_timeout: float = 15.0
    show_holders: bool = True  # a denial tells its caller who holds the seats
    webhook_reach: str = "public"  # public | loopback | private: see webhooks/reach.py
    webhook_timeout: float = 10.0
    plan_interval: float = 5.0  # between looks for planned sweeps; 0: this server does none
    webhook_interval: float = 1.0  # between looks for new events; 0: this server sends none
    role: str = "authority"  # authority | relay: of another server, which owns the licenses
    authority: str = ""  # of a relay: the URL of that server
    relay_key: str = ""  # of a relay: an API key of that server, of role relay
    relay_interval: float = 10.0  # of a relay: between its beats
    allotment_ttl: float = 86_400.0  # how long relays may go on without a word of this server
    log_format: str = "auto"  # auto | console | json
    log_level: str = "info"
    express: str = ""  # an Express application's sessions, which doctor looks at too
    url: str = ""  # of the server, for commands that are its clients
    key: str = ""  # API key, for commands that are clients

    @property
    def store_url(self) -> str:
        return spelled(self.store) if self.store else f"sqlite:///{self.data}/sojourn.db"

    @property
    def ledger_url(self) -> str:
        if self.ledger:
            return spelled(self.ledger)
        sql = ("sqlite:", "postgresql:", "mysql:", "mariadb:", "memory:")
        return (
            self.store_url
            if self.store_url.startswith(sql)
            else f"sqlite:///{self.data}/sojourn.db"
        )

    @property
    def embedded(self) -> bool:
        """Tell whether the store is this host's own: then a secret may be made and kept beside it."""
        return self.store_url.startswith(("sqlite:", "memory:"))


class Loaded(Struct, frozen=True):
    """Attributes: faults: what is wrong, by the setting's name; "" is the file as a whole."""

    settings: Settings
    origins: dict[str, str] = field(default_factory=dict)  # name -> "flag", the variable, the file
    faults: dict[str, SettingsError] = field(default_factory=dict)


class _Faults(dict[str, SettingsError]):
    """Keeps what is wrong, or lets it stop whoever reads the settings."""

    def __init__(self, *, lenient: bool) -> None:
        super().__init__()
        self.lenient = lenient

    @contextmanager
    def about(self, name: str) -> Iterator[None]:
        try:
            yield
        except SettingsError as fault:
            if not self.lenient:
                raise
            self.setdefault(name, fault)


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    toml: str | None = None,
    toml_name: str = "sojourn.toml",
    lenient: bool = False,
    read: Callable[[str], str] | None = None,
) -> Loaded:
    """Merge flags over environment over file over defaults. Raises SettingsError, naming the culprit.

    Flags that are None were not given. In the environment, lists are separated by commas (in a file of
    their own by lines, too) and SOJOURN_JWT_ISSUERS is JSON. `lenient`: what is wrong is told in `faults`,
    with its default in its place, and a bad secret passes: for who only looks, and says so (doctor).
    Nothing that signs or verifies may read its settings like this.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    names = set(Settings.__struct_fields__)
    faults = _Faults(lenient=lenient)
    parsed: dict[str, Any] = {}
    with faults.about(""):
        parsed = _parse_toml(toml, toml_name)
    for name, value in parsed.items():
        with faults.about(name):
            if name not in names:
                raise SettingsError(
                    f"{toml_name}: there is no setting {name!r}.",
                    hint="See `sojourn settings`.",
                )
            values[name], origins[name] = value, toml_name
    for name in sorted(names):
        with faults.about(name):
            if found := _from_environment(name, environ or {}, read or _read_file):
                text, variable = found
                values[name], origins[name] = _from_text(name, text, variable), variable
    for name, value in (flags or {}).items():
        if value is not None and name in names:
            values[name], origins[name] = value, "--" + name.replace("_", "-")
    places = {name: f"{o}, {name}" if o == toml_name else o for name, o in origins.items()}
    settings = _convert(values, places, faults)
    for secret in () if lenient else settings.secret:
        check_secret(secret)
    told = {n: origins.get(n, "default") for n in Settings.__struct_fields__}
    return Loaded(settings, told, dict(faults))


def _parse_toml(text: str | None, name: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise SettingsError(f"{name} cannot be read: {fault}.") from None


def _from_environment(
    name: str, environ: Mapping[str, str], read: Callable[[str], str]
) -> tuple[str, str] | None:
    """Return a setting's text and the variable that says it, or that names the file which does."""
    variable = PREFIX + name.upper()
    file = f"{variable}_FILE"
    given, path = environ.get(variable, ""), environ.get(file, "")
    if given and path:
        raise SettingsError(f"Both {variable} and {file} are set.", hint="Unset one of them.")
    if not path:
        return (given, variable) if given else None
    text = read(path)
    if name in LISTS:
        text = ",".join(text.splitlines())
    if not text.strip():
        raise SettingsError(f"{file}: the file {path} is empty.")
    return text.strip(), file


def _read_file(path: str) -> str:
    """Read the file that a variable names. Raises SettingsError, which shows nothing that is in it."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(FILE_MAX + 1)
    except (OSError, UnicodeError) as fault:
        why = getattr(fault, "strerror", None) or "it is no text"
        raise SettingsError(
            f"The file {path} cannot be read: {why}.",
            hint="See that it exists, and that this user may read it.",
        ) from None
    if len(text) > FILE_MAX:
        raise SettingsError(f"The file {path} is larger than {FILE_MAX} characters.")
    return text


def _from_text(name: str, text: str, variable: str) -> Any:
    if name == "jwt_issuers":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as fault:
            raise SettingsError(f"{variable} is not JSON: {fault}.") from None
    if name in LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _convert(values: dict[str, Any], places: dict[str, str], faults: _Faults) -> Settings:
    converted: dict[str, Any] = {}
    fields = {f.name: f for f in msgspec.structs.fields(Settings)}
    for name, value in values.items():
        with faults.about(name):
            try:
                converted[name] = msgspec.convert(value, fields[name].type, strict=False)
            except msgspec.ValidationError as fault:
                hint = "See `sojourn settings`."
                if name in LISTS and isinstance(value, str):
                    hint = f'Write a list: {name} = ["…"]'
                    converted[name] = (value,)  # for who is lenient
                raise SettingsError(f"{places[name]}: {fault}.", hint=hint) from None
    settings = Settings(**converted)
    for name, wrong in _wrong(settings):
        with faults.about(name):
            raise wrong
    return msgspec.structs.replace(
        settings, **{n: fields[n].default for n in faults if n in fields and n not in LISTS}
    )


def _wrong(settings: Settings) -> Iterator[tuple[str, SettingsError]]:
    for name, (low, high) in BOUNDS.items():
        if not low <= getattr(settings, name) <= high:
            yield name, SettingsError(f"{name} must lie between {low:g} and {high:g}.")
    for name in ("store", "ledger"):
        try:
            if url := getattr(settings, name):
                spelled(url)
        except SettingsError as fault:
            yield name, fault
    if settings.webhook_reach not in ("public", "loopback", "private"):
        yield (
            "webhook_reach",
            SettingsError("webhook_reach must be public, loopback or private."),
        )
    for origin in settings.trusted_origins:
        if not ORIGIN.fullmatch(origin):
            yield (
                "trusted_origins",
                SettingsError(
                    f"trusted_origins: {origin!r} is no origin.",
                    hint="Write scheme and host, as browsers do: https://app.example",
                ),
            )
    try:
        apart = listen_address(settings.metrics_listen)[1] if settings.metrics_listen else 0
        if apart and apart == settings.port:
            raise SettingsError("metrics_listen: its port must not be the server's own.")
    except SettingsError as fault:
        yield "metrics_listen", fault
    yield from _wrong_role(settings)
    if settings.max_pause < 2 * settings.pulse_interval:
        yield "max_pause", SettingsError("max_pause must be at least twice pulse_interval.")
    if settings.admin_key and len(settings.admin_key) < 32:
        yield (
            "admin_key",
            SettingsError(
                "SOJOURN_ADMIN_KEY is shorter than 32 characters.",
                hint="Make a good one with `sojourn secret new`.",
            ),
        )
    elif settings.admin_key and guessable(settings.admin_key):
        yield (
            "admin_key",
            SettingsError(
                "SOJOURN_ADMIN_KEY is one that everybody knows, or could guess.",
                hint="Make a good one with `sojourn secret new`.",
            ),
        )


def _wrong_role(settings: Settings) -> Iterator[tuple[str, SettingsError]]:
    if settings.role not in ("authority", "relay"):
        yield "role", SettingsError("role must be authority or relay.")
    if settings.role == "relay" and not settings.authority:
        yield (
            "authority",
            SettingsError(
                "A relay needs the URL of its authority.",
                hint="Name it with --authority https://…",
            ),
        )
    if settings.role == "relay" and not settings.relay_key:
        yield (
            "relay_key",
            SettingsError(
                "A relay needs a key of its authority.",
                hint="Make one there with `sojourn key create NAME --role relay`, and set SOJOURN_RELAY_KEY.",
            ),
        )


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[address]:port`. Raises SettingsError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare) is (bare == host) or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError(
            f"metrics_listen: {text!r} is no address to listen on.",
            hint="Write host and port: 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464.",
        )
    return bare, int(port)


def check_secret(secret: str, *, development: bool = False) -> str:
    """Return the secret, or raise SettingsError with the command that makes a good one.

    `development`: see `guessable`.
    """
    hint = "Make a good one with `sojourn secret new`, and give it to every server."
    if guessable(secret, development=development):
        raise SettingsError("The secret is one that everybody knows, or could guess.", hint=hint)
    if len(secret.encode()) < 32:
        raise SettingsError("The secret is shorter than 32 bytes.", hint=hint)
    return secret
