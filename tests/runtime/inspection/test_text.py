"""The layout for a terminal."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgelstm.runtime.inspection import (
    Inspection,
    InspectionWarning,
    LoopSummary,
    LstmSummary,
    OperatorCount,
    SignatureSummary,
    SizeBreakdown,
    TensorSummary,
    format_text,
)

LSTM = LstmSummary(
    index=0,
    graph=0,
    operator=3,
    name="lstm",
    kind="UNIDIRECTIONAL_SEQUENCE_LSTM",
    batch=1,
    time=200,
    features=128,
    units=64,
    activation="tanh",
    time_major=False,
    precision="int8",
    cell_clip=0.0,
    state="self-resetting",
    input_scale=0.02,
    output_scale=0.0078125,
    hidden_scale=0.0078125,
    cell_scale=2.0**-13,
    intermediate_scale=0.0078125,
)
INSPECTION = Inspection(
    path=Path("model.tflite"),
    size_bytes=1_234_567,
    gzip_bytes=98_765,
    description="MLIR Converted.",
    signatures=(
        SignatureSummary(
            "serve",
            (TensorSummary("tokens", (1, 200), "int32", None, None), TensorSummary("age", (), "float32", None, None)),
            (TensorSummary("label", (-1, 3), "int8", 0.00390625, -128),),
        ),
    ),
    operators=(OperatorCount("GATHER", 12, "builtin"), OperatorCount("FlexSplit", 1, "flex")),
    lstms=(LSTM,),
    loops=(),
    parameters=1_280_000,
    weight_bytes={"int8": 1_200_000},
    sizes=SizeBreakdown(1_000_000, 200_000, 0, 30_000, 567, 4_000),
)
WARNING = InspectionWarning(
    "state-leaks", "warning", "LSTM 0: " + "the state survives " * 9 + ".", "Reset it " + "before every call " * 9 + "."
)


def test_the_whole_report_reads_like_this() -> None:
    assert (
        format_text(dataclasses.replace(INSPECTION))
        == """\
model.tflite
  1.23 MB (98.8 kB gzipped), 1,280,000 parameters
  MLIR Converted.

Inputs
  tokens  int32    1 x 200
  age     float32  scalar
Outputs
  label  int8  ? x 3  scale 0.003906, zero point -128

LSTM operators
  0  unidirectional, 64 units, tanh, int8, self-resetting
     input 1 x 200 x 128 (batch x time x features)
     no cell clip, cell scale 2^-13

Bytes
  embedding tables  1,000,000  81 %
  LSTM weights        200,000  16 %
  constants            30,000   2 %
  metadata                567   0 %
  structure             4,000   0 %

Operators
  12  GATHER
   1  FlexSplit (flex)

No traps found."""
    )


def test_traps_are_wrapped_and_named() -> None:
    lines = format_text(dataclasses.replace(INSPECTION, warnings=(WARNING,))).split("\n")
    start = lines.index("Traps")
    assert lines[start + 1] == "  warning: state-leaks"
    text = " ".join(line.strip() for line in lines[start + 2 :])
    assert text == f"{WARNING.message} To do: {WARNING.advice}"


@pytest.mark.parametrize("width", [40, 80, 133])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = TensorSummary("serving_default_" + "x" * 300, (1,) * 32, "float32", 1e-30, -128)
    crowded = dataclasses.replace(
        INSPECTION,
        path=Path("folder/" * 30 + "model.tflite"),
        signatures=(SignatureSummary("a" * 200, (long,), ()), SignatureSummary("b", (), (long,))),
        operators=(OperatorCount("Custom" * 40, 1, "custom"),),
        lstms=(dataclasses.replace(LSTM, units=10**9, batch=10**9, time=10**9, features=10**9),),
        warnings=(WARNING,),
    )
    lines = format_text(crowded, width).split("\n")
    assert max(map(len, lines)) == width


def test_widths_below_40_are_taken_as_40() -> None:
    assert format_text(INSPECTION, 5) == format_text(INSPECTION, 40)


def test_what_the_file_does_not_say_is_a_question_mark() -> None:
    unknown = dataclasses.replace(LSTM, batch=None, time=None, features=None, units=None, cell_scale=None)
    text = format_text(dataclasses.replace(INSPECTION, lstms=(unknown,), gzip_bytes=None))
    assert "unidirectional, ? units" in text
    assert "input ? x ? x ? (batch x time x features)" in text
    assert "cell scale" not in text
    assert "gzipped" not in text


def test_time_major_input_and_cell_clip_are_shown() -> None:
    text = format_text(
        dataclasses.replace(INSPECTION, lstms=(dataclasses.replace(LSTM, time_major=True, cell_clip=10.0),))
    )
    assert "input 200 x 1 x 128 (time x batch x features)" in text
    assert "cell clip 10, cell scale" in text


def test_loops_say_what_they_are() -> None:
    loops = (LoopSummary(0, 4, 1, True, 4), LoopSummary(0, 5, 2, True, 1), LoopSummary(0, 7, 3, False))
    text = format_text(dataclasses.replace(INSPECTION, loops=loops, unrolled_steps=24))
    assert (
        """
LSTM as a loop: operator 4, 4 steps in each turn
LSTM as a loop: operator 5, 1 step in each turn
LSTM unrolled: 24 steps outside of loops
Other loops: 1
"""
        in text
    )


def test_a_streaming_model_says_so() -> None:
    lstm = dataclasses.replace(LSTM, state="streaming")
    text = format_text(dataclasses.replace(INSPECTION, streaming=True, lstms=(lstm,)))
    assert "  streaming: its state is meant to survive from call to call\n" in text
    assert "64 units, tanh, int8, streaming\n" in text
    text = format_text(dataclasses.replace(INSPECTION, streaming=True, lstms=()))
    assert "  streaming: the app hands its state on, from outputs to inputs\n" in text


def test_several_signatures_are_named() -> None:
    (signature,) = INSPECTION.signatures
    twice = (signature, dataclasses.replace(signature, key="reset", inputs=(), outputs=()))
    text = format_text(dataclasses.replace(INSPECTION, signatures=twice))
    assert "Inputs of signature serve\n  tokens" in text
    assert "Outputs of signature reset\n  none" in text
