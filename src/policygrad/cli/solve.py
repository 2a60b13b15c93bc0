"""``policygrad solve ENV|FILE``: a small world solved exactly, or a policy's value learned from its episodes."""

import argparse
import json
import os
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing
from policygrad.envs import registry
from policygrad.run.columns import aligned

METHODS = {
    "value-iteration": "V ← max_a Q(·, a) until it stands still; with a horizon exactly, backwards in time",
    "policy-iteration": "evaluate exactly, act greedily, until no action changes",
    "policy-evaluation": "the value of --policy, by a linear solve",
    "td0": "the value of --policy learned by TD(0)",
    "n-step": "the same by n-step TD",
    "td-lambda": "the same by TD(λ) with accumulating traces",
}
SUCH_AS = "chain, grid, cliff or walk"
LEARNED = ("td0", "n-step", "td-lambda")
COUNTS = ("horizon", "time_limit", "n_observations")
"""Fields of a TabularMDP that are whole numbers."""
SHOWN = 50
"""Longer tables are shown in part; the file has all of them."""
KINDS = (".json", ".csv", ".parquet")


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    method: Any = args.method or ("policy-evaluation" if args.policy is not None else None)
    require_sensible(args, method)
    with importing():
        import numpy as np

        from policygrad.measure import dynamic
    run = trained(args.policy, args.checkpoint)
    args.gamma = args.gamma if args.gamma is not None else 0.99 if run is None else run.recipe.gamma
    if run is not None and run.recipe.env == args.env:
        args.env_kwargs = args.env_kwargs or run.recipe.env_kwargs
    mdp = world(args.env, args.env_kwargs)
    policy: Any = None
    if run is not None:
        mdp = mdp if args.horizon is None else replace(mdp, horizon=args.horizon)
        policy, critic = policy_and_critic(run, mdp, args)
        if method in LEARNED:
            return learned(mdp, policy, method, args)
        return judged(mdp, policy, critic, args)
    if args.policy is not None:
        policy = read_policy(args.policy, mdp.n_states, mdp.n_actions)
    horizon = len(policy) if args.horizon is None and policy is not None and policy.ndim == 3 else args.horizon
    if horizon is not None:
        mdp = replace(mdp, horizon=horizon)
    if policy is None and (method in LEARNED or method == "policy-evaluation"):
        policy = np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    if method in LEARNED:
        return learned(mdp, policy, method, args)
    if method == "policy-evaluation":
        value = dynamic.soft_policy_evaluation(mdp, policy, args.gamma, args.temperature)
        q = dynamic.backup(dynamic.model_of(mdp), value if mdp.horizon is None else value[1:], args.gamma)
        found = dynamic.Solution(value, q, np.broadcast_to(policy, q.shape))
    else:
        found, method = best(mdp, method, args)
    show(found, mdp, method, args)
    return 0


def best(mdp: Any, method: str | None, args: argparse.Namespace) -> tuple[Any, str]:
    """The solution, and how it was found. Unless the user says how: policy iteration, which is exact in few steps;
    value iteration with a horizon or a temperature, and where γ = 1 and some policy never ends."""
    from policygrad.measure import dynamic

    hard = mdp.horizon is None and args.temperature == 0
    if method == "policy-iteration" or (method is None and hard):
        try:
            return dynamic.policy_iteration(mdp, args.gamma), "policy-iteration"
        except ValueError:
            if method is not None or args.gamma != 1:
                raise
    return dynamic.soft_value_iteration(mdp, args.gamma, args.temperature), "value-iteration"


def parser() -> Parser:
    made = Parser(
        prog="policygrad solve",
        usage="policygrad solve ENV|FILE [--method NAME] [--gamma X] [--horizon T] [--policy FILE] [options]",
        description="Solve a small world exactly: V(s), Q(s, a) and π(a | s) of the best policy, or of a given one.\n"
        "A FILE is .json or .npz with the arrays of a TabularMDP: initial [S], transition [S, A, S], reward_value\n"
        "[S, A, S], and whatever else it has: terminal, reward_prob, horizon, ... The time limit of a world is no\n"
        "part of the problem: it goes on where watching it stops.",
        epilog="methods:\n" + "\n".join(f"  {name:<18} {words}" for name, words in METHODS.items()),
    )
    option = made.add_argument
    option("env", metavar="ENV|FILE", help=f"a small world, such as {SUCH_AS} (`policygrad list envs`), or a file")
    default = "(default: policy-iteration; with a horizon or α: value-iteration; with --policy: policy-evaluation)"
    option("--method", choices=METHODS, metavar="NAME", help=f"one of those below {default}")
    words = "options of the world, such as n=12 or opponent=copycat, or JSON (default: none)"
    option("--env-kwargs", metavar="OPTIONS", default="", help=words)
    option("--gamma", type=float, metavar="X", help="discount γ (default: 0.99; with --policy RUN: the run's)")
    option(
        "--horizon", type=int, metavar="T", help="the problem ends after T steps (default: the world's own, or none)"
    )
    option("--temperature", type=float, default=0.0, metavar="X", help="α: pay r − α log π as well (default: 0)")
    words = (
        "π(a | s): .json, or .csv or .parquet with columns pi_0, pi_1, ..., as --out writes them; or the folder of a "
        "run, whose learned V is then held against the exact one (default: uniform)"
    )
    option("--policy", metavar="FILE|RUN", help=words)
    option("--checkpoint", choices=("best", "last"), help="which policy and V of a RUN (default: best)")
    option("--out", metavar="FILE", help="write V, Q and π to a .json, .csv or .parquet file (default: do not)")
    option("--json", action="store_true", help="print one JSON object and nothing else (default: a table)")
    group = made.add_argument_group("td0, n-step and td-lambda")
    group.add_argument("--episodes", type=int, default=1000, metavar="N", help="to learn from (default: 1000)")
    group.add_argument("--step-size", type=float, default=0.05, metavar="X", help="of every update (default: 0.05)")
    group.add_argument("--n-steps", type=int, default=4, metavar="N", help="n of n-step TD (default: 4)")
    group.add_argument("--lambda", type=float, default=0.8, metavar="X", dest="lam", help="λ of TD(λ) (default: 0.8)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the episodes (default: 0)")
    return made


def require_sensible(args: argparse.Namespace, method: str | None) -> None:
    """What can be refused before anything is computed."""
    if args.out is not None and Path(args.out).suffix not in KINDS:
        raise UsageError(f"--out {args.out}: the name must end in {', '.join(KINDS)}")
    if args.policy is not None and method in ("value-iteration", "policy-iteration"):
        raise UsageError(f"--policy is what policy-evaluation and TD evaluate; {method} finds its own: leave it out")
    if args.temperature and method not in (None, "value-iteration", "policy-evaluation"):
        raise UsageError("--temperature is for value-iteration and policy-evaluation")
    if args.horizon is not None and method in (*LEARNED, "policy-iteration"):
        raise UsageError(f"with a horizon V depends on the time, and {method} has one V: take value-iteration")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}; give a number that is 0 or more")
    if args.episodes < 1 or args.n_steps < 1:
        raise UsageError("--episodes and --n-steps are positive numbers")
    if not 0 <= args.lam <= 1 or not 0 < args.step_size <= 1:
        raise UsageError("--lambda is from 0 to 1, and --step-size above 0 and at most 1")


# What is solved


def world(name: str, env_kwargs: str = "") -> Any:
    """The TabularMDP of an id, of a user's file.py:Class, or of a file of arrays."""
    from policygrad.envs.tabular import TabularMDP
    from policygrad.run.recipes import read_options

    options = read_options(env_kwargs)
    if Path(name).suffix in (".json", ".npz"):
        if options:
            raise UsageError(f"--env-kwargs is for worlds that are made by their name: {name} has all its numbers")
        return read_mdp(Path(name))
    if name not in registry.WORLDS and not registry.is_own(name):
        near = get_close_matches(name, registry.WORLDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"give {SUCH_AS}, or a .json or .npz file"
        raise UsageError(f"{name} is no tabular world: {hint}")
    mdp = registry.make(name, **options)
    if not isinstance(mdp, TabularMDP):
        raise UsageError(f"{name} is no tabular world: only what is given by its arrays can be solved exactly")
    return mdp


def read_mdp(path: Path) -> Any:
    """A TabularMDP of its arrays; what is wrong with them, the MDP itself says."""
    import numpy as np

    from policygrad.envs.tabular import TabularMDP

    known = [item.name for item in fields(TabularMDP) if item.init]
    given = read_json(path) if path.suffix == ".json" else read_npz(path)
    if not isinstance(given, dict):
        raise ValueError(f"{path} must hold one object with {', '.join(known[:3])}")
    for name in given.keys() - known:
        near = get_close_matches(name, known, n=1)
        raise ValueError(f"{path} has {name!r}, which no TabularMDP has{f': did you mean {near[0]}?' if near else ''}")
    if missing := [name for name in known[:3] if name not in given]:
        raise ValueError(f"{path} has no {' and no '.join(missing)}: a TabularMDP needs {', '.join(known[:3])}")
    counts = {name: given[name] for name in COUNTS if given.get(name) is not None}
    for name, number in counts.items():
        if np.ndim(number) or isinstance(number, str) or int(number) != number:
            raise ValueError(f"{path}: {name} is {number}; give a whole number")
    try:
        return TabularMDP(**(given | {name: int(number) for name, number in counts.items()}))
    except (TypeError, ValueError) as error:
        plain = str(error).startswith("TabularMDP")
        words = "every array must be nested lists of numbers, each row as long as the others"
        raise ValueError(f"{path}: {error if plain else words}") from error


def read_json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no file {path}: check the name")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def read_npz(path: Path) -> dict[str, Any]:
    import numpy as np

    if not path.is_file():
        raise ValueError(f"there is no file {path}: check the name")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no .npz file of arrays: {error}") from error


def read_policy(path: str, n_states: int, n_actions: int) -> Any:
    """``[S, A]`` or ``[T, S, A]`` from a file such as ``--out`` writes."""
    import numpy as np

    if Path(path).suffix == ".json":
        given = read_json(Path(path))
        given = given.get("policy") if isinstance(given, dict) else given
        if given is None:
            raise ValueError(f"{path} has no 'policy': give [[π(0 | s), π(1 | s), ...] for each state]")
        try:
            return np.asarray(given, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: the policy must be numbers, as many for each state: {n_actions}") from error
    from policygrad.storage.tables import column, read_table

    table = read_table(path)
    policy = np.stack([column(path, table, f"pi_{a}") for a in range(n_actions)], axis=-1)
    if len(policy) % n_states:
        raise ValueError(f"{path} has {len(policy)} rows; give one for each of the {n_states} states")
    return policy if len(policy) == n_states else policy.reshape(-1, n_states, n_actions)


def trained(path: str | None, checkpoint: str | None) -> Any:
    """The run in that folder; None where the policy is a file, or not given."""
    if path is None or not Path(path).is_dir():
        if checkpoint is not None:
            raise UsageError("--checkpoint chooses between the policies of a run: give its folder with --policy")
        return None
    with importing():
        from policygrad.run.api import load
    return load(path, checkpoint=checkpoint or "best")


def policy_and_critic(run: Any, mdp: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    """π ``[S, A]`` of the run's first seed and its learned V̂ ``[S]``, zero at ends; with a horizon both for each time.
    V̂ is None where the run has no critic."""
    import numpy as np

    from policygrad.measure.exact import policy_probabilities
    from policygrad.models.actor_critic import is_memoryless, values

    model, recipe, env = run.models[0], run.recipe, run.env
    for what in ("observation_space", "action_space"):
        if getattr(env, what) != getattr(mdp, what):
            raise ValueError(f"{args.policy} was trained on another {what} than that of {args.env}: name its world")
    if recipe.time_to_go and mdp.horizon is None:
        raise ValueError(f"{args.policy} sees the time that is left: give --horizon T, so that V depends on the time")
    if not is_memoryless(model):
        raise ValueError(f"{args.policy} has a memory, and V(s) is of policies that see the state alone")
    times = mdp.horizon or 1
    policy = np.asarray(policy_probabilities(mdp, model, times), np.float64)
    policy /= policy.sum(axis=-1, keepdims=True)
    critic = None
    if recipe.critic_target is not None:
        time = np.indices((times, mdp.n_states), np.int32)[0]
        seen = np.broadcast_to(mdp.observation.astype(np.int32), time.shape)
        unit = 1.0 if model.normalizer is None else 1 / float(model.normalizer.reward(1.0))
        critic = unit * np.asarray(values(model, seen, time, None), np.float64) * ~mdp.terminal
    if mdp.horizon is None:
        policy, critic = policy[0], None if critic is None else critic[0]
    return policy, critic


# What is shown and written


def show(found: Any, mdp: Any, method: str, args: argparse.Namespace) -> None:
    """The table, the value of the start, and the file."""
    start = float(mdp.initial @ (found.value if found.value.ndim == 1 else found.value[0]))
    report = {"env": args.env, "env_kwargs": args.env_kwargs, "method": method, "gamma": args.gamma,
              "temperature": args.temperature, "horizon": mdp.horizon, "start_value": start,
              "value": found.value.tolist(), "q": found.q.tolist(), "policy": found.policy.tolist()}  # fmt: skip
    columns = as_columns(found, mdp)
    if kept(args, report, columns):
        return
    soft = f", α = {args.temperature:g}" if args.temperature else ""
    if mdp.horizon is not None and method == "value-iteration":
        method = "backward induction"
    length = "" if mdp.horizon is None else f", {mdp.horizon} steps"
    print(f"{args.env}: {mdp.n_states} states, {mdp.n_actions} actions; {method}, γ = {args.gamma:g}{soft}{length}\n")
    print(table(columns, found.q.shape[-1], mdp))
    print(f"\nvalue of the start: {round(start, 10) + 0.0:.6g}")
    if len(set(mdp.observation)) < mdp.n_states:
        print("note: states look alike here; this is for a policy that sees the state itself")
    after(args, f"policygrad solve {args.env} --policy FILE evaluates a policy")


def learned(mdp: Any, policy: Any, method: str, args: argparse.Namespace) -> int:
    """V from episodes, beside the exact one."""
    import numpy as np

    from policygrad.measure import dynamic

    if mdp.horizon is not None:
        raise UsageError(f"{args.env} has a horizon, so V depends on the time, and {method} has one V for each state")
    update = {
        "td0": lambda v, e: dynamic.n_step_td(v, e, 1, args.step_size, args.gamma),
        "n-step": lambda v, e: dynamic.n_step_td(v, e, args.n_steps, args.step_size, args.gamma),
        "td-lambda": lambda v, e: dynamic.td_lambda(v, e, args.lam, args.step_size, args.gamma),
    }[method]
    exact = dynamic.policy_evaluation(mdp, policy, args.gamma)
    rng, value = np.random.default_rng(args.seed), np.zeros((1, 1, mdp.n_states))
    for _ in range(args.episodes):
        value = update(value, dynamic.sample_episodes(mdp, policy, 1, rng))
    found = value[0, 0]
    if not np.isfinite(found).all():
        raise RuntimeError(f"{method} diverged with --step-size {args.step_size:g}: give a smaller one")
    error = float(np.sqrt(np.mean((found - exact)[~mdp.terminal] ** 2)))
    report = {"env": args.env, "method": method, "gamma": args.gamma, "episodes": args.episodes,
              "step_size": args.step_size, "seed": args.seed, "rms_error": error, "value": found.tolist(),
              "exact": exact.tolist()}  # fmt: skip
    columns = {"state": np.arange(mdp.n_states), "V": found, "exact": exact}
    if kept(args, report, columns):
        return 0
    print(f"{args.env}: {method}, γ = {args.gamma:g}, {args.episodes:,} episodes, step size {args.step_size:g}\n")
    print(table(columns, 0, mdp))
    print(f"\nRMS error over the states that are no ends: {error:.4g}")
    after(args, "a smaller --step-size and more --episodes come nearer to the exact V")
    return 0


def judged(mdp: Any, policy: Any, critic: Any, args: argparse.Namespace) -> int:
    """The exact V of a run's policy beside what its critic learned."""
    import numpy as np

    from policygrad.measure import dynamic

    exact = dynamic.soft_policy_evaluation(mdp, policy, args.gamma, args.temperature)
    start = float(mdp.initial @ (exact if mdp.horizon is None else exact[0]))
    before = exact if mdp.horizon is None else exact[:-1]
    index = np.indices(before.shape).reshape(before.ndim, -1)
    columns = dict(zip(("time", "state")[-before.ndim :], index)) | {"V": before.ravel()}
    report = {"env": args.env, "env_kwargs": args.env_kwargs, "run": args.policy, "gamma": args.gamma,
              "temperature": args.temperature, "horizon": mdp.horizon, "start_value": start, "value": exact.tolist(),
              "policy": policy.tolist(), "critic": None, "rms_error": None}  # fmt: skip
    error = "this run has no critic to compare"
    if critic is not None:
        rms = float(np.sqrt(np.mean((critic - before)[..., ~mdp.terminal] ** 2)))
        error = f"RMS error of the learned V over the states that are no ends: {rms:.4g}"
        report |= {"critic": critic.tolist(), "rms_error": rms}
        columns["learned"] = critic.ravel()
    columns |= {f"pi_{a}": policy[..., a].ravel() for a in range(mdp.n_actions)}
    if kept(args, report, columns):
        return 0
    print(f"{args.env}: the policy of {args.policy}, γ = {args.gamma:g}\n")
    print(table(columns, mdp.n_actions, mdp))
    print(f"\nvalue of the start: {round(start, 10) + 0.0:.6g}\n{error}")
    after(args, f"policygrad solve {args.env} --gamma {args.gamma:g} finds the best policy")
    return 0


def as_columns(found: Any, mdp: Any) -> dict[str, Any]:
    """One row for each state, or for each (time, state) before the horizon."""
    import numpy as np

    n_actions = found.q.shape[-1]
    value = found.value if found.value.ndim == 1 else found.value[:-1]
    index = np.indices(value.shape).reshape(value.ndim, -1)
    columns = dict(zip(("time", "state")[-value.ndim :], index)) | {"V": value.ravel()}
    for name, array in (("q", found.q), ("pi", found.policy)):
        columns |= {f"{name}_{a}": array[..., a].ravel() for a in range(n_actions)}
    return columns


def table(columns: dict[str, Any], n_actions: int, mdp: Any) -> str:
    """The columns side by side; ends say so."""
    heads = {
        **{f"q_{a}": f"Q(s, {a})" for a in range(n_actions)},
        **{f"pi_{a}": f"π({a} | s)" for a in range(n_actions)},
    }
    rows = [[heads.get(name, name) for name in columns]]
    n_rows = len(columns["state"])
    for k in range(min(n_rows, SHOWN)):
        end = mdp.terminal[columns["state"][k]]
        cells = [str(x[k]) if x.dtype.kind == "i" else f"{x[k] + 0.0:.4f}" for x in columns.values()]
        rows.append(
            [cell if name in ("time", "state", "V") or not end else "end" for name, cell in zip(columns, cells)]
        )
    lines = aligned(rows, left=0)
    if n_rows > SHOWN:
        lines.append(f"... and {n_rows - SHOWN:,} rows more: --out FILE writes all")
    return "\n".join(lines)


def kept(args: argparse.Namespace, report: dict[str, Any], columns: dict[str, Any]) -> bool:
    """Write the file, if there is to be one; True where the report was wanted as JSON, which ends the talk."""
    if args.out is not None:
        write(Path(args.out), report, columns)
    if args.json:
        print(json.dumps(report, allow_nan=False))
    return args.json


def write(path: Path, report: dict[str, Any], columns: dict[str, Any]) -> None:
    if path.suffix == ".json":
        from policygrad.storage.checkpoint import write_atomically

        write_atomically(path, json.dumps(report, indent=1, allow_nan=False).encode())
    else:
        from policygrad.storage.tables import write_table

        write_table(os.fspath(path), columns)


def after(args: argparse.Namespace, hint: str) -> None:
    print(f"made: {args.out}" if args.out is not None else f"try: --out FILE.csv keeps it; {hint}")
