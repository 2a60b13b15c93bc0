"""Pure-JAX twins of Gymnasium's classic control.

The equations, constants, resets, rewards and ends are the same, and the numbers agree to rounding. Every state is one
vector. No step is random, and every reset is a scaled draw from the uniform distribution on (−1, 1).
"""

from dataclasses import dataclass
from math import inf, pi

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from policygrad.envs.core import Env


def symmetric_uniform(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Numbers uniform on (−1, 1)."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def symmetric_box(*high: float) -> spaces.Box:
    """``[−high, high]`` in every coordinate."""
    bound = np.array(high, np.float32)
    return spaces.Box(-bound, bound)


def wrap_angle(angle: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same angle in [−π, π], in radians. An angle already there is returned to the bit."""
    return angle - 2 * pi * jnp.round(angle / (2 * pi))


@dataclass(frozen=True)
class CartPole(Env):
    """``CartPole-v1``: keep a pole upright on a cart.

    State and observation ``[4]``: cart position x (m) and velocity (m/s), pole angle θ (rad, 0 is upright) and velocity
    (rad/s). Action: 0 pushes left, 1 pushes right, with 10 N. Reward: 1 for every step, the last one included.
    End: |x| > 2.4 m or |θ| > 12°. Euler steps of 0.02 s.

    Barto, Sutton and Anderson (1983), "Neuronlike adaptive elements that can solve difficult learning control
    problems".
    """

    time_limit: int | None = 500

    GRAVITY = 9.8
    CART_MASS = 1.0
    POLE_MASS = 0.1
    HALF_LENGTH = 0.5
    FORCE = 10.0
    DT = 0.02
    MAX_POSITION = 2.4
    MAX_ANGLE = 12 * 2 * pi / 360

    observation_space = symmetric_box(2 * MAX_POSITION, inf, 2 * MAX_ANGLE, inf)
    action_space = spaces.Discrete(2)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "... 4"]:
        return symmetric_uniform(key, (*shape, 4))

    def reset(self, noise: Float[Array, "4"]) -> tuple[Float[Array, "4"], Float[Array, "4"]]:
        state = 0.05 * noise
        return state, state

    def step(
        self, noise: Float[Array, "4"], state: Float[Array, "4"], action: Int[ArrayLike, ""]
    ) -> tuple[Float[Array, "4"], Float[Array, "4"], Float[Array, ""], Bool[Array, ""]]:
        x, x_dot, theta, theta_dot = state
        mass = self.CART_MASS + self.POLE_MASS
        pole = self.POLE_MASS * self.HALF_LENGTH
        force = jnp.where(action == 1, self.FORCE, -self.FORCE)
        sin, cos = jnp.sin(theta), jnp.cos(theta)

        push = (force + pole * theta_dot**2 * sin) / mass
        theta_acc = (self.GRAVITY * sin - cos * push) / (self.HALF_LENGTH * (4 / 3 - self.POLE_MASS * cos**2 / mass))
        x_acc = push - pole * theta_acc * cos / mass

        x, x_dot = x + self.DT * x_dot, x_dot + self.DT * x_acc
        theta, theta_dot = theta + self.DT * theta_dot, theta_dot + self.DT * theta_acc
        state = jnp.stack([x, x_dot, theta, theta_dot])
        fallen = (jnp.abs(x) > self.MAX_POSITION) | (jnp.abs(theta) > self.MAX_ANGLE)
        return state, state, jnp.ones_like(x), fallen


@dataclass(frozen=True)
class Acrobot(Env):
    """``Acrobot-v1``: swing the free end of a two-link arm above the bar by a torque at the middle joint.

    State ``[4]``: θ1 (rad, 0 hangs down), θ2 (rad, relative to the first link), and their velocities (rad/s, within ±4π
    and ±9π). Observation ``[6]``: cos θ1, sin θ1, cos θ2, sin θ2 and the velocities. Action: a torque of −1, 0 or
    1 N·m. Reward: −1 per step, 0 on the step that reaches the height. End: −cos θ1 − cos(θ1 + θ2) > 1. Runge–Kutta
    steps (RK4) of 0.2 s.

    Sutton (1996), "Generalization in reinforcement learning: successful examples using sparse coarse coding", with the
    equations of Sutton and Barto's book.
    """

    time_limit: int | None = 500

    GRAVITY = 9.8
    MASS = 1.0
    LENGTH = 1.0
    CENTRE = 0.5
    INERTIA = 1.0
    MAX_VELOCITY = (4 * pi, 9 * pi)
    DT = 0.2

    observation_space = symmetric_box(1.0, 1.0, 1.0, 1.0, *MAX_VELOCITY)
    action_space = spaces.Discrete(3)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "... 4"]:
        return symmetric_uniform(key, (*shape, 4))

    def reset(self, noise: Float[Array, "4"]) -> tuple[Float[Array, "4"], Float[Array, "6"]]:
        state = 0.1 * noise
        return state, self.observe(state)

    def step(
        self, noise: Float[Array, "4"], state: Float[Array, "4"], action: Int[ArrayLike, ""]
    ) -> tuple[Float[Array, "4"], Float[Array, "6"], Float[Array, ""], Bool[Array, ""]]:
        theta1, theta2, velocity1, velocity2 = self.integrate(state, torque=action - 1.0)
        theta1, theta2 = wrap_angle(theta1), wrap_angle(theta2)
        max1, max2 = self.MAX_VELOCITY
        state = jnp.stack([theta1, theta2, jnp.clip(velocity1, -max1, max1), jnp.clip(velocity2, -max2, max2)])
        reached = -jnp.cos(theta1) - jnp.cos(theta1 + theta2) > 1.0
        return state, self.observe(state), jnp.where(reached, 0.0, -1.0), reached

    def observe(self, state: Float[Array, "4"]) -> Float[Array, "6"]:
        theta1, theta2, velocity1, velocity2 = state
        return jnp.stack([jnp.cos(theta1), jnp.sin(theta1), jnp.cos(theta2), jnp.sin(theta2), velocity1, velocity2])

    def integrate(self, state: Float[Array, "4"], torque: Float[ArrayLike, ""]) -> Float[Array, "4"]:
        """One classical Runge–Kutta step of length ``DT`` (s)."""
        k1 = self.derivative(state, torque)
        k2 = self.derivative(state + self.DT / 2 * k1, torque)
        k3 = self.derivative(state + self.DT / 2 * k2, torque)
        k4 = self.derivative(state + self.DT * k3, torque)
        return state + self.DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def derivative(self, state: Float[Array, "4"], torque: Float[ArrayLike, ""]) -> Float[Array, "4"]:
        """d(state)/dt: the velocities (rad/s), then the accelerations (rad/s²)."""
        theta1, theta2, velocity1, velocity2 = state
        m, l, c, g, inertia = self.MASS, self.LENGTH, self.CENTRE, self.GRAVITY, self.INERTIA  # noqa: E741
        sin2, cos2 = jnp.sin(theta2), jnp.cos(theta2)

        d1 = m * c**2 + m * (l**2 + c**2 + 2 * l * c * cos2) + 2 * inertia
        d2 = m * (c**2 + l * c * cos2) + inertia
        phi2 = m * c * g * jnp.sin(theta1 + theta2)
        coriolis = -m * l * c * velocity2 * (velocity2 + 2 * velocity1) * sin2
        phi1 = coriolis + m * (c + l) * g * jnp.sin(theta1) + phi2
        drive = torque + d2 / d1 * phi1 - m * l * c * velocity1**2 * sin2 - phi2
        acceleration2 = drive / (m * c**2 + inertia - d2**2 / d1)
        acceleration1 = -(d2 * acceleration2 + phi1) / d1
        return jnp.stack([velocity1, velocity2, acceleration1, acceleration2])


class Valley(Env):
    """What both mountain cars share: an underpowered car in a valley, whose left wall stops it.

    State and observation ``[2]``: position in [−1.2, 0.6] and velocity within ±0.07 per step (no physical units).
    """

    MIN_POSITION = -1.2
    MAX_POSITION = 0.6
    MAX_SPEED = 0.07
    GRAVITY = 0.0025
    GOAL: float

    observation_space = spaces.Box(
        np.array([MIN_POSITION, -MAX_SPEED], np.float32), np.array([MAX_POSITION, MAX_SPEED], np.float32)
    )

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return symmetric_uniform(key, shape)

    def reset(self, noise: Float[Array, ""]) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        state = jnp.stack([-0.5 + 0.1 * noise, jnp.zeros_like(noise)])
        return state, state

    def drive(self, state: Float[Array, "2"], push: ArrayLike) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
        """The next state, and whether the car has arrived."""
        position, velocity = state
        velocity = velocity + push - self.GRAVITY * jnp.cos(3 * position)
        velocity = jnp.clip(velocity, -self.MAX_SPEED, self.MAX_SPEED)
        position = jnp.clip(position + velocity, self.MIN_POSITION, self.MAX_POSITION)
        velocity = jnp.where((position == self.MIN_POSITION) & (velocity < 0), 0.0, velocity)
        return jnp.stack([position, velocity]), (position >= self.GOAL) & (velocity >= 0)


@dataclass(frozen=True)
class MountainCar(Valley):
    """``MountainCar-v0``: drive an underpowered car out of a valley.

    State and observation: see :class:`Valley`. Action: accelerate left, not at all, or right. Reward: −1 per step, the
    last one included. End: position ≥ 0.5 with velocity ≥ 0.

    Moore (1990), "Efficient memory-based learning for robot control"; Sutton and Barto (2018), Example 10.1.
    """

    time_limit: int | None = 200

    GOAL = 0.5
    FORCE = 0.001

    action_space = spaces.Discrete(3)

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "2"], action: Int[ArrayLike, ""]
    ) -> tuple[Float[Array, "2"], Float[Array, "2"], Float[Array, ""], Bool[Array, ""]]:
        state, arrived = self.drive(state, (action - 1) * self.FORCE)
        return state, state, -jnp.ones_like(state[0]), arrived


@dataclass(frozen=True)
class MountainCarContinuous(Valley):
    """``MountainCarContinuous-v0``: the same valley, with a force of the driver's choice.

    Action ``[1]``: force within ±1. Reward: −0.1·a² per step and +100 on arrival. End: position ≥ 0.45 with velocity
    ≥ 0. As in Gymnasium, an action beyond the bounds is clipped for the physics and paid for in full.
    """

    time_limit: int | None = 999

    GOAL = 0.45
    FORCE = 0.0015

    action_space = symmetric_box(1.0)

    def step(
        self, noise: Float[Array, ""], state: Float[Array, "2"], action: Float[Array, "1"]
    ) -> tuple[Float[Array, "2"], Float[Array, "2"], Float[Array, ""], Bool[Array, ""]]:
        state, arrived = self.drive(state, jnp.clip(action[0], -1.0, 1.0) * self.FORCE)
        return state, state, jnp.where(arrived, 100.0, 0.0) - 0.1 * action[0] ** 2, arrived


@dataclass(frozen=True)
class Pendulum(Env):
    """``Pendulum-v1``: swing a pendulum up and hold it there.

    State ``[2]``: angle θ (rad, 0 is upright, not wrapped) and velocity (rad/s, within ±8). Observation ``[3]``: cos θ,
    sin θ, velocity. Action ``[1]``: torque within ±2 N·m. Reward: −(θ² + 0.1·velocity² + 0.001·torque²), with the
    state before the step and θ in [−π, π]. It never ends. Semi-implicit Euler steps of 0.05 s.
    """

    time_limit: int | None = 200

    GRAVITY = 10.0
    MASS = 1.0
    LENGTH = 1.0
    MAX_SPEED = 8.0
    MAX_TORQUE = 2.0
    DT = 0.05

    observation_space = symmetric_box(1.0, 1.0, MAX_SPEED)
    action_space = symmetric_box(MAX_TORQUE)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Float[Array, "... 2"]:
        return symmetric_uniform(key, (*shape, 2))

    def reset(self, noise: Float[Array, "2"]) -> tuple[Float[Array, "2"], Float[Array, "3"]]:
        state = noise * jnp.array([pi, 1.0])
        return state, self.observe(state)

    def step(
        self, noise: Float[Array, "2"], state: Float[Array, "2"], action: Float[Array, "1"]
    ) -> tuple[Float[Array, "2"], Float[Array, "3"], Float[Array, ""], Bool[Array, ""]]:
        theta, velocity = state
        torque = jnp.clip(action[0], -self.MAX_TORQUE, self.MAX_TORQUE)
        cost = wrap_angle(theta) ** 2 + 0.1 * velocity**2 + 0.001 * torque**2

        gravity = 3 * self.GRAVITY / (2 * self.LENGTH) * jnp.sin(theta)
        velocity = velocity + (gravity + 3 / (self.MASS * self.LENGTH**2) * torque) * self.DT
        velocity = jnp.clip(velocity, -self.MAX_SPEED, self.MAX_SPEED)
        state = jnp.stack([theta + velocity * self.DT, velocity])
        return state, self.observe(state), -cost, jnp.zeros((), bool)

    def observe(self, state: Float[Array, "2"]) -> Float[Array, "3"]:
        theta, velocity = state
        return jnp.stack([jnp.cos(theta), jnp.sin(theta), velocity])
