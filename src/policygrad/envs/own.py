"""What a user names: ``package.module:Class`` and ``file.py:Class``. Nothing here imports JAX."""

import importlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

HOST_PREFIX = "gym:"
"""Before an id: Gymnasium's own, also where we have a pure twin."""
PREFIXES = ("gym", "probe", "envpool", "gymnax", "brax")
"""Words before a colon that are no modules of the user's."""


def is_own(name: str) -> bool:
    """Whether the id names a user's own class: ``module:Class`` or ``file.py:Class``."""
    module, colon, attribute = name.rpartition(":")
    return bool(colon) and attribute.isidentifier() and (module.endswith(".py") or is_module_path(module))


def is_module_path(module: str) -> bool:
    """``a.b.c``, but none of the prefixes that are ours."""
    return module not in PREFIXES and all(part.isidentifier() for part in module.split("."))


def own(name: str) -> Any:
    """The class, function or object of that name.

    Raises:
        ValueError: there is no such module, file or name, or it cannot be imported.
    """
    home, colon, attribute = name.rpartition(":")
    if not colon:
        raise ValueError(f"{name} is no name of a class. Write package.module:Class or file.py:Class.")
    module = import_own(home)
    if not hasattr(module, attribute):
        near = get_close_matches(attribute, [known for known in vars(module) if not known.startswith("_")], n=1)
        raise ValueError(f"{home} has no {attribute!r}." + (f" Did you mean {home}:{near[0]}?" if near else ""))
    return getattr(module, attribute)


def call_own(name: str, kwargs: dict[str, Any]) -> Any:
    """What that class or function makes."""
    try:
        return own(name)(**kwargs)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} could not be made: {type(error).__name__}: {error}") from error


class Begun:
    """A function that has been called once: the next call gives what that made. Sent elsewhere, it is the function."""

    def __init__(self, function: Callable[[], Any], made: Any) -> None:
        self.function, self.made = function, made

    def __call__(self) -> Any:
        made, self.made = self.made, None
        return self.function() if made is None else made

    def __reduce__(self) -> tuple:
        return Begun, (self.function, None)


def import_own(home: str) -> ModuleType:
    """A user's module, by its dotted name (the current folder is searched first) or by its file."""
    try:
        with warnings.catch_warnings():  # of Gymnasium, about bounds written as Python's floats
            warnings.filterwarnings("ignore", message=".*precision lowered by casting")
            if home.endswith(".py"):
                return import_file(home)
            if os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())
            return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name is not None and (home == error.name or home.startswith(f"{error.name}.")):
            raise ValueError(f"There is no module {home!r} here or among the installed packages.") from error
        raise ValueError(f"{home} needs the module {error.name!r}, which is not installed.") from error
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{home} could not be imported: {type(error).__name__}: {error}") from error


def import_file(path: str) -> ModuleType:
    """A file as a module of its own; its folder becomes importable, as if Python ran it."""
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        raise ValueError(f"There is no file {path}.")
    if os.path.dirname(full) not in sys.path:
        sys.path.insert(0, os.path.dirname(full))
    name = f"policygrad_own_{re.sub(r'[^A-Za-z0-9]', '_', full)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
