"""Compressions: a recipe is run, or one is found; what comes out is an artifact with a report."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import write_artifact
from edgelstm.compression.auto import Goals, search
from edgelstm.compression.learning import Learning, read_learning
from edgelstm.compression.measures import CPU, check_target
from edgelstm.compression.precision import ladder
from edgelstm.compression.recipe import DROP, Export, Recipe
from edgelstm.compression.report import report_text
from edgelstm.compression.session import ARTIFACT, MODEL, Session
from edgelstm.compression.steps import Compression
from edgelstm.converters.lowering.mixed import is_inside, precision_layers
from edgelstm.converters.stages.base import Stage, nearest
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.errors import LoadError, OutputError, SettingError, StageError
from edgelstm.source import open_source
from edgelstm.training.checkpoints import fingerprint
from edgelstm.training.claims import is_leftover, read_json
from edgelstm.training.fitting import Report
from edgelstm.training.folders import check_writable, make_folder, write_complete, write_json

CLAIM, REPORT, REPORT_TEXT, RECIPE, WORK = "compress.json", "report.json", "report.md", "recipe.toml", "stages"
NEW_IDS = "new_ids.json"
_OWN = (CLAIM, REPORT, REPORT_TEXT, RECIPE, NEW_IDS, ARTIFACT, Path(ARTIFACT).with_suffix(".json").name, MODEL)
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
    _check_layers(recipe, source.model)
    measured = target if latency else ""
    _claim(folder, _described(source.model, learning, recipe, drop, goals, measured), restart=restart)
    session = Session(
        source.model, learning, folder / WORK, seed=seed, max_drop=drop, target=measured or None, report=report
    )
    if recipe is None:
        judged, exports = search(session, goals or Goals())
        export, artifact = session.finish(exports)
    else:
        judged = _run(session, recipe)
        export, artifact = session.finish(ladder(session, recipe.export) if session.guard else [recipe.export])
    found = Recipe(tuple(session.stages), export, drop, judged if session.guard else None, seed)
    return _write(folder, session, found, artifact, goals or Goals(), measured)


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
        if not session.attempt(stage, export):
            _try_weaker(session, stage, export)
    return judged


def _try_weaker(session: Session, stage: Stage, export: Export) -> None:
    """Tries weaker stages in the place of one that was not kept, until one is kept or changes nothing."""
    for _ in range(MAX_TRIES - 1):
        weaker = stage.weaker()
        if weaker is None:
            return
        stage = weaker
        try:
            if session.attempt(stage, export):
                return
        except StageError as error:
            session.refuse(stage, str(error))
            return


def _judging(session: Session, recipe: Recipe) -> Export:
    """Returns how stages are exported to be judged: as the result will be, unless the guard refuses just that."""
    if session.guard is None:
        return recipe.export
    if recipe.judged_in:
        return recipe.judged_in
    step = session.judge(recipe.export)
    if step.kept:
        return recipe.export
    session.notes.append(
        f"Before any stage, a file in {recipe.export} is refused: {step.reason}. Stages were judged in float32."
    )
    return Export("float32", strip_names=recipe.export.strip_names)


def _write(folder: Path, session: Session, recipe: Recipe, artifact: Any, goals: Goals, target: str) -> Compression:
    """Writes everything that a finished compression leaves; the report last."""
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
    if session.tokens:
        write_json(folder / NEW_IDS, {name: table.tolist() for name, table in session.tokens.items()})
        notes.append(
            f"Words have new ids: {NEW_IDS} has the new id of each old one, and the app must feed the new ones."
        )
    artifact = write_artifact(folder / ARTIFACT, artifact.path.read_bytes(), card)
    done = Compression(
        folder,
        artifact,
        tuple(session.tried),
        objective.main,
        objective.higher_is_better,
        target,
        (recipe.max_drop, len(learning.guarding)) if recipe.max_drop is not None and learning.guarding else None,
        tuple(notes),
    )
    document = {
        "data": learning.name,
        "score": done.score,
        "higher_is_better": done.higher_is_better,
        "target": target,
        "examples": {name: len(part) for name, part in learning.data.splits.items()},
        "guard": {"max_drop": done.guard[0], "examples": done.guard[1]} if done.guard else None,
        "notes": notes,
        "files": sorted(learning.data.files),
        "steps": [step.to_json() for step in done.tried],
    }
    write_complete(folder / REPORT_TEXT, lambda file: file.write_text(report_text(done), encoding="utf-8"))
    write_json(folder / REPORT, document)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return done


def _check_layers(recipe: Recipe | None, model: Any) -> None:
    """Refuses, before anything is done, a recipe that exports layers in a way of their own that there are not.

    Raises:
        SettingError: If the model has no such layer.
    """
    paths = precision_layers(model)
    for layer in recipe.export.layers if recipe else ():
        if not any(is_inside(path, layer) for path in paths):
            raise SettingError(
                f"Model {model.name!r} has no layer {layer!r} with a precision of its own.{nearest(layer, paths)}"
            )


def _described(
    model: Any, learning: Learning, recipe: Recipe | None, max_drop: float | None, goals: Goals | None, target: str
) -> dict[str, Any]:
    """What distinguishes a compression from others."""
    test = dataclasses.replace(learning.data, train=learning.data.test)
    return {
        "source": _fingerprint(model),
        "data": [learning.name, fingerprint(learning.data), fingerprint(test)],
        "recipe": recipe.to_json() if recipe else "to be found",
        "max_drop": max_drop,
        "goals": dataclasses.asdict(goals) if goals else None,
        "target": target,
    }


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
                f"{folder} holds another compression: of another model, data, recipe or goal. Take another folder, or "
                "--restart."
            )
        if (folder / REPORT).exists():
            raise OutputError(f"The compression in {folder} is finished. Take another folder, or --restart.")
        return
    if not claim.exists() and not all(is_leftover(path, _OWN) for path in folder.iterdir()):
        raise OutputError(f"{folder} is not empty and holds no compression. Take another folder.")
    _clear(folder)
    write_json(claim, dict(described))


def _clear(folder: Path) -> None:
    """Deletes what an earlier compression wrote, and nothing else.

    Raises:
        OutputError: If a file cannot be deleted.
    """
    names, report = set(_OWN) - {CLAIM}, folder / REPORT
    try:
        if report.exists():
            names |= {Path(name).name for name in read_json(report).get("files", [])}
        shutil.rmtree(folder / WORK, ignore_errors=True)
        for path in folder.iterdir():
            if path.name in names or is_leftover(path, names | {CLAIM}):
                path.unlink()
    except OSError as error:
        raise OutputError(f"Cannot delete {error.filename}: {error.strerror or error}.") from error


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
