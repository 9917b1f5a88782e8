"""Debian packages of any architecture, unpacked into a folder: without root, and apart from this machine's packages.

apt-get keeps a state of its own in a cache folder: it believes that nothing is installed, so it fetches every package
with all its dependencies, and dpkg-deb unpacks them. Their installation scripts do not run. Nothing keeps two from
working in one folder at once: whoever calls this does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.emulated.pins import SUITE

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
MIRROR_VARIABLE = "EDGELSTM_DEBIAN_MIRROR"
TIMEOUT_S = 900

_APT = Path("/etc/apt")
_KEPT = re.compile(r'^Acquire::(?:http|https|Retries|ForceIPv4)\S* ".*";$', re.MULTILINE)
"""Settings of this machine's apt that matter here too: proxies and certificates."""


@dataclass(frozen=True)
class Package:
    """A fetched package.

    Attributes:
        name: Its name.
        version: Its version.
        sha256: Hash of the file.
        file: The file.
    """

    name: str
    version: str
    sha256: str
    file: Path


def require_programs(programs: dict[str, str], purpose: str) -> None:
    """Checks that programs are there.

    Args:
        programs: Debian's package of each, by name.
        purpose: What needs them.

    Raises:
        TargetError: If one is missing.
    """
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = " ".join(dict.fromkeys(programs[name] for name in missing))
        raise TargetError(
            f"{purpose} needs {_list(missing)}, which this machine does not have. On Debian or Ubuntu: "
            f"sudo apt-get install --no-install-recommends {packages}. Other systems can use a container of Debian."
        )


def find_mirror(folder: Path = _APT) -> str:
    """Returns the Debian mirror that this machine takes its packages from, else the public one.

    Args:
        folder: The configuration of apt.
    """
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            for uri in re.findall(r"^(?:deb\s+(?:\[[^]]*\]\s+)?|URIs:\s*)(\S+)", text, re.MULTILINE):
                if re.fullmatch(r"(https?|file)://\S*/debian/?", uri):
                    return str(uri).rstrip("/")
    return DEFAULT_MIRROR


class PrivateApt:
    """Fetches packages of one architecture.

    Args:
        architecture: Debian's name of it.
        folder: Where lists and packages are kept.
        mirror: Where they come from; None for `find_mirror`.

    Raises:
        TargetError: If this machine has no apt-get, dpkg-deb or tar, or not the keys of Debian.
    """

    def __init__(self, architecture: str, folder: Path, mirror: str | None = None) -> None:
        require_programs({"apt-get": "apt", "dpkg-deb": "dpkg", "tar": "tar"}, "Unpacking Debian packages")
        if not KEYRING.exists():
            raise TargetError(
                f"The keys of Debian are missing, {KEYRING}: its packages cannot be verified. On Ubuntu: "
                "sudo apt-get install debian-archive-keyring."
            )
        self.mirror = mirror or find_mirror()
        self._folder = folder
        self._architecture = architecture
        self._unreachable: list[str] = []
        self._configure()

    def fetch(self, names: Sequence[str]) -> list[Package]:
        """Fetches packages and all that they depend on; what lies in the folder already is not fetched again.

        Raises:
            TargetError: If the mirror cannot be reached or does not have them.
        """
        self._run("update")
        self._run("--download-only", "install", *names)
        # Without the packages that are there, which --print-uris leaves out otherwise.
        archives = self._folder / "archives"
        listed = self._run("--print-uris", "-o", f"Dir::Cache::archives={self._folder / 'none'}", "install", *names)
        files = [archives / match for match in re.findall(r"^'[^']+' (\S+\.deb) ", listed, re.MULTILINE)]
        return [_package(file) for file in sorted(files)]

    def _run(self, *arguments: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
        command = ["apt-get", "-qq", "-y", *arguments]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise TargetError(f"{self.mirror}: apt-get took more than {TIMEOUT_S} s. Try again later.") from error
        if arguments == ("update",):
            # It goes on with the lists of before, or with none, and then lacks packages: that is why.
            self._unreachable = [line for line in done.stderr.splitlines() if line.startswith("W: Failed to fetch")]
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            reason = (self._unreachable or errors or done.stderr.splitlines() or ["no message"])[0]
            raise TargetError(
                f"Debian packages ({self._architecture}) cannot be fetched from {self.mirror}: "
                f"{reason.removeprefix('E:').removeprefix('W:').strip().rstrip('.')}. "
                f"Check the network, or name another mirror in {MIRROR_VARIABLE}."
            )
        return done.stdout

    def _configure(self) -> None:
        for name in ("lists/partial", "archives/partial", "none/partial", "parts", "sources"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").write_bytes(b"")
        _write_private(
            self._folder / "sources" / "debian.sources",
            f"Types: deb\nURIs: {self.mirror}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n",
        )
        settings = {
            "APT::Architecture": self._architecture,
            "APT::Install-Recommends": "0",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "1",
            "Dir::State": str(self._folder),
            "Dir::State::lists": str(self._folder / "lists"),
            "Dir::State::status": str(self._folder / "status"),
            "Dir::Cache": str(self._folder),
            "Dir::Cache::archives": str(self._folder / "archives"),
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": str(self._folder / "parts"),
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": str(self._folder / "parts"),
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": str(self._folder / "sources"),
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        lines.append(f'APT::Architectures {{ "{self._architecture}"; }};')
        host = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
        lines[:0] = _KEPT.findall(host)
        _write_private(self._folder / "apt.conf", "\n".join(lines) + "\n")


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read: addresses of proxies and mirrors may hold passwords."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def unpack(packages: Iterable[Package], folder: Path) -> None:
    """Unpacks packages into a folder, /bin, /sbin and /lib merged into /usr.

    Raises:
        TargetError: If one is damaged or the disk is full.
    """
    for name in ("bin", "sbin", "lib"):
        (folder / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"usr/{name}")
    for package in packages:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", package.file], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as reader:
            writer = subprocess.run(
                ["tar", "-x", "-C", folder, "--keep-directory-symlink", "--no-same-owner"],
                stdin=reader.stdout,
                capture_output=True,
                check=False,
            )
            assert reader.stderr is not None
            notes = (reader.stderr.read() + writer.stderr).decode(errors="replace").strip().splitlines()
        if reader.returncode != 0 or writer.returncode != 0:
            raise TargetError(
                f"{package.file} cannot be unpacked into {folder}: {(notes or ['no message'])[-1].rstrip('.')}. "
                "Delete the file and try again."
            )
    _link_linear_algebra(folder)


def _link_linear_algebra(folder: Path) -> None:
    """Links the reference BLAS and LAPACK where libraries are looked for, which their installation scripts do."""
    for library in folder.glob("usr/lib/*-linux-*/*/lib*.so.3"):
        if library.name in ("libblas.so.3", "liblapack.so.3"):
            link = library.parents[1] / library.name
            link.unlink(missing_ok=True)
            link.symlink_to(f"{library.parent.name}/{library.name}")


def _package(file: Path) -> Package:
    """Reads name and version out of "name_1%3a2.3_arm64.deb"."""
    name, version, _ = file.name.split("_")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise TargetError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    return Package(name, version.replace("%3a", ":"), hashlib.sha256(content).hexdigest(), file)


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
