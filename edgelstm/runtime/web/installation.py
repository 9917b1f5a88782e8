"""Where LiteRT.js and a browser are."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime.interpreters import VARIABLE, python_elsewhere
from edgelstm.runtime.web.browser import find_chromium

NAME = "litertjs"
PACKAGE = "@litertjs/core@2.5.3"
REQUIREMENT = f"npm install --prefix FOLDER {PACKAGE}, apt-get install chromium, and set {VARIABLE}={NAME}=FOLDER"


@dataclass(frozen=True)
class Installation:
    """LiteRT.js and a browser for it.

    Attributes:
        packages: The folder node_modules/@litertjs.
        version: Version of @litertjs/core.
        chromium: The command of the browser.
    """

    packages: Path
    version: str
    chromium: str


def is_here() -> bool:
    """Says whether a folder is named and there is a browser, without starting it.

    Raises:
        ModelRunError: If the variable cannot be understood, or names a folder without LiteRT.js.
    """
    folder = python_elsewhere(NAME)
    return folder is not None and bool(_read_version(Path(folder))) and find_chromium() is not None


def find_installation() -> Installation:
    """Finds what runs files.

    Raises:
        ModelRunError: If the variable cannot be understood, or names a folder without LiteRT.js.
        MissingExtraError: If no folder is named, or there is no browser.
    """
    folder, chromium = python_elsewhere(NAME), find_chromium()
    if folder is None:
        raise MissingExtraError(f"LiteRT.js is not installed, or its folder is not named. Install it: {REQUIREMENT}.")
    version = _read_version(Path(folder))
    if chromium is None:
        raise MissingExtraError(
            "LiteRT.js needs Chromium, and there is none. Install it: apt-get install chromium; or name it in the "
            "environment variable CHROMIUM."
        )
    return Installation(_packages(Path(folder)), version, chromium)


def version() -> str:
    """Returns the version of LiteRT.js.

    Raises:
        ModelRunError: As `find_installation`.
        MissingExtraError: The same.
    """
    return find_installation().version


def _packages(folder: Path) -> Path:
    return folder / "node_modules" / "@litertjs"


def _read_version(folder: Path) -> str:
    """Returns the version in a folder.

    Raises:
        ModelRunError: If there is no LiteRT.js in it.
    """
    path = _packages(folder) / "core" / "package.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text("utf-8"))["version"])
    raise ModelRunError(
        f"Environment variable {VARIABLE}: {folder} has no LiteRT.js, {path} cannot be read. "
        f"Install it: npm install --prefix {folder} {PACKAGE}."
    )
