"""Clips of the user's, read as frames of one number and one size: video files, arrays, folders of images."""

from __future__ import annotations

import hashlib
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import DataError, MissingExtraError
from edgelstm.tasks.base import Array
from edgelstm.tasks.images.files import import_pillow, is_image, read_image, resize

VIDEOS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")

_CHUNK_BYTES = 1 << 20


def is_video(path: Path) -> bool:
    """Whether a name is that of a video file."""
    return path.suffix.lower() in VIDEOS and path.is_file()


def is_clip(path: Path) -> bool:
    """Whether this is a video file, a file of frames (.npy) or a folder of images."""
    if path.is_dir():
        return any(is_image(file) for file in _visible(path))
    return is_video(path) or path.suffix.lower() == ".npy"


def choose_frames(count: int, frames: int, every: int) -> Array:
    """Chooses the frames of a clip.

    Args:
        count: Frames that it has.
        frames: Frames that are wanted.
        every: Take every so many-th one from the middle of the clip, and begin anew at its end if it is too short; 0
            spreads them over the whole clip.

    Returns:
        Numbers of frames, int, shape (frames,).
    """
    if every == 0:
        return np.linspace(0, count - 1, frames).round().astype(int)
    spare = count - ((frames - 1) * every + 1)
    return (max(0, spare // 2) + np.arange(frames) * every) % count


def read_clip(path: Path, frames: int, every: int, size: int) -> tuple[Array, int]:
    """Reads a clip, its frames chosen as `choose_frames` does and stretched to squares.

    Args:
        path: A video file, a .npy file (frames, height, width, 3) of uint8 or of floats from 0 to 1, or a folder of
            images, whose names tell their order.
        frames: Frames that are wanted.
        every: As `choose_frames` takes it.
        size: Side of the square in pixels.

    Returns:
        Red, green and blue, uint8, shape (frames, size, size, 3), and the number of frames that the clip has.

    Raises:
        DataError: If it cannot be read.
        MissingExtraError: If what decodes it is not installed.
    """
    if path.is_dir():
        files = sorted((file for file in _visible(path) if is_image(file)), key=_natural)
        chosen = choose_frames(len(files), frames, every)
        return np.stack([read_image(files[index], size, color=True)[0] for index in chosen]), len(files)
    if path.suffix.lower() == ".npy":
        return _read_array(path, frames, every, size)
    return _read_video(path, frames, every, size)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the images in a folder."""
    digest = hashlib.sha256()
    for file in sorted(filter(is_image, _visible(path))) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _read_array(path: Path, frames: int, every: int, size: int) -> tuple[Array, int]:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"Cannot read the clip {path}: {error}.") from error
    wanted = "uint8, or floats from 0 to 1, of shape (frames, height, width, 3)"
    fits = isinstance(array, np.ndarray) and array.ndim == 4 and array.shape[-1] in (1, 3) and array.size
    if not fits or not (array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)):
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"The clip {path} holds {found}, and not {wanted}.")
    count = len(array)
    chosen = np.asarray(array[choose_frames(count, frames, every)])
    if chosen.dtype != np.uint8:
        if not (chosen.min() >= 0 and chosen.max() <= 1):
            raise DataError(f"The clip {path} holds numbers that are not from 0 to 1: it must hold {wanted}.")
        chosen = (chosen * 255).round().astype(np.uint8)
    colored = np.broadcast_to(chosen, (*chosen.shape[:-1], 3))
    return np.stack([_stretch(frame, size) for frame in colored]), count


def _read_video(path: Path, frames: int, every: int, size: int) -> tuple[Array, int]:
    """Counts the frames, then decodes up to the last one that is wanted; anew if the file promised more than it has."""
    av = _import_decoder()
    try:
        with av.open(str(path)) as container:
            count = sum(1 for packet in container.demux(video=0) if packet.size)
        while count:
            wanted = choose_frames(count, frames, every)
            found, decoded = _decode(av, path, {int(index) for index in wanted}, size)
            if len(found) == len(set(wanted.tolist())):
                return np.stack([found[int(index)] for index in wanted]), count
            count = decoded if decoded < count else 0
    except (OSError, ValueError, IndexError, av.FFmpegError) as error:
        raise DataError(f"Cannot decode the clip {path}: {' '.join(str(error).split())}.") from error
    raise DataError(f"Cannot decode the clip {path}: it has no frames.")


def _decode(av: Any, path: Path, wanted: set[int], size: int) -> tuple[dict[int, Array], int]:
    """Frames by number, as far as they are there, and how many were decoded."""
    found: dict[int, Array] = {}
    decoded = 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if decoded in wanted:
                found[decoded] = _stretch(frame.to_ndarray(format="rgb24"), size)
            decoded += 1
            if len(found) == len(wanted):
                break
    return found, decoded


def _stretch(frame: Array, size: int) -> Array:
    return np.asarray(resize(import_pillow().fromarray(np.ascontiguousarray(frame)), size))


def _import_decoder() -> Any:
    try:
        return import_module("av")
    except ImportError as error:
        raise MissingExtraError("Video files are decoded with PyAV: pip install av.") from error


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts frame10 after frame9."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
