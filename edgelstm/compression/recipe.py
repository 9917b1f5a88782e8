"""Recipes: an ordered list of stages and how the result is exported, as TOML or built in Python."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelstm.converters.exporters import EXPORTERS
from edgelstm.converters.stages import make_stage
from edgelstm.converters.stages.base import Stage, nearest
from edgelstm.errors import EdgeLSTMError, LoadError, SettingError

SEED, STAGES, EXPORT, QUANTIZE = "seed", "stage", "export", "quantize"
KIND = "kind"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done to a model, in this order, and how it is exported then.

    Attributes:
        stages: The stages.
        quantize: Precision of the exported file.
        seed: Of everything random.
    """

    stages: tuple[Stage, ...] = ()
    quantize: str = "float32"
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values, defaults included, so that a later version of edgelstm does the same."""
        stages = [{KIND: stage.name, **stage.values} for stage in self.stages]
        return {SEED: self.seed, STAGES: stages, EXPORT: {QUANTIZE: self.quantize}}

    def to_toml(self) -> str:
        """Returns it as text that `read_recipe` reads to the same recipe."""
        lines = [f"{SEED} = {self.seed}", ""]
        for stage in self.stages:
            lines += [f"[[{STAGES}]]", f"{KIND} = {json.dumps(stage.name)}"]
            lines += [f"{name} = {_toml(value)}" for name, value in stage.values.items()]
            lines.append("")
        return "\n".join([*lines, f"[{EXPORT}]", f"{QUANTIZE} = {json.dumps(self.quantize)}", ""])


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
    _check_keys("A recipe", document, (SEED, STAGES, EXPORT))
    seed, stages, export = document.get(SEED, 0), document.get(STAGES, []), document.get(EXPORT, {})
    if type(seed) is not int or seed < 0:
        raise SettingError(f"The seed must be a whole number of at least 0, not {seed!r}.")
    if not isinstance(stages, list) or not all(isinstance(entry, Mapping) for entry in stages):
        raise SettingError(f"Stages are tables: begin each with [[{STAGES}]].")
    if not isinstance(export, Mapping):
        raise SettingError(f"[{EXPORT}] is a table with {QUANTIZE} in it.")
    _check_keys(f"[{EXPORT}]", export, (QUANTIZE,))
    quantize = export.get(QUANTIZE, "float32")
    if quantize not in EXPORTERS:
        raise SettingError(f"{QUANTIZE} = {quantize!r} is not known, only {', '.join(EXPORTERS)}.")
    return Recipe(tuple(_stage(number, entry) for number, entry in enumerate(stages, 1)), quantize, seed)


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


def _toml(value: Any) -> str:
    """A value in TOML; JSON writes texts and whole numbers alike."""
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
