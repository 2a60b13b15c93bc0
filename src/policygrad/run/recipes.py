"""A :class:`Recipe` says everything about a run. :data:`PRESETS` are recipes, each written as a change of another: the
ladder, as a table."""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from policygrad.ladder.names import (
    BASELINES,
    BOOTSTRAPPING,
    CORRECTIONS,
    COUPLING,
    CRITIC_TARGETS,
    TARGETS,
    needs,
    one_of,
    refuse,
)

if TYPE_CHECKING:
    from policygrad.ladder.psi import Psi

POLICIES = ("mlp", "tabular", "gru", "own")
COLLECTS = ("window", "episodes", "dataset")
SURROGATES = ("score", "ratio", "clipped", "kl-penalty")
TARGET_COPIES = ("none", "periodic", "polyak")
OPTIMIZERS = ("adam", "rmsprop", "rmsprop-tf", "sgd")
SCHEDULES = ("constant", "linear")
ACTIVATIONS = ("tanh", "relu", "silu", "gelu", "elu")
CNNS = ("auto", "none", "nature", "a3c", "minatar")
BOUNDS = ("clip", "tanh", "beta")
ENGINES = ("auto", "processes", "threads", "ray")
RAY_MODES = ("gradients", "trajectories")

CHANGEABLE = (
    "total_timesteps",
    "stop_reward",
    "workers",
    "max_restarts",
    "worker_timeout",
    "env_timeout",
    "address",
    "shards",
    "max_staleness",
)
"""What a resumed run may change: none can alter what was learned so far."""

TO_THE_END = 2**31 - 1
"""More steps than any episode has."""


class RecipeError(ValueError):
    """Options that do not fit together; the message names the fix."""


def option(default: Any, help: str, group: str, choices: typing.Iterable[str] | None = None, **bounds: Any) -> Any:
    """A field of the recipe, with what the command line and the checks need to know about it."""
    return field(
        default=default,
        metadata={"help": help, "group": group, "choices": tuple(choices) if choices else None, **bounds},
    )


@dataclass(frozen=True)
class Recipe:
    """Everything about a run, in plain values: saved as JSON, printed by ``--help``, changed with
    :func:`dataclasses.replace`.

    Raises:
        RecipeError: at construction, where options are out of range or do not fit together; the message names the fix.
    """

    algo: str = option("a2c", "name of the preset it was made from", "what")
    env: str = option("CartPole-v1", "environment id", "what")
    total_timesteps: int = option(500_000, "budget in environment steps, per seed", "what", low=1, high=2**31 - 1)
    seed: int = option(0, "first seed", "what", low=0, high=2**31 - 1)
    seeds: int = option(1, "number of seeds, trained together in one program", "what", low=1)
    max_episode_steps: int | None = option(
        None, "time limit of an episode (truncation) in place of the environment's own", "what", low=1
    )
    env_kwargs: str = option("", "options of the environment, such as continuous=true,gravity=-9, or JSON", "what")
    wrapper: str = option("", "Gymnasium wrappers, module:Class, joined by commas, the innermost first", "what")

    # Ψ: the ladder
    target: str = option("lambda_return", "what a_t is credited with", "ladder", TARGETS)
    baseline: str = option("value", "what is subtracted from the target", "ladder", BASELINES)
    correction: str = option("none", "importance weight of older data", "ladder", CORRECTIONS)
    gamma: float = option(0.99, "discount γ", "ladder", low=0, high=1)
    gae_lambda: float = option(
        1.0, "λ of lambda_return (with baseline value: of GAE) and of vtrace", "ladder", low=0, high=1
    )
    n_step: int | None = option(
        None, "n of the target n_step, and of the critic's; default: to the window's end", "ladder", low=1
    )
    discounted: bool = option(False, "keep the factor γ^t of the discounted objective", "ladder")
    standardize: bool = option(False, "standardise Ψ over each window (a bias)", "ladder")
    alpha: float = option(0.0, "temperature of maximum entropy: rewards become r − α log π", "ladder", low=0)
    target_entropy: float | None = option(
        None, "steer alpha so that the policy keeps this entropy, in nats a step; default: alpha stays", "ladder"
    )
    alpha_rate: float = option(3e-3, "how far log alpha moves in an update, for each nat missing", "ladder", low=0)
    rho_bar: float = option(1.0, "clip of the importance weights of vtrace and truncated", "ladder", low=0)
    c_bar: float = option(1.0, "clip of the trace coefficients of vtrace", "ladder", low=0)
    constant: float = option(0.0, "b of the baseline 'constant'", "ladder")
    mixture: tuple[float, ...] = option(
        (1.0,), "weights w_1,w_2,… of the k-step returns of the target 'mixture'", "ladder"
    )

    # the critic
    critic_target: str | None = option(
        "lambda_return", "what V regresses on; none: no critic", "critic", CRITIC_TARGETS
    )
    target_copy: str = option("none", "frozen copy of V for the critic's own targets", "critic", TARGET_COPIES)
    target_every: int = option(100, "updates between two renewals of a periodic target copy", "critic", low=1)
    target_tau: float = option(0.005, "rate of a polyak target copy", "critic", low=0, high=1)
    vf_coef: float = option(0.5, "weight of the critic's mean squared error", "critic", low=0)

    # the gradient and the step
    surrogate: str = option("score", "what is differentiated", "gradient", SURROGATES)
    per: str = option(
        "step", "divide the policy's sums by steps or by trajectories", "gradient", ("step", "trajectory")
    )
    clip_range: float = option(0.2, "ε of the clipped surrogate", "gradient", low=0)
    kl_coef: float = option(1.0, "β of the kl-penalty surrogate", "gradient", low=0)
    n_epochs: int = option(1, "passes over each window", "gradient", low=1)
    n_minibatches: int = option(1, "minibatches a pass", "gradient", low=1)
    normalize_advantage: bool = option(False, "standardise Ψ in each minibatch (a bias)", "gradient")
    target_kl: float | None = option(
        None, "stop a window's passes beyond 1.5 times this KL divergence", "gradient", low=0
    )
    ent_coef: float = option(0.0, "weight β of the entropy bonus", "gradient", low=0)
    optimizer: str = option("rmsprop-tf", "optimiser", "gradient", OPTIMIZERS)
    learning_rate: float = option(7e-4, "step size", "gradient", low=0)
    lr_schedule: str = option("constant", "linear: falls to zero at the end of the budget", "gradient", SCHEDULES)
    opt_eps: float = option(1e-5, "ε of the optimiser", "gradient", low=0)
    max_grad_norm: float | None = option(0.5, "bound of the gradient's global norm", "gradient", low=0)
    gradient_rows: int | None = option(
        None,
        "at most so many rows at a time in a gradient, to stay in cache; default: all, or what fits of pictures",
        "gradient",
        low=1,
    )

    # who plays
    collect: str = option(
        "window", "windows with automatic resets, whole episodes, or a dataset's episodes", "collecting", COLLECTS
    )
    n_envs: int = option(8, "parallel environments; with whole episodes: episodes per update", "collecting", low=1)
    n_steps: int = option(5, "steps of each environment per update (windows)", "collecting", low=1)
    vectorization: str = option(
        "auto",
        "host environments: one after another (sync), in processes (async), or their own vector version where they "
        "have one, else sync (auto)",
        "collecting",
        ("auto", "sync", "async"),
    )
    env_timeout: float = option(
        300.0,
        "seconds that an environment in a process of its own may take for a step or a reset before the run ends",
        "collecting",
        low=1,
    )
    clip_reward: bool = option(False, "learn from the rewards' signs; logs and evaluations keep them", "collecting")
    data: str = option("", "dataset to learn from, with --algo offpolicy", "collecting")
    behaviour: str = option(
        "",
        "run whose policy gives log μ where the dataset has none: the one that made it, or its clone; default: none",
        "collecting",
    )
    min_overlap: float = option(
        0.02,
        "refuse data, and stop, where their effective sample size is less than this share of them; 0: never",
        "collecting",
        low=0,
        high=1,
    )

    # many workers
    workers: int = option(
        0,
        "asynchronous workers, each with n_envs of its own, on one set of parameters (A3C); 0: none",
        "workers",
        low=0,
    )
    engine: str = option(
        "auto",
        "workers as processes, or as threads of one process (for worlds that let go of Python's lock), or on many "
        "machines through Ray; auto: threads in pure worlds, else processes",
        "workers",
        ENGINES,
    )
    deterministic: bool = option(
        False, "workers take turns: the same bits every time, at constant staleness", "workers"
    )
    shared_statistics: bool = option(True, "all workers share the optimiser's statistics", "workers")
    ent_spread: float = option(
        1.0, "each worker draws its ent_coef between ent_coef / this and ent_coef · this", "workers", low=1
    )
    worker_timeout: float = option(30.0, "seconds without a sign of life until a worker is replaced", "workers", low=1)
    max_restarts: int = option(3, "how often each worker is replaced before its fault ends the run", "workers", low=0)
    address: str = option("", "of a Ray cluster (auto, host:port); default: Ray on this machine alone", "workers")
    ray_mode: str = option(
        "gradients",
        "what Ray workers send: gradients (A3C), or trajectories to one learner (IMPALA)",
        "workers",
        RAY_MODES,
    )
    shards: int = option(1, "parts of the parameters, each served by a Ray actor of its own", "workers", low=1)
    max_staleness: int | None = option(
        None, "Ray drops a window that is staler, in updates; default: four times the workers", "workers", low=0
    )

    # the model
    policy: str = option("mlp", "mlp, tabular softmax, gru (memory); own: the model= of Python", "model", POLICIES)
    net: tuple[int, ...] = option((64, 64), "hidden layers, such as 256-256", "model", low=1)
    activation: str = option("tanh", "activation", "model", ACTIVATIONS)
    cnn: str = option(
        "auto",
        "convolutions for pictures; auto: nature from 36 pixels a side, minatar below; none: flattened",
        "model",
        CNNS,
    )
    frames: int = option(1, "the policy and V see the last so many observations", "model", low=1)
    shared_torso: bool = option(False, "one network with two heads instead of two networks; pictures want it", "model")
    time_to_go: bool = option(False, "the policy and V see T − t (finite horizons)", "model")
    remember: bool | None = option(None, "observations hold the last action and reward; default: for gru", "model")
    log_std_init: float = option(0.0, "initial log standard deviation of a Gaussian policy", "model")
    state_dependent_std: bool = option(False, "the standard deviation is an output of the network", "model")
    bounds: str = option(
        "clip",
        "how bounded Box actions are respected: clipped by the environment, a tanh-squashed Gaussian, a Beta density",
        "model",
        BOUNDS,
    )
    gsde: bool = option(
        False, "exploration noise that depends on the state, held over a window (try log_std_init -2)", "model"
    )
    normalize_obs: bool = option(False, "normalise observations by running statistics", "model")
    normalize_reward: bool = option(False, "scale rewards by the running spread of the discounted return", "model")
    init_from: str = option(
        "", "run or clone whose policy this one starts from, with the options of its model; default: at random", "model"
    )

    # watching it
    eval_every: int | None = option(
        None, "environment steps between evaluations; default: a twentieth of the budget; 0: never", "watching", low=0
    )
    eval_episodes: int = option(32, "greedy episodes of an evaluation during training", "watching", low=1)
    stop_reward: float | None = option(None, "stop once every seed has evaluated at least this high", "watching")
    video_every: int = option(
        0, "environment steps between films of an episode, in the run's folder; 0: none", "watching", low=0
    )
    measure_every: int = option(
        0,
        "updates between two looks at the gradient's noise (measure/snr, ...); 0: none; 16 where no number is given",
        "watching",
        low=0,
        bare=16,
    )
    log_every: int | None = option(
        None,
        "environment steps between log rows; default: a hundredth of the budget, at most 250,000",
        "watching",
        low=1,
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            hint = hint_of(item.name)
            value = plain(item.name, getattr(self, item.name), hint)
            check_field(item, value, hint)
            object.__setattr__(self, item.name, value)  # the class is frozen
        check_together(self)

    @property
    def psi(self) -> "Psi":
        """The ladder's choice, with this recipe's numbers."""
        from policygrad.ladder.psi import Psi  # late: a recipe alone needs no JAX

        return Psi(
            self.target,
            self.baseline,
            self.correction,
            n=self.n_step or (self.n_steps if self.collect == "window" else TO_THE_END),
            discounted=self.discounted,
            standardize=self.standardize,
            gamma=self.gamma,
            lam=self.gae_lambda,
            alpha=self.alpha,
            rho_bar=self.rho_bar,
            c_bar=self.c_bar,
            b=self.constant,
            weights=self.mixture,
        )

    @property
    def env_options(self) -> dict[str, Any]:
        """``env_kwargs``, read."""
        return read_options(self.env_kwargs)

    @property
    def wrappers(self) -> tuple[str, ...]:
        """``wrapper``, one by one."""
        return read_names(self.wrapper)

    @property
    def remembers(self) -> bool:
        """Whether observations hold the last action and reward."""
        return self.policy == "gru" if self.remember is None else self.remember

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of :meth:`to_dict`.

        Raises:
            RecipeError: a key that no recipe of this version has.
        """
        names = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise RecipeError(f"the recipe has an option that this version does not know: {unknown[0]!r}")
        return cls(**values)


HINTS: dict[str, Any] = typing.get_type_hints(Recipe)


class Hint(NamedTuple):
    """The type of a field: int, float, bool, str, or a tuple of ``element``."""

    kind: type
    optional: bool
    element: type | None


def hint_of(name: str) -> Hint:
    hint = HINTS[name]
    args = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(arg for arg in args if arg is not type(None))
    element = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
    return Hint(typing.get_origin(kind) or kind, type(None) in args, element)


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
LISTS = {int: "whole numbers joined by '-', such as 64-64", float: "numbers joined by ',', such as 0.5,0.5"}
"""What a value must be, in words: one of its type, or a list of them."""


def plain(name: str, value: Any, hint: Hint) -> Any:
    """The value in Python's own types: NumPy's are welcome, and for a tuple any list, one number, or text."""
    if name == "env_kwargs" and isinstance(value, Mapping):
        value = json.dumps(dict(value), sort_keys=True)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if hint.element is None:
        return plain_number(value, hint.kind)
    if isinstance(value, str):
        try:
            return read_numbers(value, hint.element)
        except ValueError:
            raise RecipeError(f"{name} must be {LISTS[hint.element]}, not {value!r}") from None
    parts = value if isinstance(value, list | tuple | range) else (value,)
    return tuple(plain_number(part, hint.element) for part in parts)


def plain_number(value: Any, kind: type) -> Any:
    """``value``, as a float where a float is wanted and it is a number."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value


def read_numbers(text: str, element: type) -> tuple[Any, ...]:
    """``64-64`` or ``64,64`` for whole numbers; ``-0.5,1.5e-3`` for any (a ``-`` is a sign there); ``none``.

    Raises:
        ValueError: anything else.
    """
    if text.lower() in ("none", ""):
        return ()
    parts = text.replace("-", ",").split(",") if element is int else text.split(",")
    return tuple(element(part) for part in parts)


def read_names(text: str) -> tuple[str, ...]:
    """``a:B, c:D`` as names, one by one."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_options(text: str) -> dict[str, Any]:
    """``a=1,b=true,c=word`` or a JSON object as a dict.

    Raises:
        RecipeError: neither.
    """
    try:
        if text.lstrip().startswith("{"):
            return dict(json.loads(text))
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if any(not sign or not name.strip().isidentifier() for name, sign, _ in pairs):
            raise ValueError(text)
        return {name.strip(): read_value(value.strip()) for name, _, value in pairs}
    except ValueError:
        raise RecipeError(f"env_kwargs must be name=value,name=value or a JSON object, not {text!r}") from None


def read_value(text: str) -> Any:
    """A JSON value, or else the word itself; ``True``, ``False`` and ``None`` as Python writes them, too."""
    words = {"True": True, "False": False, "None": None}
    try:
        return words[text] if text in words else json.loads(text)
    except ValueError:
        return text


def check_field(item: dataclasses.Field, value: Any, hint: Hint) -> None:
    """One field: its type, its choices, its bounds."""
    if value is None and hint.optional:
        return
    name, values = item.name, value if hint.element else (value,)
    for one in values:
        if not is_a(one, hint.element or hint.kind):
            wanted = LISTS[hint.element] if hint.element else WORDS[hint.kind]
            raise RecipeError(f"{name} must be {wanted}, not {one!r}")
    if item.metadata["choices"] and value not in item.metadata["choices"]:
        near = difflib.get_close_matches(str(value), item.metadata["choices"], n=1)
        hint_text = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(f"unknown {name} {value!r}: {hint_text}choose one of {', '.join(item.metadata['choices'])}")
    for number in values:
        if isinstance(number, int | float) and not isinstance(number, bool):
            check_number(name, number, item.metadata.get("low"), item.metadata.get("high"))


def is_a(value: Any, kind: type) -> bool:
    """``isinstance``, but true and false are no numbers."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_number(name: str, number: float, low: float | None, high: float | None) -> None:
    if not math.isfinite(number):
        raise RecipeError(f"{name} must be a finite number, not {number!r}")
    if (low is not None and number < low) or (high is not None and number > high):
        bounds = f"in [{low:g}, {high:g}]" if high is not None and low is not None else f"at least {low:g}"
        raise RecipeError(f"{name} must be {bounds}, not {number!r}")


def check_together(recipe: Recipe) -> None:
    """Combinations that make no sense, each with its fix."""
    r = recipe
    try:
        refuse(r.target, r.baseline, r.correction, r.discounted)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    asked = needs(r.target, r.baseline, r.correction, r.standardize)
    critic, window, steps = r.critic_target is not None, r.collect == "window", r.n_epochs * r.n_minibatches
    others = COUPLING - {"mean", "per_time", "optimal_in_sample"}
    gru, tabular = r.policy == "gru", r.policy == "tabular"
    on_ray = r.workers > 0 and r.engine == "ray"
    learner = on_ray and r.ray_mode == "trajectories"
    choice = f"target={r.target!r}, baseline={r.baseline!r} and correction={r.correction!r}"
    rules = (
        (r.learning_rate == 0, "learning_rate must be positive"),
        (r.max_grad_norm == 0, "max_grad_norm must be positive; 'none' switches clipping off"),
        (r.clip_range == 0, "clip_range must be positive"),
        (
            "value" in asked and not critic,
            f"{choice} need a critic: set critic_target (monte_carlo, td0, n_step, lambda_return)",
        ),
        (
            critic and "value" not in asked,
            f"{choice} never use V, but critic_target={r.critic_target!r} trains one: "
            "set critic_target=none, or baseline=value",
        ),
        (
            r.target_copy != "none" and r.critic_target not in BOOTSTRAPPING,
            f"target_copy={r.target_copy!r} needs a critic_target that bootstraps (td0, n_step, lambda_return)",
        ),
        (
            window and "whole_episodes" in asked,
            f"{choice} need whole episodes, and collect='window' cuts them: "
            "set collect=episodes, or choose target=lambda_return with a critic",
        ),
        (
            window and r.critic_target == "monte_carlo",
            "critic_target='monte_carlo' needs whole episodes: set collect=episodes, or critic_target=lambda_return",
        ),
        (
            r.n_envs < 2 and r.baseline in others,
            f"baseline={r.baseline!r} is computed from the other trajectories of the batch: raise n_envs to at least 2",
        ),
        (
            r.surrogate == "score" and steps > 1,
            "surrogate='score' takes one exact gradient step a window; "
            "more epochs or minibatches need surrogate=clipped, ratio or kl-penalty",
        ),
        (
            r.target_kl is not None and steps == 1,
            "target_kl needs more than one gradient step a window: raise n_epochs",
        ),
        (
            r.surrogate != "score" and r.correction != "none",
            f"correction={r.correction!r} weighs old data inside Ψ and surrogate={r.surrogate!r} weighs it again: "
            "choose surrogate=score",
        ),
        (
            gru and r.baseline == "optimal_per_time",
            "baseline='optimal_per_time' needs a memoryless policy: choose baseline=optimal",
        ),
        (not r.mixture, "mixture needs at least one weight"),
        (
            r.target_entropy is not None and r.alpha == 0,
            "target_entropy multiplies the temperature, and alpha=0 stays zero: set a first alpha, such as 0.01",
        ),
        (
            r.target_entropy is not None and r.workers > 0,
            "target_entropy steers one learner's temperature, and workers take no part in that: set workers=0",
        ),
        (gru and not r.net, "a gru policy needs at least one hidden size: net 64"),
        (
            r.frames > 1 and r.baseline == "optimal_per_time",
            "baseline='optimal_per_time' needs a policy that sees one observation: set frames=1, or baseline=optimal",
        ),
        (tabular and r.frames > 1, "policy='tabular' sees one observation: set frames=1, or policy=mlp"),
        (tabular and r.gsde, "gsde needs the features of a network, and policy='tabular' has none: set policy=mlp"),
        (
            r.gsde and r.bounds != "clip",
            f"gsde explores with a Gaussian, and bounds={r.bounds!r} is another distribution: set bounds=clip",
        ),
        (r.gsde and r.state_dependent_std, "gsde makes the deviation depend on the state: drop state_dependent_std"),
        (
            r.bounds == "beta" and r.state_dependent_std,
            "bounds='beta' has no standard deviation: drop state_dependent_std, or set bounds=tanh",
        ),
        (tabular and r.shared_torso, "policy='tabular' has no network to share: drop shared_torso"),
        (tabular and r.normalize_obs, "normalize_obs changes nothing in a table: drop it"),
        (
            r.workers > 0 and r.seeds > 1,
            "workers share one set of parameters, which is one seed: set seeds=1, and start a run for each",
        ),
        (
            r.workers > 0 and r.vectorization == "async" and r.engine in ("auto", "processes"),
            "a worker is a process already and cannot start others: set vectorization=sync, and a worker for each core",
        ),
        (
            r.workers > 0 and r.collect == "dataset",
            "workers play, and collect='dataset' plays nothing: set workers=0",
        ),
        (
            r.workers > 0 and steps > 1,
            "a worker takes one gradient step a window: set n_epochs=1 and n_minibatches=1, or workers=0",
        ),
        (
            on_ray and r.deterministic,
            "deterministic workers take turns, and engine=ray has no order: drop one of the two",
        ),
        (
            on_ray and not r.shared_statistics,
            "with engine=ray the optimiser's statistics lie with the parameters: set shared_statistics",
        ),
        (
            learner and not r.target == r.correction == r.critic_target == "vtrace",
            "trajectories are older than the policy that learns from them: set target=vtrace, correction=vtrace and "
            "critic_target=vtrace, or ray_mode=gradients",
        ),
        (learner and r.shards > 1, "with ray_mode=trajectories one learner has all parameters: set shards=1"),
        (
            r.measure_every > 0 and r.workers > 0,
            "measure_every looks at whole windows of one process, and workers keep theirs: set workers=0, or drop it",
        ),
        (
            r.measure_every > 0 and r.n_envs < 2,
            "measure_every compares the gradients of a window's columns: raise n_envs to at least 2, or drop it",
        ),
        (
            r.stop_reward is not None and r.eval_every == 0,
            "stop_reward is compared with evaluations, and eval_every=0 makes none: drop one of the two",
        ),
    )
    for broken, message in rules:
        if broken:
            raise RecipeError(message)
    read_options(r.env_kwargs)
    memoryless = not gru and r.frames == 1
    columns = r.n_envs * r.n_steps if r.per == "step" and memoryless and r.collect == "window" else r.n_envs
    if r.n_minibatches > columns:
        raise RecipeError(
            f"n_minibatches={r.n_minibatches} is more than the {columns} rows or columns there are to divide: lower it"
        )
    if r.collect == "episodes" and r.total_timesteps < r.n_envs:
        raise RecipeError(
            f"total_timesteps={r.total_timesteps} is less than one update of n_envs = {r.n_envs} episodes: raise it"
        )
    if r.collect == "window" and r.total_timesteps < r.n_envs * r.n_steps:
        raise RecipeError(
            f"total_timesteps={r.total_timesteps} is less than one window of "
            f"n_envs × n_steps = {r.n_envs * r.n_steps} steps: raise it"
        )


@dataclass(frozen=True)
class Preset:
    """A recipe with its place in history."""

    recipe: Recipe
    parent: str | None
    citation: str
    summary: str

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes in its parent."""
        if self.parent is None:
            return {}
        before, after = PRESETS[self.parent].recipe, self.recipe
        names = (item.name for item in fields(Recipe) if item.name != "algo")
        return {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}


PRESETS: dict[str, Preset] = {}
"""Every algorithm: a row of the table."""


def preset(algo: str, parent: str | None, citation: str, summary: str, **changes: Any) -> None:
    recipe = replace(Recipe() if parent is None else PRESETS[parent].recipe, algo=algo, **changes)
    PRESETS[algo] = Preset(recipe, parent, citation, summary)


# fmt: off
preset(
    "reinforce", None, "Williams (1992)", "the total return of whole episodes",
    target="total_return", baseline="none", critic_target=None, collect="episodes", n_envs=16, per="trajectory",
    optimizer="adam", learning_rate=3e-3, opt_eps=1e-8, max_grad_norm=None,
)
preset(
    "reinforce-togo", "reinforce", "Sutton & Barto (2018), §13.3", "causality: only what follows a_t",
    target="reward_to_go",
)
preset(
    "reinforce-mean", "reinforce-togo", "Williams (1992); Kool et al. (2019)", "minus the mean of the other episodes",
    baseline="leave_one_out",
)
preset(
    "reinforce-optimal", "reinforce-togo", "Weaver & Tao (2001); Greensmith et al. (2004)",
    "minus the constant of least variance",
    baseline="optimal",
)
preset(
    "reinforce-value", "reinforce-togo", "Sutton & Barto (2018), §13.4", "minus V(s), fitted to the returns",
    baseline="value", critic_target="monte_carlo",
)
preset(
    "actor-critic", "reinforce-value", "Konda & Tsitsiklis (2000); Sutton & Barto (2018), §13.5",
    "the TD(0) error of a learned critic with a target copy",
    target="td0", critic_target="td0", target_copy="periodic", target_every=20,
    collect="window", n_envs=8, n_steps=16, per="step", learning_rate=1e-3, max_grad_norm=0.5,
)
preset(
    "a2c", "actor-critic", "Mnih et al. (2016)", "n-step returns to the window's end, the field's defaults",
    target="n_step", critic_target="n_step", target_copy="none", n_steps=5,
    optimizer="rmsprop-tf", learning_rate=7e-4, opt_eps=1e-5,
)
preset(
    "a2c-gae", "a2c", "Schulman et al. (2016)", "generalised advantage estimation",
    target="lambda_return", critic_target="lambda_return", gae_lambda=0.95, n_steps=16, learning_rate=2e-3,
)
preset(
    "maxent", "a2c-gae", "Ziebart (2010); Haarnoja et al. (2017); Schulman, Chen & Abbeel (2017)",
    "soft returns: the reward is r − α log π(a), and V a soft value",
    alpha=0.01,
)
preset(
    "a3c", "a2c", "Mnih et al. (2016)", "asynchronous workers on one set of parameters, without locks",
    workers=2, ent_coef=0.01, lr_schedule="linear",
)
preset(
    "a3c-gae", "a3c", "Mnih et al. (2016); Schulman et al. (2016)", "the same with generalised advantage estimation",
    target="lambda_return", critic_target="lambda_return", gae_lambda=0.95, n_steps=16, learning_rate=2e-3,
)
preset(
    "a3c-gru", "a3c", "Mnih et al. (2016)", "the same with memory (the paper's LSTM, here a GRU)",
    policy="gru", n_steps=20,
)
preset(
    "impala", "a3c-gae", "Espeholt et al. (2018)", "workers send trajectories to a learner that corrects their age",
    target="vtrace", correction="vtrace", critic_target="vtrace", gae_lambda=1.0,
    engine="ray", ray_mode="trajectories", n_envs=32, n_steps=32,
)
preset(
    "ppo", "a2c-gae", "Schulman et al. (2017)", "several clipped steps on each window",
    surrogate="clipped", n_envs=4, n_steps=128, n_epochs=4, n_minibatches=4, normalize_advantage=True,
    optimizer="adam", learning_rate=2.5e-4,
)
preset(
    "offpolicy", "reinforce-mean", "Precup, Sutton & Singh (2000)",
    "episodes of another policy, from a dataset, each with its self-normalised weight",
    correction="self_normalized", collect="dataset", n_envs=64,
)
# fmt: on


def get_preset(algo: str) -> Preset:
    """The preset of that name.

    Raises:
        RecipeError: unknown name, with the nearest one.
    """
    try:
        one_of("algorithm", algo, PRESETS)
    except ValueError as error:
        raise RecipeError(f"{error} (see `policygrad list`)") from None
    return PRESETS[algo]


USED_IF: dict[str, tuple[Callable[[Recipe], bool], str]] = {
    "gradient_rows": (lambda r: r.per == "step" and r.policy in ("mlp", "own"), "per=step and a policy without memory"),
    "n_steps": (lambda r: r.collect == "window", "collect=window"),
    "env_timeout": (lambda r: r.vectorization == "async", "vectorization=async"),
    **{
        name: (lambda r: r.collect == "dataset", "collect=dataset (the algorithm offpolicy)")
        for name in ("data", "behaviour", "min_overlap")
    },
    "net": (lambda r: r.policy in ("mlp", "gru"), "policy=mlp or gru"),
    "activation": (lambda r: r.policy in ("mlp", "gru"), "policy=mlp or gru"),
    "cnn": (lambda r: r.policy in ("mlp", "gru"), "policy=mlp or gru"),
    "log_std_init": (lambda r: r.bounds != "beta", "bounds=clip or tanh"),
    "constant": (lambda r: r.baseline == "constant", "baseline=constant"),
    "alpha_rate": (lambda r: r.target_entropy is not None, "target_entropy"),
    "mixture": (lambda r: r.target == "mixture", "target=mixture"),
    "n_step": (lambda r: "n_step" in (r.target, r.critic_target), "target=n_step or critic_target=n_step"),
    "gae_lambda": (
        lambda r: bool({r.target, r.critic_target} & {"lambda_return", "vtrace"}),
        "target=lambda_return or critic_target=lambda_return (or vtrace)",
    ),
    "rho_bar": (
        lambda r: r.correction in ("truncated", "vtrace") or r.critic_target == "vtrace",
        "correction=truncated or vtrace",
    ),
    "c_bar": (lambda r: "vtrace" in (r.target, r.critic_target), "target=vtrace or critic_target=vtrace"),
    "vf_coef": (lambda r: r.critic_target is not None, "a critic_target"),
    "target_every": (lambda r: r.target_copy == "periodic", "target_copy=periodic"),
    "target_tau": (lambda r: r.target_copy == "polyak", "target_copy=polyak"),
    "clip_range": (lambda r: r.surrogate == "clipped", "surrogate=clipped"),
    "kl_coef": (lambda r: r.surrogate == "kl-penalty", "surrogate=kl-penalty"),
    **{
        name: (lambda r: r.workers > 0, "workers")
        for name in ("engine", "deterministic", "shared_statistics", "ent_spread", "worker_timeout", "max_restarts")
    },
    **{
        name: (lambda r: r.workers > 0 and r.engine == "ray", "engine=ray")
        for name in ("address", "ray_mode", "shards", "max_staleness")
    },
}
"""Options that belong to another one: ``field -> (whether it is used, what would use it)``."""


CLONE = Recipe(
    algo="clone", target="reward_to_go", baseline="none", critic_target=None, collect="episodes", n_envs=1,
    optimizer="adam", learning_rate=1e-3, opt_eps=1e-8, max_grad_norm=None,
)  # fmt: skip
"""What a clone is made of. It imitates, and uses nothing of the ladder; it is no preset, since nothing is played."""
CLONE_FIELDS = (
    "env_kwargs", "wrapper", "max_episode_steps", "seed", "learning_rate", "optimizer", "opt_eps", "max_grad_norm",
    *(item.name for item in fields(Recipe)
      if item.metadata["group"] == "model" and item.name not in ("init_from", "normalize_reward")),
)  # fmt: skip
"""The fields that a clone's maker may choose."""

HALVES: dict[str, dict[str, Any]] = {
    "decision": {"target": "per_decision"},
    "vtrace": {"target": "vtrace", "baseline": "value", "critic_target": "vtrace"},
}
"""What else a correction is made of. With a dataset the correction is all that one chooses."""


def make_recipe(algo: str, env: str, **changes: Any) -> Recipe:
    """A preset with changes.

    Raises:
        RecipeError: unknown preset or option (with the nearest name), options that do not fit, or one that would do
            nothing.
    """
    recipe = get_preset(algo).recipe
    if recipe.collect == "dataset":
        changes = HALVES.get(changes.get("correction", ""), {}) | changes
    return change(recipe, env=env, **changes)


def change(recipe: Recipe, **changes: Any) -> Recipe:
    """:func:`dataclasses.replace` as a user needs it: every change must be known, and must change something."""
    names = [item.name for item in fields(Recipe)]
    for name in changes:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise RecipeError(f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    changed = replace(recipe, **changes)
    for name in USED_IF.keys() & changes.keys():
        used, owner = USED_IF[name]
        if not used(changed) and getattr(changed, name) != getattr(recipe, name):
            raise RecipeError(f"{name} does nothing here: it needs {owner}; set that, or drop {name}")
    return changed
