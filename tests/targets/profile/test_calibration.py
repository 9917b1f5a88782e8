from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgelstm.targets.profile.calibration import read_calibration

ROOT = Path(__file__).parents[3]


@pytest.fixture
def page() -> str:
    return (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")


def test_the_constants_are_those_of_the_committed_comparison():
    committed = json.loads((ROOT / "benchmarks" / "results" / "profiles.json").read_text(encoding="utf-8"))
    assert vars(read_calibration()) == committed["calibration"]


def test_the_page_tells_the_band_that_estimates_have(page):
    calibration = read_calibration()
    (row,) = re.findall(r"^\| held out \| (\d+) \|.*\| ([\d.]+) \|$", page, re.MULTILINE)
    number, factor = row
    assert float(factor) == calibration.factor
    assert calibration.band.startswith(f"90 % of {number} estimates of this method for an x86 machine")
    assert f"within a factor of {factor} of measurement" in calibration.band
    (micro,) = re.findall(r"its band is a judgement, a factor of (\d+)\.", page)
    assert float(micro) == calibration.micro_factor
