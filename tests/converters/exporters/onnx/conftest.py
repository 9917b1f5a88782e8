"""What the tests of the ONNX exporter share."""

from __future__ import annotations

import pytest

from edgelstm.converters import native
from tests.converters.exporters.onnx.models import convert_here


@pytest.fixture
def conversion_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converts without a child process, which is what costs most of the time."""
    monkeypatch.setattr(native, "convert_saved_model", convert_here)
