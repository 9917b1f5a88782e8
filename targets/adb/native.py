"""TensorFlow Lite's own `benchmark_model` on a phone, and what it prints.

It tells no single durations, only a summary of all, in µs, once for the warm-up and once for the counted calls:

    count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129 p5=32700 median=33075 p95=33200
    Inference timings in us: Init: 3501, First inference: 156677, Warmup (avg): 43268.1, Inference (avg): 33071.8

p5, median and p95 are in builds since 2023. Where all calls took the same, it is `count=5 curr=3 (all same)`.
"""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError, TargetError
from edgelstm.targets.adb.facts import phone_warnings, read_facts
from edgelstm.targets.base import Run, Session
from edgelstm.targets.measurement import Measurement, ProcessSamples
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.remote.place import KILLED, RemotePlace
from edgelstm.targets.remote.shell import Done
from edgelstm.targets.statistics import CONFIDENCE, Statistics
from edgelstm.targets.subjects import Subject

RUNTIME = "benchmark_model"
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,18})?(?:e[+-]?[0-9]{1,2})?)(?![0-9.e])"
_COUNT = re.compile(r"\bcount=([0-9]{1,18})\b(.*)")
_PAIR = re.compile(rf"\b(first|curr|min|max|avg|std|p5|median|p95)={_NUMBER}")
_TIMINGS = re.compile(rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}")
_NORMAL_95 = 1.96
_MEDIAN_ERROR = 1.2533
"""Standard error of a median in units of that of a mean, for normal samples: sqrt(pi / 2)."""


def parse_output(text: str) -> dict[str, float] | None:
    """Reads the summary of the counted calls, and the times before them.

    Returns:
        "count", "min", "max", "avg", "std", "init", "first_inference" and, if they were printed, "median" and "p95",
        all in µs; None if the tool did not come to its end.

    Raises:
        ValueError: If the numbers cannot be those of calls.
    """
    counts, timings = _COUNT.findall(text), _TIMINGS.search(text)
    if len(counts) < 2 or timings is None:
        return None
    count, rest = counts[-1]
    values = {name: float(value) for name, value in _PAIR.findall(rest)}
    if "curr" not in values:
        return None
    same = values["curr"]  # all that is printed where all are the same
    summary = {name: values.get(name, same) for name in ("min", "max", "avg")}
    known = {name: values[name] for name in ("median", "p95") if name in values}
    told = {
        "count": float(count),
        **summary,
        "std": values.get("std", 0.0),
        **({"median": same, "p95": same} if "avg" not in values else known),
        "init": float(timings[1]),
        "first_inference": float(timings[2]),
    }
    is_whole = "(all same)" in rest or {"min", "max", "avg", "std"} <= values.keys()
    if not is_whole or told["count"] < 1 or not told["min"] <= told["avg"] <= told["max"]:
        raise ValueError(f"count={count}{rest[:80]}")
    return told


def combine(summaries: list[dict[str, float]]) -> Statistics:
    """Makes statistics of the summaries of all rounds.

    Percentiles that were not printed are bounded from above by what was: nine in ten calls are not above the 95th
    percentile, none is above the maximum.
    """
    middles = [each.get("median", each["avg"]) for each in summaries]
    errors = [_NORMAL_95 * _MEDIAN_ERROR * each["std"] / math.sqrt(each["count"]) for each in summaries]
    ranked = sorted(middles)
    half = len(ranked) // 2
    highest = max(each["max"] for each in summaries)
    has_percentiles = all("median" in each and "p95" in each for each in summaries)
    middle = "the median is the tool's own" if has_percentiles else "this build tells no median: the mean stands for it"
    p90 = "its 95th percentile" if has_percentiles else "its maximum"
    return Statistics(
        num_samples=int(sum(each["count"] for each in summaries)),
        min_us=min(each["min"] for each in summaries),
        p50_us=ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2,
        p90_us=max(each.get("p95", each["max"]) for each in summaries) if has_percentiles else highest,
        p99_us=highest,
        max_us=highest,
        p50_low_us=min(middle - error for middle, error in zip(middles, errors, strict=True)),
        p50_high_us=max(middle + error for middle, error in zip(middles, errors, strict=True)),
        confidence=CONFIDENCE,
        stable=False,
        stability=(
            f"benchmark_model tells no single durations, so their stability is not known: {middle}, {p90} stands "
            "for p90 and its maximum for p99, both upper bounds. A Python on the phone would tell every sample."
        ),
    )


class NativeSession(Session):
    """Runs of the tool on one phone.

    Args:
        place: The phone.
        tool: The tool, a file here.
        timeout_s: Seconds after which a run is stopped.
    """

    def __init__(self, place: RemotePlace, tool: Path, timeout_s: float) -> None:
        self._place = place
        self._tool = tool
        self._timeout_s = timeout_s

    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        """Runs the tool once; see `Session.run`."""
        _check(subject)
        shown = f"{subject.path} on {self._place.shell.name}"
        before = read_facts(self._place.shell)
        line = 'chmod 755 "$1" && exec "$@"'
        command = ["sh", "-c", line, "sh", self._place.send(self._tool), *self._flags(subject, plan)]
        try:
            done = self._place.run(command, timeout_s=self._timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ModelRunError(
                f"{shown}: {RUNTIME} was stopped after {self._timeout_s:g} s. Give it fewer calls or more time."
            ) from error
        try:
            summary = None if done.status else parse_output(done.output + done.notes)
        except ValueError as error:
            raise TargetError(
                f"{shown}: {RUNTIME} told nonsense ({error}). Check that the tool is TensorFlow Lite's own."
            ) from error
        if summary is None:
            raise ModelRunError(f"{shown}: {_what_went_wrong(done)}")
        after = read_facts(self._place.shell)
        conditions = [before.condition("before", before), after.condition("after", before)]
        return {"summary": summary, "machine": before.machine, "conditions": conditions}

    def _flags(self, subject: Subject, plan: BenchPlan) -> list[str]:
        settings = subject.settings
        delegate = settings.delegate and self._place.send(Path(settings.delegate))
        return [
            f"--graph={self._place.send(subject.path)}",
            f"--num_threads={settings.threads}",
            "--warmup_runs=1",
            f"--warmup_min_secs={plan.warmup_s}",
            f"--num_runs={plan.min_runs}",
            f"--min_secs={plan.max_s}",
            f"--max_secs={self._timeout_s}",
            *([f"--external_delegate_path={delegate}"] if delegate else []),
        ]


def conclude(name: str, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
    """Makes a measurement of the summaries of all rounds; see `Target.conclude`."""
    statistics = combine([run["summary"] for run in runs])
    statuses = [entry["thermal_status"] for run in runs for entry in run["conditions"]]
    machine = runs[0]["machine"]
    return Measurement.of_subject(
        subject,
        kind="measured",
        target=name,
        runtime=RUNTIME,
        runtime_version="unknown",
        plan=plan,
        machine=machine,
        statistics=statistics,
        warnings=tuple(phone_warnings([statistics.stability], machine["governor"], statuses)),
        processes=tuple(_process(run) for run in runs),
    )


def _process(run: dict[str, Any]) -> ProcessSamples:
    summary = run["summary"]
    return ProcessSamples(
        samples_ns=[],
        warmup_ns=[],
        load_us=summary["init"],
        first_invoke_us=summary["first_inference"],
        conditions=run["conditions"],
    )


def _check(subject: Subject) -> None:
    """Refuses what the tool cannot do."""
    settings = subject.settings
    if settings.runtime not in ("auto", RUNTIME):
        raise ModelRunError(
            f"{subject.path}: {RUNTIME} is a runtime itself and runs nothing by {settings.runtime}. Leave out "
            "--runtime, or unset EDGELSTM_ANDROID_BENCHMARK to measure by a Python on the phone."
        )
    if subject.path.suffix != ".tflite":
        raise ModelRunError(f"{subject.path}: {RUNTIME} runs .tflite files only. Convert it: edgelstm convert.")
    for name in ("batch", "length", "mode", "dtype"):
        if getattr(settings, name) is not None:
            raise ModelRunError(
                f"{subject.path}: {RUNTIME} takes no {name}: it runs the file as it is. Fix it when you convert, or "
                "measure by a Python on the phone."
            )


def _what_went_wrong(done: Done) -> str:
    """Puts into words how the tool ended that brought no result."""
    lines = [line.strip() for line in (done.output + "\n" + done.notes).splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"ERROR|[Ff]ailed|CANNOT LINK|not found|denied|exec format", line)]
    reason = (telling or lines or ["it said nothing"])[0 if telling else -1].removeprefix("ERROR: ").rstrip(".")
    if done.status == KILLED:
        return f"{RUNTIME} was killed there, as Android does when memory runs out. Use a smaller model."
    if done.status < 0:
        return (
            f"{RUNTIME} crashed there (signal {-done.status}): {reason}. The file is damaged or uses something the "
            "tool cannot run: export it again."
        )
    return (
        f"{RUNTIME} failed there (status {done.status}): {reason}. Check that the tool was built for this phone, and "
        "that the model runs here: edgelstm verify."
    )
