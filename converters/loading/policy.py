"""What a model's configuration may name: parts of Keras that build models, and what the user gave.

Keras itself is not strict enough for this. Keras 3.15 imports `keras_hub`, `keras_cv` or `keras_nlp` because a file
says so. It also takes nearly every public function of Keras as an activation and calls it while it rebuilds the model,
among them `keras.utils.plot_model`, which writes a file, and `keras.applications.*`, which download weights. So the
whole configuration is read here before Keras sees it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelstm.converters.loading.configuration import dictionaries
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import LoadError

_FUNCTION_FAMILIES = ("activations", "constraints", "initializers", "losses", "metrics", "regularizers")
_FAMILIES = (*_FUNCTION_FAMILIES, "dtype_policies", "layers", "models", "optimizers", "quantizers", "random")
_PUBLIC_MODULES = re.compile(rf"keras|keras\.({'|'.join(_FAMILIES)}|optimizers\.schedules)")
_INNER_MODULES = re.compile(rf"keras\.src\.({'|'.join(_FAMILIES)}|engine|ops)(\.\w+)*")
_FUNCTION_MODULES = re.compile(rf"keras\.({'|'.join(_FUNCTION_FAMILIES)})|keras\.ops(\.\w+)*")

# Values that Keras writes as dictionaries with a class name. They are data, not classes that are looked up.
_VALUES = frozenset(
    {
        "__keras_tensor__",
        "__tensor__",
        "__numpy__",
        "__bytes__",
        "__ellipsis__",
        "__slice__",
        "__tuple__",
        "TensorShape",
    }
)
# Layers that run or read something outside the model's file.
_UNSAFE_LAYERS = {
    "TFSMLayer": "runs a SavedModel from elsewhere",
    "TorchModuleWrapper": "holds a pickled PyTorch module",
}


def allowed_objects(config: Any, custom: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Checks that a configuration names nothing but parts of Keras, registered objects and what the user gave.

    Args:
        config: The configuration of a model, as JSON gives it.
        custom: Objects given by the user, by the names that a file may call them.
        path: The file, for messages.

    Returns:
        `custom`, and in addition its objects by the very names that this configuration calls them.

    Raises:
        LoadError: If the configuration holds Lambda code, or names a class or function that is none of these.
    """
    policy = _Policy(path, custom)
    for entry, layer in dictionaries(config):
        if "class_name" in entry:
            policy.check(entry, layer)
    return policy.objects


class _Policy:
    """Decides entry by entry; `objects` grows by the names that the file uses for the user's objects."""

    def __init__(self, path: Path, custom: Mapping[str, Any]) -> None:
        self.objects = dict(custom)
        self._path = path
        self._registered = import_keras().saving.get_custom_objects()

    def check(self, entry: Mapping[str, Any], layer: str) -> None:
        name = entry["class_name"]
        names = [name, entry.get("config") if name == "function" else "", entry.get("registered_name") or ""]
        if not all(isinstance(value, str) for value in names) or not isinstance(entry.get("module") or "", str):
            raise LoadError(
                f"Cannot load {self._path}: its configuration is damaged, {layer} has a name that is no text. "
                "Save the model again."
            )
        if name == "__lambda__" or (name == "Lambda" and _holds_code(entry.get("config"))):
            relation = "is" if name == "Lambda" else "holds"
            raise LoadError(
                f"Cannot load {self._path}: {layer} {relation} a Lambda, whose code in the file is never run. Replace "
                "it with operations of keras.ops or a layer class of your own, given with --custom module:Class, and "
                "save the model again."
            )
        if name == "function":
            self._check_function(entry["config"], entry.get("module"), layer)
        elif name not in _VALUES:
            self._check_class(entry, layer)

    def _check_function(self, name: str, module: str | None, layer: str) -> None:
        if not self._is_given(name) and not _is_keras_function(module, name):
            self._refuse_unknown(f"{layer} uses the function", name, module)

    def _check_class(self, entry: Mapping[str, Any], layer: str) -> None:
        name, module = entry["class_name"], entry.get("module")
        # The name that Keras will look up: with a module but an empty registered name, none.
        key = entry.get("registered_name", name) if module else entry.get("registered_name") or name
        if key in self.objects or key in self._registered:
            return
        if _is_keras_class(module, name):
            if name in _UNSAFE_LAYERS:
                raise LoadError(
                    f"Cannot load {self._path}: {layer} is a {name}, which {_UNSAFE_LAYERS[name]} and cannot be "
                    "converted. Replace it with layers of Keras and save the model again."
                )
        elif not self._is_given(key):
            if not module and _is_operation(name):
                raise LoadError(
                    f"Cannot load {self._path}: {layer} is the operation {name!r}, which Keras writes to HDF5 files "
                    "but cannot read from them. Save the model with model.save('model.keras') instead."
                )
            self._refuse_unknown(f"{layer} is of the class", name, module)

    def _is_given(self, name: str | None) -> bool:
        """Tells whether the user gave an object of this name, or of this name without its "package>"."""
        if not name:
            return False
        if name in self.objects or name in self._registered:
            return True
        plain = name.rpartition(">")[2]
        if plain not in self.objects:
            return False
        self.objects[name] = self.objects[plain]
        return True

    def _refuse_unknown(self, use: str, name: str, module: str | None) -> None:
        full_name = _shown(f"{module}.{name}" if module else name)
        of_operations = module == "builtins" and hasattr(import_keras().ops, name)  # in a Lambda without code
        raise LoadError(
            f"Cannot load {self._path}: {use} {full_name}, which is not a part of Keras that models are built of, and "
            "nothing is imported because a file names it. If it is your own, give it with "
            f"--custom {'keras.ops' if of_operations else 'module'}:{_shown(name.rpartition('>')[2])}."
        )


def _holds_code(config: Any) -> bool:
    """Tells whether a Lambda layer brings its code along: as a dictionary, or in old files as a list."""
    function = config.get("function") if isinstance(config, dict) else None
    if isinstance(function, dict):
        return function.get("class_name") != "function"
    return not isinstance(function, str)


def _is_keras_function(module: str | None, name: str) -> bool:
    if module == "builtins":  # how Keras writes its own activations, losses and the like
        return any(hasattr(getattr(import_keras(), family), name) for family in _FUNCTION_FAMILIES)
    return module is not None and bool(_FUNCTION_MODULES.fullmatch(module))


def _is_keras_class(module: str | None, name: str) -> bool:
    """Tells whether Keras can be asked for a class; a name that is not in a module of Keras it refuses itself."""
    keras = import_keras()
    if not module:
        families = [getattr(keras, family) for family in _FAMILIES]
        return name == "Functional" or any(isinstance(getattr(family, name, None), type) for family in families)
    if _PUBLIC_MODULES.fullmatch(module):
        found = functools.reduce(getattr, module.split(".")[1:], keras)
        return isinstance(getattr(found, name, type), type)
    return bool(_INNER_MODULES.fullmatch(module))


def _is_operation(name: str) -> bool:
    snake_case = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return hasattr(import_keras().ops, snake_case) or name == "GetItem"


def _shown(name: str) -> str:
    """A name from the file, fit for a terminal: short and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in name[:80])
