"""Inputs and outputs as a model file itself describes them, for engines that the worker does not drive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import LoadError, ModelRunError
from edgelstm.runtime.inspection.reader import DAMAGE, parse, read_bytes
from edgelstm.runtime.inspection.records import DamagedError, GraphRecord, ModelRecord
from edgelstm.runtime.tensors import Array, TensorInfo


def read_ports(file: Path) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Reads what a file takes and gives, without running it.

    Args:
        file: The .tflite file; it has at most one signature.

    Returns:
        Its inputs and its outputs in the order of the file, by the names of the signature, or by those of the tensors.

    Raises:
        ModelRunError: If the file cannot be read, is damaged, or has more than one signature.
    """
    try:
        return _ports(parse(read_bytes(file)))
    except LoadError as error:
        raise ModelRunError(str(error)) from error
    except (DamagedError, *DAMAGE) as error:
        raise ModelRunError(f"{file} is damaged: {error}. Export it again.") from error


def _ports(model: ModelRecord) -> tuple[list[TensorInfo], list[TensorInfo]]:
    if len(model.signatures) > 1:
        raise DamagedError(f"it has {len(model.signatures)} signatures, not one")
    if model.signatures:
        (signature,) = model.signatures
        graph = model.graphs[signature.graph]
        return [_info(graph, *port) for port in signature.inputs], [_info(graph, *port) for port in signature.outputs]
    graph = model.graphs[0]
    inputs, outputs = ([_info(graph, graph.tensors[i].name, i) for i in ids] for ids in (graph.inputs, graph.outputs))
    return inputs, outputs


def _info(graph: GraphRecord, name: str, index: int) -> TensorInfo:
    tensor = graph.tensors[index]
    return TensorInfo(name, tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point)


def fit_calls(calls: Mapping[str, Any], inputs: list[TensorInfo]) -> tuple[dict[str, Array], int]:
    """Returns the calls as the file takes them, and how many there are.

    Args:
        calls: Arrays by input name, shape (calls, *input shape).
        inputs: The inputs of the file, all of fixed shape.

    Returns:
        C-ordered arrays by input name in the dtypes of the file. Floats for a quantized input are quantized; other
        values are cast where none of them changes.

    Raises:
        ValueError: If names, shapes or dtypes do not fit.
    """
    names = [info.name for info in inputs]
    if set(calls) != set(names):
        raise ValueError(f"the inputs are {names}, but {sorted(calls)} were given")
    fitted = {info.name: _fit(np.asarray(calls[info.name]), info) for info in inputs}
    counts = {len(array) for array in fitted.values()}
    if len(counts) != 1:
        raise ValueError(f"the inputs have {sorted(counts)} calls, which must be one number")
    return fitted, counts.pop()


def _fit(array: Array, info: TensorInfo) -> Array:
    if array.shape[1:] != info.shape or array.ndim == 0:
        raise ValueError(
            f"input {info.name!r} of one call has shape {array.shape[1:]}, but the file takes {info.shape}"
        )
    return np.ascontiguousarray(_cast(array, info))


def _cast(array: Array, info: TensorInfo) -> Array:
    dtype = np.dtype(info.dtype)
    if array.dtype == dtype:
        return array
    if info.scale is not None and array.dtype.kind == "f":
        return info.quantize(array)
    if info.scale is None and dtype.kind == "f" and array.dtype.kind in "fiub":
        return array.astype(dtype)
    if info.scale is None and dtype.kind in "iu" and array.dtype.kind in "iub":
        cast: npt.NDArray[Any] = array.astype(dtype)
        if np.array_equal(cast, array):
            return cast
    raise ValueError(f"input {info.name!r} is {array.dtype.name}, and its values do not fit into {info.dtype}")


def describe(tensors: list[TensorInfo]) -> list[dict[str, Any]]:
    """Returns tensors as the worker's result lists them."""
    return [{**asdict(info), "shape": list(info.shape), "shape_signature": list(info.shape)} for info in tensors]
