"""Grey pictures of few values, from digits, MNIST, CIFAR-10 or a folder of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks.base import OFFLINE, Array, Setup
from edgelstm.tasks.images.files import LUMA, import_pillow, is_image, read_image, resize
from edgelstm.tasks.images.sources import digits_of_scikit_learn, notes_on_damage, public_images

FOLDER_SIZE = 16
"""Side in pixels of a user's images where the setting "size" is 0."""

MOST_LEVELS = 256
FEWEST_IMAGES = 10
Images = dict[str, Array]


def read_pictures(setup: Setup) -> tuple[Images, tuple[str, ...]]:
    """Returns pictures by split, and sentences that the user should know.

    Pictures of which the test split has the same are left out of the others, and those of the validation split out of
    the training split.

    Args:
        setup: Used are the source, the seed, and the settings levels, size and num_train.

    Returns:
        Values from 0 to levels - 1, int32, shape (n, height, width).

    Raises:
        DataError: If nothing can be learnt from the data.
        SettingError: If a setting has an impossible value.
    """
    levels, size = setup.int("levels"), setup.int("size")
    if not 2 <= levels <= MOST_LEVELS:
        raise SettingError(f"The setting 'levels' must be from 2 to {MOST_LEVELS}, not {levels}.")
    if size < 0 or size == 1:
        raise SettingError(f"The setting 'size' must be at least 2, or 0 for the pictures' own, not {size}.")
    notes: list[str] = []
    if setup.source.path is not None:
        grey, notes = _of_folder(setup.source.path, setup.seed, size or FOLDER_SIZE)
    else:
        known = setup.source.name != OFFLINE
        found = public_images(setup.source.name, setup.seed) if known else digits_of_scikit_learn(setup.seed)
        grey = {split: _resized(_grey(x), size) for split, x in found.x.items()}
    values = {split: np.minimum(x * levels, levels - 1).astype(np.int32) for split, x in grey.items()}
    if setup.int("num_train"):
        values["train"] = values["train"][: setup.int("num_train")]
    pictures, left_out = _without_copies(values)
    if left_out:
        notes.append(f"{left_out} pictures were left out because another split has the same in {levels} levels.")
    if not len(pictures["train"]) or not len(pictures["validation"]):
        raise DataError(f"{setup.source}: too few different pictures in {levels} levels. Give more, or more levels.")
    return pictures, tuple(notes)


def _grey(x: Array) -> Array:
    """From 0 to 1, shape (n, height, width)."""
    grey: Array = x[..., 0] if x.shape[-1] == 1 else x @ np.array(LUMA, np.float32)
    return grey


def _resized(x: Array, size: int) -> Array:
    if not size or x.shape[1:] == (size, size):
        return x
    pillow = import_pillow()
    images = [pillow.fromarray(np.rint(255 * image).astype(np.uint8)) for image in x]
    return np.stack([np.asarray(resize(image, size), np.float32) / 255 for image in images])


def _of_folder(folder: Path, seed: int, size: int) -> tuple[Images, list[str]]:
    """All images in a folder and its sub-folders: a tenth is for the test, a tenth for the validation split."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one with images.")
    paths = sorted(path for path in folder.rglob("*") if is_image(path))
    pixels, damaged = [], []
    for path in paths:
        try:
            pixels.append(read_image(path, size, color=False)[0][..., 0])
        except DataError as error:
            damaged.append(str(error))
    notes = notes_on_damage(damaged)
    if len(pixels) < FEWEST_IMAGES:
        raise DataError(
            f"{folder} has {len(pixels)} images that can be read, and at least {FEWEST_IMAGES} are needed."
            + (f" {damaged[0]}" if damaged else "")
        )
    x = np.stack(pixels).astype(np.float32) / 255
    x = x[np.random.default_rng(seed).permutation(len(x))]
    count = len(x) // 10
    return {"train": x[2 * count :], "validation": x[count : 2 * count], "test": x[:count]}, notes


def _without_copies(values: Images) -> tuple[Images, int]:
    seen: set[bytes] = set()
    kept: Images = {}
    for split in ("test", "validation", "train"):
        keys = [image.tobytes() for image in values[split]]
        kept[split] = values[split][np.array([key not in seen for key in keys], bool)]
        seen.update(keys)
    return kept, sum(len(values[split]) - len(kept[split]) for split in values)
