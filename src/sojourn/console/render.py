"""The console's templates and files, on top of those of the pages for people, which they extend."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sojourn.people import assets, pages
from sojourn.people.render import Templates

HERE = Path(__file__).parent
PEOPLE = Path(pages.__file__).parent
ASSETS = assets.Assets(HERE / "static", assets.PACKAGE)
TEMPLATES = Templates(HERE / "templates", PEOPLE / "templates", assets=ASSETS)

render = TEMPLATES.render
asset_page = partial(pages.asset_page, assets=ASSETS)
