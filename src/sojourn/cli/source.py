"""Where settings come from: flags, the environment, and a file; and the flags themselves.

Every field of `Settings` is a flag of `sojourn serve`, made from the table below, so that a setting
without a flag cannot be.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sojourn.cli.failure import ExitCode, Failure, reason
from sojourn.cli.options import given
from sojourn.errors import SettingsError
from sojourn.log import remember_secret
from sojourn.settings import LISTS, SECRETS, Loaded, Settings, load

FILE = "sojourn.toml"
CLIENT_FIELDS = ("url", "key")
"""Of commands that talk to a server, not of the server itself."""

WHERE, STORE, SAFETY, PACE, LOG = "Where", "Storage", "Safety", "Limits and pace", "Log"
PEOPLE = "People and their devices"
REGIONS = "Regions"

HELP: dict[str, tuple[str, str, str]] = {
    "host": (WHERE, "HOST", "Address to listen on."),
    "port": (WHERE, "PORT", "Port to listen on; 0 picks a free one and prints it."),
    "workers": (WHERE, "N", "Processes to serve with; more than one needs a shared store."),
    "trusted_proxies": (WHERE, "ADDRESS", "Reverse proxy whose X-Forwarded-* is believed. Repeat."),
    "data": (STORE, "DIR", "Folder for what this server keeps on this host."),
    "store": (STORE, "URL", "Live state: sqlite:///FILE, postgresql://, mysql:// or memory:"),
    "ledger": (STORE, "URL", "Durable record. Default: the store's database."),
    "express": (
        STORE,
        "URL",
        "An Express application's sessions, for doctor to look at: express+postgresql://…",
    ),
    "event_retention_days": (STORE, "DAYS", "How long events are kept."),
    "secret": (
        SAFETY,
        "SECRET",
        "Signs lease tokens; repeat to rotate: the first signs, all verify. Better in SOJOURN_SECRET.",
    ),
    "admin_key": (
        SAFETY,
        "KEY",
        "First admin key, 32 characters or more. Default: made and printed. Better in SOJOURN_ADMIN_KEY.",
    ),
    "metrics_key": (
        SAFETY,
        "KEY",
        "Let only those scrape /metrics who send it as a bearer token. Better in SOJOURN_METRICS_KEY.",
    ),
    "metrics_listen": (
        SAFETY,
        "HOST:PORT",
        "Where /metrics is, and nothing else: 127.0.0.1:9464. Default: with all the rest.",
    ),
    "jwt_issuers": (SAFETY, "JSON", "Parties whose users' JWTs are accepted."),
    "show_holders": (SAFETY, "", "Tell a refused client who holds the seats."),
    "cookie_name": (PEOPLE, "NAME", "Cookie by which people are known, as applications set it."),
    "cookie_domain": (PEOPLE, "DOMAIN", "Its domain, if it has one."),
    "trusted_origins": (
        PEOPLE,
        "ORIGIN",
        "Another site whose pages may end a person's sessions: https://app.example. Repeat.",
    ),
    "site_name": (PEOPLE, "NAME", "The name in the header of the pages that people see."),
    "sign_in_url": (PEOPLE, "URL", "Where those pages send people to sign in."),
    "change_password_url": (
        PEOPLE,
        "URL",
        "Where those pages send people to change their password: /.well-known/change-password",
    ),
    "reauth_within": (
        PEOPLE,
        "SECONDS",
        "Ending sessions takes a sign-in as recent as this; 0: any.",
    ),
    "geo_database": (PEOPLE, "FILE", "MaxMind-format database that says where addresses are."),
    "geo_headers": (
        PEOPLE,
        "HEADER",
        "Header in which trusted proxies say it, the finest first. Repeat.",
    ),
    "ip_shorten": (PEOPLE, "", "Keep addresses as networks: IPv4 /24, IPv6 /48."),
    "ip_retention_days": (PEOPLE, "DAYS", "Forget addresses so long after the sign-in; 0: never."),
    "doctor_interval": (
        PACE,
        "SECONDS",
        "How often doctor's quick checks look; 0: only when asked.",
    ),
    "sweep_interval": (
        PACE,
        "SECONDS",
        "How often expired leases are noted and old rows forgotten.",
    ),
    "pulse_interval": (PACE, "SECONDS", "How often the server notes that it is alive."),
    "max_pause": (PACE, "SECONDS", "A longer gap between pulses was an outage of ours."),
    "queue_max": (
        PACE,
        "N",
        "Requests waiting at most, before 503; beats, releases and ends have room of their own.",
    ),
    "body_max": (PACE, "BYTES", "Longest request body, but for a session's data."),
    "header_max": (PACE, "BYTES", "Longest request headers, together."),
    "request_timeout": (PACE, "SECONDS", "Time to receive a request, and to answer it."),
    "shutdown_timeout": (PACE, "SECONDS", "Time for requests under way when stopping."),
    "webhook_reach": (
        SAFETY,
        "REACH",
        "Where webhooks may go: public (by HTTPS), loopback (this machine too), private (own networks too).",
    ),
    "webhook_timeout": (PACE, "SECONDS", "Time for a webhook's receiver to answer."),
    "plan_interval": (
        PACE,
        "SECONDS",
        "How often planned sweeps are looked for; 0: this server carries none out.",
    ),
    "webhook_interval": (
        PACE,
        "SECONDS",
        "How often webhooks look for events; 0: this server sends none.",
    ),
    "role": (
        REGIONS,
        "ROLE",
        "authority: owns its licenses, and may have relays; relay: grants what an authority allots.",
    ),
    "authority": (REGIONS, "URL", "Of a relay: the server that owns the licenses."),
    "relay_key": (
        REGIONS,
        "KEY",
        "Of a relay: its API key at the authority, of role relay. Better in SOJOURN_RELAY_KEY.",
    ),
    "relay_interval": (REGIONS, "SECONDS", "Of a relay: how often it tells its authority."),
    "allotment_ttl": (
        REGIONS,
        "SECONDS",
        "How long relays may go on granting without a word of this server.",
    ),
    "log_format": (LOG, "FORMAT", "auto, console or json; auto: console on a terminal."),
    "log_level": (LOG, "LEVEL", "debug, info, warning or error."),
    "traces": (
        LOG,
        "",
        "Make spans by OpenTelemetry's API: pip install 'sojourn[otel]' and an SDK.",
    ),
    "dev": (LOG, "", "For developing: readable logs, tables migrated unasked, sample sessions."),
}
"""Of each setting: the section of --help it stands in, what its value is called, and what it does."""

Config = Annotated[
    Path | None,
    given("--config", "FILE", f"Settings file. Default: ./{FILE}, where there is one."),
]


def read(
    flags: dict[str, Any] | None = None, config: Path | None = None, *, lenient: bool = False
) -> Loaded:
    """Merge flags, environment and file. Raises SettingsError, naming the culprit.

    `lenient`: see `load`.
    """
    path = config if config is not None else Path(FILE)
    text: str | None = None
    if config is not None or path.exists():
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(
                f"The settings file {path} cannot be read.",
                why=reason(error) if isinstance(error, OSError) else "It is not UTF-8 text.",
                todo="Correct --config, or the file's permissions.",
                exit_code=ExitCode.USAGE,
            ) from None
    given = {name: _parsed(name, value) for name, value in (flags or {}).items()}
    loaded = load(flags=given, environ=os.environ, toml=text, toml_name=str(path), lenient=lenient)
    keep_quiet(loaded.settings)
    return loaded


def keep_quiet(settings: Settings) -> None:
    """Have no secret of these said, however it came: by flag, variable, file of its own or settings file."""
    for name in SECRETS:
        value = getattr(settings, name)
        for each in (value,) if isinstance(value, str) else value:
            remember_secret(each)


def _parsed(name: str, value: Any) -> Any:
    if name == "jwt_issuers" and isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise SettingsError(f"--jwt-issuers is not JSON: {error}.") from None
    return value or None if isinstance(value, list) else value  # an empty list: not given


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every setting; it receives them as `flags`, as they were given."""
    own = [p for p in inspect.signature(function).parameters.values() if p.name != "flags"]
    made = [_parameter(name) for name in HELP]
    names = set(HELP)

    def command(**values: Any) -> None:
        flags = {name: values.pop(name) for name in names}
        function(flags=flags, **values)

    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    hints = inspect.get_annotations(function, eval_str=True)
    own = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
    command.__signature__ = inspect.Signature([*made, *own])  # type: ignore[attr-defined]  # how a signature is made up
    command.__annotations__ = {p.name: p.annotation for p in [*made, *own]}
    return command


def _parameter(name: str) -> inspect.Parameter:
    panel, metavar, text = HELP[name]
    flag = "--" + name.replace("_", "-")
    default = getattr(Settings(), name)
    kind: Any = str
    if isinstance(default, bool):
        kind, flag = bool, f"{flag}/--no-{flag[2:]}"
    elif isinstance(default, int | float):
        kind = type(default)
    elif name in LISTS:
        kind = list[str]
    if default not in ("", (), False) and name != "store":
        text += f" [default: {_shown(default)}]"
    option = typer.Option(
        flag, metavar=metavar or None, help=text, rich_help_panel=panel, show_default=False
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)
