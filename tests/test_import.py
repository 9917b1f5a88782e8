from __future__ import annotations

import importlib.metadata
import re

import pytest

import edgelstm

HEAVY = "{'tensorflow', 'keras', 'ai_edge_litert', 'tflite_runtime', 'numpy', 'h5py', 'sklearn', 'click'}"


def test_import_brings_nothing_heavy(run_python):
    done = run_python(f"import sys, edgelstm, edgelstm.errors; print({HEAVY} & set(sys.modules))")
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_import_takes_less_than_a_tenth_of_a_second(run_python):
    code = "import time; start = time.perf_counter(); import edgelstm; print(time.perf_counter() - start)"
    # The best of three: a busy machine may hold up any one of them.
    assert min(float(run_python(code).stdout) for _ in range(3)) < 0.1


def test_version_is_that_of_the_installed_package():
    assert edgelstm.__version__ == importlib.metadata.version("edgelstm")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", edgelstm.__version__)


@pytest.mark.parametrize("name", edgelstm.__all__)
def test_every_public_name_exists_and_is_listed(name):
    assert getattr(edgelstm, name) is not None
    assert name in dir(edgelstm)


def test_a_public_name_is_the_one_of_its_module():
    from edgelstm.artifact import Artifact
    from edgelstm.errors import EdgeLSTMError

    assert edgelstm.Artifact is Artifact
    assert edgelstm.EdgeLSTMError is EdgeLSTMError


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'edgelstm' has no attribute 'covert'"):
        _ = edgelstm.covert


def test_public_names_do_not_bring_tensorflow(run_python):
    code = (
        "import sys, edgelstm; [getattr(edgelstm, name) for name in edgelstm.__all__];"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_converters_and_targets_are_inside_the_package(run_python):
    code = "import edgelstm.converters as a, edgelstm.targets as b; print(a.__name__, b.__name__)"
    done = run_python(code)
    assert done.stdout == "edgelstm.converters edgelstm.targets\n", done.stderr
