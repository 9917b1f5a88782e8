"""How boards describe themselves: /proc/cpuinfo, the device tree and /sys/devices/system/cpu.

Runtimes read these to choose kernels and thread counts. ai-edge-litert 2.3.0 for aarch64 dies with a segmentation fault
where /proc/cpuinfo is that of another kind of processor, so an emulated userland must have the description of a board.

Sources: the boards' data sheets and "Processors" in the documentation of Raspberry Pi (clocks); the technical reference
manuals of Cortex-A53, -A72 and -A76 (caches, part numbers); "Raspberry Pi revision codes" there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NUM_CORES = 4


@dataclass(frozen=True)
class Cache:
    """A cache of a core or of all.

    Attributes:
        level: 1, 2 or 3.
        kind: "Data", "Instruction" or "Unified".
        kilobytes: Its size.
        ways: Its associativity.
        shared: Whether all cores share it.
    """

    level: int
    kind: str
    kilobytes: int
    ways: int
    shared: bool = False


@dataclass(frozen=True)
class Board:
    """A board with four cores.

    Attributes:
        name: The word for it here.
        model: What it calls itself.
        revision: Its revision code.
        core: What the emulator calls its core.
        part: The core's part number.
        variant: The core's variant.
        core_revision: The core's revision.
        features: What a 64-bit kernel says the core can do.
        hardware: Line "Hardware" of /proc/cpuinfo, None where there is none.
        min_khz: Least clock.
        max_khz: Greatest clock.
        caches: All caches.
    """

    name: str
    model: str
    revision: str
    core: str
    part: int
    variant: int
    core_revision: int
    features: str
    hardware: str | None
    min_khz: int
    max_khz: int
    caches: tuple[Cache, ...]


_ARMV8_0 = "fp asimd evtstrm crc32 cpuid"
_ARMV8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_FEATURES_32 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32"
_A53 = (Cache(1, "Data", 32, 4), Cache(1, "Instruction", 32, 2), Cache(2, "Unified", 512, 16, shared=True))
_A72 = (Cache(1, "Data", 32, 2), Cache(1, "Instruction", 48, 3), Cache(2, "Unified", 1024, 16, shared=True))
_A76 = (
    Cache(1, "Data", 64, 4),
    Cache(1, "Instruction", 64, 4),
    Cache(2, "Unified", 512, 8),
    Cache(3, "Unified", 2048, 16, shared=True),
)

BOARDS = {
    board.name: board
    for board in (
        Board(
            name="zero-2",
            model="Raspberry Pi Zero 2 W Rev 1.0",
            revision="902120",
            core="cortex-a53",
            part=0xD03,
            variant=0,
            core_revision=4,
            features=_ARMV8_0,
            hardware="BCM2835",
            min_khz=600_000,
            max_khz=1_000_000,
            caches=_A53,
        ),
        Board(
            name="pi3",
            model="Raspberry Pi 3 Model B Rev 1.2",
            revision="a02082",
            core="cortex-a53",
            part=0xD03,
            variant=0,
            core_revision=4,
            features=_ARMV8_0,
            hardware="BCM2835",
            min_khz=600_000,
            max_khz=1_200_000,
            caches=_A53,
        ),
        Board(
            name="pi4",
            model="Raspberry Pi 4 Model B Rev 1.4",
            revision="c03114",
            core="cortex-a72",
            part=0xD08,
            variant=0,
            core_revision=3,
            features=_ARMV8_0,
            hardware="BCM2835",
            min_khz=600_000,
            max_khz=1_500_000,
            caches=_A72,
        ),
        Board(
            name="pi5",
            model="Raspberry Pi 5 Model B Rev 1.0",
            revision="d04170",
            core="cortex-a76",
            part=0xD0B,
            variant=4,
            core_revision=1,
            features=_ARMV8_2,
            hardware=None,
            min_khz=1_500_000,
            max_khz=2_400_000,
            caches=_A76,
        ),
    )
}
"""By name."""

DEFAULT_BOARDS = {"arm64": "pi4", "armhf": "pi3"}
"""By architecture: the board that most people have, and one on which 32-bit systems are still common."""


def core_of(board: Board, architecture: str) -> str:
    """Returns what the emulator is to emulate.

    The cores of all boards run 32-bit programs as Armv7 with NEON and VFPv4; of those, the emulator of 32-bit programs
    knows the Cortex-A7.
    """
    return board.core if architecture == "arm64" else "cortex-a7"


def describe_board(board: Board, architecture: str, root: Path) -> None:
    """Writes the description of a board under a folder, as its / would have it."""
    _write(root / "proc/cpuinfo", _cpuinfo(board, architecture))
    for place in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        _write(root / place, f"{board.model}\0")
    cpus = root / "sys/devices/system/cpu"
    for name in ("possible", "present", "online"):
        _write(cpus / name, f"0-{NUM_CORES - 1}\n")
    _write(cpus / "kernel_max", "255\n")
    for number in range(NUM_CORES):
        _describe_core(board, number, cpus / f"cpu{number}")


def _cpuinfo(board: Board, architecture: str) -> str:
    is_64 = architecture == "arm64"
    lines = []
    for number in range(NUM_CORES):
        lines += [f"processor\t: {number}"]
        lines += [] if is_64 else [f"model name\t: ARMv7 Processor rev {board.core_revision} (v7l)"]
        lines += [
            "BogoMIPS\t: 108.00",
            f"Features\t: {board.features if is_64 else _FEATURES_32}",
            "CPU implementer\t: 0x41",
            f"CPU architecture: {8 if is_64 else 7}",
            f"CPU variant\t: {board.variant:#x}",
            f"CPU part\t: {board.part:#x}",
            f"CPU revision\t: {board.core_revision}",
            "",
        ]
    lines += [f"Hardware\t: {board.hardware}"] if board.hardware else []
    lines += [f"Revision\t: {board.revision}", "Serial\t\t: 0000000000000000", f"Model\t\t: {board.model}"]
    return "\n".join(lines) + "\n"


def _describe_core(board: Board, number: int, folder: Path) -> None:
    clock = {
        "cpuinfo_min_freq": board.min_khz,
        "cpuinfo_max_freq": board.max_khz,
        "scaling_cur_freq": board.max_khz,
        "scaling_governor": "ondemand",
    }
    for name, value in clock.items():
        _write(folder / "cpufreq" / name, f"{value}\n")
    everyone, alone = (f"0-{NUM_CORES - 1}", f"{(1 << NUM_CORES) - 1:x}"), (f"{number}", f"{1 << number:x}")
    topology = {"physical_package_id": "0", "cluster_id": "0", "core_id": f"{number}"}
    for name, (some, mask) in {
        **dict.fromkeys(("core_siblings", "package_cpus", "cluster_cpus"), everyone),
        **dict.fromkeys(("thread_siblings", "core_cpus"), alone),
    }.items():
        topology |= {name: mask, f"{name}_list": some}
    for name, text in topology.items():
        _write(folder / "topology" / name, f"{text}\n")
    for index, cache in enumerate(board.caches):
        some, mask = everyone if cache.shared else alone
        values = {
            "level": cache.level,
            "type": cache.kind,
            "size": f"{cache.kilobytes}K",
            "coherency_line_size": 64,
            "number_of_sets": cache.kilobytes * 1024 // (64 * cache.ways),
            "ways_of_associativity": cache.ways,
            "shared_cpu_list": some,
            "shared_cpu_map": mask,
        }
        for name, value in values.items():
            _write(folder / "cache" / f"index{index}" / name, f"{value}\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
