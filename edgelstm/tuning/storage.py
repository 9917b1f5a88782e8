"""The database of a study: opening it, and saying what is wrong with it without giving away its password."""

from __future__ import annotations

import random
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgelstm.errors import LoadError, MissingExtraError

FILE_NAME = "study.db"
HEARTBEAT_S = 20
"""How often a running trial says in the database that it is alive."""
GRACE_S = 120
"""How long a running trial may be silent before another process goes on with it."""

_LOCK_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10
_DRIVERS = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "mysql": "mysql-connector-python",
    "cx_Oracle": "cx_Oracle",
}
_SECRETS = ("password", "passwd", "pwd", "sslpassword")
_RACES = ("already exists", "duplicate key", "unique constraint")
_NUM_ATTEMPTS = 5


def open_storage(folder: Path, url: str | None, on_silent_trial: Any) -> Any:
    """Opens a database, and creates the tables of Optuna where there are none.

    Args:
        folder: Where the file is if no URL is given.
        url: Of the database, as SQLAlchemy writes it.
        on_silent_trial: Takes a study and a trial of it that has been silent for too long.

    Raises:
        LoadError: If it cannot be opened; the message holds no password.
        MissingExtraError: If the driver of the database is not installed.
    """
    where = str(folder / FILE_NAME) if url is None else without_password(url)
    for attempt in range(_NUM_ATTEMPTS):
        try:
            return _open(folder, url, on_silent_trial)
        except Exception as error:  # drivers raise errors of their own
            missing = _missing_driver(error)
            if missing:
                raise MissingExtraError(
                    f"The database {where} needs a driver: pip install {_DRIVERS.get(missing, missing)!r}."
                ) from None
            # Another process that was started at the same time was just creating the tables.
            if attempt + 1 < _NUM_ATTEMPTS and any(text in str(error).lower() for text in _RACES):
                time.sleep(random.uniform(0.2, 1.0))
                continue
            raise LoadError(f"Cannot open the database {where}: {reason_of(error, url)}") from None
    raise AssertionError("the last attempt returns or raises")


def _open(folder: Path, url: str | None, on_silent_trial: Any) -> Any:
    import optuna
    import sqlalchemy

    options: dict[str, Any] = {}
    if url is None:
        file = str((folder / FILE_NAME).resolve())  # no URL: it would have to be quoted, and is not everywhere
        url, options["creator"] = (
            f"sqlite:///{FILE_NAME}",
            lambda: sqlite3.connect(file, timeout=_LOCK_TIMEOUT_S, check_same_thread=False),
        )
    else:
        parsed = sqlalchemy.make_url(url)
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise ValueError("a database in memory is gone when the process ends; give sqlite:///FILE.")
            options["connect_args"] = {"timeout": _LOCK_TIMEOUT_S}
        else:
            options["pool_pre_ping"] = True  # the server may end connections that rest
            if backend == "postgresql" and "connect_timeout" not in parsed.query:
                options["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls heartbeats experimental
        return optuna.storages.RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=on_silent_trial,
        )


@contextmanager
def database_errors(url: str | None) -> Iterator[None]:
    """Turns what goes wrong with the database meanwhile into one sentence.

    Raises:
        LoadError: If something does.
    """
    import optuna
    import sqlalchemy

    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        where = "" if url is None else f" {without_password(url)}"
        raise LoadError(
            f"The database{where} failed: {reason_of(error.__cause__ or error, url)} Give the same command again to "
            "go on."
        ) from None


def without_password(url: str) -> str:
    """Returns a URL with *** for its password; only the scheme if it cannot be read."""
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        scheme, found, _ = url.partition("://")
        return f"{scheme}://***" if found else "***" if "@" in url else url
    return re.sub(
        rf"([?&](?:{'|'.join(_SECRETS)})=)[^&]*", r"\1***", parsed.render_as_string(hide_password=True), flags=re.I
    )


def reason_of(error: BaseException, url: str | None) -> str:
    """Returns what went wrong, in one line that ends with a full stop and holds no password."""
    text = str(getattr(error, "orig", None) or error)
    for secret in _secrets_of(url or ""):
        text = text.replace(secret, "***")
    text = " ".join(text.split())[:300].rstrip(".")
    return f"{text or type(error).__name__}."


def _secrets_of(url: str) -> list[str]:
    """What of a URL must not be seen: the URL itself, and its passwords as they are and as they are written."""
    import sqlalchemy

    found = [url]
    user = url.partition("://")[2].rpartition("@")[0]
    found.append(user.partition(":")[2])
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return [each for each in found if each]
    found.append(str(parsed.password or ""))
    found += [str(value) for name, value in parsed.query.items() if name.lower() in _SECRETS]
    return [each for each in found if each]


def _missing_driver(error: BaseException) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return cause.name.partition(".")[0]
        cause = cause.__cause__ or cause.__context__
    return None
