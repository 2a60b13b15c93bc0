"""The page-layout worlds: clicks with the right probabilities, and a temptation that is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs import check_env, make
from policygrad.envs.page_layout import LOUD, Noise, PageLayout, PageLayoutSequential, User, best_click_rate, taste

USER = jnp.asarray([0.5, -0.5, 0.2, 1.0])
LIKES = [0.45 + 0.2 - 0.1 - 0.04, 0.45 - 0.15 - 0.15 + 0.02 + 0.2, 0.45 - 0.05 + 0.2 + 0.02 - 0.2]


@pytest.mark.parametrize(("name", "shape"), [("PageLayout-v0", (4,)), ("PageLayoutSequential-v0", (5,))])
def test_they_are_environments(name, shape):
    env = make(name)
    assert env.observation_space.shape == shape and check_env(env, steps=50) == []


def test_a_click_is_as_likely_as_the_user_likes_the_layout():
    np.testing.assert_allclose(taste(USER), LIKES, atol=1e-6)
    env, state = PageLayout(), User(USER, jnp.ones(()))
    for action, likes in enumerate(LIKES):
        for number, reward in ((likes - 1e-3, 1.0), (likes + 1e-3, 0.0)):
            _, obs, paid, over = env.step(Noise(USER, jnp.asarray(number), jnp.asarray(0.0)), state, action)
            assert paid == reward and over and (obs == USER).all()


def test_the_best_policy_is_known():
    assert best_click_rate() == pytest.approx(0.743, abs=2e-3)
    assert best_click_rate() - float(taste(jnp.zeros((1, 4))).mean()) > 0.25, "there is something to learn"


def expected_clicks(env, layouts):
    """Of one user who is shown this layout on every page: Σ_t P(still here) · mood · taste, in closed form."""
    mood, here, total = 1.0, 1.0, 0.0
    for _ in range(env.time_limit):
        total += here * mood * min(LIKES[layouts] + env.loud * (layouts == LOUD), 1)
        mood = float(np.clip(mood + (-env.annoy if layouts == LOUD else env.calm), 0, 1))
        here *= 0.5 + mood / 2
    return total


def played_clicks(env, action, count=4000):
    """The mean over simulated users, and its standard error."""
    noise = env.draw(jax.random.key(0), (count, env.time_limit))

    def user(noise):
        def page(carry, noise):
            state, here = carry
            state, _, reward, over = env.step(noise, state, action)
            return (state, here & ~over), reward * here

        return jnp.sum(jax.lax.scan(page, (User(USER, jnp.ones(())), jnp.ones((), bool)), noise)[1])

    clicks = np.asarray(jax.jit(jax.vmap(user))(noise))
    return clicks.mean(), clicks.std() / np.sqrt(count)


@pytest.mark.parametrize("action", [0, LOUD])
def test_a_layout_earns_what_the_closed_form_says(action):
    env = PageLayoutSequential()
    mean, error = played_clicks(env, action)
    assert abs(mean - expected_clicks(env, action)) < 4 * error


def test_the_banner_pays_most_now_and_least_in_the_end():
    env = PageLayoutSequential()
    now = [LIKES[0], LIKES[1], LIKES[2] + env.loud]
    assert np.argmax(now) == LOUD
    assert expected_clicks(env, LOUD) < 0.3 * expected_clicks(env, 0)
