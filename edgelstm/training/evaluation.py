"""Scores of files: what a trained model is worth on the test split once it is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import LoadError
from edgelstm.tasks.base import Inputs, Predict
from edgelstm.training.feeding import keras_predict, without_notices
from edgelstm.training.runs import Run, open_run


@without_notices()
def evaluate(run: Run | str | Path, file: str | Path | None = None) -> dict[str, float]:
    """Scores a file on the test split of a training.

    Args:
        run: A finished run, or its folder.
        file: A .tflite or .keras file of the same inputs and output; the run's own model if None.

    Returns:
        Figures by name, the objective's main one first.

    Raises:
        EdgeLSTMError: If the run, its data or the file cannot be read or run.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    if not opened.finished:
        raise LoadError(f"The training in {opened.folder} is not finished: give its edgelstm train command again.")
    path = Path(file) if file is not None else opened.model_path
    if path.suffix == ".tflite":
        predict = file_predict(path)
    elif path.suffix == ".keras":
        predict = keras_predict(_load_keras(path))
    else:
        raise LoadError(f"{path} cannot be scored: give a .tflite or .keras file.")
    data = opened.task.data(opened.setup)
    try:
        return opened.task.evaluate(predict, data)
    except ValueError as error:
        raise LoadError(f"{path} does not fit the data of {opened.folder}: {error}") from error


def file_predict(path: Path) -> Predict:
    """Lets a .tflite file answer inputs by name, in float32; whatever its output is quantized to.

    Raises:
        LoadError: If it has several outputs.
    """
    import edgelstm

    model = edgelstm.load(path)
    output = model.outputs[0]

    def predict(x: Inputs) -> Any:
        answers = model.predict(x)
        if isinstance(answers, dict):
            raise LoadError(f"{path} has {len(answers)} outputs, and a score needs one.")
        is_integer = np.issubdtype(answers.dtype, np.integer)
        return output.dequantize(answers) if is_integer else answers

    return predict


def _load_keras(path: Path) -> Any:
    from edgelstm.converters.loading import load_model

    return load_model(path).model
