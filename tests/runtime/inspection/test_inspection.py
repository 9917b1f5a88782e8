"""Inputs, outputs, operators and the report as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import write_artifact
from edgelstm.runtime.inspection import Inspection, TensorSummary, inspect

BATCH, TIME = 2, 4  # of the models in conftest.py

Edited = Callable[[str, Callable[[Any], None]], Inspection]


def test_inputs_and_outputs_are_those_of_the_signature(models: dict[str, Path]) -> None:
    inspection = inspect(models["float32"])
    assert [signature.key for signature in inspection.signatures] == ["serving_default"]
    assert inspection.inputs == (TensorSummary("tokens", (BATCH, TIME), "int32", None, None),)
    assert inspection.outputs == (TensorSummary("probability", (BATCH, 1), "float32", None, None),)


def test_quantized_inputs_and_outputs_have_scale_and_zero_point(models: dict[str, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(models["sequence_int8"]))
    inspection = inspect(models["sequence_int8"])
    for ours, theirs in zip(
        inspection.inputs + inspection.outputs,
        interpreter.get_input_details() + interpreter.get_output_details(),
        strict=True,
    ):
        assert ours.dtype == "int8"
        assert (ours.scale, ours.zero_point) == theirs["quantization"]


def test_a_file_without_signatures_is_described_by_tensor_names(edited: Edited) -> None:
    def drop_signatures(editor: Any) -> None:
        editor.model.signatureDefs = []

    inspection = edited("float32", drop_signatures)
    assert [signature.key for signature in inspection.signatures] == [None]
    assert inspection.inputs[0].name.endswith("tokens:0")
    assert inspection.inputs[0].shape == (BATCH, TIME)


def test_an_open_size_is_minus_one(edited: Edited) -> None:
    def open_batch(editor: Any) -> None:
        editor.graph.tensors[int(editor.graph.inputs[0])].shapeSignature = np.array([-1, 3], np.int32)

    assert edited("dense", open_batch).inputs[0].shape == (-1, 3)


def test_a_file_without_lstm_has_no_traps(models: dict[str, Path]) -> None:
    inspection = inspect(models["dense"])
    assert (inspection.lstms, inspection.loops, inspection.warnings) == ((), (), ())
    assert inspection.parameters == 3 * 7
    assert not inspection.uses_flex


def with_card(model: Path, folder: Path, semantics: str) -> Path:
    """Writes a copy of a model with a card that says what becomes of its state."""
    copy = folder / "m.tflite"
    write_artifact(copy, model.read_bytes(), {"state": {"semantics": semantics}})
    return copy


def test_a_streaming_model_is_meant_to_keep_its_state(models: dict[str, Path], tmp_path: Path) -> None:
    inspection = inspect(with_card(models["float32"], tmp_path, "streaming"))
    assert (inspection.streaming, [lstm.state for lstm in inspection.lstms]) == (True, ["streaming"])
    assert "state-leaks" not in [warning.code for warning in inspection.warnings]


def test_a_card_that_says_otherwise_does_not_hide_a_leak(models: dict[str, Path], tmp_path: Path) -> None:
    inspection = inspect(with_card(models["float32"], tmp_path, "self-resetting"))
    assert (inspection.streaming, [lstm.state for lstm in inspection.lstms]) == (False, ["leaking"])
    assert "state-leaks" in [warning.code for warning in inspection.warnings]


def test_the_card_of_another_model_says_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    path = with_card(models["float32"], tmp_path, "streaming")
    path.write_bytes(models["dynamic"].read_bytes())
    assert not inspect(path).streaming
    path.with_suffix(".json").write_text('{"format": "edgelstm-card-1", "state": [')
    assert not inspect(path).streaming


def test_who_asks_may_say_that_a_model_streams(models: dict[str, Path], tmp_path: Path) -> None:
    assert [lstm.state for lstm in inspect(models["float32"], streaming=True).lstms] == ["streaming"]
    path = with_card(models["float32"], tmp_path, "streaming")
    assert [lstm.state for lstm in inspect(path, streaming=False).lstms] == ["leaking"]


def test_json_holds_everything(models: dict[str, Path]) -> None:
    inspection = inspect(models["int8"])
    report = json.loads(json.dumps(inspection.to_json(), allow_nan=False))
    assert report["path"] == str(models["int8"])
    assert report["size_bytes"] == inspection.size_bytes
    assert report["uses_flex"] is False
    assert report["lstms"][0]["units"] == 32
    assert report["signatures"][0]["inputs"][0]["shape"] == [BATCH, TIME]
    assert [warning["code"] for warning in report["warnings"]] == [warning.code for warning in inspection.warnings]


def test_a_custom_operator_is_counted_by_its_name_and_is_not_flex(edited: Edited) -> None:
    def add_custom(editor: Any) -> None:
        editor.insert("CUSTOM", [], [])
        editor.model.operatorCodes[-1].customCode = b"Sparkle"

    inspection = edited("dense", add_custom)
    assert ("Sparkle", 1, "custom") in [(o.name, o.count, o.kind) for o in inspection.operators]
    assert inspection.warnings == ()
