"""``policygrad VERB ...``: find the verb, run it, and say in one sentence what went wrong.

Exit codes: 0; 1 for a failed run; 2 for bad input; 128 + n after signal n (130 Ctrl-C, 143 SIGTERM, 141 a closed pipe).
Nothing heavy is imported here: each verb imports what it needs, once it knows that it needs it.
"""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from policygrad import __version__
from policygrad.cli.parser import Parser, UsageError
from policygrad.cli.signals import say_why, stoppable

VERBS = {
    "train": ("policygrad.cli.train", "train a policy, or go on with a run"),
    "eval": ("policygrad.cli.evaluate", "play whole episodes with a trained policy, greedy and sampled"),
    "record": ("policygrad.cli.record", "keep episodes of a trained policy as a dataset"),
    "clone": ("policygrad.cli.clone", "imitate the demonstrations of a dataset, with an expert to ask or without"),
    "plot": ("policygrad.cli.plot", "draw the learning curves of some runs"),
    "play": ("policygrad.cli.play", "watch a trained policy, in a window or as a GIF or MP4"),
    "measure": ("policygrad.cli.measure", "measure the gradient: how noisy, how biased, and what would help"),
    "credit": ("policygrad.cli.credit", "say which actions get the credit, and how far a step may go"),
    "sweep": ("policygrad.cli.sweep", "train every γ with every λ, and draw the map"),
    "bandit": ("policygrad.cli.bandit", "contextual bandits: SquareCB and its peers on tables and logs"),
    "ope": ("policygrad.cli.ope", "judge a policy by the episodes of another one"),
    "doctor": ("policygrad.cli.doctor", "say why a run does not learn, and what to change"),
    "selfplay": ("policygrad.cli.selfplay", "two policies learn a matrix game against each other"),
    "check": ("policygrad.cli.check", "play an environment for a while, and say what is wrong with it"),
    "kl": ("policygrad.cli.kl", "a divergence both ways, exactly and from samples; what each direction fits"),
    "solve": ("policygrad.cli.solve", "solve a small world exactly: V, Q and the best policy"),
    "list": ("policygrad.cli.list", "list the algorithms and environments, or describe one"),
}
"""Every verb with its module and its one line of help."""


RARELY = (50_000, 20, 20)
"""When Python looks for garbage: imports and tracing make millions of objects that stay, and looking costs a start
half a second."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name), and return the exit code."""
    if argv is None:  # the process is ours
        gc.set_threshold(*RARELY)
    try:
        with stoppable(last=argv is None):
            code = dispatch(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
            return code
    except SystemExit as end:  # argparse, after --help or --version
        return int(end.code or 0)
    except KeyboardInterrupt as stop:
        say_why(f"\npolicygrad: {stop or 'stopped'}")
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit finds a reader
        return 128 + 13  # SIGPIPE, which Windows does not name
    except (ValueError, ImportError) as error:
        return fail(error, 2)
    except (RuntimeError, OSError) as error:
        return fail(error, 1)


def fail(error: Exception, code: int) -> int:
    """Say it in one sentence; with ``POLICYGRAD_TRACEBACK=1`` the whole story."""
    if os.environ.get("POLICYGRAD_TRACEBACK") == "1":
        raise error
    print(f"policygrad: error: {error}", file=sys.stderr)
    return code


def dispatch(argv: list[str]) -> int:
    if argv and not argv[0].startswith("-"):
        return importlib.import_module(module_of(argv[0])).main(argv[1:])
    top_parser().parse(argv)
    top_parser().print_help()
    return 2


def module_of(verb: str) -> str:
    if verb not in VERBS:
        near = get_close_matches(verb, [*VERBS, "evaluate"], n=1)
        hint = f"did you mean {near[0].replace('evaluate', 'eval')}? " if near else ""
        raise UsageError(f"there is no command {verb!r}: {hint}choose one of {', '.join(VERBS)}")
    return VERBS[verb][0]


def top_parser() -> Parser:
    lines = "\n".join(f"  {verb:<8} {summary}" for verb, (_, summary) in VERBS.items())
    parser = Parser(
        prog="policygrad",
        usage="policygrad COMMAND ...",
        description="Policy gradients, every rung of the ladder a switch.",
        epilog=f"commands:\n{lines}\n\n"
        "`policygrad COMMAND --help` shows a command's options. Begin with: policygrad train CartPole-v1",
    )
    version = f"policygrad {__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version and leave")
    return parser
