"""Image files of any size and kind, read with Pillow as arrays of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import DataError, MissingExtraError
from edgelstm.tasks.base import Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in grey: ITU-R BT.601."""

_SIXTEEN_BITS = 65535


def is_image(path: Path) -> bool:
    """Whether a name is that of an image file."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_image(path: Path, size: int, *, color: bool) -> tuple[Array, tuple[int, int]]:
    """Reads an image, turned as its camera says, what is transparent as black, stretched to a square.

    Args:
        path: The file.
        size: Side of the square in pixels.
        color: Whether to keep colours; else grey as 0.299 red + 0.587 green + 0.114 blue (ITU-R 601).

    Returns:
        Pixels, uint8, shape (size, size, 3 or 1), and the file's own (width, height).

    Raises:
        DataError: If it cannot be read.
        MissingExtraError: If Pillow is not installed.
    """
    pillow = import_pillow()
    try:
        with pillow.open(path) as file:
            image = _plain(pillow, file)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"Cannot read the image {path}: {reason}.") from error
    own_size = (image.width, image.height)
    pixels = np.asarray(resize(image.convert("RGB" if color else "L"), size))
    return pixels.reshape(size, size, -1), own_size


def resize(image: Any, size: int) -> Any:
    """Stretches a Pillow image to a square; every pixel is a mean of those it covers, linear between them."""
    return image if image.size == (size, size) else image.resize((size, size), import_pillow().Resampling.BILINEAR)


def import_pillow() -> Any:
    """Imports PIL.Image.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MissingExtraError('Images are read with Pillow: pip install "edgelstm[train]".') from error
    return PIL.Image


def _plain(pillow: Any, file: Any) -> Any:
    """The upright image in RGB or grey, 8 bits a pixel."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(file)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        largest = _SIXTEEN_BITS if image.mode.startswith("I") else 1.0
        return pillow.fromarray((np.clip(values / largest, 0, 1) * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
