"""``policygrad selfplay GAME``: two softmax policies learn against each other, and how exploitable they become."""

import json
import shlex
from typing import TYPE_CHECKING, Any

from policygrad.cli.parser import Parser
from policygrad.cli.signals import importing

if TYPE_CHECKING:
    from policygrad.games import MatrixGame, Play

METHODS = ("plain", "entropy", "average")
DEFAULTS: dict[str, Any] = {
    "method": "entropy",
    "steps": 5000,
    "learning_rate": 0.5,
    "ent_coef": 0.25,
    "batch": 0,
    "seed": 0,
}
ROWS, SHOWN = 8, 12
"""Lines of the table over time; at most so many actions of a final policy are printed."""


def main(argv: list[str]) -> int:
    args = parser().parse(argv)
    options = {name: getattr(args, name) for name in DEFAULTS}
    if not 0 <= args.seed < 2**31:
        raise ValueError(f"seed must be in [0, 2147483647], not {args.seed}")
    with importing():
        import jax

        from policygrad.games import make_game
        from policygrad.games.selfplay import as_play, moments_of_play
        from policygrad.run.selfplay import results, save_play
    game = make_game(args.game, symmetric=args.symmetric)
    learning = {name: value for name, value in options.items() if name != "seed"}
    moments, stop = [], None
    try:
        for moment in moments_of_play(game, **learning, key=jax.random.key(args.seed)):
            moments.append(moment)
    except KeyboardInterrupt as stopped:
        if not moments:
            raise
        stop = stopped
    play = as_play(game, moments)
    folder = save_play(game, play, options, args.out)
    if stop is not None:
        raise stop_after(stop, f"stopped; the first {moments[-1].step:,} of {args.steps:,} steps are in {folder}")
    if args.json:
        print(json.dumps(results(game, play, options) | {"path": str(folder)}, indent=1, allow_nan=False))
        return 0
    print(f"{told(game, play, options)}\n\nmade: {folder}\n      results.json\n      policies.png\n")
    given = shlex.quote(args.game) + " --symmetric" * args.symmetric
    print(f"try next: {advice(game, play, options, given)}")
    return 0


def stop_after(stop: KeyboardInterrupt, words: str) -> KeyboardInterrupt:
    """The same signal, which says what was saved."""
    stop.args = (words,)
    return stop


def told(game: "MatrixGame", play: "Play", options: dict[str, Any]) -> str:
    """Exploitability over time, and the final policies."""
    from policygrad.games import best_response, expected_payoffs

    m, n = game.payoffs.shape[1:]
    kind = "zero-sum" if game.is_zero_sum else "general-sum"
    gradient = f"{options['batch']} sampled games" if options["batch"] else "exact gradients"
    lines = [f"{game.name}: {m} × {n}, {kind}; {options['method']}, {gradient}, seed {options['seed']}", ""]
    lines += [f"{'step':>10}  exploitability"]
    wanted = (options["steps"] * k / ROWS for k in range(ROWS + 1))
    for i in sorted({int(abs(play.step - step).argmin()) for step in wanted}):
        lines.append(f"{play.step[i]:>10,}  {play.exploitability[i]:.6g}")
    row, column = play.row[-1], play.column[-1]
    paid, answers = expected_payoffs(game, row, column), best_response(game, row, column)
    what = "mean policy" if options["method"] == "average" else "last policy"
    worst = row @ game.payoffs[0][:, answers[1]], game.payoffs[1][answers[0]] @ column
    for i, (name, policy) in enumerate((("row", row), ("column", column))):
        answer = game.actions[1 - i][answers[1 - i]]
        lines.append(f"\n{name}'s {what}: {in_words(policy, game.actions[i])}")
        lines.append(f"  is paid {signed(paid[i])}, and {signed(worst[i])} against its best response, {answer}")
    return "\n".join(lines)


def signed(payoff: float) -> str:
    """Six digits, and no minus zero."""
    return f"{round(float(payoff), 10) + 0.0:+.6g}"


def in_words(policy: Any, actions: tuple[str, ...]) -> str:
    """``rock 0.333, paper 0.333``: the likeliest actions, where there are too many."""
    shown = sorted(range(len(policy)), key=lambda i: -policy[i])[:SHOWN]
    words = ", ".join(f"{actions[i]} {policy[i]:.3f}" for i in sorted(shown))
    rest = len(policy) - len(shown)
    return f"{words}, and {rest} rarer ones" if rest else words


def advice(game: "MatrixGame", play: "Play", options: dict[str, Any], given: str) -> str:
    """One command to go on with."""
    command, tried = f"policygrad selfplay {given}", options["method"]
    close = play.exploitability[-1] <= 0.01 * max(float(abs(game.payoffs).max()), 1e-12)
    if tried == "plain" and not close:
        return f"{command} --method entropy   (plain gradients tend to cycle; an entropy bonus that fades settles them)"
    if tried == "entropy" and not close:
        return f"{command} --method average   (the mean policies, which noise and cycles do not keep from converging)"
    if not close:
        return f"{command} --method {tried} --steps {10 * options['steps']}   (it still falls)"
    if tried != "plain":
        return f"{command} --method plain   (what happens without the help)"
    return f"{command} --seed {options['seed'] + 1}   (another start: there may be other equilibria)"


def parser() -> Parser:
    made = Parser(
        prog="policygrad selfplay",
        usage="policygrad selfplay GAME|FILE [--method plain|entropy|average] [options]",
        description="Self-play by policy gradients on a matrix game, and how exploitable exactly the policies become.\n"
        "GAME: rps, rps-unequal, matching-pennies, prisoners-dilemma, stag-hunt or chicken.\n"
        "FILE: a payoff matrix as .csv (zero-sum), a .csv with the columns row, column, row_payoff and column_payoff,\n"
        "or a .json with the keys row and column.",
    )
    option = made.add_argument
    option("game", metavar="GAME", help="a game, or a file with one")
    option("--symmetric", action="store_true", help="the file's column payoffs are its transpose (default: zero-sum)")
    words = (
        "plain: each climbs its own payoff; entropy: natural gradients and a fading entropy bonus; average: the mean "
        f"of the policies so far (default: {DEFAULTS['method']})"
    )
    option("--method", choices=METHODS, default=DEFAULTS["method"], help=words)
    option("--steps", metavar="N", type=int, default=DEFAULTS["steps"], help="updates (default: %(default)s)")
    words = "step size, for payoffs divided by their spread (default: %(default)s)"
    option("--learning-rate", metavar="X", type=float, default=DEFAULTS["learning_rate"], help=words)
    words = "temperature that `entropy` begins with (default: %(default)s)"
    option("--ent-coef", metavar="X", type=float, default=DEFAULTS["ent_coef"], help=words)
    words = "games sampled for each gradient; 0: the exact gradient (default: %(default)s)"
    option("--batch", metavar="N", type=int, default=DEFAULTS["batch"], help=words)
    option("--seed", metavar="N", type=int, default=DEFAULTS["seed"], help="of starts and games (default: %(default)s)")
    option("--out", metavar="DIR", default="runs", help="make DIR/GAME/selfplay-1, ... (default: %(default)s)")
    option("--json", action="store_true", help="print one JSON object and nothing else (default: a table)")
    return made
