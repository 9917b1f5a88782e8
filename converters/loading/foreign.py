"""Names for files that are given by mistake, so that the error can say what to do instead."""

from __future__ import annotations

_PICKLE = (
    "is a Python pickle, which is never opened because that would run code in it. Save the model with model.save()"
)
_YAML = "looks like an architecture in YAML, which can hold code. Write it with model.to_json() instead"
_WEB_PAGE = "is a web page, probably saved in place of the model. Download the model itself"

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (4, b"TFL3", "is a .tflite model, which is converted already. Give the Keras model that it was made from"),
    (0, b"\x89PNG", "is a PNG image and not a Keras model. Give a .keras or .h5 file"),
    (0, b"\xff\xd8\xff", "is a JPEG image and not a Keras model. Give a .keras or .h5 file"),
    (0, b"\x1f\x8b", "is compressed with gzip. Unpack it and give the .keras or .h5 file inside"),
    (0, b"PK\x05\x06", "is an empty zip archive. Save the model again with model.save('model.keras')"),
    (0, b"\x80\x02", _PICKLE),
    (0, b"\x80\x03", _PICKLE),
    (0, b"\x80\x04", _PICKLE),
    (0, b"\x80\x05", _PICKLE),
    (0, b"version https://git-lfs", "is only a pointer of Git LFS to the model. Fetch the model with `git lfs pull`"),
    (0, b"<!DOCTYPE", _WEB_PAGE),
    (0, b"<!doctype", _WEB_PAGE),
    (0, b"<html", _WEB_PAGE),
    (0, b"backend: ", _YAML),
    (0, b"class_name: ", _YAML),
)


def describe(head: bytes) -> str | None:
    """Says what a file is that was given by mistake.

    Args:
        head: The file's first bytes.

    Returns:
        The rest of a sentence that begins with "it", without the final full stop; None for an unknown file.
    """
    for offset, magic, description in _SIGNATURES:
        if head[offset : offset + len(magic)] == magic:
            return description
    return None
