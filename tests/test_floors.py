"""The floors: a file imports from lower floors only, and inside its own folder without a cycle."""

import ast
from pathlib import Path

import pytest

import policygrad

ROOT = Path(policygrad.__path__[0])
FLOORS = {
    "types": 0,
    "lazy": 1,
    "random": 1,
    "spaces": 1,
    "envs": 2,
    "models": 2,
    "ladder": 2,
    "storage": 2,
    "collect": 3,
    "learn": 3,
    "measure": 4,
    "parallel": 4,
    "bandits": 4,
    "games": 4,
    "run": 5,
    "cli": 6,
    "__main__": 7,
}
ROOT_FLOOR = 5
"""``policygrad`` itself lends every name, lazily: it may be imported by the command line alone."""
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def module(path):
    """``ladder/psi.py`` -> ("ladder", "psi"); a package's ``__init__`` is the package itself."""
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module(path) for path in FILES}


def imports(source, package):
    """The modules of this package that a source imports, anywhere in it, as tuples of names without ``policygrad``.

    A string that is a module's name counts: it is there to be imported later.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (
                tuple(alias.name.split("."))[1:] for alias in node.names if alias.name.split(".")[0] == "policygrad"
            )
        elif isinstance(node, ast.ImportFrom):
            base = tuple((node.module or "").split("."))
            if node.level:
                base = ("policygrad", *package[: len(package) - node.level + 1], *(name for name in base if name))
            if base[0] == "policygrad":
                for alias in node.names:
                    full = (*base[1:], alias.name)
                    yield full if full in MODULES else base[1:]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("policygrad."):
            named = tuple(node.value.split("."))[1:]
            yield from {named} & MODULES


def imports_of(path):
    package = path.parent.parts
    return set(imports((ROOT / path).read_text(encoding="utf-8"), package))


def floor(name):
    """The floor of a module. A new room must be given one above."""
    return FLOORS[name[0]] if name else ROOT_FLOOR


def wrong(path, imported):
    """The imports that a file may not make. The package's own ``__init__`` may import anything."""
    room = module(path)[:1]
    above = lambda name: name[:1] != room and floor(name) >= floor(room)  # noqa: E731
    return sorted(".".join(("policygrad", *name)) for name in imported if room and above(name))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_from_lower_floors_only(path):
    assert not wrong(path, imports_of(path))


def test_no_cycle_inside_a_folder():
    graph = {
        module(path): {name for name in imports_of(path) if name[:1] == module(path)[:1] and name != module(path)}
        for path in FILES
        if module(path)
    }
    while graph:
        free = [name for name, needed in graph.items() if not needed & set(graph)]
        assert free, f"these import each other in a circle: {sorted('.'.join(name) for name in graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("ladder/psi.py", "from policygrad.envs.core import Env", ["policygrad.envs.core"]),
        ("ladder/psi.py", "from policygrad import envs", ["policygrad.envs"]),
        ("learn/learner.py", "def f():\n    import policygrad.collect.xla", ["policygrad.collect.xla"]),
        ("learn/learner.py", "import policygrad as pg", ["policygrad"]),
        ("models/networks.py", "from ..ladder import psi", ["policygrad.ladder.psi"]),
        ("envs/registry.py", "home = 'policygrad.run.train'", ["policygrad.run.train"]),
        ("measure/exact.py", "from policygrad.learn import Score\nfrom . import statistics", []),
    ],
)
def test_the_test_itself_sees_what_it_should(path, source, found):
    assert wrong(Path(path), set(imports(source, Path(path).parent.parts))) == found
