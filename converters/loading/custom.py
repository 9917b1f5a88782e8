"""The model's own classes and functions, imported because the user names them."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import LoadError


def check_spec(spec: str) -> tuple[str, str]:
    """Splits "package.module:Name" and returns its two parts.

    Raises:
        LoadError: If it has another form.
    """
    module, colon, name = spec.partition(":")
    if module.endswith(".py") or "/" in module or "\\" in module:
        dotted = module.removesuffix(".py").replace("\\", "/").strip("./").replace("/", ".")
        raise LoadError(
            f"--custom {spec}: a module is given by its name and not as a file. "
            f"Write --custom {dotted}:{name or 'Class'} and run from the folder that contains it."
        )
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise LoadError(f"--custom {spec}: expected module:Class, for instance --custom my_layers:Attention.")
    return module, name


def import_custom(specs: Iterable[str]) -> dict[str, Any]:
    """Imports what the specs name, from the current folder or Python's path.

    Args:
        specs: Each "package.module:Name", of a class or a function.

    Returns:
        The objects by the names that a file may call them: the name they are registered under with Keras
        ("package>Name"), and their plain name where that is not ambiguous.

    Raises:
        LoadError: If a spec has another form, its module cannot be imported or has no such class.
    """
    objects = [_lookup(spec, *check_spec(spec)) for spec in specs]
    get_registered_name = import_keras().saving.get_registered_name
    names = {get_registered_name(value): value for value in objects}
    uses = Counter(value.__name__ for value in objects)
    return {value.__name__: value for value in objects if uses[value.__name__] == 1} | names


def _lookup(spec: str, module_name: str, name: str) -> Any:
    module = _import(spec, module_name)
    value = getattr(module, name, None)
    if value is None:
        raise LoadError(f"--custom {spec}: the module {module_name} has no {name}. {_offer(module)}")
    if not isinstance(value, FunctionType) and not (isinstance(value, type) and hasattr(value, "from_config")):
        raise LoadError(f"--custom {spec}: {name} is neither a Keras class nor a Python function. {_offer(module)}")
    return value


def _import(spec: str, module_name: str) -> ModuleType:
    import_keras()  # first, so that a module that imports Keras gets it on the right backend
    try:
        with current_folder_first():
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise LoadError(
                f"--custom {spec}: there is no module {error.name} in the current folder or on Python's path. "
                "Run from the folder that contains it, or add that folder to PYTHONPATH."
            ) from error
        raise LoadError(f"--custom {spec}: the module {module_name} needs {error.name}, which is missing.") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise LoadError(f"--custom {spec}: importing the module {module_name} failed with {reason}.") from error


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Lets modules in the current folder be imported before all others."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)


def _offer(module: ModuleType) -> str:
    """Lists the classes that a module defines itself."""
    classes = [
        name for name, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return f"It defines: {', '.join(sorted(classes)[:8])}." if classes else "It defines no classes."
