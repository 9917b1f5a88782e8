"""What a compression learns from and is judged by: the data of `--data`, read."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgelstm.converters.calibration import read_data
from edgelstm.converters.loading.custom import current_folder_first
from edgelstm.errors import CalibrationError, DataError, EdgeLSTMError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Array, Data, Saveable, Setup, Source, Split, Task
from edgelstm.tasks.objectives import BinaryClassification, Classification, MultiLabel, Objective, Regression
from edgelstm.tasks.settings import TRAINING
from edgelstm.tasks.settings import Setting as TaskSetting
from edgelstm.tasks.texts.vocabulary import Vocabulary
from edgelstm.training.runs import open_run

if TYPE_CHECKING:
    import keras

PARTS = {"validation": 0.15, "test": 0.15}
"""Shares of given data that are set aside, to choose by and to judge by."""

LABELS = "y"
TASK = "task:"
MIN_EXAMPLES = 10


class GivenTask(Task):
    """The user's own arrays.

    Args:
        objective: What is learnt.
        augment: What varies a batch; None for nothing.
    """

    name = "given"
    title = "arrays of the user"
    variants: ClassVar[Mapping[str, Any]] = {}
    sources: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, TaskSetting]] = {}

    def __init__(self, objective: Objective, varied: Task | None = None) -> None:
        self.objective = objective
        self._varied = varied

    def load(self, setup: Setup) -> Data:
        """There is nothing to load."""
        raise NotImplementedError

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """There is nothing to build."""
        raise NotImplementedError

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Varies a batch as the task that it stands for does."""
        return examples if self._varied is None else self._varied.augment(examples, generator, setup)


@dataclasses.dataclass(frozen=True)
class Learning:
    """Data with what is learnt from it.

    Attributes:
        name: What the user gave.
        task: Its objective scores, its `augment` varies.
        data: The splits; the test split is for judging alone.
        setup: Settings of trainings, and the seed.
        guarding: Examples that only a guard sees; None without one.
    """

    name: str
    task: Task
    data: Data
    setup: Setup
    guarding: Split | None = None

    def score(self, answers: Array, split: Split) -> float:
        """Returns the main figure of answers to a split; more is better, so an error comes with a minus.

        Raises:
            DataError: If the answers do not fit the data.
        """
        objective = self.task.objective
        try:
            figure = self.task.score(answers, split.y, self.data)[objective.main]
        except ValueError as error:
            raise DataError(f"The model does not fit the data {self.name}: {error}") from error
        return figure if objective.higher_is_better else -figure

    def with_targets(self, targets: Array | None, loss: Callable[[Any, Any], Any] | None) -> Learning:
        """Returns the same with other targets for the training and validation examples, or another loss."""
        if targets is None and loss is None:
            return self
        own = self.task.objective
        chosen = own.loss if loss is None else loss
        other = {"loss": staticmethod(chosen) if callable(chosen) else chosen, "metrics": ()}
        objective = type("Targets", (type(own),), other)()
        data = self.data
        if targets is not None:
            count = len(data.train)
            data = dataclasses.replace(
                data,
                train=Split(data.train.x, targets[:count]),
                validation=Split(data.validation.x, targets[count:]),
            )
        settings = {**self.setup.settings, "class_weights": False}
        setup = dataclasses.replace(self.setup, settings=settings)
        return Learning(self.name, GivenTask(objective, self.task), data, setup)

    def with_tokens(self, tokens: Mapping[str, Array]) -> Learning:
        """Returns the same with other ids: the new one of each old one, by input name."""

        def change(split: Split) -> Split:
            ids = {name: tokens[name][x.astype(int)].astype(x.dtype) for name, x in split.x.items() if name in tokens}
            return Split({**split.x, **ids}, split.y)

        data = dataclasses.replace(
            self.data,
            train=change(self.data.train),
            validation=change(self.data.validation),
            test=change(self.data.test),
            files=_renumbered(self.data.files, tokens),
        )
        return dataclasses.replace(self, data=data, guarding=self.guarding and change(self.guarding))


def _renumbered(files: Mapping[str, Saveable], tokens: Mapping[str, Array]) -> dict[str, Saveable]:
    """Lets vocabularies follow ids that have changed; one that may belong to either of two inputs is left out."""
    changed = dict(files)
    for name, file in files.items():
        if not isinstance(file, Vocabulary):
            continue
        tables = [table[: len(file)] for table in tokens.values() if len(table) >= len(file)]
        if tables and all(np.array_equal(table, tables[0]) for table in tables):
            changed[name] = file.renumbered(tables[0])
        elif tables:
            del changed[name]
    return changed


def read_learning(spec: str, model: Any, *, seed: int = 0) -> Learning:
    """Reads what `--data` names.

    Args:
        spec: `task:NAME` or `task:NAME/VARIANT` for offline data of a task; the folder of an `edgelstm train`; an
            `.npz` file with the inputs by name and the labels as "y"; or `package.module:function`, a function
            without arguments that returns (x, y), or a `tf.data.Dataset` of such pairs, batched or not.
        model: The model that is to learn from it; its inputs and its output must fit.
        seed: Of the order in which given arrays are split, and of trainings.

    Returns:
        70 % of given arrays to learn from, 15 % to choose by, 15 % to be judged by; a task's own splits.

    Raises:
        DataError: If it cannot be read, or does not fit the model.
        SettingError: If the task or its variant is unknown.
    """
    if spec.startswith(TASK):
        name, _, variant = spec.removeprefix(TASK).partition("/")
        task = load_task(name)
        setup = task.setup(variant or None, seed=seed)
        learning = Learning(spec, task, task.data(setup), setup)
    elif Path(spec).is_dir():
        run = open_run(spec)
        learning = Learning(spec, run.task, run.task.data(run.setup), run.setup)
    else:
        learning = _given(spec, *_arrays(spec, model), model, seed)
    _check_inputs(learning, model)
    return learning


def _given(spec: str, x: dict[str, Array], y: Array, model: Any, seed: int) -> Learning:
    if {len(array) for array in x.values()} != {len(y)}:
        raise DataError(f"{spec}: inputs and labels have different numbers of examples.")
    if len(y) < MIN_EXAMPLES:
        raise DataError(f"{spec} has {len(y)} examples, and at least {MIN_EXAMPLES} are needed.")
    objective, labels = objective_for(y, tuple(model.output_shape), spec)
    order = np.random.default_rng((seed, len(labels))).permutation(len(labels))
    everything = Split({name: array[order] for name, array in x.items()}, labels[order])
    parts, end = {}, len(labels)
    for name, share in PARTS.items():
        start = end - max(1, round(share * len(labels)))
        parts[name], end = everything.take(slice(start, end)), start
    data = Data(everything.take(slice(end)), parts["validation"], parts["test"])
    return Learning(spec, GivenTask(objective), data, Setup("", Source("", None), seed, dict(TRAINING)))


def objective_for(y: Array, output_shape: tuple[int | None, ...], spec: str) -> tuple[Objective, Array]:
    """Tells what is learnt from labels and the shape of the model's output.

    Returns:
        The objective, and the labels as it takes them: one-hot rows become numbers of classes.

    Raises:
        DataError: If the labels fit no objective.
    """
    if not np.isfinite(np.asarray(y, np.float64)).all():
        raise DataError(f"{spec}: the labels hold NaN or infinity. Leave those examples out.")
    two_values = bool(np.isin(y, (0, 1)).all())
    flat = y.reshape(-1) if y.shape[1:] in ((), (1,)) else y
    if len(output_shape) == 2:
        width = output_shape[1] or 0
        whole = flat.ndim == 1 and bool((flat == np.round(flat)).all())
        if whole and width > 1 and flat.min() >= 0 and flat.max() < width:
            return Classification(), flat.astype(np.int32)
        if whole and width == 1 and two_values:
            return BinaryClassification(), flat.astype(np.int32)
        if y.shape[1:] == (width,) and two_values and width > 1:
            if (y.sum(axis=1) == 1).all():
                return Classification(), y.argmax(axis=1).astype(np.int32)
            return MultiLabel(), y.astype(np.float32)
    if all(size in (None, given) for size, given in zip(output_shape[1:], y.shape[1:], strict=False)) and len(
        output_shape
    ) == len(y.shape):
        return Regression(), y.astype(np.float32)
    if output_shape[1:] == (1,) and y.ndim == 1:
        return Regression(), y.reshape(-1, 1).astype(np.float32)
    raise DataError(f"{spec}: labels of shape {y.shape} do not fit the model's output of shape {output_shape}.")


def _arrays(spec: str, model: Any) -> tuple[dict[str, Array], Array]:
    """The inputs by name, and the labels."""
    if Path(spec).suffix == ".npz":
        return _read_npz(Path(spec), model)
    module, colon, name = spec.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise DataError(
            f"--data {spec!r} is neither task:NAME, the folder of an edgelstm train, an .npz file nor "
            "package.module:function."
        )
    return _call(spec, module, name, model)


def _read_npz(path: Path, model: Any) -> tuple[dict[str, Array], Array]:
    try:
        arrays = read_data(path)
    except CalibrationError as error:
        raise DataError(f"Cannot read {path}: {error}") from error
    if LABELS not in arrays:
        raise DataError(f"{path} has no labels: it needs an array {LABELS!r} beside {', '.join(sorted(arrays))}.")
    y = arrays.pop(LABELS)
    return _named(arrays, model, str(path)), y


def _call(spec: str, module: str, name: str, model: Any) -> tuple[dict[str, Array], Array]:
    try:
        with current_folder_first():
            given = getattr(importlib.import_module(module), name)()
            x, y = _collected(given) if hasattr(given, "element_spec") else given
    except EdgeLSTMError:
        raise
    except Exception as error:
        raise DataError(f"--data {spec}: {type(error).__name__}: {error}") from error
    arrays = {key: np.asarray(value) for key, value in x.items()} if isinstance(x, Mapping) else _listed(x, model)
    return _named(arrays, model, spec), np.asarray(y)


def _collected(dataset: Any) -> tuple[Any, Array]:
    """All pairs of a `tf.data.Dataset` as arrays; batches are joined."""
    xs, ys = zip(*dataset.as_numpy_iterator(), strict=True)
    batched = len(dataset.element_spec[1].shape) > 0 and dataset.element_spec[1].shape[0] is None
    join = np.concatenate if batched else np.stack
    if isinstance(xs[0], Mapping):
        return {name: join([x[name] for x in xs]) for name in xs[0]}, join(ys)
    if isinstance(xs[0], tuple):
        return [join(parts) for parts in zip(*xs, strict=True)], join(ys)
    return join(xs), join(ys)


def _listed(x: Any, model: Any) -> dict[str, Array]:
    """Inputs given in the model's order, by its names."""
    arrays = [np.asarray(value) for value in x] if isinstance(x, list | tuple) else [np.asarray(x)]
    return dict(zip([tensor.name for tensor in model.inputs], arrays, strict=False))


def _named(arrays: dict[str, Array], model: Any, spec: str) -> dict[str, Array]:
    """Inputs by the model's names; the only input may be called anything."""
    names = [tensor.name for tensor in model.inputs]
    if len(names) == len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    if set(names) != set(arrays):
        raise DataError(f"{spec} has inputs {', '.join(sorted(arrays))}, and the model takes {', '.join(names)}.")
    return arrays


def _check_inputs(learning: Learning, model: Any) -> None:
    x = learning.data.train.x
    for tensor in model.inputs:
        if tensor.name not in x:
            raise DataError(f"{learning.name} has no input {tensor.name!r}; it has {', '.join(x)}.")
        given, wanted = x[tensor.name].shape[1:], tuple(tensor.shape[1:])
        fits = len(given) == len(wanted) and all(
            size in (None, there) for size, there in zip(wanted, given, strict=True)
        )
        if not fits:
            shown = ", ".join("any" if size is None else str(size) for size in wanted)
            raise DataError(
                f"{learning.name}: input {tensor.name!r} has examples of shape {given}, and the model takes ({shown})."
            )
