"""Who chooses the settings of a trial: at random, by TPE or from a grid, and never the same settings twice.

The choice for a trial depends on the seed, the number of the trial and what is known of the others, so that a search
that was interrupted makes the same choices as one that was not, and processes that share a study make different ones.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna

from edgelstm.tasks.settings import Setting
from edgelstm.tuning.entries import DROPPED, roots
from edgelstm.tuning.space import count_combinations, tidy, values_of

NUM_STARTUP_TRIALS = 5
"""Complete trials before the first one can be ended early, and trials before TPE builds on what it has seen."""

_NUM_DRAWS = 20
_MAX_LISTED = 100_000


class UnrepeatedSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]
    """Chooses settings that no other trial of the study has.

    Args:
        kind: "tpe", "random" or "grid".
        distributions: Distributions of Optuna by the names of settings.
        grid: The values of each setting for "grid".
        seed: Seed of the choices.
    """

    def __init__(
        self, kind: str, distributions: Mapping[str, Any], grid: Mapping[str, Sequence[Setting]], seed: int
    ) -> None:
        self._kind, self._distributions, self._grid, self._seed = kind, distributions, grid, seed

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Returns what is chosen together: everything, unless the trial goes on with an earlier one."""
        del study
        if "fixed_params" in trial.system_attrs:
            return {}
        return {name: each for name, each in self._distributions.items() if not each.single()}

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        """Chooses."""
        if not search_space:
            return {}
        trials = study.get_trials(deepcopy=False)
        tried = {
            tuple(each.params[name] for name in search_space)
            for each in trials
            if each.number != trial.number and DROPPED not in each.user_attrs and set(search_space) <= set(each.params)
        }
        number = sum(root <= trial.number for root in roots(trials))
        values: tuple[Setting, ...] = ()
        for values in self._candidates(study, trial, search_space, number):
            if values not in tried:
                break
        return dict(zip(search_space, values, strict=True))

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Chooses a setting that was not chosen with the others."""
        return optuna.samplers.RandomSampler(self._seed).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _candidates(
        self, study: Any, trial: Any, search_space: dict[str, Any], number: int
    ) -> Iterator[tuple[Setting, ...]]:
        if self._kind == "grid":
            combinations = list(itertools.product(*(self._grid[name] for name in search_space)))
            random.Random(self._seed).shuffle(combinations)
            yield from combinations
            return
        seed = random.Random(f"{self._seed} {number}").randrange(2**31)
        inner = [self._inner(seed), optuna.samplers.RandomSampler(seed + 1)]
        for sampler in inner:
            for _ in range(_NUM_DRAWS):
                yield tuple(
                    tidy(sampler.sample_independent(study, trial, name, each), each)
                    for name, each in search_space.items()
                )
        if (count_combinations(search_space) or _MAX_LISTED) < _MAX_LISTED:
            left = list(itertools.product(*(values_of(each) or [] for each in search_space.values())))
            random.Random(seed).shuffle(left)
            yield from left

    def _inner(self, seed: int) -> Any:
        if self._kind == "random":
            return optuna.samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls constant_liar experimental
            return optuna.samplers.TPESampler(n_startup_trials=NUM_STARTUP_TRIALS, seed=seed, constant_liar=True)
