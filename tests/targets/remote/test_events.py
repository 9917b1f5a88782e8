"""What comes from a Python on a device, which may be anything."""

from __future__ import annotations

import json

import pytest

from edgelstm.errors import ModelRunError
from edgelstm.targets.remote.events import read_events
from edgelstm.targets.remote.shell import Done

PLAN = {"op": "bench", "model": "m.tflite on ssh://b"}
READY = {"event": "ready", "runtime": "ai-edge-litert", "runtime_version": "2", "python": "3.11.2", "numpy": "2"}
RESULT = {
    "event": "result",
    "samples_ns": [2000, 1900],
    "warmup_ns": [],
    "load_us": 5,
    "first_invoke_us": 4.5,
    "machine": {"governor": None, "num_cores": 4, "cores": None},
    "conditions": [{"at": "before", "throttled": None, "temperature_c": 40.5}],
}


def read(*events: object) -> list[dict[str, object]]:
    output = "".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events)
    return read_events(PLAN, "/bin/python3", Done(0, output, ""))


def test_events_of_a_worker_are_taken_as_they_are():
    assert read(READY, RESULT) == [READY, RESULT]


def without(event: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in event.items() if key != name}


@pytest.mark.parametrize(
    "events",
    [
        ["nonsense"],
        ["[" * 100_000],
        [RESULT],
        [RESULT, RESULT],
        *([without(READY, name), RESULT] for name in READY if name != "event"),
        *([READY, without(RESULT, name)] for name in RESULT if name != "event"),
        *(
            [READY, {**RESULT, **change}]
            for change in (
                {"samples_ns": []},
                {"samples_ns": 2000},
                {"samples_ns": [2000, "1900"]},
                {"samples_ns": [2000, -1]},
                {"samples_ns": [10**400]},
                {"load_us": float("nan")},
                {"first_invoke_us": "soon"},
                {"machine": {}},
                {"machine": {"governor": 1, "num_cores": 4}},
                {"conditions": [1]},
                {"conditions": [{"throttled": 5}]},
                {"conditions": [{"temperature_c": "hot"}]},
                {"shapes": {"x": "1"}},
            )
        ),
        [READY, '{"event": "result", "deep": ' + "[" * 100_000],
    ],
    ids=lambda events: str(events)[-60:],
)
def test_anything_else_costs_the_model_and_is_told_in_a_sentence(events):
    with pytest.raises(ModelRunError, match=r"^m\.tflite on ssh://b: the worker answered ") as caught:
        read(*events)
    assert "/bin/python3" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_what_a_terminal_would_obey_is_replaced():
    ready, result = read({**READY, "runtime": "\x1b[2Jlite"}, {**RESULT, "shapes": {"x\u202e": [1]}, "x": "\ud800"})
    assert (ready["runtime"], result["shapes"], result["x"]) == ("\ufffd[2Jlite", {"x\ufffd": [1]}, "\ufffd")
    with pytest.raises(ModelRunError, match=r"failed: \ufffd\]0;owned\.$"):
        read_events(PLAN, "python3", Done(1, json.dumps({"event": "error", "message": "\x1b]0;owned"}) + "\n", ""))
