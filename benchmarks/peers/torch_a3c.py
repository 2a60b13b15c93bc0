"""A3C in PyTorch as it is usually written: how fast it trains an Atari game with two processes.

Run it with the packages of ``requirements-sb3.txt``, ale-py and opencv-python-headless:

    python torch_a3c.py --env ALE/Pong-v5 --workers 2

The script is ours. It has the sizes of pytorch-a3c, the best-known one, which is on no package index: grey pictures of
42 x 42, four convolutions of 32 filters, an LSTM of 256, windows of 20 steps, GAE with lambda 1, gradients clipped to a
norm of 40, and one Adam whose statistics lie in shared memory with the parameters. Each process has one environment and
one of torch's threads. Standard output gets one JSON line.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from typing import Any

import ale_py
import cv2
import gymnasium
import numpy as np
import torch
from torch import multiprocessing, nn

SIDE, FILTERS, MEMORY, STEPS = 42, 32, 256, 20
GAMMA, ENTROPY, VALUE, CLIP, RATE = 0.99, 0.01, 0.5, 40.0, 1e-4
PACKAGES = ("torch", "gymnasium", "ale-py", "opencv-python-headless", "numpy")


class ActorCritic(nn.Module):
    """Convolutions and an LSTM with two heads."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (1, FILTERS, FILTERS, FILTERS):
            layers += [nn.Conv2d(channels, FILTERS, 3, stride=2, padding=1), nn.ELU()]
        self.see = nn.Sequential(*layers, nn.Flatten())
        self.memory = nn.LSTMCell(FILTERS * 3 * 3, MEMORY)
        self.actor, self.critic = nn.Linear(MEMORY, actions), nn.Linear(MEMORY, 1)

    def forward(self, picture: torch.Tensor, memory: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
        memory = self.memory(self.see(picture), memory)
        return self.actor(memory[0]), self.critic(memory[0]), memory


class Game:
    """One game: frame skip 4, small grey pictures."""

    def __init__(self, name: str, seed: int) -> None:
        gymnasium.register_envs(ale_py)
        options = {"frameskip": 4, "repeat_action_probability": 0.0, "obs_type": "grayscale"}
        self.env = gymnasium.make(name, **options)
        self.actions, self.seed = int(self.env.action_space.n), seed

    def reset(self) -> torch.Tensor:
        picture, _ = self.env.reset(seed=self.seed)
        self.seed += 1_000
        return small(picture)

    def step(self, action: int) -> tuple[torch.Tensor, float, bool]:
        picture, reward, terminated, truncated, _ = self.env.step(action)
        return small(picture), float(np.sign(reward)), terminated or truncated


def small(picture: np.ndarray) -> torch.Tensor:
    found = cv2.resize(picture[34:194], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(found).float().div_(255).view(1, 1, SIDE, SIDE)


class SharedAdam:
    """Adam in place on shared parameters, with shared statistics; nobody waits."""

    def __init__(self, shared: nn.Module) -> None:
        self.parameters = list(shared.parameters())
        self.first = [torch.zeros_like(p).share_memory_() for p in self.parameters]
        self.second = [torch.zeros_like(p).share_memory_() for p in self.parameters]
        self.count = torch.zeros(1).share_memory_()

    @torch.no_grad()
    def step(self, grads: list[torch.Tensor]) -> None:
        self.count += 1
        n = float(self.count)
        rate = RATE * (1 - 0.999**n) ** 0.5 / (1 - 0.9**n)
        for p, first, second, grad in zip(self.parameters, self.first, self.second, grads):
            first.mul_(0.9).add_(grad, alpha=0.1)
            second.mul_(0.999).addcmul_(grad, grad, value=0.001)
            p.addcdiv_(first, second.sqrt().add_(1e-8), value=-rate)


def work(rank: int, args: argparse.Namespace, shared: ActorCritic, adam: SharedAdam, steps: torch.Tensor) -> None:
    """One worker: copy, play a window, add this window's step."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed + rank)
    game = Game(args.env, args.seed + rank)
    mine = ActorCritic(game.actions)
    picture, memory = game.reset(), None
    while True:
        mine.load_state_dict(shared.state_dict())
        memory = None if memory is None else tuple(x.detach() for x in memory)
        rows, done = [], False
        for _ in range(STEPS):
            logits, value, memory = mine(picture, memory)
            log_probs = logits.log_softmax(1)
            action = int(torch.multinomial(log_probs.detach().exp(), 1))
            picture, reward, done = game.step(action)
            rows.append((log_probs[0, action], value[0, 0], -(log_probs * log_probs.exp()).sum(), reward))
            steps[rank] += 1
            if done:
                picture, memory = game.reset(), None
                break
        with torch.no_grad():
            after = 0.0 if done else float(mine(picture, memory)[1])
        loss = loss_of(rows, after)
        mine.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(mine.parameters(), CLIP)
        adam.step([p.grad for p in mine.parameters()])


def loss_of(rows: list[tuple], after: float) -> torch.Tensor:
    """Minus the policy's objective with returns for weights, and half the squared error of V."""
    loss, ret = torch.zeros(()), after
    for log_prob, value, entropy, reward in reversed(rows):
        ret = reward + GAMMA * ret
        error = ret - value
        loss = loss - log_prob * error.detach() - ENTROPY * entropy + VALUE * 0.5 * error.square()
    return loss


def main() -> None:
    args = parse_args()
    shared = ActorCritic(Game(args.env, 0).actions).share_memory()
    adam, steps = SharedAdam(shared), torch.zeros(args.workers, dtype=torch.int64).share_memory_()
    begin = multiprocessing.get_context("spawn").Process
    common = (args, shared, adam, steps)
    workers = [begin(target=work, args=(rank, *common), daemon=True) for rank in range(args.workers)]
    for worker in workers:
        worker.start()
    while int(steps.min()) < args.warmup:
        if not all(worker.is_alive() for worker in workers):
            raise SystemExit("a worker has died; its message is above")
        time.sleep(0.01)
    before, began = int(steps.sum()), time.perf_counter()
    while int(steps.sum()) - before < args.timesteps and all(worker.is_alive() for worker in workers):
        time.sleep(0.01)
    played, seconds = int(steps.sum()) - before, time.perf_counter() - began
    for worker in workers:
        worker.kill()
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    measured = {"timesteps": played, "seconds": seconds, "steps_per_second": played / seconds}
    print(json.dumps(vars(args) | measured | {"versions": versions}))


def parse_args() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--env", default="ALE/Pong-v5")
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--timesteps", type=int, default=20_000, help="steps that are timed (default: 20000)")
    made.add_argument("--warmup", type=int, default=1_000, help="steps of every worker before (default: 1000)")
    made.add_argument("--seed", type=int, default=0)
    return made.parse_args()


if __name__ == "__main__":
    main()
