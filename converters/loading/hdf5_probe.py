"""Program that reads an HDF5 file to its end, in a process of its own that may hang or crash.

The HDF5 library loops forever on some damaged files (an object in a global heap with the size -16, for instance) and
may crash on others. What this program has read, its parent can read too; what is merely wrong, the parent finds itself.

    python hdf5_probe.py MAX_BYTES [FILE]

MAX_BYTES bounds the memory for arrays. Without FILE the content comes from standard input.
"""

from __future__ import annotations

import io
import math
import sys
from typing import Any

MAX_DEPTH = 64


def read_all(node: Any, budget: int, depth: int = 0) -> int:
    """Reads the attributes and arrays of a group and of those below it.

    Args:
        node: The `h5py` group or dataset.
        budget: Bytes that arrays may still take; the first larger array and all behind it are left unread.
        depth: How deep the node lies.

    Returns:
        What is left of the budget.
    """
    import h5py

    for name in node.attrs:
        node.attrs[name]
    if isinstance(node, h5py.Dataset):
        size = math.prod(node.shape or ()) * node.dtype.itemsize
        if size <= budget and not node.is_virtual and not node.external:
            node[()]
        return budget - int(size)
    for name in node:
        inside = isinstance(node.get(name, getlink=True), h5py.HardLink)
        if not inside or depth > MAX_DEPTH or budget < 0:
            break
        budget = read_all(node[name], budget, depth + 1)
    return budget


def main() -> None:
    """Reads the file; an exception is no news for the parent, which meets it again."""
    try:
        import h5py

        source = sys.argv[2] if len(sys.argv) > 2 else io.BytesIO(sys.stdin.buffer.read())
        with h5py.File(source, "r") as file:
            read_all(file, int(sys.argv[1]))
    except Exception:
        return


if __name__ == "__main__":
    main()
