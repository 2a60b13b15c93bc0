"""``policygrad kl P Q``: a divergence both ways, and its estimators; ``--picture``: what each direction fits."""

import argparse
import ast
import json
import math
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import importing

if TYPE_CHECKING:
    import numpy as np

GRAMMAR = """\
distributions:
  normal(mean, std)               also normal([0, 1], [1, 2]): independent numbers
  tanh_normal(mean, std)          squashed into (-1, 1), or into (low, high): tanh_normal(0, 1, -2, 2)
  beta(a, b)                      on (-1, 1), or on (low, high): beta(2, 3, 0, 1); a and b at least 1
  categorical(0.2, 0.8)           probabilities that sum to 1
  bernoulli(0.3)                  P(1) of a bit; several: independent bits
  mixture(0.5*normal(-2, 0.5) + 0.5*normal(2, 0.5))"""
TARGET, START = "mixture(0.3*normal(-2, 0.6) + 0.7*normal(2, 0.6))", "normal(0.5, 1.5)"
"""What the picture shows if nothing is given."""
FRAMES, FPS, STEPS = 40, 12, 400


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    if args.picture is None and (args.p is None or args.q is None):
        raise UsageError("give two distributions: policygrad kl 'normal(0, 1)' 'normal(1, 2)', or --picture DIR")
    if args.n < 2:
        raise UsageError(f"--n is {args.n}; give at least 2 samples")
    with importing():
        import jax

        from policygrad.learn import divergence
    with jax.enable_x64(True):
        p, q = (distribution(text) for text in (args.p or TARGET, args.q or START))
        divergence.require_comparable(p, q)
        if args.picture is not None:
            return picture(p, q, args)
        ways = {"D(P‖Q)": direction(p, q, args), "D(Q‖P)": direction(q, p, args)}
    if args.json:
        print(json.dumps({"p": args.p, "q": args.q, "n": args.n, "seed": args.seed, **finite(ways)}, allow_nan=False))
        return 0
    print(f"P = {args.p}\nQ = {args.q}")
    for (way, found), drawn in zip(ways.items(), "PQ"):
        number = "?" if found["divergence"] is None else f"{found['divergence']:.6g} nats"
        print(f"\n{way} = {number}, {found['how']}\n{table(found, drawn, args.n)}")
    print("\ntry: --picture DIR draws what fitting Q to P does, forward and reverse, as a GIF and a PNG")
    return 0


def parser() -> Parser:
    made = Parser(
        prog="policygrad kl",
        usage="policygrad kl P Q [--n N] [--seed N] [--json] | policygrad kl [P Q] --picture DIR",
        description="The Kullback-Leibler divergence between two distributions, both ways: by closed form, by a sum\n"
        "or by quadrature; and the estimators k1, k2 and k3 with their bias, their spread and what N samples say.\n"
        "With --picture Q is fitted to the target P: forward, D(P‖Q), it covers; reverse, D(Q‖P), it seeks a mode.",
        epilog=GRAMMAR,
    )
    option = made.add_argument
    option("p", nargs="?", metavar="P", help="a distribution, see below; in the picture the target")
    option("q", nargs="?", metavar="Q", help="another over the same actions; in the picture where the model starts")
    option("--n", type=int, default=10_000, metavar="N", help="samples of each estimate (default: 10000)")
    option("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    option("--picture", metavar="DIR", help=f"write kl.gif and kl.png there (default: none; P {TARGET}, Q {START})")
    option("--json", action="store_true", help="print one JSON object and nothing else (default: tables)")
    return made


# Both ways


def direction(p: Any, q: Any, args: argparse.Namespace) -> dict[str, Any]:
    """D(p‖q): the number, how it was found, and each estimator: exact bias and spread, mean and interval of samples."""
    import jax
    import numpy as np

    from policygrad.learn import divergence

    try:
        truth = float(divergence.kl(p, q))
    except ValueError:  # mixtures over three numbers, or many bits: the samples have to do
        truth = None
    drawn = divergence.samples(p, q, args.n, jax.random.key(args.seed))
    try:
        moments = divergence.estimator_moments(p, q)
    except ValueError:  # several numbers
        moments = {}
    unbiased = ("k1", "k3") if divergence.on_whole_line(p) and divergence.on_whole_line(q) else ()  # there E_P[r] = 1
    rows = {}
    for name, values in drawn.items():
        exact = moments.get(name)
        mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
        margin = 1.96 * std / math.sqrt(args.n)
        rows[name] = {
            "bias": 0.0 if name in unbiased else None if exact is None or truth is None else float(exact.mean) - truth,
            "std": std if exact is None else float(exact.std),
            "mean": mean, "low": mean - margin, "high": mean + margin,
        }  # fmt: skip
    if truth is None:
        how = "no exact number"
    elif divergence.is_discrete(p):
        how = "a sum over all actions"
    else:
        how = "closed form" if divergence.has_exact(p, q) else "quadrature"
    return {"divergence": truth, "how": how, "estimators": rows}


def table(found: dict[str, Any], drawn: str, n: int) -> str:
    """k1, k2 and k3 side by side; where the divergence is infinite, why."""
    if found["divergence"] == math.inf:
        other = "Q" if drawn == "P" else "P"
        return f"  {drawn} does what {other} never does, and no number of samples makes up for it"
    lines = [f"        {'bias':>10} {'std of one':>12} {f'mean of {n:,}':>16} {'95 % interval':>24}"]
    for name, row in found["estimators"].items():
        bias = "?" if row["bias"] is None else f"{0.0 if abs(row['bias']) < 1e-9 else row['bias']:.4g}"
        interval = f"{row['low']:.5g} to {row['high']:.5g}"
        lines.append(f"    {name}  {bias:>10} {row['std']:>12.4g} {row['mean']:>16.5g} {interval:>24}")
    if any(row["bias"] is None for row in found["estimators"].values()):
        lines.append(
            "  ?: the bias is computed for one number and for discrete actions; the spread is that of the samples"
        )
    if any(row["std"] == math.inf for row in found["estimators"].values()):
        lines.append("  a spread of inf: the mean of samples converges slowly, and its interval means nothing")
    return "\n".join(lines)


def finite(x: Any) -> Any:
    """JSON has no inf: it is written as a string."""
    if isinstance(x, dict):
        return {key: finite(value) for key, value in x.items()}
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


# What is written on the command line


def distribution(text: str) -> Any:
    """The distribution that an expression such as ``mixture(0.5*normal(0,1)+0.5*normal(1,2))`` stands for.

    Raises:
        UsageError: no such expression, probabilities that do not sum to 1, a spread that is not positive.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise UsageError(
            f"{text!r} is no distribution: write it like normal(0, 1) (see `policygrad kl --help`)"
        ) from None
    return built(tree, text)


def built(tree: ast.expr, text: str) -> Any:
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.keywords:
        raise UsageError(f"{ast.unparse(tree)!r} in {text!r} is no distribution: write it like normal(0, 1)")
    name, families = tree.func.id, {"normal": normal, "tanh_normal": tanh_normal, "beta": beta,
                                    "categorical": categorical, "bernoulli": bernoulli}  # fmt: skip
    if name == "mixture":
        if len(tree.args) != 1:
            raise UsageError("a mixture is one sum: mixture(0.5*normal(-2, 0.5) + 0.5*normal(2, 0.5))")
        return mixture(tree.args[0], text)
    if name not in families:
        near = get_close_matches(name, [*families, "mixture"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join([*families, 'mixture'])}"
        raise UsageError(f"there is no distribution {name!r}: {hint}")
    return families[name](*[numbers(arg, text) for arg in tree.args])


def numbers(tree: ast.expr, text: str) -> "np.ndarray":
    """A number, or a list of them."""
    import numpy as np

    try:
        found = np.asarray(ast.literal_eval(tree), np.float64)
    except (ValueError, TypeError):
        raise UsageError(f"{ast.unparse(tree)!r} in {text!r} is no number: write 0.5 or [0, 1]") from None
    if found.ndim > 1 or not np.isfinite(found).all():
        raise UsageError(f"{ast.unparse(tree)!r} in {text!r} is no finite number, and no list of them")
    return np.atleast_1d(found)


def mixture(tree: ast.expr, text: str) -> Any:
    import jax.numpy as jnp
    import numpy as np

    from policygrad.models import Mixture

    weights, parts = zip(*[weighted(term, text) for term in terms(tree)])
    require_sums_to_one("mixture: the weights", np.array(weights))
    return Mixture(tuple(parts), jnp.log(jnp.asarray(weights)))


def terms(tree: ast.expr) -> list[ast.expr]:
    """The summands of ``a + b + c``."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        return [*terms(tree.left), *terms(tree.right)]
    return [tree]


def weighted(tree: ast.expr, text: str) -> tuple[float, Any]:
    """``0.5*normal(0, 1)``."""
    if not isinstance(tree, ast.BinOp) or not isinstance(tree.op, ast.Mult):
        raise UsageError(f"{ast.unparse(tree)!r} has no weight: write it like 0.5*normal(0, 1)")
    weight, part = (tree.left, tree.right) if isinstance(tree.right, ast.Call) else (tree.right, tree.left)
    return float(numbers(weight, text)[0]), built(part, text)


def normal(*args: "np.ndarray") -> Any:
    import jax.numpy as jnp

    from policygrad.models import DiagGaussian

    mean, std = take("normal", args, "mean, std")
    require("normal: std", std, std > 0, "positive")
    return DiagGaussian(jnp.asarray(mean), jnp.log(std))


def tanh_normal(*args: "np.ndarray") -> Any:
    import jax.numpy as jnp

    from policygrad.models import TanhGaussian

    mean, std, low, high = take("tanh_normal", args, "mean, std, low, high", default=(-1.0, 1.0))
    require("tanh_normal: std", std, std > 0, "positive")
    require("tanh_normal: high", high, high > low, "above low")
    return TanhGaussian(jnp.asarray(mean), jnp.log(std), jnp.asarray(low), jnp.asarray(high))


def beta(*args: "np.ndarray") -> Any:
    import jax.numpy as jnp

    from policygrad.models import Beta

    a, b, low, high = take("beta", args, "a, b, low, high", default=(-1.0, 1.0))
    for what, x in (("a", a), ("b", b)):
        require(f"beta: {what}", x, x >= 1, "at least 1")
    require("beta: high", high, high > low, "above low")
    return Beta(*map(jnp.asarray, (a, b, low, high)))


def categorical(*args: "np.ndarray") -> Any:
    import jax.numpy as jnp
    import numpy as np

    from policygrad.models import Categorical

    probs = np.concatenate(args) if args else np.zeros(0)
    require_sums_to_one("categorical: the probabilities", probs)
    return Categorical(jnp.log(jnp.where(probs > 0, probs, 1)), jnp.asarray(probs > 0))


def bernoulli(*args: "np.ndarray") -> Any:
    import jax.numpy as jnp
    import numpy as np

    from policygrad.models import Bernoulli
    from policygrad.models.distributions import INVALID

    probs = np.concatenate(args) if args else np.full(1, -1.0)
    require("bernoulli: a probability", probs, (probs >= 0) & (probs <= 1), "from 0 to 1")
    inside = np.clip(probs, 1e-300, 1 - 1e-16)
    logits = np.where(probs == 0, INVALID, np.where(probs == 1, -INVALID, np.log(inside) - np.log1p(-inside)))
    return Bernoulli(jnp.asarray(logits))


def take(name: str, args: tuple["np.ndarray", ...], names: str, default: tuple[float, ...] = ()) -> list["np.ndarray"]:
    """The arguments, all of one length; what is left out has a default."""
    import numpy as np

    wanted = names.split(", ")
    if len(args) not in (len(wanted) - len(default), len(wanted)):
        raise UsageError(f"{name} has {len(args)} arguments; write {name}({names})")
    filled = [*args, *map(np.atleast_1d, default[len(args) - len(wanted) + len(default) :])]
    lengths = {len(x) for x in filled} - {1}
    if len(lengths) > 1:
        raise UsageError(f"{name}: its lists have different lengths; give all the same, or one number for all")
    return [np.broadcast_to(x, max(lengths, default=1)) for x in filled]


def require(what: str, x: "np.ndarray", good: "np.ndarray", words: str) -> None:
    if not good.all():
        raise UsageError(f"{what} is {x[~good][0]:g}; it must be {words}")


def require_sums_to_one(what: str, probs: "np.ndarray") -> None:
    require(what.replace(": the ", ": one of the "), probs, probs >= 0, "0 or more")
    if abs(probs.sum() - 1) > 1e-6:
        raise UsageError(f"{what} sum to {probs.sum():.6g}, not to 1")


# The picture


def picture(target: Any, start: Any, args: argparse.Namespace) -> int:
    """Fit both ways, and draw the way there and where it ends."""
    import jax
    import numpy as np

    from policygrad.learn import divergence
    from policygrad.models import DiagGaussian
    from policygrad.run.video import write
    from policygrad.storage.checkpoint import write_atomically

    if not isinstance(start, DiagGaussian) or start.mean.shape != (1,):
        raise UsageError("the picture fits one normal(mean, std): let Q be where it starts")
    folder = Path(args.picture)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--picture {folder} is a file: give a folder")
    paths = {
        way: divergence.fit(target, start, way, key=jax.random.key(args.seed), steps=STEPS)
        for way in ("forward", "reverse")
    }
    reach = [float(x) for part in (*divergence.parts_of(target), start) for x in ends(part)]
    x = np.linspace(min(reach), max(reach), 400)
    density = lambda d: jax.numpy.exp(divergence.log_probs(d, jax.numpy.asarray(x)[:, None]))  # noqa: E731
    drawn = {way: np.asarray(jax.jit(jax.vmap(density))(path)) for way, path in paths.items()}
    shown = np.unique(np.round(STEPS * np.linspace(0, 1, FRAMES) ** 2).astype(int))  # slowly where much happens
    truth = np.asarray(jax.jit(density)(target))
    write((frame(x, truth, drawn, k)[0] for k in [*shown, *[STEPS] * FPS]), folder / "kl.gif", FPS)
    write_atomically(folder / "kl.png", frame(x, truth, drawn, STEPS)[1])
    for way, path in paths.items():
        last = at(path, STEPS)
        pair = (target, last) if way == "forward" else (last, target)
        words = "D(P‖Q), covers" if way == "forward" else "D(Q‖P), seeks"
        print(f"{way}: {words}: normal({float(last.mean[0]):.3f}, {math.exp(float(last.log_std[0])):.3f}), "
              f"divergence {float(divergence.kl(*pair)):.4f} nats")  # fmt: skip
    print(f"made: {folder / 'kl.gif'}\n      {folder / 'kl.png'}")
    print("try: another start, such as 'normal(-1, 1)' for Q: reverse finds another mode")
    return 0


def at(path: Any, k: int) -> Any:
    """The model after k steps."""
    import jax

    return jax.tree.map(lambda leaf: leaf[k], path)


def ends(part: Any) -> tuple[Any, Any]:
    """Between these lies what is worth drawing."""
    if hasattr(part, "low"):
        return part.low[0], part.high[0]
    std = math.exp(float(part.log_std[0]))
    return part.mean[0] - 3.5 * std, part.mean[0] + 3.5 * std


def frame(x: "np.ndarray", truth: "np.ndarray", drawn: "dict[str, np.ndarray]", k: int) -> "tuple[np.ndarray, bytes]":
    """Both directions after k steps, as pixels ``[h, w, 3]`` and as a PNG."""
    import io

    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from policygrad.run.plots import COLORS, FAINT, GREY, INK, TIMELESS

    figure = Figure(figsize=(8, 3.2), dpi=100, facecolor="white", layout="constrained")
    titles = {"forward": "forward D(P‖Q): covers", "reverse": "reverse D(Q‖P): seeks"}
    for axes, way, color in zip(figure.subplots(1, 2, sharey=True), titles, COLORS):
        axes.fill_between(x, truth, color=FAINT, linewidth=0)
        axes.plot(x, truth, color=GREY, linewidth=1.2)
        axes.plot(x, drawn[way][k], color=color, linewidth=2.2)
        axes.set_title(titles[way], fontsize=11, fontweight="bold", color=INK, loc="left")
        axes.set_ylim(0, 1.1 * max(truth.max(), max(d[-1].max() for d in drawn.values())))
        axes.set_xlim(x[0], x[-1])
        axes.text(0.02, 0.97, f"step {k}", transform=axes.transAxes, color=GREY, fontsize=9, va="top")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False, labelleft=False, colors=GREY, labelcolor=INK)
    canvas, png = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    figure.savefig(png, format="png", metadata=TIMELESS["png"])
    return pixels, png.getvalue()
