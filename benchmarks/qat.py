"""What quantization-aware training saves where int8 after training loses: a small LSTM, long signals, rare spikes.

    python benchmarks/qat.py [--seeds 0 1 2]

The signals are sines of three frequencies in noise. One value in two hundred is a spike, as sensors have them, and
the range that calibration sees is that of the spikes, so that few of the 256 steps are left for the signal. Each seed
trains one model in float32. Then it goes on for as many epochs twice: in float32, with int8 after training, and with
the stage `qat`. Accuracy is that of the files on ai-edge-litert, on a test split that nothing else has seen.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from conversion import machine

from edgelstm.converters.calibration import fit_data
from edgelstm.converters.exporters import EXPORTERS, Job
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.converters.stages.base import Examples
from edgelstm.converters.stages.qat import Qat

RESULTS = Path(__file__).parent / "results" / "qat.json"
TIME, UNITS, CLASSES, BATCH = 64, 8, 3, 64
TRAIN, VALIDATION, TEST = 2048, 512, 2000
EPOCHS, QAT_EPOCHS = 8, 5
SPIKES, SPIKE = 0.005, 100.0


def signals(rng: np.random.Generator, count: int) -> Examples:
    """Signals of shape (count, TIME, 1) and the numbers of their frequencies."""
    y = rng.integers(0, CLASSES, count)
    phase, steps = rng.uniform(0, 2 * np.pi, (count, 1)), np.arange(TIME)
    x = np.sin((0.2 + 0.1 * y[:, None]) * steps + phase) + rng.normal(0, 0.7, (count, TIME))
    x += SPIKE * rng.normal(size=x.shape) * (rng.random(x.shape) < SPIKES)
    return Examples({"x": x[:, :, None].astype(np.float32)}, y)


class Bench:
    """A workshop on signals with Keras' own training loop."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.train, self.validation, self.test = (signals(rng, count) for count in (TRAIN, VALIDATION, TEST))

    def finetune(
        self, model: Any, *, epochs: int, learning_rate: float | None = None, keep: str = "best", **_: Any
    ) -> None:
        """Trains with Adam; the best epoch on validation stays."""
        keras = import_keras()
        keras.utils.set_random_seed(self.seed)
        model.compile(keras.optimizers.Adam(learning_rate or 0.005), "sparse_categorical_crossentropy")
        best, lowest = model.get_weights(), np.inf
        for _epoch in range(epochs):
            model.fit(self.train.x["x"], self.train.y, batch_size=BATCH, epochs=1, verbose=0)
            value = self.loss(model)
            if value < lowest or keep == "last":
                best, lowest = model.get_weights(), value
        model.set_weights(best)

    def loss(self, model: Any) -> float:
        """The loss on validation."""
        p = model.predict(self.validation.x["x"], batch_size=256, verbose=0)
        return float(-np.log(np.maximum(p[np.arange(len(p)), self.validation.y], 1e-7)).mean())

    def score(self, model: Any) -> float:
        """The accuracy on validation."""
        p = model.predict(self.validation.x["x"], batch_size=256, verbose=0)
        return float((p.argmax(-1) == self.validation.y).mean())

    def report(self, line: str) -> None:
        """Prints a line."""
        print(f"  {line}", flush=True)

    def with_tokens(self, tokens: Mapping[str, Any]) -> Bench:
        """Signals have no tokens."""
        raise NotImplementedError


def accuracy_of_file(model: Any, bench: Bench, precision: str, ranges: Mapping[str, tuple[float, float]]) -> float:
    """Exports a model and scores the file."""
    signature = model_signature(model, shapes={"x": [TEST, TIME, 1]})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "saved"
        trace = trace_model(model, signature, folder)
        data = fit_data(bench.train.x, signature.inputs) if precision == "int8" else None
        graph = EXPORTERS[precision](Job(folder, signature, trace, data, ranges=ranges)).graph
    interpreter = Interpreter(model_content=graph.to_bytes())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], bench.test.x["x"])
    interpreter.invoke()
    answers = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return float((answers.argmax(-1) == bench.test.y).mean())


def measure(seed: int) -> dict[str, Any]:
    """Trains, exports and scores one model."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    bench = Bench(seed)
    model = keras.Sequential(
        [
            keras.Input((TIME, 1), name="x"),
            keras.layers.LSTM(UNITS, name="lstm"),
            keras.layers.Dense(CLASSES, activation="softmax", name="dense"),
        ]
    )
    bench.finetune(model, epochs=EPOCHS, learning_rate=0.02)
    start = time.perf_counter()
    outcome = Qat(epochs=QAT_EPOCHS).apply(model, bench)
    seconds = time.perf_counter() - start
    bench.finetune(model, epochs=QAT_EPOCHS)
    return {
        "float32": accuracy_of_file(model, bench, "float32", {}),
        "int8": accuracy_of_file(model, bench, "int8", {}),
        "qat_int8": accuracy_of_file(outcome.model, bench, "int8", outcome.ranges),
        "qat_float32": accuracy_of_file(outcome.model, bench, "float32", {}),
        "qat_seconds": round(seconds),
        "input_range": outcome.ranges["lstm/input"],
        "notes": outcome.notes,
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    results: dict[str, Any] = {"machine": machine(), "seeds": {}}
    for seed in parser.parse_args().seeds:
        print(f"seed {seed}", flush=True)
        results["seeds"][seed] = result = measure(seed)
        print("  " + ", ".join(f"{name} {value}" for name, value in result.items()), flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
