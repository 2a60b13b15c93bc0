"""Packages whose names are imported when they are first used, so that a start is quick."""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def attach(
    package: str, homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of ``package`` (PEP 562).

    ``homes`` maps a module to the names that it lends; ``package`` itself lends its own modules.
    """
    where = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if where[name] == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(where[name]), name)

    return get, lambda: sorted(where), list(where)


def callable_package(name: str, home: str) -> None:
    """Let a package be called: its name is also the name of a function, ``home`` (``module:function``), which may stand
    on a higher floor and is imported when it is called."""

    class Package(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            module, _, function = home.partition(":")
            return getattr(importlib.import_module(module), function)(*args, **kwargs)

    sys.modules[name].__class__ = Package
