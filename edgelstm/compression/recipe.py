"""Recipes: an ordered list of stages, how the result is exported, and what it may lose; TOML or built in Python."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelstm.converters.exporters import EXPORTERS
from edgelstm.converters.stages import make_stage
from edgelstm.converters.stages.base import Setting, Stage, nearest
from edgelstm.errors import EdgeLSTMError, LoadError, SettingError

SEED, STAGES, EXPORT, GUARD = "seed", "stage", "export", "guard"
QUANTIZE, LAYERS, STRIP_NAMES = "quantize", "layers", "strip_names"
MAX_DROP, JUDGED_IN = "max_drop", "judged_in"
KIND, QAT, INT8 = "kind", "qat", "int8"

DROP = Setting(0.5, "points that may be lost", low=0, high=100)
"""What `max_drop` may be."""


@dataclasses.dataclass(frozen=True)
class Export:
    """How a model is exported.

    Attributes:
        quantize: Precision of the file.
        layers: Precision of single layers that have another one, by path.
        strip_names: Whether names of inner tensors are left out.
    """

    quantize: str = "float32"
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    strip_names: bool = False

    def __str__(self) -> str:
        others = ", ".join(f"{layer} in {precision}" for layer, precision in self.layers.items())
        return self.quantize + (f" with {others}" if others else "")

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values, as a recipe has them."""
        return {QUANTIZE: self.quantize, STRIP_NAMES: self.strip_names, LAYERS: dict(self.layers)}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done to a model, in this order, and how it is exported then.

    Attributes:
        stages: The stages.
        export: How the result is exported.
        max_drop: What the guard lets go, in points of the score (percent of an error); None for no guard.
        judged_in: How models are exported for the guard to judge stages; None for as the result is, or float32 where
            the model as it came does not pass in that.
        seed: Of everything random.
    """

    stages: tuple[Stage, ...] = ()
    export: Export = Export()
    max_drop: float | None = None
    judged_in: Export | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values, defaults included, so that a later version of edgelstm does the same."""
        stages = [{KIND: stage.name, **stage.values} for stage in self.stages]
        document: dict[str, Any] = {SEED: self.seed, STAGES: stages, EXPORT: self.export.to_json()}
        if self.max_drop is not None:
            document[GUARD] = {MAX_DROP: self.max_drop}
            if self.judged_in:
                document[GUARD][JUDGED_IN] = self.judged_in.to_json()
        return document

    def to_toml(self) -> str:
        """Returns it as text that `read_recipe` reads to the same recipe."""
        document = self.to_json()
        tables = [_table(f"[[{STAGES}]]", stage) for stage in document[STAGES]]
        if self.max_drop is not None:
            tables.append(_table(f"[{GUARD}]", {MAX_DROP: self.max_drop}))
        if self.judged_in:
            tables += _export_tables(f"{GUARD}.{JUDGED_IN}", self.judged_in)
        tables += _export_tables(EXPORT, self.export)
        return "\n\n".join([f"{SEED} = {self.seed}", *tables]) + "\n"


def read_recipe(path: str | Path) -> Recipe:
    """Reads a recipe from a TOML file.

    Raises:
        LoadError: If the file cannot be read or is no TOML.
        SettingError: If it names an unknown stage or setting, or gives an impossible value.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"Cannot read the recipe {path}: {(error.strerror or str(error)).lower()}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LoadError(f"The recipe {path} is no TOML: {error}.") from error
    try:
        return parse_recipe(document)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def parse_recipe(document: Mapping[str, Any]) -> Recipe:
    """Makes a recipe of plain values, as `Recipe.to_json` returns them.

    Raises:
        SettingError: If it names an unknown stage or setting, or gives an impossible value.
    """
    _check_keys("A recipe", document, (SEED, STAGES, EXPORT, GUARD))
    seed, stages = document.get(SEED, 0), document.get(STAGES, [])
    if type(seed) is not int or seed < 0:
        raise SettingError(f"The seed must be a whole number of at least 0, not {seed!r}.")
    if not isinstance(stages, list) or not all(isinstance(entry, Mapping) for entry in stages):
        raise SettingError(f"Stages are tables: begin each with [[{STAGES}]].")
    max_drop, judged_in = _guard(document)
    made = tuple(_stage(number, entry) for number, entry in enumerate(stages, 1))
    recipe = Recipe(made, _export(document), max_drop, judged_in, seed)
    _check_qat(recipe)
    return recipe


def _check_qat(recipe: Recipe) -> None:
    """Refuses quantization-aware training where what it learns would get lost."""
    numbers = [number for number, stage in enumerate(recipe.stages, 1) if stage.name == QAT]
    if not numbers:
        return
    if numbers[0] != len(recipe.stages):
        raise SettingError(
            f"Stage {numbers[0]}: {QAT!r} must be the last stage, since later ones would undo its ranges."
        )
    if recipe.export.quantize != INT8 and recipe.max_drop is None:
        raise SettingError(
            f"Stage {numbers[0]}: {QAT!r} trains for int8, and the file is to be {recipe.export.quantize}. Export in "
            "int8, or leave the stage out."
        )


def _export(document: Mapping[str, Any], name: str = EXPORT) -> Export:
    table = _table_of(document, name, (QUANTIZE, LAYERS, STRIP_NAMES))
    quantize, layers = table.get(QUANTIZE, Export.quantize), table.get(LAYERS, {})
    _check_precision(QUANTIZE, quantize)
    if not isinstance(layers, Mapping):
        raise SettingError(f"[{name}.{LAYERS}] is a table: a precision for each layer's name.")
    for layer, precision in layers.items():
        _check_precision(f"[{name}.{LAYERS}] {layer}", precision)
        if precision == INT8 != quantize:
            raise SettingError(f"[{name}.{LAYERS}] {layer} = {precision!r} needs {QUANTIZE} = {INT8!r}.")
    stripped = Setting(Export.strip_names, "").read(STRIP_NAMES, table.get(STRIP_NAMES, Export.strip_names))
    return Export(quantize, dict(layers), bool(stripped))


def _guard(document: Mapping[str, Any]) -> tuple[float | None, Export | None]:
    if GUARD not in document:
        return None, None
    table = _table_of(document, GUARD, (MAX_DROP, JUDGED_IN))
    judged_in = _export(table, JUDGED_IN) if JUDGED_IN in table else None
    return float(DROP.read(MAX_DROP, table.get(MAX_DROP, DROP.default))), judged_in


def _table_of(document: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise SettingError(f"[{name}] is a table with {keys[0]} in it.")
    _check_keys(f"[{name}]", table, keys)
    return table


def _check_precision(where: str, value: Any) -> None:
    if not isinstance(value, str) or value not in EXPORTERS:
        raise SettingError(f"{where} = {value!r} is not known, only {', '.join(EXPORTERS)}.")


def _stage(number: int, entry: Mapping[str, Any]) -> Stage:
    values = dict(entry)
    kind = values.pop(KIND, None)
    if not isinstance(kind, str):
        raise SettingError(f'Stage {number} has no {KIND}: write {KIND} = "prune-units", for instance.')
    try:
        return make_stage(kind, values)
    except EdgeLSTMError as error:
        raise SettingError(f"Stage {number}: {error}") from error


def _check_keys(what: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise SettingError(f"{what} has no {key!r}.{nearest(key, known)} It has {', '.join(known)}.")


def _export_tables(name: str, export: Export) -> list[str]:
    document = export.to_json()
    layers = document.pop(LAYERS)
    tables = [_table(f"[{name}]", document)]
    if layers:
        tables.append(_table(f"[{name}.{LAYERS}]", {_key(layer): value for layer, value in layers.items()}))
    return tables


def _table(head: str, values: Mapping[str, Any]) -> str:
    return "\n".join([head, *(f"{name} = {_toml(value)}" for name, value in values.items())])


def _key(name: str) -> str:
    """A name that may have slashes and blanks in it, as a key."""
    return json.dumps(name, ensure_ascii=False)


def _toml(value: Any) -> str:
    """A value in TOML; JSON writes texts and whole numbers alike."""
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
