"""Gradients of groups of trajectories for K sets of weights, in PyTorch with torch.func: what the microscope computes.

    python torch_gradients.py --rows 500 --batch 64 --rungs 8 --groups 8

log π of a 4-64-64-2 tanh network along ``batch`` trajectories of ``rows`` rows. "grad" is what torch.func's own pages
teach: ``vmap(vmap(grad(loss)))`` over groups and rungs, all of torch's threads. The other ways know that the gradient
is linear in the weights, which is our own lesson: linearised once a group (``vjp``), the transpose applied to the K
weights (``vmap``), groups vmapped or looped over, batches one by one with all threads or several at once with a thread
for each. Seconds are those of a batch. One JSON line.
"""

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.func import functional_call, grad, vjp, vmap


def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2)
    )
    params = {name: value.detach() for name, value in net.named_parameters()}
    size = args.batch // args.groups
    obs = torch.randn(args.groups, args.rows * size, 4)
    action = torch.randint(0, 2, (args.groups, args.rows * size, 1))
    weights = torch.randn(args.groups, args.rungs, args.rows * size) / size

    def log_probs(params: dict[str, torch.Tensor], obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(functional_call(net, params, (obs,)), dim=-1).gather(-1, action)[..., 0]

    def loss(params: dict, obs: torch.Tensor, action: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (weights * log_probs(params, obs, action)).sum()

    def group(obs: torch.Tensor, action: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        return vmap(vjp(lambda params: log_probs(params, obs, action), params)[1])(weights)[0]

    of_rungs = vmap(grad(loss), in_dims=(None, None, None, 0))
    taught = lambda *leaves: vmap(of_rungs, in_dims=(None, 0, 0, 0))(params, *leaves)  # noqa: E731
    together = vmap(group)
    one_by_one = lambda *leaves: [group(*row) for row in zip(*leaves)]  # noqa: E731
    leaves = (obs, action, weights)
    seconds = {"grad": timed(taught, *leaves), "vmapped": timed(together, *leaves)}
    seconds["looped"] = timed(one_by_one, *leaves)
    torch.set_num_threads(1)
    seconds["vmapped, several batches"] = side_by_side(together, *leaves)
    seconds["looped, several batches"] = side_by_side(one_by_one, *leaves)
    print(json.dumps(vars(args) | {"seconds": min(seconds.values()), "ways": seconds, "version": torch.__version__}))


def timed(function, *arguments: torch.Tensor) -> float:  # type: ignore[no-untyped-def]
    """Median seconds of a call."""
    times = []
    for _ in range(8):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def side_by_side(function, *arguments: torch.Tensor, batches: int = 8) -> float:  # type: ignore[no-untyped-def]
    """Median seconds of a batch, where each core has one."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return timed(lambda: list(pool.map(lambda _: function(*arguments), range(batches)))) / batches


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 500), ("batch", 64), ("rungs", 8), ("groups", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
