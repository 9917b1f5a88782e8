"""Options of a conversion are checked before anything is done; each refusal says what to do instead."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import edgelstm
from edgelstm.converters.exporters import EXPORTERS
from edgelstm.errors import LoweringError
from edgelstm.options import ONNX, SAVED_MODEL, TFLITE, Options, output_kind
from edgelstm.runtime.runtimes import FAMILIES

OUTPUT = Path("model.tflite")
MICRO_LACKS = {"float16", "dynamic"}


def check(output: str | Path = OUTPUT, **options: Any) -> None:
    Options(**options).check(Path(output))


def test_without_options_all_is_well():
    check()
    assert Options().family.name == "interpreter"


# Values that no option has


@pytest.mark.parametrize(
    "options, text",
    [
        ({"quantize": "int4"}, "quantize='int4' is not known, only 'float32', 'float16', 'dynamic', 'int8'"),
        ({"runtime": "gpu"}, "runtime='gpu' is not known, only 'interpreter', 'compiled', 'web', 'mediapipe', 'micro'"),
        ({"padding": "both"}, "padding='both' is not known, only 'auto', 'pre', 'post', 'none'"),
        ({"io": "int16"}, "io='int16' is not known, only 'float', 'int8'"),
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"length": -3}, "length=-3 must be at least 1"),
        ({"io": "int8"}, "io='int8' needs quantize='int8', not 'float32'"),
        ({"io": "int8", "quantize": "dynamic"}, "io='int8' needs quantize='int8', not 'dynamic'"),
        ({"layers": {"a": "int4"}}, "'int4'} is not known, only 'dynamic', 'float16', 'float32'"),
        ({"layers": {"a": "int8"}, "quantize": "float16"}, "'int8'} needs quantize='int8', not 'float16'"),
    ],
)
def test_values_that_are_not_allowed_are_refused_with_those_that_are(options, text):
    with pytest.raises(ValueError, match=text):
        check(**options)


# What a runtime takes


@pytest.mark.parametrize("runtime, precision", list(itertools.product(FAMILIES, EXPORTERS)))
def test_every_runtime_takes_every_precision_but_micro(runtime, precision):
    if runtime == "micro" and precision in MICRO_LACKS:
        with pytest.raises(
            LoweringError,
            match=f"TensorFlow Lite Micro cannot run {precision}: it has no kernels for float16.* Use float32 or int8",
        ):
            check(runtime=runtime, quantize=precision)
    else:
        check(runtime=runtime, quantize=precision)


@pytest.mark.parametrize("precision", ["float16", "dynamic"])
def test_a_layer_cannot_have_what_the_runtime_lacks(precision):
    with pytest.raises(LoweringError, match=f"TensorFlow Lite Micro cannot run {precision}: .* Use float32 or int8"):
        check(runtime="micro", quantize="int8", layers={"lstm": precision})
    check(runtime="micro", quantize="int8", layers={"lstm": "float32"})
    check(runtime="interpreter", quantize="int8", layers={"lstm": precision, "dense": "int8"})


@pytest.mark.parametrize(
    "runtime, taken", [("interpreter", 1), ("compiled", 1), ("micro", 1), ("web", 0), ("mediapipe", 0)]
)
def test_int8_inputs_and_outputs_are_refused_where_the_runtime_refuses_them(runtime, taken):
    options = {"runtime": runtime, "quantize": "int8", "io": "int8"}
    if taken:
        check(**options)
    else:
        with pytest.raises(
            LoweringError, match=f"{FAMILIES[runtime].title} takes no int8 inputs and outputs: leave --io out"
        ):
            check(**options)
    check(**{**options, "io": "float"})


def test_the_choices_of_runtimes_are_the_table():
    assert list(FAMILIES) == ["interpreter", "compiled", "web", "mediapipe", "micro"]
    assert [family.form for family in FAMILIES.values()] == ["fused", "loop", "loop", "unrolled", "fused"]


# Outputs that are no .tflite file


@pytest.mark.parametrize(
    "output, kind", [("m.tflite", TFLITE), ("m.onnx", ONNX), ("served", SAVED_MODEL), ("m.lite", TFLITE)]
)
def test_the_name_says_what_is_written(output, kind):
    assert output_kind(Path(output)) == kind


def test_a_folder_stays_a_folder_whatever_its_name(tmp_path):
    (tmp_path / "m.v1").mkdir()
    assert output_kind(tmp_path / "m.v1") == SAVED_MODEL


@pytest.mark.parametrize(
    "options, shown",
    [
        ({"quantize": "float16"}, "--quantize float16"),
        ({"quantize": "int8"}, "--quantize int8"),
        ({"runtime": "micro"}, "--runtime micro"),
        ({"streaming": True}, "--streaming"),
        ({"quantize": "int8", "io": "int8"}, "--quantize int8"),
        ({"layers": {"lstm": "float32", "b/c": "dynamic"}}, "--layer lstm=float32 --layer b/c=dynamic"),
    ],
)
@pytest.mark.parametrize("output, description", [("m.onnx", "an ONNX file"), ("m", "a SavedModel folder")])
def test_options_of_tflite_files_are_refused_for_others(options, shown, output, description):
    what = f"{shown} is an option of .tflite files, and {output} is to be {description}"
    text = f"{what}: leave it out, or name the output m.tflite"
    with pytest.raises(LoweringError, match=text):
        check(output, **options)


@pytest.mark.parametrize("output", ["m.onnx", "m"])
def test_options_of_the_model_hold_for_every_output(output):
    check(output, batch=2, length=5, padding="pre", approximate_gates=True, verify=False, timeout_s=5)


# Before anything is read or written


@pytest.mark.parametrize(
    "options, error",
    [
        ({"runtime": "micro", "quantize": "dynamic"}, LoweringError),
        ({"runtime": "web", "quantize": "int8", "io": "int8"}, LoweringError),
        ({"runtime": "desktop"}, ValueError),
    ],
)
def test_a_refused_conversion_does_not_even_look_for_the_model(options, error, tmp_path):
    with pytest.raises(error):
        edgelstm.convert(tmp_path / "there is none.keras", tmp_path / "m.tflite", **options)
    assert list(tmp_path.iterdir()) == []
