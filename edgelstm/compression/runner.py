"""Runs a recipe: stage after stage, each measured, none lost by an interruption, and the artifact at the end."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgelstm
from edgelstm.artifact import Artifact, write_card
from edgelstm.compression.learning import Learning, read_learning
from edgelstm.compression.measures import Measures, calibration_of, measure_file
from edgelstm.compression.recipe import Recipe
from edgelstm.compression.workshop import TrainingWorkshop
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Outcome, Stage
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.errors import LoadError, OutputError
from edgelstm.source import open_source
from edgelstm.training.claims import read_json
from edgelstm.training.fitting import Report
from edgelstm.training.folders import check_writable, make_folder, write_complete, write_json

CLAIM, REPORT, RECIPE, ARTIFACT, MODEL, WORK = (
    "compress.json",
    "report.json",
    "recipe.toml",
    "model.tflite",
    "model.keras",
    "stages",
)


Ranges = dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Step:
    """What one stage made.

    Attributes:
        name: Of the stage; "start" for the model as it came.
        settings: Of the stage.
        measures: Of the exported file.
        notes: What the stage left alone, and why.
        figures: What the stage did, in numbers.
    """

    name: str
    settings: Mapping[str, Any]
    measures: Measures
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "measures": self.measures.to_json(),
            "notes": list(self.notes),
            "figures": dict(self.figures),
        }


@dataclasses.dataclass(frozen=True)
class Compression:
    """A finished compression.

    Attributes:
        folder: Where everything lies.
        artifact: The exported file.
        steps: The model as it came, then what each stage made of it.
        score: Name of the score.
        higher_is_better: Whether it should be high.
    """

    folder: Path
    artifact: Artifact
    steps: tuple[Step, ...]
    score: str
    higher_is_better: bool

    @property
    def reference(self) -> Measures:
        """Of the model as it came, exported in float32."""
        return self.steps[0].measures

    @property
    def result(self) -> Measures:
        """Of the artifact."""
        return self.steps[-1].measures


def compress(
    model: Any,
    data: str,
    recipe: Recipe,
    output: str | Path,
    *,
    restart: bool = False,
    latency: bool = True,
    progress: Report | None = None,
) -> Compression:
    """Runs a recipe on a trained model and writes the result into a folder.

    The same call again goes on with a compression that was interrupted: finished stages are read, the training of the
    stage that had begun goes on after its last batch.

    Args:
        model: A Keras model, or the path of its file; it stays as it is.
        data: What to learn from and be judged by; see `learning.read_learning`.
        recipe: The stages, and the precision of the file.
        output: The folder: a new or empty one, or that of the interrupted compression. Afterwards it holds
            model.tflite with its card, model.keras, recipe.toml, report.json, and the preprocessing files that a stage
            changed.
        restart: Delete what an earlier compression left in the folder.
        latency: Whether to time each file on this machine.
        progress: Takes a line about what is being done.

    Raises:
        EdgeLSTMError: If the model or the data cannot be read, a stage does not fit the model, or the folder holds
            something else; what was finished before stays in the folder.
    """
    folder, report = Path(output), progress or (lambda _: None)
    report("reading the model")
    source = open_source(model, ())
    report("reading the data")
    learning = read_learning(data, source.model, seed=recipe.seed)
    _claim(folder, {"source": _fingerprint(source.model), "data": data, "recipe": recipe.to_json()}, restart=restart)
    return _Runner(source.model, learning, recipe, folder, report, latency=latency).run()


class _Runner:
    def __init__(
        self, model: Any, learning: Learning, recipe: Recipe, folder: Path, report: Report, *, latency: bool
    ) -> None:
        self._model, self._learning, self._recipe = model, learning, recipe
        self._folder, self._work, self._report = folder, folder / WORK, report
        self._latency = latency

    def run(self) -> Compression:
        steps = [self._start()]
        model, learning = self._model, self._learning
        ranges: Ranges = {}
        for number, stage in enumerate(self._recipe.stages, 1):
            outcome, learning = self._stage(number, stage, model, learning)
            model, ranges = outcome.model, self._ranges(outcome)
            steps.append(self._step(number, stage, outcome, learning))
        return self._finish(model, learning, ranges, steps)

    def _start(self) -> Step:
        """The model as it came, in float32: what everything is compared with."""
        return self._kept("start", lambda: Step("start", {}, self._measure(self._model, self._learning, "float32")))

    def _ranges(self, outcome: Outcome) -> Ranges:
        """What the last stage learnt for the exporter; other precisions than int8 have no use for it."""
        return dict(outcome.ranges) if self._recipe.quantize == "int8" else {}

    def _stage(self, number: int, stage: Stage, model: Any, learning: Learning) -> tuple[Outcome, Learning]:
        keras = import_keras()
        place = self._work / f"{number}-{stage.name}"
        if (place / "outcome.json").exists():
            outcome = _read_outcome(place)
        else:
            self._report(f"stage {number} of {len(self._recipe.stages)}, {stage.name}")
            make_folder(place)
            keras.utils.set_random_seed(self._recipe.seed + number)
            workshop = TrainingWorkshop(learning, place, self._report)
            outcome = stage.apply(model, workshop)
            _write_outcome(place, outcome)
        return outcome, learning.with_tokens(outcome.tokens) if outcome.tokens else learning

    def _step(self, number: int, stage: Stage, outcome: Outcome, learning: Learning) -> Step:
        def measure() -> Step:
            measures = self._measure(outcome.model, learning, self._recipe.quantize, self._ranges(outcome))
            return Step(stage.name, stage.values, measures, outcome.notes, outcome.figures)

        return self._kept(f"{number}-{stage.name}", measure)

    def _kept(self, name: str, make: Any) -> Step:
        """Reads a step that was measured before, or measures it and keeps it."""
        path = self._work / name / "step.json"
        if path.exists():
            document = read_json(path)
            return Step(**{**document, "measures": Measures.from_json(document["measures"])})
        self._report(f"measuring, {name}")
        step: Step = make()
        make_folder(path.parent)
        write_json(path, step.to_json())
        return step

    def _measure(self, model: Any, learning: Learning, quantize: str, ranges: Ranges | None = None) -> Measures:
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as scratch:
            path = Path(scratch) / ARTIFACT
            edgelstm.convert(
                model, path, quantize=quantize, calibration=calibration_of(learning), ranges=ranges, verify=False
            )
            return measure_file(path, learning, latency=self._latency)

    def _finish(self, model: Any, learning: Learning, ranges: Ranges, steps: list[Step]) -> Compression:
        self._report("exporting and verifying")
        path, objective = self._folder / ARTIFACT, learning.task.objective
        artifact = edgelstm.convert(
            model,
            path,
            quantize=self._recipe.quantize,
            calibration=calibration_of(learning),
            ranges=ranges,
            progress=self._report,
        )
        last = Step("export", {"quantize": self._recipe.quantize}, measure_file(path, learning, latency=self._latency))
        steps = [*steps, last]
        card = {
            **artifact.card,
            "recipe": self._recipe.to_json()["stage"],
            "accuracy": {"score": objective.main, "value": last.measures.score, "data": learning.name},
        }
        artifact = write_card(path, card)
        write_complete(self._folder / MODEL, independent_copy(model).save)
        write_complete(self._folder / RECIPE, lambda file: file.write_text(self._recipe.to_toml(), encoding="utf-8"))
        for name, content in learning.data.files.items():
            content.save(self._folder / name)
        result = Compression(self._folder, artifact, tuple(steps), objective.main, objective.higher_is_better)
        write_json(
            self._folder / REPORT,
            {
                "data": learning.name,
                "score": result.score,
                "higher_is_better": result.higher_is_better,
                "examples": {name: len(part) for name, part in learning.data.splits.items()},
                "steps": [step.to_json() for step in steps],
            },
        )
        shutil.rmtree(self._work, ignore_errors=True)
        return result


def _write_outcome(place: Path, outcome: Outcome) -> None:
    write_complete(place / MODEL, independent_copy(outcome.model).save)
    if outcome.tokens:
        write_complete(place / "tokens.npz", lambda file: np.savez(file, allow_pickle=False, **outcome.tokens))
    document = {"notes": list(outcome.notes), "figures": dict(outcome.figures), "ranges": dict(outcome.ranges)}
    write_json(place / "outcome.json", document)


def _read_outcome(place: Path) -> Outcome:
    document = read_json(place / "outcome.json")
    tokens: dict[str, Any] = {}
    if (place / "tokens.npz").exists():
        with np.load(place / "tokens.npz", allow_pickle=False) as archive:
            tokens = dict(archive)
    model = open_source(place / MODEL, ()).model
    ranges = {name: (low, high) for name, (low, high) in document["ranges"].items()}
    return Outcome(model, tuple(document["notes"]), document["figures"], tokens, ranges)


def _claim(folder: Path, described: Mapping[str, Any], *, restart: bool) -> None:
    """Makes the folder this compression's own.

    Raises:
        OutputError: If it holds another compression, or other files.
    """
    make_folder(folder)
    check_writable(folder)
    claim = folder / CLAIM
    if claim.exists() and not restart:
        try:
            if read_json(claim) == described:
                return
        except LoadError:
            pass
        raise OutputError(
            f"{folder} holds another compression: of another model, data or recipe. Take another folder, or --restart."
        )
    if not claim.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty and holds no compression. Take another folder.")
    shutil.rmtree(folder / WORK, ignore_errors=True)
    write_json(claim, dict(described))


def _fingerprint(model: Any) -> str:
    """A hash of architecture and weights, the same in every process."""
    digest = hashlib.sha256(model.to_json().encode())
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
