"""How far the estimates of profiles are from measurement: the same method applied to this machine.

python benchmarks/profiles.py -o benchmarks/results/profiles.json
python benchmarks/profiles.py --write    # and put the constants and the band into the package

Twelve LSTM models in three precisions, three of them also as a loop and unrolled, are measured by target "cpu" on one
thread, in rounds in which all of them take turns; the shortest call counts, since a busy machine only makes calls
slower. The constants of the method are fitted on half of the models; the band comes from the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from conversion import machine
from keras import layers

import edgelstm
from edgelstm.targets.cpu import CpuTarget
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.profile.calibration import FILE, Calibration
from edgelstm.targets.profile.cost import estimate_cost
from edgelstm.targets.profile.device import Device
from edgelstm.targets.profile.host import host_device
from edgelstm.targets.profile.work import Work, read_work

PRECISIONS = ("float32", "dynamic", "int8")
FORMS = {"fused": "interpreter", "loop": "compiled", "unrolled": "mediapipe"}
IN_ALL_FORMS = ("text-64", "rows-64", "forecast-50")
PLAN = BenchPlan(warmup_s=0.1, max_s=0.4, min_runs=8)
PERCENTILE = 90

CLOCK = """
#include <stdio.h>
#include <time.h>
int main(void) {
  double least = 1e9;
  for (int round = 0; round < 50; round++) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    unsigned long x = 1, y = 3;
    for (int i = 0; i < 200000; i++)
      __asm__ volatile("add %1,%0\\nadd %1,%0\\nadd %1,%0\\nadd %1,%0\\nadd %1,%0\\n"
                       "add %1,%0\\nadd %1,%0\\nadd %1,%0\\nadd %1,%0\\nadd %1,%0" : "+r"(x) : "r"(y));
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ns = (b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec;
    if (ns < least) least = ns;
  }
  printf("%.3f", 2e6 / least);
}
"""


def text(words: int, size: int, time: int, *stack: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((time,), dtype="int32"),
            layers.Embedding(words, size),
            *stack,
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def series(time: int, features: int, *stack: Any, outputs: int = 1) -> keras.Model:
    return keras.Sequential([keras.Input((time, features)), *stack, layers.Dense(outputs)])


def two(units: int) -> tuple[Any, Any]:
    return layers.LSTM(units, return_sequences=True), layers.LSTM(units)


# Pairs of similar models: the constants are fitted on the first of each.
MODELS: dict[str, Callable[[], keras.Model]] = {
    "text-64": lambda: text(10_000, 128, 200, layers.LSTM(64)),
    "text-100": lambda: text(5_000, 32, 500, layers.LSTM(100)),
    "stacked-64": lambda: series(100, 32, *two(64)),
    "bidirectional-64": lambda: text(10_000, 128, 200, layers.Bidirectional(layers.LSTM(64))),
    "rows-64": lambda: series(28, 28, layers.LSTM(64), outputs=10),
    "cnn-64": lambda: series(
        128, 9, layers.Conv1D(64, 5, activation="relu"), layers.MaxPooling1D(2), layers.LSTM(64), outputs=6
    ),
    "sensor-8": lambda: series(10, 3, layers.LSTM(8)),
    "forecast-50": lambda: series(50, 1, layers.LSTM(50)),
    "pixels-256": lambda: series(1024, 1, *two(256), outputs=10),
    "speech-256": lambda: series(200, 256, layers.LSTM(256), outputs=30),
    "frames-256": lambda: series(16, 1280, layers.LSTM(256), outputs=10),
    "frames-512": lambda: series(16, 2048, layers.LSTM(512), outputs=10),
}

FITTED = (
    "efficiency.lstm_float32",
    "efficiency.lstm_dynamic",
    "efficiency.lstm_int8_portable",
    "efficiency.float32",
    "efficiency.int16",
    "activation",
    "integer_activation_portable",
    "dot_product",
    "element",
    "step",
    "operator",
    "turn",
)
"""What is fitted; the other constants are judgements, or follow from these."""

START = Calibration(
    efficiency={
        **dict.fromkeys(("lstm_float32", "lstm_dynamic", "lstm_int8", "lstm_int8_portable"), 0.8),
        **dict.fromkeys(("float32", "dynamic", "int8", "int16"), 0.7),
        "micro_float32": 0.35,
        "micro_int8": 0.29,
    },
    activation=15,
    integer_activation=60,
    integer_activation_portable=800,
    dot_product=15,
    quantize=2,
    element=1,
    step=1000,
    operator=500,
    turn=3000,
    call=2000,
    stream=1.3,
    factor=1,
    micro_factor=3,
    band="",
    micro_band="no measurement of TensorFlow Lite Micro on such a core could be compared, so this width is a judgement",
)
"""Where the fit begins, and what is not fitted: docs/profiles.md says where each comes from."""

PRIOR = 0.1
"""How much a constant is held to where the fit begins: a little, so that what the models hardly show stays there."""

STEP = 0.02
"""Of the logarithm of a constant, to see what it changes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/profiles.json"))
    parser.add_argument("--rounds", type=int, default=5, help="how often each file is measured")
    parser.add_argument("--more", type=Path, action="append", default=[], help="add the rounds of an earlier result")
    parser.add_argument("--write", action="store_true", help="put the constants and the band into the package")
    arguments = parser.parse_args()
    device = host_device(clock_ghz(), "a chain of a million dependent additions, one cycle each")
    with tempfile.TemporaryDirectory() as folder:
        paths = dict(convert_all(Path(folder)))
        works = {key: read_work(path) for key, path in paths.items()}
        rounds_us = measure(paths, arguments.rounds)
    for path in arguments.more:
        add_rounds(rounds_us, json.loads(path.read_text(encoding="utf-8")))
    document = evaluate(works, {key: min(values) for key, values in rounds_us.items()}, device)
    for entry in document["models"]:
        entry["rounds_us"] = rounds_us[entry["model"], entry["form"], entry["precision"]]
    command = f"python benchmarks/profiles.py --rounds {arguments.rounds}" + " --more RESULT" * len(arguments.more)
    document = {"command": command, "machine": machine(), "device": dataclasses.asdict(device), **document}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.write:
        FILE.write_text(json.dumps(document["calibration"], indent=1) + "\n", encoding="utf-8")
    show(document)


def clock_ghz() -> float:
    """The clock under load: a virtual machine tells another one."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "clock.c"), Path(folder, "clock")
        source.write_text(CLOCK, encoding="ascii")
        subprocess.run(["cc", "-O2", source, "-o", program], check=True)
        return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout)


Key = tuple[str, str, str]


def convert_all(folder: Path) -> Iterator[tuple[Key, Path]]:
    for name, build in MODELS.items():
        keras.utils.set_random_seed(0)
        model, rng = build(), np.random.default_rng(0)
        shape = (8, *model.input_shape[1:])
        is_text = len(shape) == 2
        data = rng.integers(1, 5_000, shape).astype(np.int32) if is_text else rng.normal(size=shape).astype(np.float32)
        for form in FORMS if name in IN_ALL_FORMS else ("fused",):
            for precision in PRECISIONS:
                path = folder / f"{name}-{form}-{precision}.tflite"
                edgelstm.convert(model, path, quantize=precision, runtime=FORMS[form], calibration=data, verify=False)
                yield (name, form, precision), path


def measure(paths: dict[Key, Path], rounds: int) -> dict[Key, list[float]]:
    """The shortest call in µs, by file and round."""
    target = CpuTarget()
    shortest: dict[Key, list[float]] = {key: [] for key in paths}
    for number in range(rounds):
        for key, path in paths.items():
            statistics = target.measure(path, PLAN).statistics
            assert statistics is not None
            shortest[key].append(statistics.min_us)
        print(f"round {number + 1} of {rounds}", flush=True)
    return shortest


def add_rounds(rounds_us: dict[Key, list[float]], earlier: dict[str, Any]) -> None:
    if earlier["machine"] != machine():
        raise SystemExit(f"The earlier result is of another machine or of other versions: {earlier['machine']}.")
    for entry in earlier["models"]:
        rounds_us[entry["model"], entry["form"], entry["precision"]] += entry["rounds_us"]


def evaluate(works: dict[Key, Work], measured_us: dict[Key, float], device: Device) -> dict[str, Any]:
    """Fits the constants on half of the models and compares on the rest."""
    fitted_on = set(list(MODELS)[::2])
    calibration = fit({key: work for key, work in works.items() if key[0] in fitted_on}, measured_us, device, START)
    ratios = {key: estimate_us(work, device, calibration) / measured_us[key] for key, work in works.items()}
    groups = {
        "fitted": [ratio for key, ratio in ratios.items() if key[0] in fitted_on],
        "held out": [ratio for key, ratio in ratios.items() if key[0] not in fitted_on],
    }
    factor = math.ceil(100 * summarize(groups["held out"])["factor"]) / 100
    band = (
        f"{PERCENTILE} % of {len(groups['held out'])} estimates of this method for an x86 machine ({device.cpu}) were "
        f"within a factor of {factor:.2f} of measurement, of models that its constants were not fitted on; on other "
        "devices that holds only as far as the method does"
    )
    calibration = dataclasses.replace(calibration, factor=factor, band=band)
    return {
        "calibration": dataclasses.asdict(calibration),
        "summary": {name: summarize(values) for name, values in groups.items()},
        "models": [
            {
                "model": key[0],
                "form": key[1],
                "precision": key[2],
                "fitted": key[0] in fitted_on,
                "measured_us": measured_us[key],
                "estimate_us": ratio * measured_us[key],
                "ratio": ratio,
            }
            for key, ratio in ratios.items()
        ],
    }


def estimate_us(work: Work, device: Device, calibration: Calibration) -> float:
    return estimate_cost(work, device, calibration).cycles / device.clock_ghz / 1e3


def summarize(ratios: list[float]) -> dict[str, float]:
    logs = np.log(ratios)
    return {
        "count": len(ratios),
        "geometric_mean": float(np.exp(logs.mean())),
        "spread": float(np.exp(logs.std())),
        "factor": float(np.exp(np.percentile(np.abs(logs), PERCENTILE))),
        "least": min(ratios),
        "greatest": max(ratios),
    }


def fit(works: dict[Key, Work], measured_us: dict[Key, float], device: Device, start: Calibration) -> Calibration:
    """Least squares of the logarithms of the ratios, by Levenberg and Marquardt; no efficiency beyond 1."""
    logs, damping = np.zeros(len(FITTED)), 1.0
    names = (name.removeprefix("efficiency.") for name in FITTED)
    most = np.array([-math.log(start.efficiency[name]) if name in start.efficiency else np.inf for name in names])

    def residuals(at: Any) -> Any:
        calibration = with_factors(start, dict(zip(FITTED, np.exp(at), strict=True)))
        errors = [math.log(estimate_us(work, device, calibration) / measured_us[key]) for key, work in works.items()]
        return np.concatenate([errors, PRIOR * at])

    current = residuals(logs)
    for _ in range(60):
        columns = [(residuals(logs + STEP * unit) - current) / STEP for unit in np.eye(len(FITTED))]
        jacobian = np.stack(columns, axis=1)
        normal = jacobian.T @ jacobian + damping * np.eye(len(FITTED))
        candidate = np.minimum(logs - np.linalg.solve(normal, jacobian.T @ current), most)
        found = residuals(candidate)
        is_better = found @ found < current @ current
        if is_better:
            logs, current = candidate, found
        damping *= 0.5 if is_better else 4.0
    return with_factors(start, dict(zip(FITTED, np.exp(logs), strict=True)))


def with_factors(start: Calibration, factors: dict[str, float]) -> Calibration:
    """Multiplies constants; kernels that cannot be measured here follow those with the same inner loops."""
    efficiency, values = dict(start.efficiency), {}
    for name, factor in factors.items():
        group, _, kernel = name.partition(".")
        if kernel:
            efficiency[kernel] = round(float(efficiency[kernel] * factor), 6)
        else:
            values[group] = round(float(getattr(start, group) * factor), 6)
    efficiency["lstm_int8"] = efficiency["lstm_dynamic"]
    efficiency["dynamic"] = efficiency["int8"] = efficiency["float32"]
    return dataclasses.replace(start, efficiency=efficiency, **values)


def show(document: dict[str, Any]) -> None:
    for entry in document["models"]:
        line = "{model:18}{form:10}{precision:9}{measured_us:11.1f} us  {estimate_us:11.1f} us  {ratio:5.2f}"
        print(line.format(**entry), " fitted" if entry["fitted"] else "")
    for name, summary in document["summary"].items():
        print(name, json.dumps(summary))


if __name__ == "__main__":
    main()
