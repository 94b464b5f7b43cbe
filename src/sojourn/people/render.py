"""Templates become pages. jinja2 is looked for when the first page is made, so that an application that
shows none of ours needs it not.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sojourn.extras import need
from sojourn.people.assets import Assets
from sojourn.people.translation import ENGLISH
from sojourn.text import escaped, isolated

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

BELOW = "assets/"
"""Where assets are, as seen from a page."""


class Templates:
    """The templates of some folders; the first that has one of a name gives it."""

    def __init__(self, *folders: Path, assets: Assets) -> None:
        self._folders = folders
        self._assets = assets

    def render(self, template: str, **values: Any) -> bytes:
        """Return a page, or a piece of one."""
        return self._environment.get_template(template).render(**values).encode()

    @cached_property
    def _environment(self) -> Environment:
        need("jinja2", "pages", "The security page")
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  # see above

        environment = Environment(
            loader=FileSystemLoader(self._folders),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=False,
            finalize=_visible,
        )
        environment.filters["isolated"] = isolated
        environment.filters["ticked"] = _ticked
        environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
        environment.globals["catalog"] = ENGLISH  # unless a page is rendered with another
        environment.globals["asset"] = lambda name: BELOW + self._assets.asset(name).name
        return environment


def _ticked(text: str) -> Markup:
    """Show what stands between backticks as code."""
    from markupsafe import Markup, escape  # noqa: PLC0415  # it comes with jinja2

    text = escaped(text)
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup().join(
        Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)
    )


def _visible(value: Any) -> Any:
    """Write what nobody would see as numbers; markup of our own stays as it is."""
    from markupsafe import Markup  # noqa: PLC0415  # it comes with jinja2

    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value
