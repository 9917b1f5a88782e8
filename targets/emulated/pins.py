"""What a userland is made of: the one table of versions, each with its reason.

Debian packages are pinned by the release alone, since its mirrors keep only the newest of each; a point release changes
instruction counts by less than 0.01 %, because the runtimes come from wheels. The manifest of a userland names all
versions that it got.
"""

from __future__ import annotations

from dataclasses import dataclass

SUITE = "bookworm"
"""Debian 12: what Raspberry Pi OS of 2023 to 2025 is made of, its Python 3.11 has wheels of every runtime here, and its
QEMU 7.2 has the plugin interface that insn.c is written for."""

PYTHON = "3.11"
QEMU = "7.2"


@dataclass(frozen=True)
class Wheel:
    """A package of the Python package index, for one kind of machine.

    Attributes:
        name: Its name there.
        version: The version.
        tag: How the file name goes on after name and version.
        sha256: Hash of the file.
    """

    name: str
    version: str
    tag: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file name."""
        return f"{self.name.replace('-', '_')}-{self.version}-{self.tag}.whl"

    @property
    def platforms(self) -> list[str]:
        """What pip calls the machines that it runs on."""
        return self.tag.rpartition("-")[2].split(".")


@dataclass(frozen=True)
class Architecture:
    """A kind of Arm machine.

    Attributes:
        name: Debian's name of it.
        machine: The kernel's.
        triplet: Name of its folders of libraries.
        packages: Debian packages, whose dependencies come with them.
        wheels: What of the package index goes in.
        runtimes: Runtimes that there are for it, the one that "auto" takes first.
    """

    name: str
    machine: str
    triplet: str
    packages: tuple[str, ...]
    wheels: tuple[Wheel, ...]
    runtimes: tuple[str, ...]

    @property
    def emulator(self) -> str:
        """Name of the program that emulates it."""
        return f"qemu-{'aarch64' if self.name == 'arm64' else 'arm'}"


_PYTHON_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgcc-s1", "libgomp1", "zlib1g")

ARCHITECTURES = {
    "arm64": Architecture(
        "arm64",
        "aarch64",
        "aarch64-linux-gnu",
        _PYTHON_PACKAGES,
        (
            # The last numpy below 2, which tflite-runtime needs; ai-edge-litert takes either.
            Wheel(
                "numpy",
                "1.26.4",
                "cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64",
                "7ab55401287bfec946ced39700c053796e7cc0e3acbef09993a9ad2adba6ca6e",
            ),
            # The current runtime, and the one that edgelstm itself is tested with.
            Wheel(
                "ai-edge-litert",
                "2.3.0",
                "cp311-cp311-manylinux_2_27_aarch64",
                "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
            ),
            # The last that was published: what many boards run.
            Wheel(
                "tflite-runtime",
                "2.14.0",
                "cp311-cp311-manylinux_2_34_aarch64",
                "ce9fa5d770a9725c746dcbf6f59f3178233b3759f09982e8b2db8d2234c333b0",
            ),
        ),
        ("ai-edge-litert", "tflite-runtime"),
    ),
    "armhf": Architecture(
        "armhf",
        "armv7l",
        "arm-linux-gnueabihf",
        # There is no numpy for armv7l and Python 3.11 on the package index, and no ai-edge-litert.
        (*_PYTHON_PACKAGES, "python3-numpy"),
        (
            Wheel(
                "tflite-runtime",
                "2.14.0",
                "cp311-cp311-manylinux_2_34_armv7l",
                "c4e66a74165b18089c86788400af19fa551768ac782d231a9beae2f6434f7949",
            ),
        ),
        ("tflite-runtime",),
    ),
}
"""By Debian's name."""
