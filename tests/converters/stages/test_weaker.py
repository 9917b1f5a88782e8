"""What a guard tries next: every stage knows a weaker one of itself, until there is none."""

from __future__ import annotations

import pytest

from edgelstm.converters.stages import STAGES, make_stage


@pytest.mark.parametrize(
    "kind, values, changes",
    [
        ("prune-units", {"fraction": 0.4, "layers": "all"}, {"fraction": 0.2}),
        ("prune-units", {"fraction": 0.09}, None),
        ("prune", {"sparsity": 0.75, "initial": 0.6}, {"sparsity": 0.5, "initial": 0.5}),
        ("prune", {"sparsity": 0.6}, None),
        ("prune", {"pattern": "2:4"}, None),
        ("factorize", {"rank": 4}, {"rank": 8}),
        ("factorize", {"max_loss": 0.02}, {"max_loss": 0.01}),
        ("factorize", {"energy": 0.5}, {"energy": 0.75}),
        ("factorize", {"energy": 0.995}, None),
        ("shrink-embedding", {"min_count": 6, "rank": 4}, {"min_count": 3, "rank": 8}),
        ("shrink-embedding", {"vocabulary": 100, "bits": 4}, {"vocabulary": 200, "bits": 8}),
        ("shrink-embedding", {"energy": 0.5, "min_count": 0}, {"energy": 0.75}),
        ("shrink-embedding", {"min_count": 1}, None),
        ("cluster", {"clusters": 16}, {"clusters": 64}),
        ("cluster", {"clusters": 100}, {"clusters": 256}),
        ("cluster", {"clusters": 256}, None),
        ("distill", {"fraction": 0.5}, {"fraction": 0.25}),
        ("distill", {"student": "lstm", "units": 8}, {"units": 16}),
        ("distill", {"student": "s.keras"}, None),
        ("qat", {}, None),
    ],
)
def test_a_weaker_stage_differs_in_its_strength_alone(kind, values, changes):
    stage = make_stage(kind, values)
    weaker = stage.weaker()
    if changes is None:
        assert weaker is None
        return
    assert type(weaker) is type(stage)
    assert weaker.values == {**stage.values, **changes}
    assert stage.values == make_stage(kind, values).values


@pytest.mark.parametrize("kind", STAGES)
def test_tries_come_to_an_end(kind):
    stage, tries = make_stage(kind, {}), 0
    while stage is not None and tries < 20:
        stage, tries = stage.weaker(), tries + 1
    assert stage is None
