"""What a .tflite file declares about its tensors, for runtimes that do not tell."""

from __future__ import annotations

from typing import Any

from .plan import PlanError
from .session import Arrays


def declared_tensors(schema: Any, content: bytes) -> tuple[Arrays, Arrays]:
    """Returns what a file declares about its inputs and its outputs, for runtimes that do not tell.

    Args:
        schema: The runtime's own module that reads model files.
        content: The file.

    Returns:
        Tensor details as of an Interpreter, by public name and sorted by it, with "position", the number of the input
        or output.

    Raises:
        PlanError: If the file has more than one signature.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    if model.SignatureDefsLength() > 1:
        raise PlanError(f"the file has {model.SignatureDefsLength()} signatures, not one")
    dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    signature = model.SignatureDefs(0) if model.SignatureDefsLength() else None
    graph = model.Subgraphs(signature.SubgraphIndex() if signature else 0)

    def details(kind: str) -> Arrays:
        indices = [getattr(graph, kind)(k) for k in range(getattr(graph, f"{kind}Length")())]
        if signature:
            entries = [getattr(signature, kind)(k) for k in range(getattr(signature, f"{kind}Length")())]
            names = {entry.Name().decode(): entry.TensorIndex() for entry in entries}
        else:
            names = {graph.Tensors(index).Name().decode(): index for index in indices}
        return {name: detail(index, indices.index(index)) for name, index in sorted(names.items())}

    def detail(index: int, position: int) -> dict[str, Any]:
        tensor = graph.Tensors(index)
        shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
        signature_shape = [tensor.ShapeSignature(axis) for axis in range(tensor.ShapeSignatureLength())]
        scales = tensor.Quantization()
        quantized = scales is not None and scales.ScaleLength() == scales.ZeroPointLength() == 1
        return {
            "index": index,
            "position": position,
            "shape": shape,
            "shape_signature": signature_shape or shape,
            "dtype": dtypes[tensor.Type()],
            "quantization": (scales.Scale(0), scales.ZeroPoint(0)) if quantized else (0.0, 0),
        }

    return details("Inputs"), details("Outputs")
