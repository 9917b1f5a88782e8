"""Names of targets that ssh reaches: ssh://[user@]host[:port]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgelstm.errors import SettingError

PREFIX = "ssh://"
FORM = "ssh://user@host[:port]"

# What cannot be taken for an option of ssh, nor for a word of a shell's language where a user's own ssh configuration
# puts it into a command. A user's name may hold an @ (a domain's account).
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True)
class Address:
    """Where to connect to.

    Attributes:
        host: Name or number of the host, or a name that the user's ssh configuration knows.
        user: Name of the account; None for what ssh chooses.
        port: Number of the port; None for what ssh chooses.
    """

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, name: str) -> Address:
        """Reads the name of a target.

        Raises:
            SettingError: If it is none.
        """
        rest = name.removeprefix(PREFIX).removesuffix("/")
        user, at, place = rest.rpartition("@")
        bracketed = re.fullmatch(r"\[([^]]*)\](?::(.*))?", place)
        if bracketed:
            host, port = bracketed.groups()
            good = _IPV6.fullmatch(host) is not None
        else:
            host, colon, number = place.partition(":")
            port = number if colon else None
            good = _HOST.fullmatch(host) is not None and place.count(":") < 2
        if at and not _USER.fullmatch(user):
            raise _refused(name, f"{user!r} cannot be a user's name")
        if not good:
            hint = "; put an IPv6 address in brackets" if not bracketed and place.count(":") > 1 else ""
            raise _refused(name, f"{host if bracketed or not hint else place!r} cannot be a host{hint}")
        if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise _refused(name, f"{port!r} cannot be a port, a number from 1 to 65535")
        return cls(host, user or None, None if port is None else int(port))

    @property
    def login(self) -> str:
        """What a person gives to ssh to connect: "-p 2222 pi@raspberrypi"."""
        port = f"-p {self.port} " if self.port else ""
        return f"{port}{f'{self.user}@' if self.user else ''}{self.host}"

    @property
    def known_as(self) -> str:
        """How known_hosts names it."""
        return f"[{self.host}]:{self.port}" if self.port not in (None, 22) else self.host


def _refused(name: str, reason: str) -> SettingError:
    return SettingError(f"Target {name!r}: {reason}. Give {FORM}, for instance ssh://pi@raspberrypi.")
