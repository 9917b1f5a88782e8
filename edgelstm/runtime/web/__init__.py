"""Runs files on LiteRT.js, the runtime of the web, in a headless Chromium.

It takes Chromium, and a folder with the npm package:

    apt-get install chromium
    npm install --prefix FOLDER @litertjs/core@2.5.3
    EDGELSTM_RUNTIMES=litertjs=FOLDER

The environment variable CHROMIUM names another browser of that kind. Nothing but this machine is reached: a server on
the loopback address gives the page its files. LiteRT.js computes on the CPU here, in WebAssembly, with one thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import ModelRunError
from edgelstm.runtime.feeds import describe, fit_calls, read_ports
from edgelstm.runtime.tensors import Array, TensorInfo
from edgelstm.runtime.web.browser import Browser, open_browser
from edgelstm.runtime.web.installation import NAME, REQUIREMENT, Installation, find_installation, is_here, version
from edgelstm.runtime.web.server import PageServer

__all__ = ["NAME", "REQUIREMENT", "check_file", "is_here", "run", "run_sequences", "version"]

DTYPES = ("float32", "int32", "uint8")
"""What LiteRT.js 2.5 takes and gives; inside a model it has the others, too."""

_POLL_S = 0.05


def run(file: Path, calls: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Array], dict[str, Any]]:
    """Runs calls of a file on one compiled model, one after the other.

    Args:
        file: The .tflite file.
        calls: Arrays by input name, shape (calls, *input shape with batch).
        timeout_s: Seconds after which the browser is stopped.

    Returns:
        Arrays by output name, shape (calls, *output shape), and the result: "runtime", "runtime_version", "browser",
        "inputs", "outputs", "calls", "load_us", and "samples_ns", the duration of every call in order, of which the
        first prepares the model and takes longer.

    Raises:
        ModelRunError: If LiteRT.js refuses the file or fails, or the browser ends or runs too long.
        MissingExtraError: If LiteRT.js or Chromium is not installed.
    """
    return run_sequences(file, calls, sequence=1, carry={}, timeout_s=timeout_s)


def run_sequences(
    file: Path, calls: Mapping[str, Any], *, sequence: int, carry: Mapping[str, str], timeout_s: float
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Runs sequences of calls of a file whose states are inputs and outputs, which outlive a call but no sequence.

    Args:
        file: The .tflite file.
        calls: Arrays by input name, shape (sequences * sequence, *input shape with batch), without those in carry.
        sequence: Calls in a sequence.
        carry: Names of outputs by the names of the inputs that take them in the next call. They begin at zero.
        timeout_s: Seconds after which the browser is stopped.

    Returns:
        As `run`.

    Raises:
        ModelRunError: As `run`.
        MissingExtraError: The same.
    """
    installation = find_installation()
    inputs, outputs = check_file(file)
    carried = _plan_carry(file, carry, inputs, outputs)
    try:
        feeds, count = fit_calls(calls, [info for info in inputs if info.name not in carry])
    except ValueError as error:
        raise ModelRunError(f"{file}: {NAME} cannot be fed: {error}.") from error
    plan = {"calls": count, "sequence": sequence, "carry": carried}
    with (
        PageServer(installation.packages, file.read_bytes(), feeds, plan) as server,
        open_browser(installation.chromium, server.url) as browser,
    ):
        _wait(file, installation, server, browser, timeout_s)
    answer, name = server.answer, f"{NAME} {installation.version}"
    if "failed" in answer:
        raise ModelRunError(f"{file}: {name} failed: {explain(answer['failed'], answer['errors'])}.")
    arrays = _read_outputs(server, count)
    _check_names(f"{file}: {name}", arrays, outputs)
    result = {
        "runtime": NAME,
        "runtime_version": installation.version,
        "browser": answer["browser"],
        "inputs": describe(inputs),
        "outputs": describe(outputs),
        "calls": count,
        "load_us": answer["load_ms"] * 1e3,
        "samples_ns": [round(latency_ms * 1e6) for latency_ms in answer["latencies_ms"]],
    }
    return arrays, result


def _plan_carry(
    file: Path, carry: Mapping[str, str], inputs: list[TensorInfo], outputs: list[TensorInfo]
) -> dict[str, dict[str, Any]]:
    begins = {info.name: info.zero_point or 0 for info in inputs}
    missing = sorted((set(carry) - set(begins)) | (set(carry.values()) - {info.name for info in outputs}))
    if missing:
        raise ModelRunError(f"{file} has no {', '.join(missing)} to carry a state in. Export it again.")
    return {name: {"output": output, "begin": begins[name]} for name, output in carry.items()}


def explain(message: str, lines: list[str]) -> str:
    """Puts the message of an exception and the errors on the console into one clause, without the places in sources."""
    texts = [re.sub(r"^\W*(ERROR|FATAL):?\s*(\[[^\]]*\]\s*)?", "", line) for line in lines]
    head, *rest = dict.fromkeys(text.strip().rstrip(".") for text in (message, *texts) if text.strip())
    return f"{head}: {'; '.join(rest)}" if rest else head


def check_file(file: Path) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Returns inputs and outputs of a file, if LiteRT.js takes such; it would not tell which of them it refuses.

    Raises:
        ModelRunError: If an input or an output is of a type it does not take, or of a size that is not fixed.
    """
    inputs, outputs = read_ports(file)
    for info in (*inputs, *outputs):
        if info.dtype not in DTYPES:
            raise ModelRunError(
                f"{file}: LiteRT.js takes and gives {', '.join(DTYPES)} only, but {info.name!r} is {info.dtype}. "
                "Export the model with float32 inputs and outputs."
            )
    for info in inputs:
        if -1 in info.shape:
            raise ModelRunError(
                f"{file}: LiteRT.js takes fixed sizes only, but the file leaves sizes of input {info.name!r} open, "
                f"{info.shape}. Export the model with a fixed batch and length."
            )
    return inputs, outputs


def _check_names(where: str, arrays: dict[str, Array], outputs: list[TensorInfo]) -> None:
    """Refuses an answer in which an output is missing.

    Raises:
        ModelRunError: If one is.
    """
    missing = sorted({info.name for info in outputs} - set(arrays))
    if missing:
        raise ModelRunError(
            f"{where} gives no output {missing[0]!r}: of outputs that share one tensor it gives one. "
            "Export the model with a tensor for each output."
        )


def _wait(file: Path, installation: Installation, server: PageServer, browser: Browser, timeout_s: float) -> None:
    """Waits for the answer of the page.

    Raises:
        ModelRunError: If the browser ends before, or there is none in time.
    """
    deadline = time.monotonic() + timeout_s
    while not server.finished.wait(_POLL_S):
        if time.monotonic() > deadline:
            raise ModelRunError(
                f"{file}: {NAME} {installation.version} was stopped after {timeout_s:g} s. "
                "Give it fewer calls or more time."
            )
        if browser.process.poll() is not None and not server.finished.is_set():
            raise ModelRunError(
                f"{file}: the browser ended with status {browser.process.returncode} before {NAME} answered: "
                f"{browser.last_words()}. Check that {installation.chromium} --headless starts."
            )


def _read_outputs(server: PageServer, count: int) -> dict[str, Array]:
    arrays = {}
    for index, output in enumerate(server.answer["outputs"]):
        values = np.frombuffer(server.outputs[index], output["dtype"])
        arrays[output["name"]] = values.reshape(count, *output["shape"])
    return arrays
