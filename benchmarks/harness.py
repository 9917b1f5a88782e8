"""Does `edgelstm bench` tell the truth, and what does it cost? Against an independent timing of the same files.

    python benchmarks/harness.py [--rounds 7] [-o benchmarks/results/harness.json]

The independent program (`peers/plain_timing.py`) is a plain loop around `invoke` that shares no code with edgelstm.
Both take turns, a process each, on the same core. Goals: medians within 5 %, and less than 1 % of a model of 0.1 ms
for what the harness does around a call.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peers.models import PeerModel, build_keras, dense, embedding, lstm

import edgelstm
from edgelstm.targets.comparison import ratio_of_medians
from edgelstm.targets.cpu import CpuTarget, choose_cores
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Subject

RESULTS = Path(__file__).parent / "results" / "harness.json"
PLAIN = Path(__file__).parent / "peers" / "plain_timing.py"
PLAN = BenchPlan(warmup_s=0.3, max_s=0.7)
MODELS = (
    PeerModel("0.02 ms", (8, 8), (lstm(32), dense(10, "softmax"))),
    PeerModel("0.1 ms", (28, 28), (lstm(64), dense(10, "softmax"))),
    PeerModel("1 ms", (200,), (embedding(10_000, 128), lstm(64), dense(1, "sigmoid"))),
)


def plain_samples(path: Path, cores: list[int]) -> list[int]:
    """Returns the durations of the independent program, in ns."""
    command = [sys.executable, "-I", str(PLAIN), str(path), str(PLAN.warmup_s), str(PLAN.max_s), *map(str, cores)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    samples: list[int] = json.loads(done.stdout.splitlines()[-1])
    return samples


def compare(model: PeerModel, rounds: int) -> dict[str, Any]:
    """Times one model by both, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        edgelstm.convert(build_keras(model), path)
        cores, target, subject = choose_cores(1), CpuTarget(), Subject.read(path)
        runs, plain = [], []
        with target.open() as session:
            for _ in range(rounds):
                runs.append(session.run(subject, PLAN))
                plain.append(plain_samples(path, cores))
        measured = target.conclude(subject, PLAN, runs)
    ratio = ratio_of_medians(plain, measured.groups_ns())
    overhead_ns = float(np.median([process.overhead_ns or np.nan for process in measured.processes]))
    # Neighbours share their minute: the median of their ratios is what the interval is about.
    pairs = [float(np.median(a) / np.median(b)) for a, b in zip(measured.groups_ns(), plain, strict=True)]
    return {
        "model": model.name,
        "edgelstm_us": measured.p50_us,
        "plain_us": float(np.median(np.concatenate(plain))) / 1e3,
        "ratio": ratio.to_json(),
        "median_of_pairs": float(np.median(pairs)),
        "prepare_ns": float(np.median([process.prepare_ns or np.nan for process in measured.processes])),
        "overhead_ns": overhead_ns,
        "overhead_of_model": overhead_ns / 1e3 / measured.p50_us,
        "edgelstm_medians_us": [float(np.median(group)) / 1e3 for group in measured.groups_ns()],
        "plain_medians_us": [float(np.median(group)) / 1e3 for group in plain],
        "machine": measured.machine,
        "runtime": f"{measured.runtime} {measured.runtime_version}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = [compare(model, arguments.rounds) for model in MODELS]
    command = " ".join(["python benchmarks/harness.py", *sys.argv[1:]])
    document = {"command": command, "rounds": arguments.rounds, "results": results}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for entry in results:
        print(
            f"{entry['model']:8} edgelstm {entry['edgelstm_us']:8.1f} us, plain {entry['plain_us']:8.1f} us, ratio "
            f"{entry['ratio']['value']:.3f} ({entry['ratio']['low']:.3f} to {entry['ratio']['high']:.3f}), "
            f"of pairs {entry['median_of_pairs']:.3f}, overhead {entry['overhead_ns']:.0f} ns = "
            f"{entry['overhead_of_model']:.2%}"
        )


if __name__ == "__main__":
    main()
