"""An exported model: the file and, beside it, its card.

`model.tflite` and `model.json` belong together, so do `model.onnx` and `model.onnx.json`, and the folder `served` and
`served.json`: a folder can hold one model in every form. File and card are written complete under temporary names in
their own folder and then renamed, so there is never half an artifact. No time stamps: writing the same model twice
gives the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.errors import LoadError, OutputError

CARD_FORMAT = "edgelstm-card-1"
"""Value of a card's "format", by which a card is told from other JSON files of the same name."""

SUFFIXES = (".tflite", ".onnx")


@dataclass(frozen=True)
class Artifact:
    """A model file and what is known about it.

    Attributes:
        path: The model file, `….tflite` or `….onnx`, or the folder of a SavedModel.
        card: Content of the card, empty if the model has none.
    """

    path: Path
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def card_path(self) -> Path:
        """Where the card stands: beside the model, `….json` for a .tflite file, else the whole name and `.json`."""
        return _card_path(self.path)

    @classmethod
    def open(cls, path: str | Path) -> Artifact:
        """Reads a model's card; a model without a card, or beside another kind of JSON file, has an empty one.

        Args:
            path: The model file. Its content is not interpreted.

        Raises:
            LoadError: If the model cannot be read, or its card is damaged or was written for another model.
        """
        path = Path(path)
        if path.is_dir():
            raise LoadError(
                f"{path} is a folder: name a {' or '.join(SUFFIXES)} file. A SavedModel is compared with its Keras "
                "model while it is written; the parity stands in its card."
            )
        try:
            model = path.read_bytes()
        except OSError as error:
            raise LoadError(f"Cannot read {path}: {_reason(error)}.") from error
        artifact = cls(path)
        card = _read_card(artifact.card_path)
        if card.get("sha256", expected := _sha256(model)) != expected:
            raise LoadError(
                f"{artifact.card_path} was written for another model than {path}. Export the model again, or delete "
                f"{artifact.card_path.name}."
            )
        return cls(path, card)


def check_output(path: str | Path) -> None:
    """Finds out, before long work, whether a model and its card can be written.

    Args:
        path: The model file to be written.

    Raises:
        OutputError: If the name has no ending of `SUFFIXES`, the folder is missing or may not be written to, there is
            something at that path that is no file, or the card would replace a JSON file that is no card, or the card
            of another model.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise OutputError(
            f"Cannot write {path}: the name of an exported model ends in {' or '.join(SUFFIXES)}, e.g. "
            f"{path.stem}.tflite, and that of a new SavedModel folder has no dot."
        )
    try:
        check_place(path)
        for file in (path, _card_path(path)):
            _check_replaceable(file)
        _check_card_replaceable(path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}.") from error


def write_artifact(path: str | Path, model: bytes, card: dict[str, Any]) -> Artifact:
    """Writes a model and its card.

    Both are complete on the disk before either gets its name. Should the machine stop between the two renames, the
    card's "sha256" tells `Artifact.open` that it belongs to the model before.

    Args:
        path: The model file to write; a link is followed.
        model: Content of the model file.
        card: Content of the card, JSON values only. "format" and "sha256" (of the model) are added.

    Returns:
        What was written.

    Raises:
        OutputError: As `check_output`, and if writing fails, for instance on a full disk. What was there before is
            still there then, and no temporary files are left.
    """
    path = Path(path)
    check_output(path)
    card = {**card, "format": CARD_FORMAT, "sha256": _sha256(model)}
    artifact = Artifact(path, card)
    try:
        _write_all([(path, model), (artifact.card_path, _card_text(card).encode())])
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}.") from error
    return artifact


def check_card(path: Path) -> None:
    """Finds out whether the card of a folder can be written beside it.

    Raises:
        OutputError: If it would replace something that is no card, or the card of another model.
    """
    try:
        check_place(path)
        _check_replaceable(_card_path(path))
        _check_card_replaceable(path)
    except OSError as error:
        raise OutputError(f"Cannot write {_card_path(path)}: {_reason(error)}.") from error


def write_card(path: Path, card: dict[str, Any]) -> Artifact:
    """Writes the card of a folder that stands already.

    Args:
        path: The folder.
        card: Content of the card, JSON values only. "format" is added.

    Raises:
        OutputError: As `check_card`, and if writing fails.
    """
    check_card(path)
    artifact = Artifact(path, {**card, "format": CARD_FORMAT})
    write_file(artifact.card_path, _card_text(artifact.card).encode())
    return artifact


def note_accuracy(path: str | Path, accuracy: dict[str, Any]) -> bool:
    """Writes a score into a model's card, where measurements find it; a model without a card stays without.

    Args:
        path: The model file.
        accuracy: "metric", its "value", and what it was scored on ("data").

    Returns:
        Whether there is a card.

    Raises:
        LoadError: If the card is damaged or was written for another model.
        OutputError: If it cannot be written.
    """
    artifact = Artifact.open(path)
    if not artifact.card:
        return False
    write_file(artifact.card_path, _card_text({**artifact.card, "accuracy": accuracy}).encode())
    return True


def _card_text(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
        OutputError: If it cannot be written; what was there before is still there then.
    """
    try:
        _write_all([(path, content)])
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)}.") from error


def write_temporary(path: Path, data: bytes) -> None:
    """Writes a file that only the running job needs.

    Raises:
        OutputError: If it cannot be written, on a full disk, say.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"Cannot write the temporary file {path}: {error.strerror}. Free space there.") from error


def _write_all(contents: list[tuple[Path, bytes]]) -> None:
    """Writes every file completely before the first one gets its name."""
    renames: list[tuple[Path, Path]] = []
    try:
        for path, content in contents:
            target = Path(os.path.realpath(path))
            temporary = temporary_name(target.parent)
            renames.append((temporary, target))
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, target in renames:
            temporary.replace(target)
    finally:
        for temporary, _ in renames:
            with contextlib.suppress(OSError):
                temporary.unlink()
    for folder in {target.parent for _, target in renames}:
        _sync_folder(folder)


def temporary_name(folder: Path) -> Path:
    """A hidden name in a folder that nothing else has."""
    return folder / f".edgelstm-{secrets.token_hex(6)}.tmp"


def _sync_folder(folder: Path) -> None:
    """Makes renames survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_place(path: Path) -> None:
    """Finds out whether something can be written at a path: whether the folder around it is there and takes files.

    Raises:
        OutputError: If it does not.
        OSError: If the path itself is none that the file system knows.
    """
    folder = Path(os.path.realpath(path)).parent
    if not folder.exists():
        raise OutputError(f"Cannot write {path}: the folder {folder} does not exist. Create it first.")
    if not folder.is_dir():
        raise OutputError(f"Cannot write {path}: {folder} is not a folder.")
    # Only a real file tells of read-only mounts, access lists and quotas alike.
    probe = temporary_name(folder)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {_reason(error)} in the folder {folder}.") from error


def _check_replaceable(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a folder. Name a file in it.")
    if path.exists() and not path.is_file():
        raise OutputError(f"Cannot write {path}: it is not a regular file.")
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"Cannot write {path}: it exists and is write-protected.")


def has_card(path: Path) -> bool:
    """Whether a card stands where the card of a model stands, and was written for one of that name."""
    try:
        return _card_owner(_read_card(_card_path(path))) == path.name
    except LoadError:
        return False


def _check_card_replaceable(path: Path) -> None:
    """Keeps other people's JSON files, such as a Keras architecture beside its weights, and other models' cards."""
    place = _card_path(path)
    try:
        card = _read_card(place)
        is_card = not place.exists() or bool(card)
    except LoadError:
        card, is_card = {}, False
    if not is_card:
        raise OutputError(
            f"The card would replace {place}, which is no card of edgelstm. "
            "Give the output another name, or move that file."
        )
    owner = _card_owner(card)
    if owner not in ("", path.name) and _is_card_of(place, path.with_name(owner)):
        raise OutputError(
            f"The card would replace {place}, which is the card of {path.with_name(owner)}. "
            "Give the output another name."
        )


def _card_path(path: Path) -> Path:
    return path.with_suffix(".json") if path.suffix == ".tflite" else path.with_name(f"{path.name}.json")


def _card_owner(card: dict[str, Any]) -> str:
    """Name of the model that a card was written for, empty if it names none."""
    model = card.get("model")
    name = model.get("file") if isinstance(model, dict) else None
    return Path(name).name if isinstance(name, str) else ""


def _is_card_of(place: Path, model: Path) -> bool:
    return model.exists() and _card_path(model) == place


def _read_card(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LoadError(
            f"The card {path} cannot be read: {error}. Export the model again, or delete the card."
        ) from error
    if isinstance(content, dict) and content.get("format") == CARD_FORMAT:
        return content
    return {}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reason(error: OSError) -> str:
    """Says what the operating system refused, in its words but without its numbers."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return (error.strerror or str(error)).lower()
