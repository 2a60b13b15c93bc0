"""``policygrad bandit DATA``: contextual bandits on a classification set, in an environment, or on a log of choices."""

import argparse
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing

NAMES = ("squarecb", "epsilon_greedy", "softmax", "linucb")
OF_ORACLES = {"ridge": ("linear",), "learning_rate": ("gradient", "network"), "hidden": ("network",)}
"""Options of the oracles, and of which."""
MANY = 500
"""Features from which on least squares is slow."""
ROWS = "{:<16} {:>9}  {:<18} {:>10}  {}"


class Result(NamedTuple):
    """One line of the table."""

    explorer: str
    each: list[float]
    """Mean reward (or loss) of every shuffle."""
    end: float
    """The same over the last tenth of the rows."""


def main(argv: list[str]) -> int:
    given = vars(parser().parse(argv))
    explorers = names_of(given)
    check(given, explorers)
    with importing():
        import policygrad.bandits.stream  # noqa: F401
        from policygrad.run import statistics  # noqa: F401
    if is_world(given):
        return compare_played(given, explorers)
    if given.get("logged"):
        return learn_log(given, explorers[0])
    return go_on(given) if "resume" in given else compare(given, explorers)


def compare(given: dict[str, Any], explorers: Sequence[str]) -> int:
    """Every explorer on the same shuffles, from nothing."""
    import jax
    import numpy as np

    from policygrad.bandits.bandit import EXPLORERS, require_finite
    from policygrad.bandits.data import load_table, rewards_of
    from policygrad.bandits.features import fit_encoder
    from policygrad.bandits.saved import save_bandit
    from policygrad.bandits.stream import shuffled

    seed, losses, shuffles = given.get("seed", 0), given.get("losses", False), given.get("shuffles", 10)
    batch = given.get("batch", 1)
    table = load_table(given["data"], given.get("label"))
    require_loggable(given, table.columns)
    encoder = fit_encoder(table.columns, given.get("bits"))
    features = encoder(table.columns)
    n_rows, n_actions = len(features), len(table.classes)
    rewards = rewards_of(table.label, n_actions, losses=losses)
    options = {name: options_of(name, given) for name in explorers}
    bandits = {name: EXPLORERS[name](n_actions, encoder.n_features, **options[name]) for name in explorers}
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(n_rows) for _ in range(shuffles)] or [np.arange(n_rows)])

    talk = Talk(given)
    talk.say(f"{given['data']}: {n_rows:,} rows, {encoder.n_features - 1} features, {n_actions} actions; ", end="")
    talk.say((f"{shuffles} shuffles, seed {seed}" if shuffles else "in the file's order") + delay(batch))
    talk.many(encoder.n_features - 1, explorers)
    talk.head(explorers)
    results: list[Result] = []
    for name, bandit in bandits.items():
        state, log = shuffled(bandit, jax.random.key(seed), features, rewards, orders, batch=batch)
        require_finite(name, state, log)
        paid = np.asarray(log.reward, np.float64)
        results.append(Result(name, paid.mean(axis=1).tolist(), float(paid[:, -math.ceil(n_rows / 10) :].mean())))
        talk.line(results[-1], results[0])
    talk.constants(rewards, losses)

    made, first = [], jax.tree.map(lambda leaf: leaf[0], (state, log))
    if "log" in given:
        made.append(write_log(given, table, orders[0], first[1]))
    if "save" in given:
        own = dict(explorer=explorers[0], options=options[explorers[0]], seed=seed)
        save_bandit(given["save"], first[0], encoder=encoder, classes=table.classes, **own)
        made.append(given["save"])
    best = (min if losses else max)(results, key=lambda result: fmean(result.each))
    return talk.end(results, made, next_step(given, best.explorer))


def compare_played(given: dict[str, Any], explorers: Sequence[str]) -> int:
    """Every explorer in the same runs of an environment, learning while it plays."""
    import jax
    import numpy as np

    from policygrad.bandits.bandit import EXPLORERS, require_finite
    from policygrad.bandits.stream import play

    env, n_actions, n_features = world(given["data"])
    seed, runs, steps = given.get("seed", 0), given.get("shuffles", 10), given.get("steps", 10_000)
    talk = Talk(given)
    talk.say(f"{given['data']}: {n_features - 1} features, {n_actions} actions; ", end="")
    talk.say(f"{runs} runs of {steps:,} steps, seed {seed}\n")
    talk.head(explorers)
    results: list[Result] = []
    episodes: dict[str, float] = {}
    low, high = math.inf, -math.inf
    for name in explorers:
        bandit = EXPLORERS[name](n_actions, n_features, **options_of(name, given))
        played: list[Any] = []
        for run in range(runs):
            found = play(bandit, env, jax.random.fold_in(jax.random.key(seed), run), steps)
            require_finite(name, found)
            played.append(jax.tree.map(np.asarray, found[1]))
        reward, done, returns = (np.stack(leaves) for leaves in zip(*played))
        each = reward.mean(axis=1, dtype=np.float64)
        results.append(Result(name, each.tolist(), float(reward[:, -math.ceil(steps / 10) :].mean())))
        episodes[name] = float(returns[done].mean()) if done.any() else math.nan
        low, high = min(low, float(reward.min())), max(high, float(reward.max()))
        talk.line(results[-1], results[0])
    ended = {name: value for name, value in episodes.items() if not math.isnan(value)}
    if ended:
        talk.say("per episode: " + ", ".join(f"{name} {value:.4g}" for name, value in ended.items()))
    if low < 0 or high > 1:
        talk.say(
            f"note: rewards go from {low:g} to {high:g}; bandits expect 0 to 1 and clip what they predict: scale them"
        )
    talk.constant = {f"{name}, per episode": value for name, value in ended.items()}
    return talk.end(results, [], f"policygrad train {given['data']}, which looks at what follows an action too")


def go_on(given: dict[str, Any]) -> int:
    """A saved bandit learns from more rows, in their order."""
    import jax
    import numpy as np

    from policygrad.bandits.bandit import require_finite
    from policygrad.bandits.data import load_table, rewards_of
    from policygrad.bandits.saved import load_bandit, save_bandit
    from policygrad.bandits.stream import keys_of, progressive

    bandit, state, encoder, classes, recipe = load_bandit(given["resume"])
    losses = recipe["options"].get("losses", False)
    given = {**given, "losses": losses}
    table = load_table(given["data"], given.get("label"), classes)
    require_loggable(given, table.columns)
    features = encoder(table.columns)
    rewards = rewards_of(table.label, len(classes), losses=losses)
    talk, begun, batch = Talk(given), int(state.rows), given.get("batch", 1)
    more = f"{len(features):,} more{delay(batch)}"
    talk.say(f"{given['resume']}: {recipe['explorer']}, {begun:,} rows learned; {more}\n")
    talk.head([recipe["explorer"]])
    _, choose = keys_of(jax.random.key(recipe["seed"]), 0)
    state, log = progressive(bandit, state, choose, features, rewards, batch=batch)
    require_finite(recipe["explorer"], state, log)
    paid = np.asarray(log.reward, np.float64)
    result = Result(recipe["explorer"], [float(paid.mean())], float(paid[-math.ceil(len(paid) / 10) :].mean()))
    talk.line(result, result)
    talk.constants(rewards, losses)
    made = []
    if "log" in given:
        made.append(write_log(given, table, np.arange(len(features)), log))
    if "save" in given:
        save_bandit(given["save"], state, encoder=encoder, classes=classes, **recipe)
        made.append(given["save"])
    return talk.end([result], made, "" if made else "add --save FILE to keep what it has learned")


def learn_log(given: dict[str, Any], explorer: str) -> int:
    """Learn from what somebody chose, and say what the bandit would have earned on the way."""
    import jax
    import numpy as np

    from policygrad.bandits.bandit import EXPLORERS, require_finite
    from policygrad.bandits.features import fit_encoder
    from policygrad.bandits.logged import off_policy_value, read_log, replay
    from policygrad.bandits.saved import load_bandit, save_bandit
    from policygrad.bandits.stream import keys_of
    from policygrad.storage.tables import read_table

    columns = read_table(given["data"])
    if "resume" in given:
        bandit, state, encoder, classes, recipe = load_bandit(given["resume"])
        losses = recipe["options"].get("losses", False)
        log = read_log(columns, losses=losses, classes=classes)
    else:
        losses = given.get("losses", False)
        log = read_log(columns, losses=losses, classes=given.get("actions"))
        encoder, classes = fit_encoder(log.columns, given.get("bits")), log.classes
        recipe = dict(explorer=explorer, options=options_of(explorer, given), seed=given.get("seed", 0))
        bandit = EXPLORERS[explorer](len(classes), encoder.n_features, **recipe["options"])
        state = bandit.init(keys_of(jax.random.key(recipe["seed"]), 0)[0])
    state, would = replay(bandit, state, encoder(log.columns), log.action, log.reward, log.propensity)
    require_finite(recipe["explorer"], state, would)
    value = off_policy_value(np.asarray(would), log.reward, log.propensity)
    what, mean = pay(losses), float(np.mean(log.reward))
    made = []
    if "save" in given:
        save_bandit(given["save"], state, encoder=encoder, classes=classes, **recipe)
        made.append(given["save"])
    found = {"rows": len(log.action), "actions": list(classes), f"logged_{what}": mean, "value": value._asdict()}
    if given.get("json"):
        print(json.dumps({**found, "explorer": recipe["explorer"], "made": made}, indent=1))
        return 0
    print(f"{given['data']}: {len(log.action):,} logged rows, {len(classes)} actions, mean {what} {mean:.4f}")
    print(
        f"{recipe['explorer']}, learning as it went, would have had {value.mean:.4f} ± {1.96 * value.error:.4f} (95 %, "
        f"by inverse propensities; worth {value.effective:,.0f} rows)"
    )
    for doubt in value.doubts():
        print(f"note: {doubt}")
    if "resume" in given:
        print("note: if the saved bandit has learned from these very rows, they flatter it: judge it on others")
    for path in made or ():
        print(f"made: {path}")
    if not made:
        print("next: add --save FILE to keep what it has learned")
    return 0


class Talk:
    """What is printed: a table whose lines come as soon as they are known, or one JSON object at the end."""

    def __init__(self, given: dict[str, Any]):
        self.quiet, self.given = given.get("json", False), given
        self.what = pay(given.get("losses", False))
        self.constant: dict[str, float] = {}

    def say(self, text: str, end: str = "\n") -> None:
        if not self.quiet:
            print(text, end=end, flush=True)

    def many(self, n_features: int, explorers: Sequence[str]) -> None:
        """Least squares costs the square of the features."""
        if n_features > MANY and (self.given.get("oracle", "linear") == "linear" or "linucb" in explorers):
            self.say(f"note: {n_features} features are many for least squares: --oracle gradient --bits 12 is quick")
        self.say("")

    def head(self, explorers: Sequence[str]) -> None:
        against = f"minus {explorers[0]}, paired" if len(explorers) > 1 else ""
        self.say(ROWS.format("explorer", self.what, "95 % interval", "last tenth", against).rstrip())

    def line(self, result: Result, reference: Result) -> None:
        against = "" if result is reference else difference(result, reference)
        words = f"{fmean(result.each):.4f}", between(result.each), f"{result.end:.4f}", against
        self.say(ROWS.format(result.explorer, *words).rstrip())

    def constants(self, rewards: Any, losses: bool) -> None:
        """What needs no learning: chance, and the one action that is best in hindsight."""
        each = rewards.mean(axis=0)
        self.constant = {"uniform": float(each.mean()), "one action": float(each.min() if losses else each.max())}
        for name, value in self.constant.items():
            self.say(ROWS.format(name, f"{value:.4f}", "", "", "").rstrip())

    def end(self, results: Sequence[Result], made: Sequence[str], next_step: str) -> int:
        if self.quiet:
            rows = [result._asdict() for result in results]
            print(json.dumps({self.what: rows, "constant": self.constant, "made": list(made)}, indent=1))
            return 0
        print()
        for path in made:
            print(f"made: {path}")
        if next_step:
            print(f"next: {next_step}")
        return 0


def delay(batch: int) -> str:
    return f"; {batch} rows at a time, a delay of up to {batch} rows" if batch > 1 else ""


def is_world(given: dict[str, Any]) -> bool:
    """DATA is an environment. Options that are for tables only are refused."""
    from policygrad.bandits.data import BUNDLED
    from policygrad.envs import registry
    from policygrad.envs.own import is_own
    from policygrad.storage.tables import SUFFIXES

    name = given["data"]
    if name.lower().endswith(SUFFIXES) or name in BUNDLED:
        if "steps" in given:
            raise ValueError(f"--steps is for environments, and {name} is a table: leave it out")
        return False
    if not ("steps" in given or name in registry.names() or is_own(name) or name.startswith("gym:")):
        return False
    wrong = [option for option in FOR_TABLES if option in given]
    if wrong:
        raise ValueError(f"{flag(wrong[0])} is for tables, and {name} is an environment: leave it out")
    if given.get("shuffles") == 0:
        raise ValueError(f"--shuffles is 0, which is a file's own order; {name} is an environment: give 1 run or more")
    return True


def world(name: str) -> tuple[Any, int, int]:
    """A pure environment of Discrete actions, K, and d with the intercept."""
    import numpy as np
    from gymnasium import spaces

    from policygrad.envs import registry

    if registry.is_host(name):
        raise ValueError(f"{name} is stepped on the host; a bandit plays pure environments, such as PageLayout-v0")
    env = registry.make(name)
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"a bandit needs Discrete actions, and those of {name} are {env.action_space}")
    if env.observation_space.shape is None:
        raise ValueError(f"a bandit needs observations in one array, and those of {name} are {env.observation_space}")
    return env, int(env.action_space.n), int(np.prod(env.observation_space.shape)) + 1


def between(each: Sequence[float]) -> str:
    """``0.9120 to 0.9340``: Student's 95 % interval of the mean over shuffles, of which there are few; nothing for a
    single one."""
    from scipy.stats import t

    n = len(each)
    if n < 2:
        return ""
    half = float(t.ppf(0.975, n - 1)) * stdev(each) / math.sqrt(n)
    return f"{fmean(each) - half:.4f} to {fmean(each) + half:.4f}"


def difference(result: Result, reference: Result) -> str:
    """``+0.0120 (0.0050 to 0.0190)``: the same shuffles, one minus the other."""
    each = [ours - theirs for ours, theirs in zip(result.each, reference.each)]
    words = between(each)
    return f"{fmean(each):+.4f} ({words})" if words else f"{fmean(each):+.4f}"


def write_log(given: dict[str, Any], table: Any, order: Any, log: Any) -> str:
    """Features, choices, payments and probabilities of one stream."""
    import numpy as np

    from policygrad.storage.tables import write_table

    features = {name: column[order] for name, column in table.columns.items()}
    chosen = np.asarray(table.classes)[np.asarray(log.action)]
    own = {"row": order, "action": chosen, pay(given.get("losses", False)): np.asarray(log.reward)}
    probabilities = {"propensity": np.asarray(log.propensity), "probabilities": np.asarray(log.probabilities)}
    write_table(given["log"], {**own, **probabilities, **features})
    return given["log"]


def require_loggable(given: dict[str, Any], columns: Mapping[str, Any]) -> None:
    """A log's own columns must not be features."""
    from policygrad.bandits.logged import OURS

    taken = sorted(set(columns) & set(OURS))
    if "log" in given and taken:
        raise ValueError(f"{given['data']} has a column {taken[0]!r}, which the log needs for itself: rename it")


def pay(losses: bool) -> str:
    return "loss" if losses else "reward"


def options_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the explorer of that name is made with: of the options that were given, those that it takes."""
    from policygrad.bandits.bandit import EXPLORERS

    takes = inspect.signature(EXPLORERS[name]).parameters
    oracle = given.get("oracle", "linear") if "oracle" in takes else "linear"
    of_oracle = {option for option, oracles in OF_ORACLES.items() if oracle in oracles}
    return {option: value for option, value in given.items() if option in takes or option in of_oracle}


def names_of(given: dict[str, Any]) -> tuple[str, ...]:
    """The explorers: all of them where everything is compared, SquareCB where one thing is made."""
    single = {"save", "log", "resume", "logged"} & given.keys()
    names = tuple(given.get("explorer", ("squarecb",) if single else NAMES))
    if single and len(names) > 1:
        raise ValueError(f"--{sorted(single)[0]} is about one bandit: choose one --explorer, such as {names[0]}")
    return names


def check(given: dict[str, Any], explorers: Sequence[str]) -> None:
    """Options that mean nothing together are refused before anything is done."""
    for name, least in (("seed", 0), ("steps", 1), ("batch", 1)):
        if given.get(name, least) < least:
            raise ValueError(f"{flag(name)} is {given[name]}; give {least} or more")
    if "actions" in given and ("resume" in given or not given.get("logged")):
        raise ValueError("--actions is for --logged without --resume, where nothing else names the actions")
    if given.get("shuffles", 1) < 0:
        raise ValueError(f"--shuffles is {given['shuffles']}; give 0 (the file's order) or more")
    if "resume" in given:
        fixed = {
            "explorer",
            "oracle",
            "bits",
            "losses",
            "seed",
            "shuffles",
            "prior",
            *OWN_OPTIONS,
            *OF_ORACLES,
        } & given.keys()
        if fixed:
            raise ValueError(
                f"{flag(sorted(fixed)[0])} is fixed in {given['resume']}, which goes on in order: leave it out"
            )
    of_choices = {"batch", "label", "log", "shuffles", "steps"}
    if given.get("logged") and of_choices & given.keys():
        wrong = sorted(of_choices & given.keys())[0]
        raise ValueError(f"{flag(wrong)} means nothing with --logged, whose rows were chosen already: leave it out")
    for name, of in OWN_OPTIONS.items():
        if name in given and not set(of) & set(explorers) and "resume" not in given:
            raise ValueError(f"{flag(name)} is for {' and '.join(of)}: add --explorer {of[0]}, or leave it out")
    if "oracle" in given and set(explorers) == {"linucb"}:
        raise ValueError("linucb is made for the linear oracle: leave --oracle out")
    oracle = given.get("oracle", "linear")
    for name, oracles in OF_ORACLES.items():
        if name in given and oracle not in oracles and not (name == "ridge" and "linucb" in explorers):
            raise ValueError(f"{flag(name)} is for --oracle {' or '.join(oracles)}, and the oracle is {oracle}")
    if "log" in given and not given["log"].lower().endswith(".parquet"):
        raise ValueError(
            f"--log {given['log']}: a log holds a list of probabilities a row; its name must end in .parquet"
        )
    for name in ("log", "save"):
        if name in given and Path(given[name]).is_dir():
            raise ValueError(f"--{name} {given[name]} is a folder: name a file in it")


FOR_TABLES = ("label", "losses", "bits", "batch", "logged", "actions", "log", "save", "resume")
OWN_OPTIONS = {
    "gamma_scale": ("squarecb",),
    "gamma_exponent": ("squarecb",),
    "epsilon": ("epsilon_greedy",),
    "temperature": ("softmax",),
    "alpha": ("linucb",),
    "min_exploration": ("squarecb", "softmax", "linucb"),
}
"""Options of the explorers, and of which."""


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def next_step(given: dict[str, Any], best: str) -> str:
    label = f" --label {given['label']}" if "label" in given else ""
    if "log" in given:
        return (
            f"policygrad bandit {given['log']} --logged --oracle gradient{' --losses' if given.get('losses') else ''}"
        )
    if "save" in given:
        return f"policygrad bandit MORE{label} --resume {given['save']}"
    return f"policygrad bandit {given['data']}{label} --explorer {best} --log log.parquet --save my.safetensors"


def parser() -> Parser:
    """Only what the user gives gets into the namespace."""
    made = Parser(
        prog="policygrad bandit",
        usage="policygrad bandit DATA [--label NAME] [--explorer NAMES] [--oracle NAME] [options]",
        description="Contextual bandits on a classification set: an action names a row's class, and only the reward\n"
        "of the chosen one is seen (1 if right). A row is chosen before it is learned from, so the mean is honest.\n"
        "Numbers are standardised by the whole file before the first choice: its features are seen, not its labels.\n"
        "An environment (PageLayout-v0) is played step by step. With --logged: learn from what somebody else chose.",
        argument_default=argparse.SUPPRESS,
    )
    option = made.add_argument
    option(
        "data", metavar="DATA", help="breast_cancer, digits, iris, wine, a .csv or .parquet file, or a pure environment"
    )
    option("--label", metavar="NAME", help="the column that holds the class (files only; default: none)")
    every = ", ".join(NAMES)
    words = f"of {every} (default: all, compared; squarecb where a file is made)"
    option("--explorer", metavar="NAMES", type=known_names, help=words)
    kinds = "linear: ridge regression, exact; gradient: adaptive gradients; network: a small MLP (default: linear)"
    option("--oracle", choices=["linear", "gradient", "network"], help=kinds)
    option("--shuffles", metavar="N", type=int, help="orders of the rows, or runs; 0: the file's order (default: 10)")
    option("--steps", metavar="N", type=int, help="environments: steps of a run (default: 10000)")
    option("--batch", metavar="N", type=int, help="tables: choose N rows with one model, then learn (default: 1)")
    option("--seed", metavar="N", type=int, help="of orders, choices and networks (default: 0)")
    option("--losses", action="store_true", help="learn from losses (1 if wrong) instead of rewards (default: rewards)")
    option("--bits", metavar="N", type=int, help="hash named features into 2^N slots (default: a place for each)")

    explore = made.add_argument_group("exploration")
    option = explore.add_argument
    option("--gamma-scale", metavar="X", type=float, help="squarecb: γ = X · rows^exponent (default: 10)")
    option("--gamma-exponent", metavar="X", type=float, help="squarecb: the exponent (default: 0.5)")
    option("--epsilon", metavar="P", type=float, help="epsilon_greedy: share of uniform choices (default: 0.05)")
    option("--temperature", metavar="X", type=float, help="softmax: in the unit of the reward (default: 0.05)")
    option("--alpha", metavar="X", type=float, help="linucb: widths of the upper bound (default: 0.3)")
    words = "share of uniform choices beside those of squarecb, softmax or linucb (default: 0)"
    option("--min-exploration", metavar="P", type=float, help=words)

    regress = made.add_argument_group("regression")
    option = regress.add_argument
    words = "linear: the penalty on ‖θ‖² (default: 1)"
    option("--ridge", metavar="X", type=float, help=words)
    option("--learning-rate", metavar="X", type=float, help="gradient (default: 0.5), network (default: 0.003)")
    option("--hidden", metavar="N,N", type=widths, help="network: widths of its layers (default: 64)")
    option("--prior", metavar="X", type=float, help="reward predicted before anything is learned (default: 0.5)")

    files = made.add_argument_group("files")
    option = files.add_argument
    words = "write the first shuffle's rows, with propensities and features, as .parquet (default: none)"
    option("--log", metavar="FILE", help=words)
    option(
        "--save", metavar="FILE", help="write the bandit that the first shuffle made, as .safetensors (default: none)"
    )
    option(
        "--resume",
        metavar="FILE",
        help="go on with a saved bandit, on DATA's rows in their order (default: a fresh one)",
    )
    words = "DATA is a log with the columns action, reward (or loss) and propensity: learn from it, and estimate"
    option("--logged", action="store_true", help=f"{words} what the bandit would have earned (default: no)")
    words = "--logged: actions 0 to N−1, or names in the order of their probabilities (default: those that appear)"
    option("--actions", metavar="N|NAMES", type=actions_of, help=words)
    option("--json", action="store_true", help="print one JSON object and nothing else (default: tables)")
    return made


def known_names(text: str) -> tuple[str, ...]:
    """``squarecb,linucb``."""
    names = tuple(dict.fromkeys(name.strip().replace("-", "_") for name in text.split(",")))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no explorer {unknown[0]!r}: choose of {', '.join(NAMES)}")
    return names


def actions_of(text: str) -> tuple[str, ...]:
    """``12`` for 0 to 11, or ``left,right``."""
    names = tuple(map(str, range(int(text)))) if text.isdecimal() else tuple(part.strip() for part in text.split(","))
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 on, and no list of different names")
    return names


def widths(text: str) -> tuple[int, ...]:
    """``64,64``."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of widths, such as 64 or 64,64")
    return found
