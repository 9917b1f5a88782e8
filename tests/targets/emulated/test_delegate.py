"""The delegate for Arm, built by a cross compiler, in real Arm runtimes under the emulator."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelstm.targets.emulated.emulator import Emulator
from edgelstm.targets.emulated.target import EmulatedTarget
from edgelstm.targets.measurement import InstructionCount
from edgelstm.targets.subjects import Settings
from tests.native import compare
from tests.native.operators import PRECISIONS, Lstm, lstm_file
from tests.native.test_delegate import LIMITS, job_of

pytestmark = [pytest.mark.arm, pytest.mark.xdist_group("emulated"), pytest.mark.timeout(900)]

Emulators = Callable[[str], Emulator]
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def library() -> Path:
    """The native library for arm64."""
    for program in ("cmake", "aarch64-linux-gnu-g++"):
        if shutil.which(program) is None:
            pytest.skip(f"There is no {program}.")
    done = subprocess.run(["make", "native-arm64"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return REPOSITORY / "build" / "native-arm64" / "libedgelstm_native.so"


@pytest.mark.parametrize("module", ["ai_edge_litert", "tflite_runtime"])
def test_answers_and_states_are_those_of_the_stock_kernel(
    emulator: Emulators, library: Path, module: str, tmp_path: Path
) -> None:
    sizes = itertools.product(PRECISIONS, ((1, 3), (4, 5), (7, 16), (33, 40)), (1, 3))
    cases = [
        Lstm(precision, time=9, batch=batch, features=features, units=units, seed=units)
        for precision, (units, features), batch in sizes
    ]
    jobs = []
    for index, case in enumerate(cases):
        file = tmp_path / f"{index}.tflite"
        file.write_bytes(lstm_file(case))
        jobs.append(job_of(file, case, index, streaming=index % 2 == 0))
    system = emulator("arm64")
    done = system.run([str(system.python), "-s", compare.__file__, str(library), module], stdin=json.dumps(jobs))
    assert done.status == 0, done.stderr[-2000:]
    for case, result in zip(cases, json.loads(done.stdout), strict=True):
        assert result.get("delegated") == 1, (case, result)
        assert result["largest"] <= LIMITS[case.precision], (case, result)


@pytest.mark.parametrize(
    "precision, board, most",
    [("float32", "pi4", 0.5), ("dynamic", "pi4", 0.5), ("int8", "pi4", 0.5), ("int8", "pi5", 0.3)],
)
def test_it_takes_a_part_of_the_instructions(
    emulator: Emulators, library: Path, precision: str, board: str, most: float, tmp_path: Path
) -> None:
    emulator("arm64")
    file = tmp_path / "m.tflite"
    file.write_bytes(lstm_file(Lstm(precision, time=60, batch=1, features=128, units=64)))

    def instructions(delegate: str | None) -> int:
        count = EmulatedTarget("arm64", board).measure(file, "quick", Settings(delegate=delegate)).count
        assert isinstance(count, InstructionCount)
        return count.instructions

    assert instructions(str(library)) <= most * instructions(None)
