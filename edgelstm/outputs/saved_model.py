"""SavedModel folders, for TensorFlow Serving: one signature, free batch and length where the model leaves them free."""

from __future__ import annotations

from pathlib import Path

from edgelstm.artifact import SUFFIXES, Artifact, check_card, has_card, write_card
from edgelstm.card import saved_model_card
from edgelstm.converters.exporters.saved_model import (
    check_folder,
    export_saved_model,
    placed_folder,
    verify_saved_model,
)
from edgelstm.converters.verification import require_passed
from edgelstm.errors import OutputError
from edgelstm.outputs.base import Order


def check(folder: Path) -> None:
    """Finds out, before long work, whether the folder and its card can be written.

    Raises:
        OutputError: If they cannot, or a SavedModel is there that has no card: the model to be converted, say.
    """
    if folder.suffix in SUFFIXES:
        raise OutputError(f"Cannot write {folder}: it is a folder. Name a file in it.")
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not has_card(folder):
        raise OutputError(
            f"Cannot write {folder}: it holds a SavedModel that has no card of edgelstm beside it, and may be the only "
            "copy of a model. Name another folder, or delete that one."
        )
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
        require_passed(report, order.output.name)
    order.progress("writing")
    card = saved_model_card(order.output.name, prepared, served, report)
    with placed_folder(finished, order.output):
        return write_card(order.output, card)
