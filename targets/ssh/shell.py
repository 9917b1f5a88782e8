"""The user's ssh program, as a way to run scripts on a device."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.remote.pythons import SYSTEM, VENV
from edgelstm.targets.remote.shell import Shell
from edgelstm.targets.ssh.address import Address
from edgelstm.targets.ssh.problems import explain
from edgelstm.targets.ssh.wheels import OFFERS

CONFIG_VARIABLE = "EDGELSTM_SSH_CONFIG"
"""Names a configuration file of ssh to use instead of the user's own."""

CONNECT_TIMEOUT_S = 15

_OPTIONS = {
    "BatchMode": "yes",  # never asks
    "StrictHostKeyChecking": "yes",  # host keys are verified
    "UpdateHostKeys": "no",
    "PreferredAuthentications": "publickey",  # keys or agent only
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "ConnectTimeout": str(CONNECT_TIMEOUT_S),
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ControlPersist": "no",
    "LogLevel": "ERROR",
}

# A socket's path may have 104 characters on some systems, of which ssh needs 17 while it makes one.
_LONGEST_PATH = 80

# What stands for itself between double quotes in a configuration of ssh; % is doubled.
_PLAIN = re.compile(r"""[^"'\\$\x00-\x1f\x7f]+""")


class SshShell(Shell):
    """Runs scripts by the ssh program; all share the connection of the first.

    Attributes:
        address: Where to.
    """

    folders = ("/tmp", "~/.cache", "~")
    pythons = (f"{VENV}/bin/python", *SYSTEM)

    def __init__(self, name: str, address: Address) -> None:
        """Makes a private folder for the connection's socket; `close` removes it.

        Raises:
            TargetError: If there is no ssh program here.
        """
        self.name = name
        self.address = address
        program = shutil.which("ssh")
        if program is None:
            raise TargetError(f"{name}: there is no ssh program here: sudo apt install openssh-client.")
        self._program = program
        folder = tempfile.mkdtemp(prefix="edgelstm-")
        if (len(os.fsencode(folder)) > _LONGEST_PATH or not _PLAIN.fullmatch(folder)) and Path("/tmp").is_dir():
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix="edgelstm-", dir="/tmp")
        self._folder = folder

    def close(self) -> None:
        """Removes what is left of the connection here."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, line: str, *, first: bool = False) -> list[str]:
        """Returns the ssh command line; see `Shell.command`."""
        config = os.environ.get(CONFIG_VARIABLE)
        options = {
            **_OPTIONS,
            "ControlMaster": "yes" if first else "no",
            "ControlPath": f'"{self._folder}/s"'.replace("%", "%%"),
        }
        return [
            self._program,
            *(("-F", config) if config else ()),
            "-T",
            *(part for key, value in options.items() for part in ("-o", f"{key}={value}")),
            *(("-p", str(self.address.port)) if self.address.port else ()),
            *(("-l", self.address.user) if self.address.user else ()),
            "--",
            self.address.host,
            line,
        ]

    def explain(self, notes: str) -> str:
        """Says why there was no connection; see `Shell.explain`."""
        return explain(self.name, self.address, notes)

    def how_to_set_up(self, runtime: str | None = None) -> str:
        """Names the command that installs a runtime; see `Shell.how_to_set_up`."""
        if runtime is None:
            return f"Install one: edgelstm targets setup {self.name}"
        if runtime in OFFERS:
            return f"Install it: edgelstm targets setup {self.name} --runtime {runtime}"
        return "Install it in that Python yourself, which setup does not offer"
