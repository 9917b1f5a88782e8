"""Distillation: a smaller student learns what its teacher answers, and not only what is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Examples, Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.converters.stages.prune_units import LEAST_FRACTION, PruneUnits
from edgelstm.converters.stages.students.examples import noisy_copies, read_unlabelled
from edgelstm.converters.stages.students.forward import forward_only
from edgelstm.converters.stages.students.losses import Targets, kind_of
from edgelstm.converters.stages.students.made import Sizes, fresh_copy, given_student, lstm_student
from edgelstm.converters.stages.students.reading import readings
from edgelstm.converters.stages.students.teacher import Said, ask, last_hidden, training_model
from edgelstm.converters.stages.surgery import check_graph, graph_of, rebuild
from edgelstm.errors import SettingError, StageError

CUT, LSTM, FILE = "cut", "lstm", ".keras"


class Distill(Stage):
    """Trains a student on the answers of the model that comes in, softened by a temperature.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; hidden states: Romero et
    al., "FitNets: Hints for Thin Deep Nets", ICLR 2015. `students.losses` has the formulas.
    """

    name: ClassVar[str] = "distill"
    title: ClassVar[str] = "a smaller student learns from the model's answers"
    settings: ClassVar[Mapping[str, Setting]] = {
        "student": Setting(CUT, "cut: the model with fewer units; lstm: built anew; or the path of a .keras file"),
        "fraction": Setting(0.5, "share of the units that the student has not", low=0, high=0.99),
        "layers": Setting("lstm", "of student 'cut', whose units: LSTMs or all layers", choices=("lstm", "all")),
        "units": Setting(0, "of each LSTM of student 'lstm'; 0 for that of the fraction", low=0, high=1_000_000),
        "depth": Setting(1, "number of LSTMs of student 'lstm'", low=1, high=100),
        "embedding": Setting(0, "width of tables of student 'lstm'; 0 for that of the fraction", low=0, high=1_000_000),
        "forward": Setting(False, "whether Bidirectional layers of student 'cut' lose their backward half"),
        "fresh": Setting(False, "whether the student begins with random weights"),
        "temperature": Setting(2.0, "at which probabilities are compared", low=1, high=100),
        "alpha": Setting(0.7, "weight of the teacher's answers against the labels", low=0, high=1),
        "hidden": Setting(0.0, "weight of the hidden states of the last recurrent layer", low=0, high=1000),
        "unlabelled": Setting("", "an .npz file with more inputs, without labels; empty for none"),
        "noise": Setting(0.0, "of noisy copies: share of the deviation of numbers, of the ids replaced", low=0, high=1),
        "copies": Setting(1, "number of noisy copies of each example", low=1, high=100),
        "epochs": Setting(10, "passes of training", low=1, high=10_000),
        "learning_rate": Setting(0.0, "of the training; 0 for that of the data", low=0, high=10),
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        student = self.word("student")
        if student not in (CUT, LSTM) and not student.endswith(FILE):
            raise SettingError(
                f"Setting 'student' of stage {self.name!r} must be {CUT!r}, {LSTM!r} or the path of a {FILE} file, not "
                f"{student!r}."
            )
        if self.values["forward"] and student not in (CUT, LSTM):
            raise SettingError(
                f"Setting 'forward' of stage {self.name!r} does not change a student from a file. Leave it out."
            )
        extra = next((name for name in ("unlabelled", "noise") if self.values[name]), None)
        if extra and not self.number("alpha") and not self.number("hidden"):
            raise SettingError(
                f"Stage {self.name!r} with alpha 0 learns from labels alone, and the examples of {extra!r} have none. "
                "Give an alpha."
            )

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns a trained student.

        Raises:
            StageError: If the model is subclassed or has several outputs, or the student or the examples do not fit.
            LoadError: If the student's file cannot be read.
            CalibrationError: If the file of examples cannot be read.
            EdgeLSTMError: If the training fails.
        """
        check_graph(model)
        if len(graph_of(model).outputs) != 1:
            raise StageError(
                f"Model {model.name!r} has {len(graph_of(model).outputs)} outputs; stage {self.name!r} needs one."
            )
        teacher, _ = rebuild(model, lambda _: None)
        more = self._more(teacher, workshop)
        x = [workshop.train.x, *more, workshop.validation.x]
        given = {each.name: np.concatenate([part[each.name] for part in x]) for each in graph_of(teacher).inputs}
        said = ask(teacher, given, last_hidden(teacher) if self.number("hidden") else None, workshop)
        workshop.report(f"{self.name}: the model answered {len(said.answers)} examples")
        kind = kind_of(graph_of(teacher).outputs[0], said.answers)
        student, notes = self._student(teacher, said, kind, workshop)
        self._train(student, given, said, kind, workshop)
        parameters = [int(each.count_params()) for each in (model, student)]
        if parameters[1] > parameters[0]:
            notes += (f"The student has {parameters[1]} weights, more than its teacher with {parameters[0]}.",)
        figures = {
            "parameters": parameters,
            "loss": [workshop.loss(each) for each in (teacher, independent_copy(student))],
            "examples": [len(workshop.train), len(said.answers) - len(workshop.train) - len(workshop.validation)],
        }
        return Outcome(student, notes, figures)

    def weaker(self) -> Self | None:
        """A student with half as many units less, or with twice the units that were asked for."""
        half = self.number("fraction") / 2
        if self.word("student").endswith(FILE):
            return None
        if self.word("student") == LSTM and self.number("units"):
            return self.but(units=2 * int(self.number("units")))
        return self.but(fraction=half) if half >= LEAST_FRACTION else None

    def _more(self, teacher: Any, workshop: Workshop) -> list[dict[str, Array]]:
        """Inputs of examples that have no labels."""
        found: list[dict[str, Array]] = []
        noise, path = self.number("noise"), self.word("unlabelled")
        if noise:
            found += noisy_copies(
                workshop.train.x, readings(teacher), noise, int(self.number("copies")), seed=workshop.seed
            )
        if path:
            found.append(read_unlabelled(path, workshop.train.x, readings(teacher)))
        return found

    def _student(self, teacher: Any, said: Said, kind: str, workshop: Workshop) -> tuple[Any, tuple[str, ...]]:
        which, seed, fresh = self.word("student"), workshop.seed, bool(self.values["fresh"])
        fraction = self.number("fraction")
        notes: tuple[str, ...] = ()
        if which == LSTM:
            sizes = Sizes(
                int(self.number("units")), int(self.number("depth")), int(self.number("embedding")), 1 - fraction
            )
            return lstm_student(teacher, kind, sizes, seed, fresh=fresh), ()
        if which.endswith(FILE):
            student, notes = given_student(which, teacher, workshop.train.x, said.answers, kind)
        else:
            student, notes = forward_only(teacher) if self.values["forward"] else (teacher, ())
            if fraction:
                smaller = PruneUnits(fraction=fraction, layers=self.word("layers"), epochs=0).apply(student, workshop)
                student, notes = smaller.model, (*notes, *smaller.notes)
            elif student is teacher:
                student, _ = rebuild(teacher, lambda _: None)
        return (fresh_copy(student, seed) if fresh else student), notes

    def _train(self, student: Any, x: Mapping[str, Array], said: Said, kind: str, workshop: Workshop) -> None:
        import_keras().utils.set_random_seed(workshop.seed)
        hidden = self.number("hidden")
        training, states = training_model(student, x, said, hidden=bool(hidden))
        train, validation = workshop.train, workshop.validation
        count, more = len(train), len(said.answers) - len(train) - len(validation)
        # What stands in the place of a missing label has no weight, but has to be a label.
        labels = np.resize(train.y, (count + more, *train.y.shape[1:]))
        targets = Targets(
            np.concatenate([labels, validation.y]),
            np.repeat(np.array([1, 0, 1], np.float32), [count, more, len(validation)]),
            said.answers,
            said.mask,
            states,
        )
        examples = Examples({name: array[: count + more] for name, array in x.items()}, labels)
        workshop.finetune(
            training,
            epochs=int(self.number("epochs")),
            learning_rate=self.number("learning_rate") or None,
            loss=targets.loss(kind, self.number("temperature"), self.number("alpha"), hidden, workshop.label_loss),
            targets=targets.joined(),
            examples=examples if more else None,
            name=self.name,
        )
