"""The loop in NumPy: the same rows as in the pure worlds, and nothing learned from a reset row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.collect.host import Clock, HostCollector, HostState
from policygrad.collect.xla import window_collector
from policygrad.envs.control import CartPole
from policygrad.envs.core import autoreset
from policygrad.envs.host import HostStep
from policygrad.ladder.psi import Psi
from policygrad.learn.gradient import policy_gradient, steps_from
from policygrad.models import make_model

B, T, LIMIT = 3, 16, 7
PSI = Psi("lambda_return", "value", gamma=0.9, lam=0.8)


def model_for(env, **options):
    return make_model(env.observation_space, env.action_space, key=jax.random.key(7), net=(8,), **options)


def gradient(model, trajectory):
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    return policy_gradient(model, trajectory, PSI(steps_from(model, trajectory, PSI)))


def close(ours, theirs, **tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), **({"atol": 1e-6} | tolerance))


class Mirror:
    """A pure stream stepped on the host, with given noise."""

    def __init__(self, stream, state, noises):
        self.num_envs, self.stream, self.state, self.noises, self.t = B, stream, state, noises, 0
        self.observation_space, self.action_space = stream.env.observation_space, stream.env.action_space

    def step(self, action):
        noise = jax.tree.map(lambda x: x[self.t], self.noises)
        self.state, shown = jax.vmap(self.stream.step)(noise, self.state, action)
        self.t += 1
        step = jax.tree.map(np.asarray, shown)
        over = step.terminated | step.truncated
        return HostStep(
            obs=step.obs,
            successor=step.successor,
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.truncated,
            valid=np.ones(B, bool),
            over=over,
        )


@pytest.mark.parametrize("policy", ["mlp", "gru"])
def test_a_host_window_is_a_pure_window(policy):
    """The same CartPole with the same noise: every array, the statistics and the gradient."""
    env = CartPole()
    stream, model = autoreset(env, LIMIT), model_for(env, policy=policy)
    pure = window_collector(stream, B, T)
    state, key = pure.init(model, jax.random.key(1)), jax.random.key(2)
    _, theirs, finished = jax.jit(pure.collect)(model, state, key)
    env_key, action_key = jax.random.split(key)
    mirror = Mirror(stream, state.stream, stream.draw(env_key, (T, B)))
    counter = np.zeros(B, np.int32)
    begin = HostState(
        np.asarray(state.stream.obs), counter, np.zeros(B), counter, counter, np.zeros(B, np.float32), state.carry
    )
    host = HostCollector(mirror, T, clock=Clock())
    after, ours, seen = host.collect(model, begin, action_key)
    assert theirs.truncated.any() and (np.asarray(theirs.cut_obs).shape[0], ours.cut_obs.shape[0]) == (4, 4)
    np.testing.assert_array_equal(ours.action, theirs.action)
    close(ours._replace(cut_obs=None), theirs._replace(cut_obs=None))
    done = np.asarray(finished.done)
    np.testing.assert_array_equal(seen.done, done)
    np.testing.assert_allclose(seen.ret[done], np.asarray(finished.ret)[done], rtol=1e-6)
    np.testing.assert_array_equal(seen.length[done], np.asarray(finished.length)[done])
    close(gradient(model, ours), gradient(model, theirs))
    close(after.obs, mirror.state.obs)


class Recorder:
    """Next-step resets: the observation tells episode, step and the action that led here. Episodes of 2, 3, 4 ... rows;
    those of odd number are truncated. A reset row pays nonsense."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)
    num_envs = 2

    def __init__(self, nonsense=1e6):
        self.nonsense = nonsense

    def reset(self, seed=None):
        self.episode, self.row = np.zeros(2, int), np.zeros(2, int)
        self.resetting = np.zeros(2, bool)
        return self.show(np.full(2, -1))

    def show(self, action):
        return np.stack([self.episode, self.row, action], axis=1).astype(np.float32)

    def step(self, action):
        valid = ~self.resetting
        self.episode = self.episode + self.resetting
        self.row = np.where(self.resetting, 0, self.row + 1)
        over = valid & (self.row >= 2 + self.episode)
        odd = self.episode % 2 == 1
        self.resetting = over
        obs = self.show(np.where(valid, action, -1))
        reward = np.where(valid, 1.0, self.nonsense)
        return HostStep(obs, obs, reward, over & ~odd, over & odd, valid, over)


def collected(nonsense, n_steps=16, **options):
    env = Recorder(nonsense)
    model = model_for(env)
    host = HostCollector(env, n_steps, clock=Clock(), **options)
    state = host.init(model, jax.random.key(0))
    return model, host, *host.collect(model, state, jax.random.key(3))


def test_rows_say_what_the_environment_was_given():
    _, _, state, trajectory, finished = collected(0.0)
    rows = np.asarray(trajectory.obs)
    for b in range(2):
        for t in range(15):
            if not trajectory.mask[t, b]:
                assert trajectory.time[t, b] == 0 and trajectory.reward[t, b] == 0 and not finished.done[t, b]
                continue
            episode, row = rows[t, b, :2]
            assert trajectory.time[t, b] == row and trajectory.start[t, b] == (row == 0)
            following = rows[t + 1, b]
            if row + 1 < 2 + episode:
                assert following.tolist() == [episode, row + 1, trajectory.action[t, b]]
            else:
                assert trajectory.terminated[t, b] == (episode % 2 == 0)
                assert trajectory.truncated[t, b] == (episode % 2 == 1)
                assert finished.done[t, b] and finished.ret[t, b] == finished.length[t, b] == 2 + episode
                assert not trajectory.mask[t + 1, b], "the row after an end only resets"
    cut = trajectory.truncated[:, 0]
    assert cut.sum() == 1, "episode 1; episode 3 is cut by the window"
    t = int(np.flatnonzero(cut)[0])
    assert trajectory.cut_obs[0, 0].tolist() == [1, 3, trajectory.action[t, 0]], "the true successor, not the reset"
    assert trajectory.cut_obs[1, 0].tolist() == np.asarray(state.obs)[0].tolist(), "the window's end"


def test_a_reset_row_is_never_learned_from():
    model, _, _, calm, _ = collected(0.0)
    _, _, _, wild, seen = collected(1e6)
    assert (~calm.mask).any()
    close(gradient(model, calm), gradient(model, wild), atol=0)
    assert seen.ret.max() < 10
    mask = calm.mask
    other = calm._replace(
        obs=np.where(mask[..., None], calm.obs, 9.0).astype(np.float32),
        action=np.where(mask, calm.action, 1 - calm.action),
        log_mu=np.where(mask, calm.log_mu, 3.0),
    )
    close(gradient(model, calm), gradient(model, other), atol=1e-7)


def test_whole_episodes():
    _, _, _, trajectory, finished = collected(0.0, None)
    assert trajectory.mask.shape == (2, 2) and trajectory.mask.all(), "two rows, padded to a power of two"
    assert trajectory.terminated[-1].all() and finished.done.sum() == 2


def test_clipped_rewards_keep_their_scale_in_the_log():
    class Rich(Recorder):
        def step(self, action):
            step = super().step(action)
            return step._replace(reward=step.reward * 100)

    env = Rich(0.0)
    model = model_for(env)
    host = HostCollector(env, 8, clock=Clock(), clip_reward=True)
    _, trajectory, finished = host.collect(model, host.init(model, jax.random.key(0)), jax.random.key(1))
    assert set(trajectory.reward[trajectory.mask].tolist()) == {1.0}
    assert finished.ret[finished.done].min() == 200


def test_a_time_limit_may_belong_to_the_problem():
    _, _, _, trajectory, _ = collected(0.0, finite_horizon=True)
    assert not trajectory.truncated.any() and trajectory.terminated.sum() > 2


def test_the_clock_adds_up():
    _, host, *_ = collected(0.0)
    assert host.clock.seconds["env"] > 0 and host.clock.seconds["policy"] > 0
    shares = host.clock.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(host.clock.shares().values()) == 0, "nothing since then"


def test_the_last_value_of_a_host_window_is_bootstrapped():
    """Constant reward 1 and V = 1/(1 − γ): every advantage is zero, cuts included."""
    model, _, _, trajectory, _ = collected(0.0)
    steps = steps_from(model, jax.tree.map(jnp.asarray, trajectory), PSI)
    cut = trajectory.mask & trajectory.truncated
    assert cut.any() and (np.asarray(steps.next_value)[cut] != 0).all()
    assert (np.asarray(steps.next_value)[trajectory.terminated] == 0).all()
    assert jnp.isfinite(steps.next_value).all()
