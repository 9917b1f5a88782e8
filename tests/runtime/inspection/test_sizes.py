"""What the bytes of a file are for."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection import Inspection, inspect

BATCH, TIME, WORDS = 2, 4, 50  # of the models in conftest.py

Edited = Callable[[str, Callable[[Any], None]], Inspection]


def test_weights_are_counted_and_their_bytes_add_up(models: dict[str, Path]) -> None:
    table, lstm, dense = WORDS * 40, 4 * 32 * (40 + 32 + 1), 32 + 1
    inspection = inspect(models["float32"])
    assert inspection.parameters == table + lstm + dense
    assert inspection.sizes.tables == 4 * table
    assert inspection.sizes.lstm_weights == 4 * lstm
    assert inspection.sizes.other_weights == 4 * dense
    assert inspection.weight_bytes == {"float32": 4 * (table + lstm + dense)}
    assert inspection.sizes.metadata > 0


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
def test_compressed_files_have_as_many_parameters_in_fewer_bytes(models: dict[str, Path], precision: str) -> None:
    full, small = inspect(models["float32"]), inspect(models[precision])
    assert small.parameters == full.parameters
    assert small.sizes.tables * (2 if precision == "float16" else 4) == full.sizes.tables
    assert small.sizes.lstm_weights < 0.6 * full.sizes.lstm_weights


def test_sizes_add_up_to_the_file(models: dict[str, Path]) -> None:
    for path in models.values():
        inspection = inspect(path)
        assert inspection.size_bytes == path.stat().st_size
        assert sum(vars(inspection.sizes).values()) == inspection.size_bytes
        assert min(vars(inspection.sizes).values()) >= 0


def test_gzip_size_is_what_gzip_makes_of_it(models: dict[str, Path]) -> None:
    content = models["int8"].read_bytes()
    assert inspect(models["int8"]).gzip_bytes == len(gzip.compress(content, 6))


def test_weights_of_a_loop_are_weights_and_its_start_values_are_constants(models: dict[str, Path]) -> None:
    inspection = inspect(models["loop"])
    assert inspection.parameters == 8 * 20
    assert inspection.sizes.other_weights == 4 * 8 * 20
    assert inspection.sizes.constants >= 4 * BATCH * TIME * 5


def test_values_that_states_are_set_to_are_no_weights(edited: Edited) -> None:
    plain, reset = edited("float32", lambda editor: None), edited("float32", lambda editor: editor.add_reset())
    assert reset.parameters == plain.parameters
    assert reset.sizes.tables == plain.sizes.tables


def test_data_with_two_uses_counts_once_for_the_more_telling_use(edited: Edited) -> None:
    def name_table_as_metadata(editor: Any) -> None:
        table = next(tensor for tensor in editor.graph.tensors if list(tensor.shape) == [WORDS, 40])
        entry = schema.MetadataT()
        entry.name, entry.buffer = b"copy", table.buffer
        editor.model.metadata.append(entry)

    plain, shared = edited("float32", lambda editor: None), edited("float32", name_table_as_metadata)
    assert shared.sizes.tables == plain.sizes.tables == 4 * WORDS * 40
    assert shared.sizes.metadata == plain.sizes.metadata
