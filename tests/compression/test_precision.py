"""Which precisions are tried, and which layers are spared: on a session whose errors are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgelstm.compression import precision
from edgelstm.compression.recipe import Export
from edgelstm.errors import LoweringError

X = {"x": np.zeros((4, 2), np.float32)}


class Pretended:
    """A model whose answers are 0 and whose files err by the sum of their layers' errors.

    Args:
        errors: Error of each layer by precision.
    """

    def __init__(self, errors):
        self.errors, self.asked, self.model = errors, [], None
        self.learning = SimpleNamespace(data=SimpleNamespace(validation=SimpleNamespace(x=X)))

    def report(self, line):
        pass

    def answers(self, export, x):
        assert x is X
        self.asked.append(dict(export.layers))
        whole = [self.errors[layer].get(export.layers.get(layer, export.quantize), 0.0) for layer in self.errors]
        if None in whole:
            raise LoweringError("That layer has no such form.")
        return np.full((4, 1), sum(whole))


@pytest.fixture
def sensitive(monkeypatch):
    """Makes sessions with layers of known errors."""

    def make(**errors):
        monkeypatch.setattr(precision, "precision_layers", lambda model: list(errors))
        monkeypatch.setattr(precision, "keras_predict", lambda model: lambda x: np.zeros((4, 1)))
        return Pretended(errors)

    return make


def test_the_most_sensitive_layers_are_spared_in_the_coarsest_precision_that_helps(sensitive):
    session = sensitive(
        words={"int8": 0.1},
        first={"int8": 2.0, "dynamic": 0.15},
        second={"int8": 5.0, "dynamic": 4.0, "float16": 0.1},
        last={"int8": 1.0, "dynamic": 0.9, "float16": 0.8},
    )
    found = list(precision.mixed(session, Export("int8", strip_names=True)))
    assert [export.layers for export in found] == [
        {"second": "float16"},
        {"second": "float16", "first": "dynamic"},
    ]
    assert all(export.quantize == "int8" and export.strip_names for export in found)


def test_layers_that_gain_nothing_and_models_of_one_layer_are_left_out(sensitive):
    assert list(precision.mixed(sensitive(one={"int8": 1.0}), Export("int8"))) == []
    session = sensitive(a={"int8": 0.0, "float32": 0.1}, b={"int8": 0.0}, c={"dynamic": 1.0})
    assert list(precision.mixed(session, Export("int8"))) == []
    assert list(precision.mixed(session, Export("float32"))) == []


def test_a_layer_that_no_int8_file_can_hold_is_spared(sensitive):
    session = sensitive(a={"int8": None}, b={"int8": 0.1})
    assert [export.layers for export in precision.mixed(session, Export("int8"))] == [{"a": "dynamic"}]


def test_precisions_go_from_the_coarsest_to_the_finest(sensitive):
    session = sensitive(a={"int8": 1.0}, b={"int8": 0.5})
    ways = [(export.quantize, dict(export.layers)) for export in precision.ladder(session, Export("int8"))]
    assert ways == [("int8", {}), ("int8", {"a": "dynamic"}), ("dynamic", {}), ("float16", {}), ("float32", {})]
    ways = [(export.quantize, dict(export.layers)) for export in precision.ladder(session, Export("float16"))]
    assert ways == [("float16", {}), ("float32", {})]
    # Layers that a recipe names are not looked for again.
    given = Export("int8", {"b": "float32"})
    ways = [(export.quantize, dict(export.layers)) for export in precision.ladder(session, given)]
    assert ways[:2] == [("int8", {"b": "float32"}), ("dynamic", {})]


def test_nothing_is_measured_before_it_is_needed(sensitive):
    session = sensitive(a={"int8": 1.0}, b={"int8": 0.5})
    ways = precision.ladder(session, Export("int8"))
    next(ways)
    assert session.asked == []
