from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys

import pytest

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime import interpreters
from edgelstm.runtime.interpreters import (
    CLASSIC,
    PACKAGES,
    VARIABLE,
    Runtime,
    available,
    find_runtime,
    import_runtime,
    is_available,
    python_elsewhere,
    python_for,
)
from edgelstm.targets.worker.runtimes import AUTO, RUNTIMES


@pytest.fixture
def only(monkeypatch):
    """Makes this Python have only the given runtimes."""
    monkeypatch.delenv(VARIABLE, raising=False)

    def have(*names: str) -> None:
        monkeypatch.setattr(interpreters, "_is_here", lambda name: name in names)

    return have


def test_the_worker_knows_the_same_runtimes():
    assert list(PACKAGES) == list(RUNTIMES)
    for name, package in PACKAGES.items():
        kind = RUNTIMES[name]
        assert (package.module, package.endings, package.needs) == (kind.module, kind.endings, kind.needs)
        assert package.distribution == (kind.distribution or name)


def test_auto_means_the_same_to_the_worker():
    assert AUTO[".tflite"] == CLASSIC
    for ending, names in AUTO.items():
        assert tuple(interpreters._names_for(f"m{ending.upper()}")) == names
    assert interpreters._names_for("m.bin") == interpreters._names_for("") == CLASSIC


def test_the_runtime_of_this_python_is_found(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Runtime("ai-edge-litert", importlib.metadata.version("ai-edge-litert"), sys.executable) in available()


def test_a_runtime_of_another_python_is_found(monkeypatch):
    if "tflite-runtime=" not in os.environ.get(VARIABLE, ""):
        pytest.skip(f"{VARIABLE}=tflite-runtime=/path/to/python names none")
    (found,) = (runtime for runtime in available() if runtime.name == "tflite-runtime")
    assert found.python == python_for("tflite-runtime") != sys.executable
    assert found.version[0].isdigit()


def test_the_variable_goes_before_this_python(monkeypatch, only):
    only("ai-edge-litert", "tflite-runtime")
    monkeypatch.setenv(VARIABLE, " tflite-runtime = /a/python ,")
    assert python_for("tflite-runtime") == "/a/python"
    assert python_for("ai-edge-litert") == python_for("auto") == sys.executable


def test_auto_uses_another_python_if_this_one_has_no_runtime(monkeypatch, only):
    only()
    monkeypatch.setenv(VARIABLE, "tflite-runtime=/a/python")
    assert python_for("auto") == "/a/python"


@pytest.mark.parametrize("function", [python_for, import_runtime])
def test_a_missing_runtime_says_how_to_get_it(only, function):
    only("ai-edge-litert")
    with pytest.raises(MissingExtraError, match=r"tflite-runtime is not installed in .* pip install ") as caught:
        function("tflite-runtime")
    assert "pip install 'edgelstm[tflite-runtime]'" in str(caught.value)
    assert f"{VARIABLE}=tflite-runtime=/path/to/python" in str(caught.value)


def test_no_runtime_at_all_says_how_to_get_one(only):
    only()
    with pytest.raises(MissingExtraError, match="pip install 'ai-edge-litert'"):
        import_runtime("auto")


@pytest.mark.parametrize("function", [python_for, import_runtime, find_runtime, is_available])
def test_an_unknown_runtime_lists_the_known(function):
    with pytest.raises(
        ModelRunError,
        match=r"'onnx' is not known\. Known are ai-edge-litert, .*, tensorflow-lite, .*, keras-torch, and auto",
    ):
        function("onnx")


def test_only_interpreters_are_listed_unless_others_are_asked_for(monkeypatch, only):
    only("ai-edge-litert", "litert-compiled", "tflite-micro")
    monkeypatch.setattr(interpreters.importlib.metadata, "version", {"ai-edge-litert": "2", "tflite-micro": "0"}.get)
    assert available() == [Runtime("ai-edge-litert", "2", sys.executable)]
    assert available(("tflite-micro", "litert-compiled")) == [
        Runtime("tflite-micro", "0", sys.executable),
        Runtime("litert-compiled", "2", sys.executable),
    ]


def test_auto_is_never_a_runtime_without_an_interpreter(monkeypatch, only):
    only("litert-compiled", "tflite-micro")
    monkeypatch.setenv(VARIABLE, "tflite-micro=/a/python,tflite-runtime=/b/python")
    assert python_for("auto") == "/b/python"
    with pytest.raises(MissingExtraError, match="The runtime ai-edge-litert is not installed"):
        import_runtime("auto")


def test_auto_looks_for_a_runtime_that_takes_the_file(monkeypatch, only):
    only("ai-edge-litert", "keras-jax")
    monkeypatch.setenv(VARIABLE, "onnxruntime=/a/python,keras-torch=/b/python,tflite-runtime=/c/python")
    assert python_for("auto", "m.onnx") == "/a/python"
    assert python_for("auto", "m.keras") == python_for("auto", "m.H5") == python_for("auto", "m.tflite")
    only("keras-jax")
    assert python_for("auto", "m.tflite") == "/c/python"


def test_a_runtime_of_two_packages_needs_both(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    there = {"keras", "torch"}
    monkeypatch.setattr(interpreters.importlib.util, "find_spec", lambda module: there & {module} or None)
    assert is_available("keras-torch")
    assert not is_available("keras-jax")
    there.remove("keras")
    with pytest.raises(MissingExtraError, match="pip install 'keras' 'torch'"):
        find_runtime("keras-torch")


def test_versions_tell_the_backend_and_packages_of_another_name(monkeypatch, only):
    only("keras-tensorflow", "onnxruntime")
    versions = {"keras": "3.1", "tensorflow": "2.2", "onnxruntime-gpu": "1.2"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(interpreters.importlib.metadata, "version", version)
    monkeypatch.setattr(
        interpreters.importlib.metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]}
    )
    assert find_runtime("keras-tensorflow").version == "3.1 (tensorflow 2.2)"
    assert find_runtime("onnxruntime").version == "1.2"


@pytest.mark.parametrize("name", ["litert-compiled", "tflite-micro"])
def test_a_runtime_without_an_interpreter_is_not_imported(name):
    with pytest.raises(
        ModelRunError, match=rf"'{name}' runs in workers only, .* Use ai-edge-litert, tflite-runtime or auto"
    ):
        import_runtime(name)


@pytest.mark.parametrize("name", ["litert-compiled", "tflite-micro"])
def test_every_runtime_may_be_in_another_python(monkeypatch, only, name):
    only()
    assert not is_available(name)
    with pytest.raises(MissingExtraError, match=rf"The runtime {name} is not installed"):
        find_runtime(name)
    monkeypatch.setenv(VARIABLE, f"{name}={sys.executable}")
    assert is_available(name)
    assert python_for(name) == python_elsewhere(name) == sys.executable
    if importlib.util.find_spec(PACKAGES[name].module.partition(".")[0]):
        assert find_runtime(name).version == importlib.metadata.version(PACKAGES[name].distribution)


def test_the_variable_may_name_places_of_other_engines(monkeypatch):
    monkeypatch.setenv(VARIABLE, "mediapipe=/a/python, litertjs=/a/folder")
    assert (python_elsewhere("mediapipe"), python_elsewhere("litertjs")) == ("/a/python", "/a/folder")
    assert python_elsewhere("tflite-micro") is None
    assert "mediapipe" not in [runtime.name for runtime in available()]


def test_auto_imports_the_first_that_is_here():
    package, module = import_runtime()
    assert package is PACKAGES["ai-edge-litert"]
    assert module.Interpreter.__module__ == "ai_edge_litert.interpreter"


def test_a_runtime_that_cannot_be_imported_says_why(monkeypatch, only):
    only("tflite-runtime")

    def fail(name: str) -> None:
        raise AttributeError("_ARRAY_API not found\nmore")

    monkeypatch.setattr(interpreters.importlib, "import_module", fail)
    with pytest.raises(
        ModelRunError, match=r"tflite-runtime is installed but cannot be imported: _ARRAY_API not found\."
    ):
        import_runtime("tflite-runtime")


@pytest.mark.parametrize("value", ["/usr/bin/python", "onnx=/usr/bin/python", "tflite-runtime="])
def test_a_variable_that_makes_no_sense_is_refused(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ModelRunError, match=rf"EDGELSTM_RUNTIMES: '{value}' is not name=/path/to/python"):
        available()


@pytest.mark.parametrize(
    "python, reason", [("/nowhere/python", "No such file"), (sys.executable, "No module named 'tflite_runtime'")]
)
def test_a_python_without_the_runtime_is_refused(monkeypatch, python, reason):
    if importlib.util.find_spec("tflite_runtime"):
        pytest.skip("this Python has tflite-runtime")
    monkeypatch.setenv(VARIABLE, f"tflite-runtime={python}")
    with pytest.raises(ModelRunError, match=rf"{python} cannot import tflite-runtime: .*{reason}"):
        available()
