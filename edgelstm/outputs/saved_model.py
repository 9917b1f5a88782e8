"""SavedModel folders, for TensorFlow Serving: one signature, free batch and length where the model leaves them free."""

from __future__ import annotations

from pathlib import Path

from edgelstm.artifact import Artifact, check_card, write_card
from edgelstm.card import saved_model_card
from edgelstm.converters.exporters.saved_model import (
    check_folder,
    export_saved_model,
    place_folder,
    verify_saved_model,
)
from edgelstm.converters.verification import require_passed
from edgelstm.outputs.base import Order


def check(folder: Path) -> None:
    """Finds out, before long work, whether the folder and its card can be written.

    Raises:
        OutputError: If they cannot.
    """
    check_folder(folder)
    check_card(folder)


def write(order: Order) -> Artifact:
    """Writes a SavedModel folder, and its card beside it.

    Raises:
        EdgeLSTMError: If the job cannot be done; nothing is written then.
    """
    prepared, options = order.prepared, order.prepared.options
    order.progress("converting")
    finished = order.folder / "served"
    served = export_saved_model(prepared.model, prepared.signature, finished)
    report = None
    if options.verify:
        order.progress("verifying")
        report = verify_saved_model(
            prepared.model,
            prepared.signature,
            finished,
            served,
            prepared.samples(),
            origin=prepared.origin,
            timeout_s=options.timeout_s,
        )
        require_passed(report, str(order.output))
    order.progress("writing")
    place_folder(finished, order.output)
    return write_card(order.output, saved_model_card(order.output.name, prepared, served, report))
