from __future__ import annotations

import pytest

from edgelstm.targets.warnings import CAPPED, THROTTLED, UNDER_VOLTAGE, throttled_during


@pytest.mark.parametrize(
    "readings, flags",
    [
        ([], 0),
        ([None, None], 0),
        (["throttled=0x0", "throttled=0x0"], 0),
        (["throttled=0x0", "throttled=0x4", "throttled=0x40000"], THROTTLED),
        (["throttled=0x0", "throttled=0x10000"], UNDER_VOLTAGE),
        (["throttled=0x50000", "throttled=0x50000"], 0),
        (["throttled=0x50000", "throttled=0x70000"], CAPPED),
        (["0x1"], UNDER_VOLTAGE),
        (["VCHI initialization failed", "throttled=0x4"], THROTTLED),
        (["throttled=0x0", "nonsense"], 0),
    ],
)
def test_what_was_wrong_during_a_run_is_told_from_what_was_wrong_before(readings, flags):
    assert throttled_during(readings) == flags
