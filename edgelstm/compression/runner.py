"""Compressions: a recipe is run, or one is found; what comes out is an artifact with a report."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import write_artifact
from edgelstm.compression.auto import Goals, search
from edgelstm.compression.learning import read_learning
from edgelstm.compression.measures import CPU, check_target
from edgelstm.compression.precision import ladder
from edgelstm.compression.recipe import DROP, Export, Recipe
from edgelstm.compression.report import report_text
from edgelstm.compression.session import ARTIFACT, MODEL, Session
from edgelstm.compression.steps import Compression
from edgelstm.converters.stages.base import Stage
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.errors import LoadError, OutputError, SettingError
from edgelstm.source import open_source
from edgelstm.training.claims import read_json
from edgelstm.training.fitting import Report
from edgelstm.training.folders import check_writable, make_folder, write_complete, write_json

CLAIM, REPORT, REPORT_TEXT, RECIPE, WORK = "compress.json", "report.json", "report.md", "recipe.toml", "stages"
MAX_TRIES = 3
"""So often a stage is tried under a guard, weaker each time."""


def compress(
    model: Any,
    data: str,
    recipe: Recipe | None,
    output: str | Path,
    *,
    max_drop: float | None = None,
    goals: Goals | None = None,
    target: str = CPU,
    latency: bool = True,
    restart: bool = False,
    progress: Report | None = None,
) -> Compression:
    """Runs a recipe on a trained model, or finds one, and writes the result into a folder.

    The same call again goes on with a compression that was interrupted: finished stages are read, the training of the
    stage that had begun goes on after its last batch.

    Args:
        model: A Keras model, or the path of its file; it stays as it is.
        data: What to learn from and be judged by; see `learning.read_learning`.
        recipe: The stages, and the precision of the file; None to find one.
        output: The folder: a new or empty one, or that of the interrupted compression. Afterwards it holds
            model.tflite with its card, model.keras, recipe.toml, report.json, report.md, and the preprocessing files
            that a stage changed.
        max_drop: What the guard lets go, in points of the score (percent of an error), instead of the recipe's; a
            search has `recipe.DROP` if none is given.
        goals: When a search may stop; only without a recipe.
        target: Where latency is measured.
        latency: Whether it is measured at all.
        restart: Delete what an earlier compression left in the folder.
        progress: Takes a line about what is being done.

    Raises:
        SettingError: If a value is impossible, or there is no such target.
        EdgeLSTMError: If the model or the data cannot be read, a stage does not fit the model, or the folder holds
            something else; what was finished before stays in the folder.
    """
    folder, report = Path(output), progress or (lambda _: None)
    check_target(target)
    if recipe is not None and goals is not None:
        raise SettingError("Goals are for finding a recipe: leave them out, or the recipe.")
    drop = _drop(recipe, max_drop)
    report("reading the model")
    source = open_source(model, ())
    report("reading the data")
    seed = recipe.seed if recipe else 0
    learning = read_learning(data, source.model, seed=seed)
    _claim(folder, _described(source.model, data, recipe, drop), restart=restart)
    session = Session(
        source.model,
        learning,
        folder / WORK,
        seed=seed,
        max_drop=drop,
        target=target if latency else None,
        report=report,
    )
    if recipe is None:
        judged, exports = search(session, goals or Goals())
        export, artifact = session.finish(exports)
    else:
        judged = _run(session, recipe)
        export, artifact = session.finish(ladder(session, recipe.export) if session.guard else [recipe.export])
    found = Recipe(tuple(session.stages), export, drop, judged.quantize if session.guard else "", seed)
    return _write(folder, session, found, artifact, goals or Goals(), target if latency else "")


def _drop(recipe: Recipe | None, max_drop: float | None) -> float | None:
    """What the guard lets go."""
    if max_drop is not None:
        return float(DROP.read("max_drop", max_drop))
    if recipe is None:
        return float(DROP.read("max_drop", DROP.default))
    return recipe.max_drop


def _run(session: Session, recipe: Recipe) -> Export:
    """Runs the stages of a recipe; returns the precision in which they were judged."""
    judged = _judging(session, recipe)
    for stage in recipe.stages:
        # What quantization-aware training is worth, only an int8 file shows.
        export = recipe.export if stage.name == "qat" else judged
        attempt: Stage | None = stage
        for _ in range(MAX_TRIES):
            if attempt is None or session.attempt(attempt, export):
                break
            attempt = attempt.weaker()
    return judged


def _judging(session: Session, recipe: Recipe) -> Export:
    """Returns how stages are exported to be judged: as the result will be, unless the guard refuses just that."""
    if session.guard is None:
        return recipe.export
    if recipe.judged_in:
        return Export(recipe.judged_in, strip_names=recipe.export.strip_names)
    step = session.judge(recipe.export)
    if step.kept:
        return recipe.export
    session.notes.append(
        f"Before any stage, a file in {recipe.export} is refused: {step.reason}. Stages were judged in float32."
    )
    return Export("float32", strip_names=recipe.export.strip_names)


def _write(folder: Path, session: Session, recipe: Recipe, artifact: Any, goals: Goals, target: str) -> Compression:
    """Writes everything that a finished compression leaves; the artifact last."""
    learning, objective = session.learning, session.learning.task.objective
    measures = session.tried[-1].measures
    assert measures is not None
    missed = goals.missed_by(measures)
    notes = [*session.notes, *([f"The goal is missed: {'; '.join(missed)}."] if missed else [])]
    card = {
        **artifact.card,
        "recipe": recipe.to_json()["stage"],
        "accuracy": {"score": objective.main, "value": measures.score, "data": learning.name},
    }
    write_complete(folder / MODEL, independent_copy(session.model).save)
    write_complete(folder / RECIPE, lambda file: file.write_text(recipe.to_toml(), encoding="utf-8"))
    for name, content in learning.data.files.items():
        content.save(folder / name)
    artifact = write_artifact(folder / ARTIFACT, artifact.path.read_bytes(), card)
    done = Compression(
        folder,
        artifact,
        tuple(session.tried),
        objective.main,
        objective.higher_is_better,
        target,
        tuple(notes),
    )
    document = {
        "data": learning.name,
        "score": done.score,
        "higher_is_better": done.higher_is_better,
        "target": target,
        "examples": {name: len(part) for name, part in learning.data.splits.items()},
        "guard": {"examples": len(learning.guarding), "max_drop": recipe.max_drop} if learning.guarding else None,
        "notes": notes,
        "steps": [step.to_json() for step in done.tried],
    }
    write_complete(folder / REPORT_TEXT, lambda file: file.write_text(report_text(done), encoding="utf-8"))
    write_json(folder / REPORT, document)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return done


def _described(model: Any, data: str, recipe: Recipe | None, max_drop: float | None) -> dict[str, Any]:
    """What distinguishes a compression from others."""
    wanted = recipe.to_json() if recipe else "to be found"
    return {"source": _fingerprint(model), "data": data, "recipe": wanted, "max_drop": max_drop}


def _claim(folder: Path, described: Mapping[str, Any], *, restart: bool) -> None:
    """Makes the folder this compression's own.

    Raises:
        OutputError: If it holds another compression, a finished one, or other files.
    """
    make_folder(folder)
    check_writable(folder)
    claim = folder / CLAIM
    if claim.exists() and not restart:
        if not _is(claim, described):
            raise OutputError(
                f"{folder} holds another compression: of another model, data or recipe. Take another folder, or "
                "--restart."
            )
        if (folder / REPORT).exists():
            raise OutputError(f"The compression in {folder} is finished. Take another folder, or --restart.")
        return
    if not claim.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty and holds no compression. Take another folder.")
    shutil.rmtree(folder / WORK, ignore_errors=True)
    (folder / REPORT).unlink(missing_ok=True)
    write_json(claim, dict(described))


def _is(claim: Path, described: Mapping[str, Any]) -> bool:
    try:
        return bool(read_json(claim) == described)
    except LoadError:
        return False


def _fingerprint(model: Any) -> str:
    """A hash of architecture and weights, the same in every process."""
    digest = hashlib.sha256(model.to_json().encode())
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
