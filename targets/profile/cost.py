"""Estimates the time of one call from what it computes and moves; `docs/profiles.md` derives the formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgelstm.targets.profile.calibration import Calibration
from edgelstm.targets.profile.device import Device

if TYPE_CHECKING:
    from edgelstm.targets.profile.pieces import Piece
    from edgelstm.targets.profile.work import Work

LARGE_MACS = 50_000
"""A product of fewer multiply-accumulates is not worth a second thread: waking one takes microseconds (a judgement)."""

SCALAR = 4
"""How much more a value costs on a core without vectors: the constants are those of vectors of four (a judgement)."""


@dataclass(frozen=True)
class Kernel:
    """What the inner loop of a kernel needs of a core for one multiply-accumulate.

    Attributes:
        rate: The attribute of `Device` that bounds its multiplications; None if instructions alone do.
        instructions: Instructions, for each multiply-accumulate.
        load_bytes: Bytes it loads, for each multiply-accumulate.
        is_packed: Whether it is XNNPACK's, which copies the weights of each operator, even where operators share
            them, and uses several threads.
    """

    rate: str | None
    instructions: float
    load_bytes: float
    is_packed: bool = False


# Fused LSTMs: instructions and bytes counted per inference on emulated Arm cores (LiteRT 2.3.0, embedding 128, 64
# units, 200 steps: 9.83 million multiply-accumulates; 15.68, 9.47 and 8.82 million instructions, 52.9, 27.0 and
# 24.7 MB loaded in float32, dynamic and int8), less what gates and states take by the size of the code around them:
# that division is a judgement. All others: read off the inner loops of XNNPACK's and the reference kernels.
KERNELS = {
    "lstm_float32": Kernel("float32_macs_per_cycle", 1.5, 5.2),
    "lstm_dynamic": Kernel("int8_macs_per_cycle", 0.8, 2.5),
    "lstm_int8": Kernel("int8_macs_per_cycle", 0.6, 2.2),
    "lstm_int8_portable": Kernel(None, 1.5, 2.0),
    "float32": Kernel("wide_float32_macs_per_cycle", 0.3, 4.5, is_packed=True),
    "dynamic": Kernel("wide_int8_macs_per_cycle", 0.15, 1.2, is_packed=True),
    "int8": Kernel("wide_int8_macs_per_cycle", 0.15, 1.2, is_packed=True),
    "int16": Kernel("int8_macs_per_cycle", 1.0, 3.0),
    "micro_float32": Kernel("float32_macs_per_cycle", 4.0, 8.0),
    "micro_int8": Kernel("int8_macs_per_cycle", 1.0, 2.0),
}

# The same loops in SSE, which multiplies with memory and so needs fewer instructions.
X86_KERNELS = {
    "lstm_float32": Kernel("float32_macs_per_cycle", 0.9, 5.2),
    "lstm_dynamic": Kernel("int8_macs_per_cycle", 0.6, 2.5),
}


@dataclass(frozen=True)
class Cost:
    """Time of one call, in cycles of the core.

    Attributes:
        products: Multiply-accumulates, their weights being in the first cache.
        weights: Bringing the weights there.
        values: Activations, and other arithmetic on single values.
        moved: Reading inputs and writing outputs of operators.
        overhead: Around steps, operators, turns of loops and the call.
    """

    products: float = 0.0
    weights: float = 0.0
    values: float = 0.0
    moved: float = 0.0
    overhead: float = 0.0

    @property
    def cycles(self) -> float:
        """The sum."""
        return self.products + self.weights + self.values + self.moved + self.overhead

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def in_us(self, device: Device) -> dict[str, float]:
        """Returns the parts in µs, by name."""
        return {name: getattr(self, name) / device.clock_ghz / 1e3 for name in self.__dataclass_fields__}


def estimate_cost(work: Work, device: Device, calibration: Calibration, threads: int = 1) -> Cost:
    """Estimates one call.

    Args:
        work: What the model computes.
        device: Where.
        calibration: The constants of the method.
        threads: Threads of the runtime.
    """
    model_bytes = sum(stored_bytes(piece, device) for piece in work.pieces)
    total = Cost()
    for piece in work.pieces:
        total += piece_cost(piece, model_bytes, device, calibration, threads)
    fixed = (calibration.turn * work.turns + calibration.call) / device.issue_width
    return total + Cost(overhead=fixed)


def stored_bytes(piece: Piece, device: Device) -> int:
    """Returns what the weights of operators that are alike take in memory while a model runs."""
    if piece.kernel is None:
        return 0
    return piece.weight_bytes * (piece.operators if KERNELS[kernel_name(piece.kernel, device)].is_packed else 1)


def piece_cost(piece: Piece, model_bytes: int, device: Device, calibration: Calibration, threads: int = 1) -> Cost:
    """Estimates operators that are alike, all their runs.

    Args:
        piece: The operators.
        model_bytes: Size of all weights of the model, all of which are read between two calls.
        device: Where.
        calibration: The constants of the method.
        threads: Threads of the runtime.
    """
    values = (
        _activation(calibration, device) * piece.activations
        + _integer_activation(calibration, device) * piece.integer_activations
        + calibration.quantize * piece.quantized
        + calibration.element * piece.elements
        + calibration.dot_product * piece.dot_products
    )
    overhead = calibration.step * piece.steps + calibration.operator
    moved = piece.moved_bytes / device.read_bytes_per_cycle(piece.moved_bytes, calibration.stream)
    return Cost(
        products=_product_cycles(piece, device, calibration, threads) * piece.runs,
        weights=_weight_cycles(piece, model_bytes, device, calibration),
        values=values / device.issue_width * piece.runs,
        moved=moved * piece.runs,
        overhead=overhead / device.issue_width * piece.runs,
    )


def _activation(calibration: Calibration, device: Device) -> float:
    return calibration.activation * (SCALAR if device.is_micro else 1)


def _integer_activation(calibration: Calibration, device: Device) -> float:
    return calibration.integer_activation_portable if device.architecture == "x86" else calibration.integer_activation


def _product_cycles(piece: Piece, device: Device, calibration: Calibration, threads: int) -> float:
    """Returns the cycles of the product in one run, its weights being in the first cache."""
    if piece.kernel is None:
        return 0.0
    name = kernel_name(piece.kernel, device)
    kernel = X86_KERNELS.get(name, KERNELS[name]) if device.architecture == "x86" else KERNELS[name]
    used = min(threads, device.cores) if kernel.is_packed and piece.macs >= LARGE_MACS else 1
    return piece.macs * bound(kernel, device) / calibration.efficiency[name] / used


def _weight_cycles(piece: Piece, model_bytes: int, device: Device, calibration: Calibration) -> float:
    """Returns the cycles in which weights come into the first cache, in all runs.

    The first pass brings them from where the whole model fits, the others from where they alone fit.
    """
    if piece.kernel is None:
        return 0.0
    stored = stored_bytes(piece, device)
    copies = stored // piece.weight_bytes if piece.weight_bytes else 1
    passes = piece.passes * piece.runs

    def cycles_per_byte(working_set: int) -> float:
        if working_set <= device.l1_bytes:
            return 0.0  # the loads of the product's own loop
        return 1 / device.read_bytes_per_cycle(working_set, calibration.stream)

    far, near = cycles_per_byte(model_bytes), cycles_per_byte(piece.weight_bytes)
    return piece.weight_bytes * (copies * far + max(0, passes - copies) * near)


def bound(kernel: Kernel, device: Device) -> float:
    """Returns the least cycles of one multiply-accumulate: the scarcest of multipliers, loads and issue slots."""
    needs = [kernel.load_bytes / device.load_bytes_per_cycle, kernel.instructions / device.issue_width]
    if kernel.rate is not None:
        needs.append(1 / getattr(device, kernel.rate))
    return max(needs)


def kernel_name(name: str, device: Device) -> str:
    """Returns which kernel a device's runtime has for a product."""
    if device.is_micro:
        return "micro_float32" if name in ("float32", "lstm_float32") else "micro_int8"
    if name == "lstm_int8" and device.architecture == "x86":
        return "lstm_int8_portable"
    return name if name in KERNELS else "lstm_int8"
