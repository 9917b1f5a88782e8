"""The programs in C++ that test the native parts from inside, built for this machine, with sanitizers, and for Arm."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NATIVE, HERE = REPOSITORY / "edgelstm" / "native", Path(__file__).parent
CORE = ("lstm_layer", "lstm_operator", "delegate", "kernels/reference", "kernels/table")
INSTRUCTION_SETS = {
    "x86_64": {"kernels/avx2": ["-mavx2", "-mfma"]},
    "aarch64": {"kernels/neon": [], "kernels/neon_dot": ["-march=armv8.2-a+dotprod"]},
}
"""Files of each processor and what they are compiled with, as in CMakeLists.txt."""
FLAGS = [
    "-std=c++17", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Werror",
    f"-I{NATIVE}", f"-I{HERE}",
]  # fmt: skip
SANITIZERS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"


def build(program: str, folder: Path, flags: list[str], compiler: str = "c++", processor: str | None = None) -> Path:
    """Builds a program out of this folder with everything it tests; several files at a time."""
    if shutil.which(compiler) is None:
        pytest.skip(f"There is no {compiler}.")
    sources = {name: [] for name in CORE} | INSTRUCTION_SETS.get(processor or platform.machine(), {})
    objects = {folder / f"{name.replace('/', '_')}.o": (NATIVE / f"{name}.cc", own) for name, own in sources.items()}
    objects[folder / f"{program}.o"] = HERE / f"{program}.cc", []
    for made in _compiled(compiler, objects, flags):
        assert made.wait() == 0, f"{made.args} ended with {made.returncode}"
    subprocess.run([compiler, *flags, *map(str, objects), "-o", str(folder / program)], check=True, timeout=100)
    return folder / program


def _compiled(
    compiler: str, objects: dict[Path, tuple[Path, list[str]]], flags: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    waiting = []
    for made, (source, own) in objects.items():
        if len(waiting) >= (os.cpu_count() or 1):
            yield waiting.pop(0)
        waiting.append(subprocess.Popen([compiler, *FLAGS, *flags, *own, "-c", str(source), "-o", str(made)]))
    yield from waiting


def run(command: list[str | Path]) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_kernels_answer_as_the_plain_ones(tmp_path):
    answer = run([build("layers_test", tmp_path, ["-O2"])])
    assert " 0 differ" in answer


def test_files_of_an_instruction_set_share_no_code(tmp_path):
    """The linker keeps one of all functions of a name: one of another file may be for another processor."""
    for source, own in INSTRUCTION_SETS.get(platform.machine(), {}).items():
        made = tmp_path / "made.o"
        command = ["c++", *FLAGS, "-O0", *own, "-c", str(NATIVE / f"{source}.cc"), "-o", str(made)]
        subprocess.run(command, check=True, timeout=100)
        symbols = subprocess.run(
            ["nm", "-C", "--defined-only", made], capture_output=True, text=True, check=True
        ).stdout
        assert [line for line in symbols.splitlines() if " W " in line] == []


def test_activations_keep_to_their_bounds_for_all_floats(tmp_path):
    if platform.machine() not in INSTRUCTION_SETS:
        pytest.skip("There are only plain kernels for this processor.")
    flags = ["-mavx2", "-mfma"] if platform.machine() == "x86_64" else []
    program = tmp_path / "activations_test"
    source = str(HERE / "activations_test.cc")
    subprocess.run(["c++", *FLAGS, "-O2", *flags, source, "-o", str(program)], check=True, timeout=100)
    run([program])


def test_a_call_neither_allocates_nor_calls_the_system(tmp_path):
    answer = run([build("delegate_test", tmp_path, ["-O2", "-DCOUNT_ALLOCATIONS"]), "quiet"])
    assert answer.count(": 0 allocations, no system call") == 4, answer


@pytest.mark.parametrize("arguments", [["layers_test"], ["delegate_test", "hostile", "20000"]], ids=lambda a: a[0])
def test_sanitizers_find_nothing(arguments, tmp_path):
    program, *rest = arguments
    run([build(program, tmp_path, SANITIZERS), *rest])


def test_kernels_answer_as_the_plain_ones_on_emulated_arm(tmp_path):
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"There is no {EMULATOR}.")
    program = build("layers_test", tmp_path, ["-O2", "-static"], CROSS_COMPILER, "aarch64")
    assert "neon_dot: cannot run" in run([EMULATOR, "-cpu", "cortex-a72", program, "neon_dot", "neon"])
    assert " 0 differ" in run([EMULATOR, "-cpu", "cortex-a76", program, "neon_dot"])
