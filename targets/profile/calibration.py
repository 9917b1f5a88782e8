"""The constants of the method, and how far its estimates were from measurement; `calibration.json` holds both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True)
class Calibration:
    """What the method cannot take from a profile.

    Attributes:
        efficiency: Part of the bound that a kernel reaches, by name of the kernel.
        activation: Instructions for one value of a float sigmoid or tanh.
        integer_activation: The same of integers, with NEON.
        integer_activation_portable: The same in the portable code that x86 runs.
        dot_product: Instructions around one row of weights times a vector in a fused LSTM.
        quantize: Instructions to quantize one value.
        element: Instructions for one value of other arithmetic.
        step: Instructions around one step of a fused LSTM.
        operator: Instructions around one run of an operator.
        turn: Instructions around one turn of a loop.
        call: Instructions around one call.
        stream: Bytes that are read from main memory in the time in which memcpy copies one.
        factor: Width of the error band: estimate / factor to estimate * factor.
        micro_factor: The same of microcontrollers.
        band: Where the first comes from, in a sentence.
        micro_band: Where the second comes from.
    """

    efficiency: dict[str, float]
    activation: float
    integer_activation: float
    integer_activation_portable: float
    dot_product: float
    quantize: float
    element: float
    step: float
    operator: float
    turn: float
    call: float
    stream: float
    factor: float
    micro_factor: float
    band: str
    micro_band: str


def read_calibration(path: Path = FILE) -> Calibration:
    """Reads the constants."""
    return Calibration(**json.loads(path.read_text(encoding="utf-8")))
