"""What a conversion is asked for, checked before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgelstm.converters.exporters import EXPORTERS
from edgelstm.converters.lowering.masks import PADDINGS
from edgelstm.errors import LoweringError
from edgelstm.runtime.runtimes import FAMILIES, RuntimeFamily

IO_TYPES = ("float", "int8")
LAYER_PRECISIONS = ("dynamic", "float16", "float32")
TFLITE, ONNX, SAVED_MODEL = "tflite", "onnx", "saved_model"
DEFAULT_STREAM_LENGTH = 1


@dataclass(frozen=True)
class Options:
    """Options of a conversion; `edgelstm.convert` says what each means."""

    quantize: str = "float32"
    runtime: str = "interpreter"
    streaming: bool = False
    approximate_gates: bool = False
    batch: int | None = None
    length: int | None = None
    padding: str = "auto"
    io: str = "float"
    verify: bool = True
    timeout_s: float = 600.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    strip_names: bool = False

    @property
    def family(self) -> RuntimeFamily:
        """The runtimes that the file is for."""
        return FAMILIES[self.runtime]

    def check(self, output: Path) -> None:
        """Refuses values that are not allowed, alone or together.

        Args:
            output: What is to be written.

        Raises:
            ValueError: If an option has a value that is not allowed.
            LoweringError: If the runtime cannot run the precision.
        """
        for name, allowed in (
            ("quantize", tuple(EXPORTERS)),
            ("runtime", tuple(FAMILIES)),
            ("padding", PADDINGS),
            ("io", IO_TYPES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is not known, only {', '.join(map(repr, allowed))}.")
        self._check_layers()
        for name in ("batch", "length"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be at least 1.")
        if self.ranges and self.quantize != "int8":
            raise ValueError(f"ranges are those of int8 values, so they need quantize='int8', not {self.quantize!r}.")
        if self.io == "int8" and self.quantize != "int8":
            raise ValueError(f"io='int8' needs quantize='int8', not {self.quantize!r}.")
        if output_kind(output) == TFLITE:
            for precision in (self.quantize, *self.layers.values()):
                self.family.check_precision(precision)
            self._check_interface()
        else:
            self._check_plain(output)

    def _check_layers(self) -> None:
        for layer, precision in self.layers.items():
            if precision == "int8" and self.quantize != "int8":
                raise ValueError(f"layers={{{layer!r}: 'int8'}} needs quantize='int8', not {self.quantize!r}.")
            if precision != "int8" and precision not in LAYER_PRECISIONS:
                raise ValueError(
                    f"layers={{{layer!r}: {precision!r}}} is not known, only {', '.join(map(repr, LAYER_PRECISIONS))}."
                )

    def _check_interface(self) -> None:
        types = self.family.interface_types
        if self.io == "int8" and types is not None and "int8" not in types:
            raise LoweringError(
                f"{self.family.title} takes no int8 inputs and outputs: leave --io out. The file computes in int8 all "
                "the same."
            )

    def _check_plain(self, output: Path) -> None:
        """ONNX and SavedModel files are float32 and for no runtime of TensorFlow Lite."""
        plain = Options()
        for name in ("quantize", "runtime", "streaming", "io", "layers", "strip_names"):
            if getattr(self, name) != getattr(plain, name):
                raise LoweringError(
                    f"{_as_flag(name, getattr(self, name))} is an option of .tflite files, and {output} is to be "
                    f"{_DESCRIPTIONS[output_kind(output)]}: leave it out, or name the output {output.stem}.tflite."
                )


def _as_flag(name: str, value: str | bool | Mapping[str, str]) -> str:
    """An option as it is given on the command line."""
    if isinstance(value, Mapping):
        return " ".join(f"--layer {layer}={precision}" for layer, precision in value.items())
    flag = f"--{name.replace('_', '-')}"
    return flag if value is True else f"{flag} {value}"


_DESCRIPTIONS = {ONNX: "an ONNX file", SAVED_MODEL: "a SavedModel folder"}


def output_kind(output: Path) -> str:
    """TFLITE, ONNX or SAVED_MODEL by the name of the output: a name without an ending is a folder."""
    if output.suffix == ".onnx":
        return ONNX
    return TFLITE if output.suffix and not output.is_dir() else SAVED_MODEL
