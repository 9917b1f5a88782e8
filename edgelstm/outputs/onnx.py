"""`.onnx` files: traced, translated operator by operator, verified on ONNX Runtime."""

from __future__ import annotations

from edgelstm.artifact import Artifact, write_artifact, write_temporary
from edgelstm.card import onnx_card
from edgelstm.converters.exporters.onnx import ExportedOnnx, to_onnx, verify_onnx
from edgelstm.converters.exporters.onnx.verify import choose_runtime
from edgelstm.converters.verification import require_passed
from edgelstm.outputs.base import Order


def write(order: Order) -> Artifact:
    """Writes an .onnx file with its card.

    Raises:
        EdgeLSTMError: If the job cannot be done; nothing is written then.
    """
    prepared, options = order.prepared, order.prepared.options
    order.progress("converting")
    exported = to_onnx(
        prepared.model,
        prepared.signature,
        order.folder,
        padding=options.padding,
        free_batch=prepared.signature.free_batch and options.batch is None,
        timeout_s=options.timeout_s,
    )
    content = exported.model.SerializeToString(deterministic=True)
    file = order.folder / order.output.name
    write_temporary(file, content)
    report = None
    if options.verify and _can_run(exported):
        order.progress("verifying")
        report = verify_onnx(
            prepared.model,
            prepared.signature,
            file,
            prepared.samples(),
            origin=prepared.origin,
            timeout_s=options.timeout_s,
        )
        require_passed(report, order.output.name)
    order.progress("writing")
    return write_artifact(order.output, content, onnx_card(order.output.name, prepared, exported, len(content), report))


def _can_run(exported: ExportedOnnx) -> bool:
    """Whether something is installed that computes the file; without it the file is written with a warning."""
    if choose_runtime(exported.model) is not None:
        return True
    exported.notes.append("ONNX Runtime is not installed, so the file was not run: pip install onnxruntime.")
    return False
