"""TensorFlow's native converter and quantizer, each job in a child process with a time limit."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from pathlib import Path

from edgelstm.artifact import write_temporary
from edgelstm.converters import scripts
from edgelstm.errors import ConversionError

WORKER = Path(__file__).with_name("worker.py")
DEFAULT_TIMEOUT_S = 600.0


def convert_saved_model(saved_model: Path, precision: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
    """Converts a SavedModel with one signature, `serving_default`, to a flatbuffer.

    Args:
        saved_model: Folder of the SavedModel; all shapes static.
        precision: "float32", "float16" (weights stored in half precision) or "dynamic" (int8 weights).
        timeout_s: Seconds after which the converter is stopped.

    Returns:
        The flatbuffer; operators without a built-in counterpart are custom operators in it.

    Raises:
        ConversionError: If the converter refuses the model, crashes or runs longer than timeout_s.
    """
    job = {"op": "convert", "saved_model": str(saved_model), "precision": precision}
    return _run(job, what="conversion", timeout_s=timeout_s)


def quantize(model: bytes, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
    """Quantizes a float32 flatbuffer to full integer form.

    Args:
        model: Flatbuffer whose float activations carry calibrated ranges (quantization min and max).
        timeout_s: Seconds after which the quantizer is stopped.

    Returns:
        The flatbuffer with int8 weights and activations and float32 inputs and outputs.

    Raises:
        ConversionError: If the quantizer refuses the model, crashes or runs longer than timeout_s.
    """
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        source = Path(folder) / "calibrated.tflite"
        write_temporary(source, model)
        return _run({"op": "quantize", "model": str(source)}, what="int8 quantization", timeout_s=timeout_s)


def _run(job: dict[str, str], *, what: str, timeout_s: float) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        output = Path(folder) / "result.tflite"
        description = Path(folder) / "job.json"
        write_temporary(description, json.dumps({**job, "output": str(output)}).encode())
        try:
            done = scripts.start(WORKER, description, timeout_s=timeout_s, folder=Path(folder))
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"The native {what} did not end within {timeout_s:g} s and was stopped. "
                "Give it more time with --timeout, or convert a smaller part of the model."
            ) from error
        if done.returncode != 0 or not output.is_file():
            raise ConversionError(_failure(what, done.returncode, done.stderr.decode("utf-8", "replace")))
        return output.read_bytes()


def _failure(what: str, code: int, stderr: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return (
            f"The native {what} crashed ({name}) inside TensorFlow's converter. "
            "Nothing was written; try another precision (--quantize dynamic or float16)."
        )
    return f"The native {what} was refused by TensorFlow's converter: {_reason(stderr)}"


def _reason(stderr: str) -> str:
    """The line that tells the reason, out of the converter's log, at most 300 characters."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line] or [line for line in lines if "Error" in line] or lines
    reason = (telling[0] if "error:" in telling[0] else telling[-1]) if telling else "it gave no reason."
    reason = reason.split("error:", 1)[-1].strip()
    return reason if len(reason) <= 300 else reason[:297] + "..."
