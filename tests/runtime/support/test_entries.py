"""The matrix of one file."""

from __future__ import annotations

import json

import pytest

from edgelstm.runtime.inspection import inspect
from edgelstm.runtime.support import PLATFORMS, RUNTIMES, find_support, read_facts, support_entries
from edgelstm.runtime.support.base import Verdict
from tests import tiny_models


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    path = tmp_path_factory.mktemp("entries") / "m.tflite"
    path.write_bytes(tiny_models.fused_lstm())
    return path


@pytest.fixture
def facts(leaking):
    return read_facts(inspect(leaking), leaking)


def entry(entries, name):
    (found,) = [each for each in entries if each.name == name]
    return found


def test_runtimes_come_first_then_delegates_then_platforms(facts):
    entries = find_support(facts)
    assert [each.name for each in entries if each.kind != "platform"] == list(RUNTIMES)
    assert [each.title for each in entries if each.kind == "platform"] == list(PLATFORMS)
    kinds = [each.kind for each in entries]
    assert kinds == sorted(kinds, key=["runtime", "delegate", "platform"].index)


def test_without_a_run_the_rule_speaks(facts):
    found = entry(find_support(facts), "ai-edge-litert")
    assert (found.loads, found.right, found.basis, found.cure) == ("yes", "reset", "rule", "interpreter")
    assert found.sources
    assert found.is_usable
    assert entry(find_support(facts), "gpu-delegate").basis == "documented"


def test_a_run_goes_before_the_rule(facts):
    seen = Verdict("yes", "no", "it does not answer as the LiteRT Interpreter")
    found = entry(find_support(facts, {"tflite-micro": seen}), "tflite-micro")
    assert (found.loads, found.right, found.basis, found.why) == ("yes", "no", "run", seen.why)
    assert not found.is_usable


def test_a_platform_is_as_good_as_its_best_runtime(facts):
    entries = find_support(facts, {"litert-compiled": Verdict("yes", "yes")})
    pi = entry(entries, "raspberry-pi")
    assert (pi.right, pi.runtimes, pi.basis) == ("yes", ("LiteRT CompiledModel",), "run")
    assert entry(entries, "ios").runtimes == ("LiteRT Interpreter",)
    assert entry(entries, "ios").right == "reset"
    browser = entry(entries, "browser")
    assert (browser.loads, browser.right, browser.runtimes) == ("no", "no", ())


def test_the_entries_of_a_card_know_what_was_verified(leaking):
    verified = {"ai-edge-litert": True, "tflite-micro": False, "some-other": True}
    entries = support_entries(inspect(leaking, streaming=True), leaking, verified)
    assert json.loads(json.dumps(entries)) == entries
    by_name = {each["name"]: each for each in entries}
    assert by_name["ai-edge-litert"]["basis"] == "run"
    assert by_name["ai-edge-litert"]["right"] == "yes"
    assert by_name["ai-edge-litert"]["why"] == "it streams: reset the variable tensors before each new sequence"
    assert (by_name["tflite-micro"]["right"], by_name["tflite-micro"]["basis"]) == ("no", "run")
    assert by_name["litertjs"]["basis"] == "rule"
    assert by_name["litertjs"]["cure"] == "web"


def test_a_passed_verification_takes_the_place_of_a_gloomy_rule(leaking):
    entries = support_entries(inspect(leaking), leaking, {"ai-edge-litert": True})
    assert (entries[0]["name"], entries[0]["right"], entries[0]["why"]) == ("ai-edge-litert", "yes", "")
