"""From a Keras model to a verified artifact."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.converters.calibration import read_data
from edgelstm.options import Options, output_kind
from edgelstm.outputs import OUTPUTS, Order, prepare
from edgelstm.outputs.base import Progress
from edgelstm.source import open_source

DEFAULT_TIMEOUT_S = 600.0


def convert(
    model: Any,
    output: str | Path,
    *,
    quantize: str = "float32",
    runtime: str = "interpreter",
    streaming: bool = False,
    approximate_gates: bool = False,
    calibration: str | Path | Mapping[str, Any] | Any | None = None,
    batch: int | None = None,
    length: int | None = None,
    padding: str = "auto",
    io: str = "float",
    weights: str | Path | None = None,
    custom: Sequence[str] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    layers: Mapping[str, str] | None = None,
    strip_names: bool = False,
    stages: Sequence[Mapping[str, Any]] = (),
    data: str | None = None,
    verify: bool = True,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Progress | None = None,
) -> Artifact:
    """Converts a Keras model to a file that answers as Keras does, on every call.

    Every LSTM becomes what the runtime takes: one fused operator, a loop, or its steps one after the other. The
    file is compared with the Keras model before it gets its name.

    Args:
        model: A Keras 3 or tf_keras model, or the path of its file or folder, whatever Keras wrote it.
        output: What to write: a `.tflite` or `.onnx` file, or a folder (a name without an ending) for a
            SavedModel; its card is written beside it as `.json`.
        quantize: "float32", "float16", "dynamic" (int8 weights) or "int8" (full integer).
        runtime: What the file is for: "interpreter", "compiled" (LiteRT CompiledModel), "web" (LiteRT.js),
            "mediapipe" or "micro" (TensorFlow Lite Micro).
        streaming: Whether LSTMs keep their state from call to call; the file then takes `length` time steps at
            a time, one by default.
        approximate_gates: Whether gates with a hard sigmoid become sigmoids, which the fused operator has; the
            card says how much the answers differ.
        calibration: Typical inputs: an .npz file or arrays by input name, samples first. int8 needs them;
            other precisions are verified on them.
        batch: Batch size of the file, where the model leaves it free (1 if left out) or fixes another one.
        length: Number of time steps, where the model leaves it free.
        padding: "auto" handles masked steps anywhere. "pre" and "post" promise that they only come first or
            last, "none" that there are none; the file is cheaper then.
        io: "float" or "int8": type of the inputs and outputs of an int8 file.
        weights: The file with the weights of an architecture in a `.json` file.
        custom: Custom classes of the model, each as "package.module:Class".
        ranges: (Least, greatest) values of an int8 file that replace calibrated ones, as the stage `qat` learns them,
            by `LAYER/input`, `LAYER/output` and `LAYER/cell`.
        layers: Another precision for single layers, "float32", "float16" or "dynamic", by name, or by path ("encoder/
            lstm") for a layer inside a model or a wrapper. A layer that holds others stands for all of them. In an
            int8 file they compute in float.
        strip_names: Whether a `.tflite` file names only its inputs, its outputs and the states of a streaming model,
            which takes some bytes off each tensor.
        stages: Stages of compression that change the model first, as a recipe has them: {"kind": "prune-units",
            "fraction": 0.4}. The model itself stays as it is.
        data: What these stages learn from, as `edgelstm compress --data` takes it; int8 is calibrated on it where
            `calibration` is left out. None for stages that learn nothing.
        verify: False leaves parity out; the card says so.
        timeout_s: Limit for each native job, in seconds.
        progress: Called with a word or two at each step.

    Returns:
        The artifact.

    Raises:
        ValueError: If an option has a value that is not allowed.
        EdgeLSTMError: If the job cannot be done; nothing is written then.
    """
    options = Options(
        quantize,
        runtime,
        streaming,
        approximate_gates,
        batch,
        length,
        padding,
        io,
        verify,
        timeout_s,
        ranges or {},
        layers or {},
        strip_names=strip_names,
    )
    output = Path(output)
    options.check(output)
    if data is not None and not stages:
        raise ValueError("data is for stages, and there are none: leave it out, or name stages.")
    kind = OUTPUTS[output_kind(output)]
    kind.check(output)
    report_step = progress or _ignore
    report_step("loading")
    source = open_source(model, custom, batch=batch, weights=weights)
    given = None if calibration is None else read_data(calibration)
    if stages:
        from edgelstm.compression.staging import run_stages

        staged = run_stages(source, stages, data, quantize, report_step)
        source, given = staged.source, staged.calibration if given is None else given
        if quantize == "int8":
            options = dataclasses.replace(options, ranges={**staged.ranges, **options.ranges})
    with (
        tempfile.TemporaryDirectory(prefix="edgelstm-") as folder,
        prepare(source, options, given, free_length=kind.free_length) as prepared,
    ):
        return kind.write(Order(prepared, output, Path(folder), report_step))


def _ignore(_: str) -> None:
    """Reports nothing."""
