"""The documentation says nothing that is not there: links, functions, pictures, commands."""

import ast
import contextlib
import importlib
import re
import shlex
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

import policygrad as pg
from policygrad.cli.main import VERBS
from policygrad.cli.train import chosen_algorithm, hints, parser
from policygrad.envs import registry
from policygrad.run.recipes import get_preset, make_recipe

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs" / "README.md"
NUMBERED = sorted((ROOT / "docs").glob("[0-9][0-9]-*.md"))
RUNGS = NUMBERED[:14]
"""Pages 15 and later are guides: they have no formula, and no picture."""
PAGES = [ROOT / "README.md", INDEX, *NUMBERED]
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)")


def each(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


def links(page):
    """``(text, target)`` of every link to a file."""
    found = [(match["text"], match["to"].split("#")[0]) for match in LINK.finditer(page.read_text())]
    return [(text, to) for text, to in found if to and "://" not in to]


@cache
def defined(path):
    """Every name that a Python file defines at its top level, and ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def commands(page):
    """The ``policygrad`` lines of a page's shell and indented blocks, split into words."""
    blocks = re.findall(r"^```sh\n(.*?)^```|^    ([^\n]+)$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [line.split(" #")[0].strip() for fenced, indented in blocks for line in (fenced or indented).splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("policygrad ")]


def test_there_is_a_page_for_every_rung():
    numbers = [int(page.name[:2]) for page in NUMBERED]
    assert numbers[:24] == list(range(1, 25)) and len(set(numbers)) == len(numbers)
    assert all(f"]({page.name})" in INDEX.read_text() for page in NUMBERED)


@each(PAGES)
def test_local_links_and_pictures_exist(page):
    assert not [to for _, to in links(page) if not (page.parent / to).exists()]


@each(PAGES)
def test_functions_that_are_referred_to_exist(page):
    code = [(text.strip("`"), page.parent / to) for text, to in links(page) if to.endswith(".py") and text[0] == "`"]
    names = [(name, path) for name, path in code if "/" not in name]
    assert not [f"{name} in {path.name}" for name, path in names if name not in defined(path)]


def test_a_missing_function_would_be_noticed():
    gradient = ROOT / "src" / "policygrad" / "learn" / "gradient.py"
    assert "steps_from" in defined(gradient) and "steps_form" not in defined(gradient)
    assert "Psi.score_factor" in defined(ROOT / "src" / "policygrad" / "ladder" / "psi.py")


@each(RUNGS)
def test_every_rung_names_its_code(page):
    assert any(to.startswith("../src/") for _, to in links(page))


@each([INDEX, *RUNGS])
def test_every_page_has_a_picture_and_the_command_that_draws_it(page):
    text = page.read_text()
    pictures = re.findall(r"\]\(img/(\w+)\.svg\)", text)
    scripts = re.findall(r"^`python docs/figures/(\w+)\.py`$", text, flags=re.MULTILINE)
    assert len(pictures) == 1 and pictures == scripts
    assert (ROOT / "docs" / "figures" / f"{scripts[0]}.py").exists()


@each([INDEX, *RUNGS])
def test_a_picture_says_where_its_numbers_come_from(page):
    """matplotlib keeps the text of a picture as comments."""
    (picture,) = (page.parent / to for _, to in links(page) if to.startswith("img/"))
    words = picture.read_text()
    assert f"docs/figures/{picture.stem}.py" in words and "jax 0." in words and "-core" in words


def test_no_picture_is_left_over():
    shown = {Path(to).name for page in PAGES for _, to in links(page) if "img/" in to}
    assert {path.name for path in (ROOT / "docs" / "img").iterdir()} <= shown


@each(PAGES)
def test_commands_are_understood(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for verb, *argv in commands(page):
        assert verb in VERBS
        if verb == "train" and "--resume" not in argv:
            given = vars(parser(get_preset(chosen_algorithm(argv))).parse(argv))
            changes = {name: value for name, value in given.items() if name in hints()}
            recipe = make_recipe(given.get("algo", "a2c"), given.get("env", "CartPole-v1"), **changes)
            with contextlib.suppress(ImportError):  # an extra that is not installed here
                registry.require_trainable(recipe.env)


@each(NUMBERED)
def test_switches_exist(page):
    beside = {"--algo", "--env", "--path", "--out", "--resume", "--recipe", "--head", "--port"}
    for verb in VERBS.keys() - {"train", "sweep"}:  # these two have a recipe's options
        beside |= set(importlib.import_module(VERBS[verb][0]).parser()._option_string_actions)
    known = {"--" + name.replace("_", "-") for name in hints()} | beside
    ours = re.sub(r"python [^\n`]*", "", page.read_text())  # scripts have options of their own
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)) <= known


def test_the_callback_of_the_page_ends_a_run():
    """The snippet itself, on a world of one step per episode and with a small budget."""
    page = (ROOT / "docs" / "14-python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    (snippet,) = (block for block in blocks if "callback" in block)
    runs = []

    def train(env, algo, callback):
        options = {"total_timesteps": 400, "log_every": 100, "eval_every": 200, "net": 8, "out": None}
        seen = lambda row: callback({key: 450 * x if key == "eval/mean_reward" else x for key, x in row.items()})  # noqa: E731
        runs.append(pg.train("probe:constant", algo, callback=seen, **options))

    exec(snippet, {"pg": SimpleNamespace(train=train)})
    assert runs[0].env_steps.tolist() == [200]
