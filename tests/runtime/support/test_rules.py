"""Rules: what they say about files of every form, and what becomes of these on every engine that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.runtime.engines import ENGINES
from edgelstm.runtime.inspection import inspect
from edgelstm.runtime.support.base import Verdict
from edgelstm.runtime.support.facts import Facts, read_facts
from edgelstm.runtime.support.runs import run_everywhere
from edgelstm.runtime.support.table import RUNTIMES
from tests.runtime.support.files import FILES, NO, UNKNOWN, WRONG
from tests.runtime.support.files import RUNTIMES as NAMES

TIMEOUT_S = 30.0
SLOW = ("litertjs", "mediapipe")


class Written:
    """Files in a folder, each written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> tuple[Path, Facts]:
        path = self._folder / f"{name}.tflite"
        if not path.exists():
            FILES[name].write(path)
        return path, read_facts(inspect(path), path)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    return Written(tmp_path_factory.mktemp("support"))


def fate(verdict: Verdict) -> str:
    """The verdict as one word."""
    if verdict.loads != "yes":
        return NO if verdict.loads == "no" else UNKNOWN
    return WRONG if verdict.right == "no" else verdict.right


def test_every_runtime_with_an_engine_is_in_the_table_of_files():
    assert [name for name, runtime in RUNTIMES.items() if runtime.engine] == [
        "ai-edge-litert",
        "tflite-runtime",
        "litert-compiled",
        "litertjs",
        "mediapipe",
        "tflite-micro",
    ]
    assert set(NAMES) == {name for name, runtime in RUNTIMES.items() if runtime.engine}
    assert set(NAMES) <= set(ENGINES)


@pytest.mark.parametrize("name", FILES)
def test_the_rules_say_what_becomes_of_a_file(written, name):
    _, facts = written[name]
    verdicts = {runtime: RUNTIMES[runtime].rule(facts) for runtime in NAMES}
    assert {runtime: fate(verdict) for runtime, verdict in verdicts.items()} == FILES[name].expected
    assert all(verdict.why for verdict in verdicts.values() if fate(verdict) != "yes")


@pytest.mark.matrix
@pytest.mark.parametrize("name", FILES)
def test_that_becomes_of_it_indeed(written, name):
    path, facts = written[name]
    engines = [runtime for runtime in NAMES if FILES[name].everywhere or runtime not in SLOW]
    found = run_everywhere(facts, path, engines=engines, timeout_s=TIMEOUT_S)
    assert set(found.verdicts) == {runtime for runtime in engines if ENGINES[runtime].is_here()}
    assert found.contradictions == ()
    for runtime, verdict in found.verdicts.items():
        expected = FILES[name].expected[runtime]
        assert (fate(verdict) in (NO, WRONG)) == (expected in (NO, WRONG))
        if expected not in (NO, WRONG):
            assert fate(verdict) == expected
