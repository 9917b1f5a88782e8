"""Classifies sentences with one MediaPipe text classifier, in a process of its own.

One standalone file: it needs Python 3.9 and the package mediapipe, and nothing of edgelstm.

    python -I -B worker.py < plan.json

Plan:
    model           path of the .tflite file, without metadata
    vocabulary      {word: id}; it needs the words <PAD> and <UNKNOWN>
    num_classes     how many classes the model has
    sentences       list of texts, words separated by blanks, classified in this order by one classifier

Events, JSON objects on stdout, one per line:
    {"event": "ready", "runtime": "mediapipe", "runtime_version", "load_us"}     once the model is loaded
    {"event": "result", "scores": [[per class] per sentence], "samples_ns": [per sentence]}     exit status 0
    {"event": "error", "message"}                                                exit status 1
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # Linux, sched.h

LOWEST_SCORE = -3.4e38  # about the least float32

# What MediaPipe's own function answers for the metadata of a text classifier.
PARSER_VERSION = "1.2.1"
NATIVE_MODULE = "mediapipe.tasks.cc.metadata.python._pywrap_metadata_version"


def leave_network() -> None:
    """Cuts this process off from the network where the system allows it.

    From 0.10.35 on, and perhaps earlier, MediaPipe reports its use to a server of its maker. The versions 0.10.21 and
    0.10.30 to 0.10.32 open no connection (seen with strace).
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        _ = library.unshare(CLONE_NEWNET) == 0 or library.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def supply_native_module() -> None:
    """Supplies the native function that wheels of 0.10.30 and later lack, and without which the writer is no import."""
    try:
        importlib.import_module(NATIVE_MODULE)
    except ImportError:
        name = NATIVE_MODULE
        module = types.ModuleType(name)
        module.GetMinimumMetadataParserVersion = lambda _: PARSER_VERSION  # type: ignore[attr-defined]
        while name not in sys.modules:
            sys.modules[name] = module
            name, _, attribute = name.rpartition(".")
            parent = types.ModuleType(name)
            parent.__path__ = []
            setattr(parent, attribute, module)
            module = parent


def add_metadata(model: bytes, vocabulary: Mapping[str, int], num_classes: int) -> bytes:
    """Returns a model with the metadata of a text classifier: tokenizer, vocabulary and labels, which are numbers."""
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer, text_classifier

    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        path = Path(folder) / "vocabulary.txt"
        path.write_text("".join(f"{word} {index}\n" for word, index in vocabulary.items()), encoding="utf-8")
        writer = text_classifier.MetadataWriter.create_for_regex_model(
            bytearray(model),
            metadata_writer.RegexTokenizer(delim_regex_pattern=r"\s+", vocab_file_path=str(path)),
            metadata_writer.Labels().add([str(index) for index in range(num_classes)]),
        )
        content, _ = writer.populate()
        return bytes(content)


def perform(plan: Mapping[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Loads the model, classifies the sentences and emits the events."""
    supply_native_module()
    from mediapipe.tasks.python import BaseOptions, text

    content = add_metadata(Path(plan["model"]).read_bytes(), plan["vocabulary"], plan["num_classes"])
    options = text.TextClassifierOptions(
        base_options=BaseOptions(model_asset_buffer=content),
        # By default an answer leaves out the classes with a negative score.
        score_threshold=LOWEST_SCORE,
    )
    scores, samples_ns = [], []
    started = time.perf_counter_ns()
    with text.TextClassifier.create_from_options(options) as classifier:
        load_us = (time.perf_counter_ns() - started) / 1e3
        version = importlib.metadata.version("mediapipe")
        emit({"event": "ready", "runtime": "mediapipe", "runtime_version": version, "load_us": load_us})
        for sentence in plan["sentences"]:
            started = time.perf_counter_ns()
            answer = classifier.classify(sentence)
            samples_ns.append(time.perf_counter_ns() - started)
            scores.append(scores_of(answer, plan["num_classes"]))
    emit({"event": "result", "scores": scores, "samples_ns": samples_ns})


def scores_of(answer: Any, num_classes: int) -> list[float]:
    """Returns the scores of one answer in the order of the classes; it lists them by score.

    Raises:
        ValueError: If there is not one score for each class.
    """
    (head,) = answer.classifications
    by_index = {category.index: category.score for category in head.categories}
    if sorted(by_index) != list(range(num_classes)):
        missing = sorted(set(range(num_classes)) - set(by_index))
        raise ValueError(f"an answer has no score for class {missing[0]}" if missing else "an answer has other classes")
    return [by_index[index] for index in range(num_classes)]


def main() -> int:
    """Reads a plan from stdin, performs it, and returns the exit status."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on whatever a library prints goes to stderr

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    try:
        leave_network()
        perform(json.load(sys.stdin), emit)
    except Exception as error:
        message = (str(error).strip().splitlines() or [""])[0]
        emit({"event": "error", "message": message or type(error).__name__})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
