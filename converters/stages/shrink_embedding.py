"""shrink-embedding: tables of embeddings with fewer rows, narrower ones, and values that compress.

Rows: ids that the training examples never or rarely show become the id of unknown words. Width: the table is cut to a
low rank, weighted by how often each row is read; where only layers with a kernel read the rows, the second factor goes
into these kernels, and otherwise into a Dense behind the table. Values: on the grid of the converted file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.low_rank import LowRank, saves
from edgelstm.converters.stages.narrowing import (
    assign_side_by_side,
    copy_all_but_kernels,
    readers_inside,
    side_by_side,
    unbuilt,
)
from edgelstm.converters.stages.surgery import named_layers, rebuild
from edgelstm.converters.stages.table_grid import Grid, fit_grid, rounded_embedding
from edgelstm.converters.stages.tables import Table, Tables, find_tables
from edgelstm.converters.stages.vocabulary import count_ids, kept_ids, renumber, shrink_rows
from edgelstm.errors import SettingError, StageError

Array = npt.NDArray[Any]


@dataclasses.dataclass(eq=False)
class _Plan:
    """What becomes of a table.

    Attributes:
        table: The table.
        rows: What the new Embedding holds, shape (rows, width).
        counts: How often each row is read; one for each where that is not known.
        factor: What the rows must be multiplied with, shape (width, columns): kernels of the readers side by side,
            or of a Dense; None where the width is the old one.
        folded: Whether the factor goes into the kernels of the readers.
        grid: Of the values; None for any.
    """

    table: Table
    rows: Array
    counts: Array
    factor: Array | None = None
    folded: bool = False
    grid: Grid | None = None


class ShrinkEmbedding(Stage):
    """Makes tables of embeddings smaller: fewer ids, fewer columns, fewer different values."""

    name = "shrink-embedding"
    title = "smaller tables of embeddings: rare ids dropped, low rank, values on a coarse grid"
    settings: ClassVar[Mapping[str, Setting]] = {
        "vocabulary": Setting(0, "keep at most so many ids, the most frequent ones; 0 for any number", low=0),
        "min_count": Setting(1, "keep ids that the training examples show at least so often", low=0),
        "special": Setting(3, "so many first ids stay: padding, start, unknown", low=1),
        "unknown": Setting(2, "the id that dropped ones become, one of the special ones", low=0),
        "merge": Setting(
            True, "the row of unknown words becomes the mean of the dropped rows, by how often they occur"
        ),
        "rank": Setting(0, "width of the table; 0 for that of the energy", low=0),
        "energy": Setting(0.0, "share of squared singular values to keep; 0 leaves the width", low=0, high=1),
        "bits": Setting(0, "values on a grid of so many bits: 8 or 4; 0 for any", low=0, high=8),
        "epochs": Setting(3, "passes of fine-tuning", low=0),
        "learning_rate": Setting(0.0, "of fine-tuning; 0 for that of the data", low=0),
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        special, vocabulary = self._whole("special"), self._whole("vocabulary")
        if self._whole("bits") not in (0, 4, 8):
            raise SettingError(f"Setting 'bits' of stage {self.name!r} must be 0, 4 or 8, not {self.values['bits']}.")
        if self._whole("unknown") >= special:
            raise SettingError(
                f"Setting 'unknown' of stage {self.name!r} must be less than 'special' ({special}), "
                f"not {self.values['unknown']}: the row of unknown words must stay."
            )
        if vocabulary and vocabulary < special:
            raise SettingError(
                f"Setting 'vocabulary' of stage {self.name!r} must be at least 'special' ({special}), not {vocabulary}."
            )

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns the model with smaller tables, fine-tuned.

        Raises:
            StageError: If the model has no Embedding, or none that becomes smaller; or examples have ids that the
                table does not have.
            EdgeLSTMError: If fine-tuning fails.
        """
        tables = find_tables(model)
        notes = [f"Layer {path!r} is left as it is: an Embedding inside it." for path in tables.out_of_reach]
        plans: list[_Plan] = []
        tokens: dict[str, Array] = {}
        for group in tables.groups():
            group_plans, group_tokens, group_notes = self._rows(group, tables, workshop)
            plans += group_plans
            tokens |= group_tokens
            notes += group_notes
        if not plans:
            raise StageError(f"Model {model.name!r} has no Embedding to shrink. {' '.join(notes)}".strip())
        for plan in plans:
            notes += self._width(plan) + self._grid(plan)
        if not tokens and all(plan.factor is None and plan.grid is None for plan in plans):
            notes.append("No id is rare enough to be dropped: set 'vocabulary', 'min_count', 'rank' or 'bits'.")
            raise StageError(f"No Embedding of model {model.name!r} becomes smaller. {' '.join(notes)}")
        new = _with_tables(model, plans)
        workshop.report(f"{model.count_params()} weights become {new.count_params()}")
        (workshop.with_tokens(tokens) if tokens else workshop).finetune(
            new, epochs=self._whole("epochs"), learning_rate=self.number("learning_rate") or None, name="tables"
        )
        figures = {
            "parameters": [int(model.count_params()), int(new.count_params())],
            "tables": {plan.table.path: self._figures(plan) for plan in plans},
        }
        return Outcome(_on_grids(new, plans), tuple(notes), figures, tokens)

    def weaker(self) -> Self | None:
        """More words, wider rows and 8 bits instead of 4, wherever that is a change."""
        changes: dict[str, Any] = {}
        if self.number("min_count") > 1:
            changes["min_count"] = self._whole("min_count") // 2
        for name in ("vocabulary", "rank"):
            if self.number(name):
                changes[name] = 2 * self._whole(name)
        if 0 < self.number("energy") < 1:
            changes["energy"] = (1 + self.number("energy")) / 2
        if self.values["bits"] == 4:
            changes["bits"] = 8
        return self.but(**changes) if changes else None

    def _whole(self, name: str) -> int:
        return int(self.number(name))

    def _rows(
        self, group: Sequence[Table], tables: Tables, workshop: Workshop
    ) -> tuple[list[_Plan], dict[str, Array], list[str]]:
        """Plans with the rows that stay, new ids by input name, and notes, of tables that share their inputs."""
        inputs = sorted({name for table in group for name in table.inputs})
        sizes = {table.layer.input_dim for table in group}
        names = ", ".join(repr(table.path) for table in group)
        matrices = [np.array(table.layer.embeddings, np.float64) for table in group]
        if len(sizes) > 1 or not inputs:
            why = "they have different numbers of rows" if inputs else "their ids do not come from an input"
            return (
                [_Plan(*each) for each in zip(group, matrices, map(_ones, matrices), strict=True)],
                {},
                [f"All rows of {names} stay: {why}."],
            )
        examples = workshop.train.x
        counts = count_ids([examples[name] for name in inputs], sizes.pop(), f"the Embedding {names}")
        why_all = _why_all_rows(group, tables, inputs)
        if why_all:
            plans = [_Plan(table, matrix, counts) for table, matrix in zip(group, matrices, strict=True)]
            return plans, {}, [f"All rows of {names} stay: {why_all}."]
        new_ids = renumber(
            counts, **{name: self._whole(name) for name in ("special", "unknown", "vocabulary", "min_count")}
        )
        unknown = self._whole("unknown")
        if len(kept_ids(new_ids, unknown)) == len(counts):
            return [_Plan(table, matrix, counts) for table, matrix in zip(group, matrices, strict=True)], {}, []
        plans = []
        for table, matrix in zip(group, matrices, strict=True):
            merge = bool(self.values["merge"]) and table.layer.embeddings_constraint is None
            plans.append(_Plan(table, *shrink_rows(matrix, counts, new_ids, unknown, merge=merge)))
        return plans, dict.fromkeys(inputs, new_ids), []

    def _width(self, plan: _Plan) -> list[str]:
        """Cuts the rows of a plan to a low rank; returns notes."""
        rank, energy = self._whole("rank"), self.number("energy")
        if not (rank or energy):
            return []
        table, start = plan.table, f"The width of Embedding {plan.table.path!r} is left as it is: "
        if table.layer.embeddings_constraint is not None:
            return [f"{start}the table has a constraint, which factors would break."]
        if table.is_output:
            return [f"{start}its rows are an output of the model."]
        readers = _foldable_readers(table)
        kernels = side_by_side(readers) if readers else np.eye(plan.rows.shape[1])
        low_rank = LowRank(plan.rows @ kernels, _weights(plan))
        rank = min(rank or low_rank.rank_for(energy), low_rank.full if readers else plan.rows.shape[1])
        rows, width = plan.rows.shape
        if not (rank < width if readers else saves(rank, rows, width)):
            return [f"{start}{rank} columns save nothing in a table of {rows} rows and {width} columns."]
        plan.rows, plan.factor = low_rank.factors(rank)
        plan.folded = bool(readers)
        return []

    def _grid(self, plan: _Plan) -> list[str]:
        bits = self._whole("bits")
        if bits and plan.table.layer.embeddings_constraint is not None:
            return [f"The values of Embedding {plan.table.path!r} are not rounded: the table has a constraint."]
        plan.grid = fit_grid(plan.rows, _weights(plan), bits) if bits else None
        return []

    def _figures(self, plan: _Plan) -> dict[str, Any]:
        layer, unknown = plan.table.layer, self._whole("unknown")
        rows, width = plan.rows.shape
        dropped = rows < layer.input_dim
        return {
            "rows": [int(layer.input_dim), rows],
            "width": [int(layer.output_dim), width],
            "folded": plan.folded,
            "bits": plan.grid.bits if plan.grid else 0,
            "unknown": float(plan.counts[unknown] / max(_weights(plan).sum(), 1)) if dropped else None,
        }


def _ones(matrix: Array) -> Array:
    return np.ones(len(matrix))


def _why_all_rows(group: Sequence[Table], tables: Tables, inputs: Sequence[str]) -> str:
    """Why the ids of tables cannot be renumbered; empty where they can."""
    if any(table.looks_up_more for table in group):
        return "ids that the model computes are looked up in them, too"
    shared = [name for name in inputs if name in tables.read_otherwise]
    if shared:
        return f"something else than an Embedding reads the ids of input {shared[0]!r}, too"
    return ""


def _weights(plan: _Plan) -> Array:
    """How much each row counts: how often it is read, and not at all for padding that is masked."""
    weights = plan.counts.astype(np.float64)
    if plan.table.layer.mask_zero:
        weights[0] = 0
    return weights


def _foldable_readers(table: Table) -> list[Any]:
    """What reads the rows with kernels of its own and nothing else; empty where something else reads them, too."""
    readers = [each for layer in table.readers.values() for each in readers_inside(layer)]
    if table.read_otherwise or any(each.kernel_constraint is not None for each in readers):
        return []
    return readers


def _with_tables(model: Any, plans: Sequence[_Plan]) -> Any:
    """Returns the model with the tables of plans, those with a grid as layers that round."""
    keras = import_keras()
    by_table = {id(plan.table.layer): plan for plan in plans}
    readers = {key: layer for plan in plans if plan.folded for key, layer in plan.table.readers.items()}
    paths = {id(layer): path for path, layer in named_layers(model).items()}
    names = {path.rpartition("/")[2] for path in paths.values()}

    def change(layer: Any) -> Sequence[Any] | None:
        if id(layer) in readers:
            return (unbuilt(layer),)
        plan = by_table.get(id(layer))
        if plan is None:
            return None
        embedding = _embedding(layer, plan.rows.shape)
        first = rounded_embedding(embedding, plan.grid) if plan.grid else embedding
        if plan.factor is None or plan.folded:
            return (first,)
        name = f"{layer.name}_width"
        while name in names:
            name += "_width"
        names.add(name)
        return first, keras.layers.Dense(
            plan.factor.shape[1], use_bias=False, name=name, dtype=layer.dtype_policy, trainable=layer.trainable
        )

    new, made = rebuild(model, change)
    for key, layer in readers.items():
        copy_all_but_kernels(layer, made[paths[key]][0])
    for plan in plans:
        embedding, *dense = made[plan.table.path]
        embedding.set_weights([plan.rows.astype(np.float32)])
        if plan.factor is None:
            continue
        changed = [made[paths[key]][0] for key in plan.table.readers] if plan.folded else dense
        assign_side_by_side([each for layer in changed for each in readers_inside(layer)], plan.factor)
    return new


def _embedding(layer: Any, shape: Sequence[int]) -> Any:
    rows, width = shape
    new = type(layer).from_config({**layer.get_config(), "input_dim": int(rows), "output_dim": int(width)})
    new.trainable = layer.trainable
    return new


def _on_grids(model: Any, plans: Sequence[_Plan]) -> Any:
    """Returns the model with plain Embeddings, their values rounded, in the place of those that round."""
    grids = {plan.table.path: plan.grid for plan in plans if plan.grid}
    if not grids:
        return model
    layers = named_layers(model)
    rounding = {id(layers[path]) for path in grids}

    def change(layer: Any) -> Sequence[Any] | None:
        if id(layer) not in rounding:
            return None
        new = import_keras().layers.Embedding.from_config(layer.get_config())
        new.trainable = layer.trainable
        return (new,)

    new, made = rebuild(model, change)
    for path, grid in grids.items():
        made[path][0].set_weights([grid.round_to_end(np.array(layers[path].embeddings))])
    return new
