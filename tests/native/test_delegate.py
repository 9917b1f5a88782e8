"""The delegate against the kernels of the stock runtimes, on ordinary files."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm import native
from edgelstm.errors import MissingExtraError
from edgelstm.runtime.interpreters import python_for
from tests.native import compare
from tests.native.operators import PRECISIONS, Lstm, lstm_file, lstm_model
from tests.one_operator import pack

KERNELS, RECURRENT_KERNELS, BIASES = 1, 5, 12
"""Inputs of the operator where the four tensors of the gates begin."""

RUNTIMES = ("ai-edge-litert", "tflite-runtime")
# How far a value of outputs and states may be off in 99.9 % of all cases, and ever.
#   float32: 40 steps of sums in another order, rounded to 6e-8 each, and activations within 4e-7.
#   dynamic: where a hidden state is rounded the other way, 1/127 of its range times a weight, for all states after it.
#   int8: a quantum of the hidden state, where a value lies next to the middle of two.
NEAR = {"float32": 5e-6, "float16": 5e-6, "dynamic": 0.01, "int8": 1.001 / 128}
LIMITS = {"float32": 5e-6, "float16": 5e-6, "dynamic": 0.02, "int8": 3 / 128}


def run_jobs(jobs: list[dict[str, Any]], runtime: str, **environment: str) -> list[dict[str, Any]]:
    try:
        python = python_for(runtime, "m.tflite")
    except MissingExtraError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [python, compare.__file__, str(native.library_path())],
        input=json.dumps(jobs), capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def job_of(file: Path, case: Lstm, seed: int = 0, *, streaming: bool = False) -> dict[str, Any]:
    return {"file": str(file), "seed": seed, "calls": 3, "streaming": streaming, "near": NEAR[case.precision]}


def check(cases: list[Lstm], folder: Path, runtime: str, *, streaming: bool = False, delegated: int = 1) -> None:
    jobs = []
    for index, case in enumerate(cases):
        file = folder / f"{index}.tflite"
        file.write_bytes(lstm_file(case))
        jobs.append(job_of(file, case, index, streaming=streaming))
    for case, result in zip(cases, run_jobs(jobs, runtime), strict=True):
        assert result.get("delegated") == delegated, (case, result)
        assert result["largest"] <= LIMITS[case.precision], (case, result)
        assert result["many"] <= 0.001 * result["count"], (case, result)
        assert result["moved"] > 0.05, (case, result)  # answers that stand still would prove nothing


def grid(precision: str) -> list[Lstm]:
    """130 operators: sizes around the widths of all instruction sets, both layouts, both ages of files, clips."""
    draw, cases = np.random.default_rng(5), []
    for units, features in itertools.product((1, 3, 4, 7, 8, 9, 16, 17, 31, 64, 100), (1, 2, 5, 13, 32, 130)):
        cases.append(
            Lstm(
                precision,
                time=int(draw.integers(1, 40)),
                batch=int(draw.integers(1, 6)),
                features=features,
                units=units,
                time_major=bool(draw.integers(2)),
                num_inputs=int(draw.choice([20, 24])),
                cell_clip=float(draw.choice([0, 0, 0.5, 10])),
                asymmetric=bool(draw.integers(2)),
                seed=len(cases),
            )
        )
    for seed in range(64):
        cases.append(
            Lstm(
                precision,
                time=int(draw.integers(1, 9)),
                batch=int(draw.integers(1, 4)),
                features=int(draw.integers(1, 300)),
                units=int(draw.integers(1, 300)),
                time_major=bool(seed % 2),
                seed=seed,
            )
        )
    return cases


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("streaming", [False, True])
def test_answers_and_states_are_those_of_the_stock_kernel(runtime, precision, streaming, tmp_path):
    check(grid(precision), tmp_path, runtime, streaming=streaming)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("first", [KERNELS, RECURRENT_KERNELS, BIASES], ids=["kernels", "recurrent", "biases"])
def test_swapped_gates_would_be_seen(precision, first, tmp_path):
    case, jobs = Lstm(precision, time=6, batch=2, features=5, units=8), []
    file = tmp_path / "m.tflite"
    file.write_bytes(lstm_file(case))
    for a, b in itertools.combinations(range(4), 2):
        model = lstm_model(case)
        inputs = model.subgraphs[0].operators[-1].inputs
        inputs[first + a], inputs[first + b] = inputs[first + b], inputs[first + a]
        swapped = tmp_path / f"{a}{b}.tflite"
        swapped.write_bytes(pack(model))
        jobs.append({**job_of(file, case), "ours": str(swapped)})
    for result in run_jobs(jobs, "ai-edge-litert"):
        assert result["delegated"] == 1
        assert result["many"] > 0.1 * result["count"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_long_sequences_stay_together(precision, tmp_path):
    cases = [Lstm(precision, time=1000, batch=batch, features=3, units=40, seed=batch) for batch in (1, 3)]
    check(cases, tmp_path, "ai-edge-litert", streaming=True)


@pytest.mark.parametrize("part", ["cifg", "peephole", "projection", "layer_norm", "relu"])
def test_what_the_kernels_lack_stays_with_the_stock_kernel(part, tmp_path):
    case = Lstm("float32", time=7, batch=2, features=5, units=8, parts=(part,))
    check([case], tmp_path, "ai-edge-litert", delegated=0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_plain_kernels_can_be_forced(precision, tmp_path):
    file, case = tmp_path / "m.tflite", Lstm(precision, time=9, batch=2, features=5, units=8)
    file.write_bytes(lstm_file(case))
    (result,) = run_jobs([job_of(file, case)], "ai-edge-litert", EDGELSTM_KERNELS="reference")
    assert result["delegated"] == 1
    assert result["largest"] <= LIMITS[precision]


def test_unknown_kernels_are_a_sentence(tmp_path):
    file, case = tmp_path / "m.tflite", Lstm("float32", time=9, batch=2, features=5, units=8)
    file.write_bytes(lstm_file(case))
    (result,) = run_jobs([job_of(file, case)], "ai-edge-litert", EDGELSTM_KERNELS="sse9")
    assert "EDGELSTM_KERNELS names kernels that this library does not have" in result["error"]
