"""The matrix for a terminal."""

from __future__ import annotations

import dataclasses

import pytest

from edgelstm.runtime.support.entries import Support
from edgelstm.runtime.support.text import format_support

REFUSED = "its loader refuses variable tensors, in which the LSTM operator keeps its state"
ENTRIES = (
    Support("runtime", "ai-edge-litert", "LiteRT Interpreter", "yes", "yes", "run", ""),
    Support("runtime", "old", "tflite-runtime 2.14", "yes", "reset", "rule", "the state survives", "interpreter"),
    Support("runtime", "litert-compiled", "LiteRT CompiledModel", "no", "no", "rule", REFUSED, "compiled"),
    Support("runtime", "litertjs", "LiteRT.js (browser)", "no", "no", "rule", REFUSED, "web"),
    Support("runtime", "mediapipe", "MediaPipe Tasks", "yes", "unknown", "rule", "nobody tried"),
    Support("runtime", "tflite-micro", "TensorFlow Lite Micro", "unknown", "unknown", "rule", "nobody knows"),
    Support("delegate", "gpu", "GPU delegate", "yes", "yes", "documented", "the LSTM stays on the CPU"),
    Support("delegate", "ml", "Core ML delegate", "yes", "yes", "documented", "the LSTM stays on the CPU"),
    Support("platform", "android", "Android", "yes", "yes", "run", "", None, ("LiteRT Interpreter",)),
    Support("platform", "pi", "Raspberry Pi", "yes", "reset", "rule", "", None, ("tflite-runtime 2.14",)),
    Support("platform", "browser", "browser", "no", "no", "rule", REFUSED),
    Support("platform", "microcontroller", "microcontroller", "unknown", "unknown", "rule", "nobody knows"),
)


def test_the_whole_matrix_reads_like_this():
    assert (
        format_support(ENTRIES)
        == """\
Runtimes                 loads      right on every call  known by
  LiteRT Interpreter     yes        yes                  run
  tflite-runtime 2.14    yes        only after a reset   rule
  LiteRT CompiledModel   no         -                    rule
  LiteRT.js (browser)    no         -                    rule
  MediaPipe Tasks        yes        not known            rule
  TensorFlow Lite Micro  not known  not known            rule

Reasons
  tflite-runtime 2.14: the state survives.
  LiteRT CompiledModel, LiteRT.js (browser): its loader refuses variable
    tensors, in which the LSTM operator keeps its state.
  MediaPipe Tasks: nobody tried.
  TensorFlow Lite Micro: nobody knows.

Delegates of the Interpreter (documented, not tried)
  GPU delegate, Core ML delegate: the LSTM stays on the CPU.

Platforms
  Android          LiteRT Interpreter
  Raspberry Pi     tflite-runtime 2.14, after a reset
  browser          none of its runtimes
  microcontroller  not known

run: this file was run on it here.
rule: told from what is in the file; the tests of edgelstm check that on the
runtime.
For a file that runs right there: edgelstm convert --runtime interpreter,
compiled or web."""
    )


def test_nothing_to_explain_leaves_the_reasons_out():
    fine = [dataclasses.replace(each, loads="yes", right="yes", why="", cure=None) for each in ENTRIES[:2]]
    text = format_support(fine)
    assert "Reasons" not in text
    assert "edgelstm convert" not in text


def test_one_way_out_is_named_alone():
    assert format_support(ENTRIES[2:3]).endswith("edgelstm convert --runtime compiled.")


@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_wider_than_the_terminal(width):
    long = dataclasses.replace(ENTRIES[2], why="its " + "UNIDIRECTIONAL_SEQUENCE_LSTM " * 9 + "x" * 200)
    lines = format_support([*ENTRIES, long], width).split("\n")
    assert max(map(len, lines)) <= width
    assert format_support(ENTRIES, 5) == format_support(ENTRIES, 40)


def test_names_from_the_file_cannot_move_the_cursor():
    hostile = dataclasses.replace(ENTRIES[2], why="it has no \x1b[2Jcustom\r")
    assert "\x1b" not in format_support([hostile])
