from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import edgelstm
from edgelstm import native
from edgelstm.errors import EdgeLSTMError

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A path that `native` takes for its library while the test runs."""
    path = tmp_path / "libedgelstm_native.so"
    monkeypatch.setattr(native, "_find_library", lambda: path)
    native.library_path.cache_clear()
    yield path
    native.library_path.cache_clear()


def compile_library(code: str, path: Path) -> None:
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    command = [COMPILER, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(path)]
    subprocess.run(command, input=code, text=True, check=True, timeout=60)


def test_library_answers_the_version_of_the_package():
    assert native.version() == edgelstm.__version__
    assert native.library_path().is_file()


def test_a_library_of_another_version_is_refused(library):
    compile_library('extern "C" const char* edgelstm_native_version() { return "0.0.7"; }', library)
    with pytest.raises(EdgeLSTMError, match=r"belongs to edgelstm 0\.0\.7, but edgelstm \S+ is installed"):
        native.version()
    with pytest.raises(EdgeLSTMError, match="Reinstall it: pip install"):
        native.library_path()


def test_a_library_of_something_else_is_refused(library):
    compile_library('extern "C" int something() { return 1; }', library)
    with pytest.raises(EdgeLSTMError, match="is not a native library of edgelstm"):
        native.version()


def test_a_damaged_library_is_refused(library):
    library.write_bytes(b"\x7fELF but no more")
    with pytest.raises(EdgeLSTMError, match="is not a native library of edgelstm"):
        native.version()


def test_a_missing_library_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(native.resources, "files", lambda _: tmp_path)
    native.library_path.cache_clear()
    with pytest.raises(EdgeLSTMError, match=r"is missing from .*Reinstall it: pip install"):
        native.version()
