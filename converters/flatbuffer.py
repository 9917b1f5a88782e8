"""Writes flatbuffers in which equal parts stand once.

The packing code that is generated from a schema writes every shape, every list of inputs and every scale anew. A
flatbuffer may refer to one part from many places, as it always does to the layouts of its tables.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

BUFFER_ALIGNMENT = 16  # `force_align: 16` of Buffer.data in the schema, which generated Python code leaves out
_LENGTH_BYTES = 4  # in front of the elements of a vector
_STRING, _VECTOR, _TABLE = "string", "vector", "table"  # what begins the keys of written parts

Array = npt.NDArray[Any]


class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that refers to an equal string, vector or table instead of writing it a second time.

    Vectors of references are always written: they hold distances, which depend on where they stand. Byte vectors are
    aligned as the TFLite schema demands, and left to `Graph`, which shares whole buffers.
    """

    def __init__(self, initial_size: int) -> None:
        """Starts with room for some bytes; it grows."""
        super().__init__(initial_size)
        self._written: dict[Hashable, int] = {}
        self._vector: tuple[int, int, int] | None = None  # where it ends, and sizes of an element and of alignment
        self._fields: dict[int, Hashable] | None = {}  # of the table being written; None if it cannot be shared

    # The names of methods are the library's.

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        """Writes a text, or finds it."""
        text = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        key = (_STRING, text)
        if key not in self._written:
            self._written[key] = int(super().CreateString(text))
        return self._written[key]

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802
        """Writes an array, or finds it; bytes are aligned and always written."""
        if x.dtype != np.uint8:
            return int(super().CreateNumpyVector(x))
        self.StartVector(1, x.size, BUFFER_ALIGNMENT)
        self._vector = None
        self.head = self.Head() - x.size
        self.Bytes[self.Head() : self.Head() + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return int(self.EndVector())

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        """Begins a vector."""
        self._vector = (self.Offset(), elemSize, alignment)
        return int(super().StartVector(elemSize, numElems, alignment))

    def PrependUOffsetTRelative(self, off: int) -> None:  # noqa: N802
        """Writes a reference, in a vector or a table."""
        self._vector = None
        super().PrependUOffsetTRelative(off)

    def EndVector(self, numElems: int | None = None) -> int:  # noqa: N802, N803
        """Ends a vector, or finds an equal one and takes it back."""
        count = self.vectorNumElems
        offset = int(super().EndVector(numElems))
        if self._vector is None:
            return offset
        end, size, alignment = self._vector
        self._vector = None
        start = self.Head() + _LENGTH_BYTES
        key = (_VECTOR, size, alignment, bytes(self.Bytes[start : start + size * count]))
        found = self._written.setdefault(key, offset)
        if found != offset:
            self._drop(end)
        return found

    def StartObject(self, numfields: int) -> None:  # noqa: N802
        """Begins a table."""
        super().StartObject(numfields)
        self._fields = {}

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:  # noqa: N802
        """Writes a number into a table, unless it is the default."""
        before = self.Offset()
        super().PrependSlot(flags, o, x, d)
        if self._fields is not None and self.Offset() != before:
            self._fields[o] = flags.packer_type.pack(x)

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:  # noqa: N802
        """Writes a reference into a table."""
        super().PrependUOffsetTRelativeSlot(o, x, d)
        if self._fields is not None and x != d:
            self._fields[o] = x

    def PrependStructSlot(self, v: int, x: int, d: int) -> None:  # noqa: N802
        """Writes a structure into a table, which then is not shared."""
        super().PrependStructSlot(v, x, d)
        self._fields = None

    def EndObject(self) -> int:  # noqa: N802
        """Ends a table, or finds one of the same fields and takes it back."""
        if self._fields is None:
            return int(super().EndObject())
        key = (_TABLE, tuple(sorted(self._fields.items())))
        found = self._written.get(key)
        if found is None:
            found = self._written[key] = int(super().EndObject())
        else:  # before the layout is written, which other tables might refer to
            self.assertNested()
            self.nested, self.current_vtable = False, None
            self._drop(self.objectEnd)
        return found

    def _drop(self, end: int) -> None:
        """Takes back what was written behind an offset."""
        self.head = len(self.Bytes) - end
