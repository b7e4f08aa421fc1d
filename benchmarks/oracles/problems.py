"""Small problems and their exact answers: what `run.py` and `tests/test_oracles.py` hold the agents against.

Finite MDPs are solved by `softac.tabular`. Problems with one action in (-1, 1) are solved here in float64 by
quadrature and optimisation: the best policy of the *family* that an agent has, a squashed mixture of K
Gaussians, K = 1 for `sac` and `sac_v`. Nothing that an agent computes with is used for the answers.

A policy over such an action is a vector theta = (K logits, K means, K log sigmas).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize
from scipy.special import logsumexp

from softac import Model
from softac.tabular import FiniteMDP, soft_policy_iteration

Array = NDArray[np.float64]

# What an agent says


def policy_of(agent: Any, *obs: float) -> Array:
    """Its policy at `obs` as a vector theta."""
    with torch.no_grad():
        policy = agent.actor(torch.tensor([obs], dtype=torch.float32))
    if hasattr(policy, "logits"):
        parts = (policy.logits, policy.means, policy.log_stds)
    else:
        parts = (torch.zeros(1), policy.mean, policy.log_std)
    return torch.cat([part.flatten() for part in parts]).double().numpy()


def q_of(agent: Any, *obs: float) -> Array:
    """What it believes of each of `ACTIONS` at `obs`: the least of its critics."""
    actions = torch.tensor(ACTIONS, dtype=torch.float32).unsqueeze(-1)
    with torch.no_grad():
        q = agent.critic(torch.tensor([obs], dtype=torch.float32).expand(len(actions), -1), actions)
    return q.amin(0).double().numpy()


def scales(agent: Any) -> tuple[float, float]:
    """What crossq and xqc multiply rewards by, and their temperature in the environment's unit."""
    scale = float(agent.reward_scale())
    return scale, float(agent.temperature.alpha()) / scale


def tables_of(agent: Any, n_states: int) -> tuple[Array, Array | None]:
    """Q of each critic `[N, S, A]` and the policy `[S, A]`, if it has one, on one-hot observations."""
    with torch.no_grad():
        q = agent.critic(torch.eye(n_states)).double().numpy()
        pi = (
            agent.actor(torch.eye(n_states)).logits.double().softmax(-1).numpy()
            if hasattr(agent, "actor")
            else None
        )
    return q, pi


def watch(model: Model, times: int, every: int, look: Callable[[Any], Any]) -> list[Any]:
    """What `look` sees of the agent, `times` times, after each `every` further steps of training.

    Adam never comes to rest on sampled batches; the mean of what is seen does.
    """
    return [look(model.learn(every).agent) for _ in range(times)]


# Finite MDPs


def sparse_mdp(seed: int, *, n_states: int = 6, n_actions: int = 3, reward_scale: float = 1.0) -> FiniteMDP:
    """Two random next states for each pair, rewards uniform in [0, reward_scale], gamma 0.9, no end."""
    rng = np.random.default_rng(seed)
    P = np.zeros((n_states, n_actions, n_states))
    for s in range(n_states):
        for a in range(n_actions):
            first, second = rng.choice(n_states, 2, replace=False)
            P[s, a, first] = chance = rng.random()
            P[s, a, second] = 1.0 - chance
    return FiniteMDP(P, reward_scale * rng.random((n_states, n_actions)), gamma=0.9)


def largest_td_error(mdp: FiniteMDP, Q: Array, V: Array) -> float:
    """The largest |r + gamma V(s') - Q(s, a)| over all transitions that can happen."""
    S, A = mdp.r.shape
    return max(
        float(np.abs(mdp.r[s, a] + mdp.gamma * V[mdp.successors(s, a)[0]] - Q[s, a]).max())
        for s in range(S)
        for a in range(A)
    )


def huber_point(mdp: FiniteMDP) -> Array:
    """The Q `[S, A]` at which the Huber loss with delta 1 comes to rest, in place of the optimal one.

    Each entry is the q at which E[clip(q - y, -1, 1)] = 0 for y = r + gamma max Q(s', .), not the mean of y;
    the two agree where no |q - y| exceeds 1. The map is a gamma-contraction, as that of the mean is.
    """
    Q = np.zeros_like(mdp.r)
    while True:
        V, previous, Q = Q.max(-1), Q, np.empty_like(Q)
        for s, a in np.ndindex(*mdp.r.shape):
            following, chances = mdp.successors(s, a)
            y = mdp.r[s, a] + mdp.gamma * V[following]

            def slope(q: float, y: Array = y, chances: Array = chances) -> float:
                return float(chances @ np.clip(q - y, -1.0, 1.0))

            Q[s, a] = y[0] if np.ptp(y) == 0.0 else brentq(slope, y.min(), y.max(), xtol=1e-12)
        if np.abs(Q - previous).max() < 1e-10:
            return Q


def optimal_q(mdp: FiniteMDP) -> Array:
    """The hard-optimal Q `[S, A]`."""
    return soft_policy_iteration(mdp, alpha=0.0).Q


# Policies over one action in (-1, 1)

GRID = np.linspace(-10.0, 10.0, 2_001)  # u, before the tanh
STEP = GRID[1] - GRID[0]
ACTIONS = np.tanh(GRID)
LOG_SLOPE = 2.0 * (math.log(2.0) - GRID - np.logaddexp(0.0, -2.0 * GRID))  # log da/du


def log_density(theta: Array) -> Array:
    """Log-density of u at the grid, `[U]`."""
    return np.asarray(logsumexp(_log_components(theta), axis=0))


def _log_components(theta: Array) -> Array:
    """Log of weight times density of each component, `[K, U]`."""
    logits, means, log_stds = np.asarray(theta, float).reshape(3, -1, 1)
    standardised = (GRID - means) * np.exp(-log_stds)
    log_weights = logits - logsumexp(logits)
    return np.asarray(log_weights - 0.5 * standardised**2 - log_stds - 0.5 * math.log(2.0 * math.pi))


def expectation(theta: Array, values: Array) -> float:
    """E[f(a)] for `values` f at `ACTIONS`; the trapezoid rule, which is exact to rounding for a density."""
    return float(np.exp(log_density(theta)) @ values) * STEP


def entropy(theta: Array) -> float:
    """Differential entropy of the action, in nats."""
    return expectation(theta, LOG_SLOPE - log_density(theta))


def soft_value(theta: Array, q: Array, alpha: float) -> float:
    """E[q(a)] + alpha H, for `q` at `ACTIONS`."""
    return expectation(theta, q) + alpha * entropy(theta)


def unrestricted_value(q: Array, alpha: float) -> float:
    """The soft value of exp(q / alpha) / Z, alpha log Z, which no family exceeds."""
    return alpha * float(logsumexp(q / alpha + LOG_SLOPE) + math.log(STEP))


def distance(theta: Array, other: Array) -> float:
    """Total variation between two policies, 0 to 1; the tanh does not change it."""
    return 0.5 * STEP * float(np.abs(np.exp(log_density(theta)) - np.exp(log_density(other))).sum())


def local_bests(q: Array, alpha: float, K: int, starts: int, seed: int = 0) -> list[tuple[float, Array]]:
    """The maxima of the soft value that BFGS finds from random policies: (value, theta), best first."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(starts):
        start = np.concatenate((np.zeros(K), rng.uniform(-1.5, 1.5, K), rng.uniform(-2.5, 0.0, K)))
        found.append(climb(q, alpha, start))
    return sorted(found, key=lambda pair: -pair[0])


def climb(q: Array, alpha: float, start: Array) -> tuple[float, Array]:
    """The maximum of the soft value uphill of `start`, and where it is."""
    result = minimize(lambda theta: _loss(theta, q, alpha), start, jac=True, method="BFGS", options={"gtol": 1e-8})
    return -float(result.fun), result.x


def _loss(theta: Array, q: Array, alpha: float) -> tuple[float, Array]:
    """Minus the soft value, and its gradient in theta."""
    parts = _log_components(theta)
    log_p = logsumexp(parts, axis=0)
    p, share = np.exp(log_p), np.exp(parts - log_p)  # of each component at each u
    bracket = STEP * p * (q - alpha * (log_p - LOG_SLOPE))
    logits, means, log_stds = theta.reshape(3, -1, 1)
    z = (GRID - means) * np.exp(-log_stds)
    weights = np.exp(logits - logsumexp(logits))
    score = np.stack([share - weights, share * z * np.exp(-log_stds), share * (z**2 - 1.0)])
    return -float(bracket.sum()), -(score @ bracket).ravel()


# One step: two bumps


def two_bumps(a: Array | float) -> Array:
    """The reward of the one-step problem: a bump of height 1 around 0.4, one of 0.7 around -0.4."""
    return np.exp(-(((a - 0.4) / 0.3) ** 2)) + 0.7 * np.exp(-(((a + 0.4) / 0.3) ** 2))


class OneStep(gym.Env[Any, Any]):
    """One state, one action, the reward `two_bumps`, the end."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, **_: Any) -> Any:
        """Begin."""
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        """Pay and end."""
        return np.ones(1, np.float32), float(two_bumps(float(action[0]))), True, False, {}


class OneStepSeen(OneStep):
    """The same with an observation that says nothing: of rows that are all alike batch norm leaves nothing."""

    def reset(self, *, seed: int | None = None, **_: Any) -> Any:
        """Begin."""
        super().reset(seed=seed)
        return self._observed(), {}

    def step(self, action: Any) -> Any:
        """Pay and end."""
        return self._observed(), *super().step(action)[1:]

    def _observed(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)


def best_at_entropy(target: float) -> tuple[float, Array]:
    """The alpha whose best squashed Gaussian on the two bumps has the entropy `target`, and that Gaussian.

    Followed from low temperatures, where the best Gaussian sits on the higher bump. Above 0.22 it spreads over
    both, and no temperature has an entropy in between.
    """
    q = two_bumps(ACTIONS)

    def best(alpha: float) -> Array:
        return climb(q, alpha, np.array([0.0, 0.4, -2.0]))[1]

    alpha = brentq(lambda x: entropy(best(x)) - target, 0.05, 0.2, xtol=1e-8)
    return float(alpha), best(alpha)


# Two steps: the first action moves, the second is paid for where it lands

GAMMA = 0.9


def first_reward(a: Array | float) -> Array:
    return 0.5 * np.asarray(a)


def second_reward(x: Array | float, a: Array | float) -> Array:
    """A bump of the second action around -0.8 x, less x²."""
    return np.exp(-(((a + 0.8 * np.asarray(x)) / 0.4) ** 2)) - np.asarray(x) ** 2


class TwoSteps(gym.Env[Any, Any]):
    """Observation (0, 0); the action becomes x; observation (1, x); the second action; the end."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, **_: Any) -> Any:
        """Begin."""
        super().reset(seed=seed)
        self.x: float | None = None
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        """Move, or pay and end."""
        a = float(action[0])
        if self.x is None:
            self.x = a
            return np.array([1.0, a], np.float32), float(first_reward(a)), False, False, {}
        return np.array([1.0, self.x], np.float32), float(second_reward(self.x, a)), True, False, {}


@dataclass(frozen=True)
class TwoStepAnswer:
    """The best squashed Gaussians of both steps, by dynamic programming from the end.

    A family that chooses freely in each state has a best member in each, whatever it does elsewhere, so the
    second step is solved for every x first.
    """

    alpha: float
    first: Array  # theta at the start
    second: Callable[[float], Array]  # theta at x
    q_first: Array  # at ACTIONS: reward plus gamma times the soft value of the second step
    value: float  # soft value of the start

    def mean_entropy(self) -> float:
        """Of the two states of an episode, each counted half: what a replay of its own episodes holds."""
        second = np.array([entropy(self.second(x)) for x in NODES])
        return 0.5 * (entropy(self.first) + expectation(self.first, CubicSpline(NODES, second)(ACTIONS)))


NODES = np.linspace(-1.0, 1.0, 41)


def two_step_answer(alpha: float) -> TwoStepAnswer:
    """Solve the two-step problem at temperature `alpha`."""
    values, thetas, theta = [], [], np.array([0.0, 0.8, -1.0])
    for x in NODES:
        value, theta = climb(second_reward(x, ACTIONS), alpha, theta)
        values.append(value)
        thetas.append(theta)
    q_first = first_reward(ACTIONS) + GAMMA * CubicSpline(NODES, values)(ACTIONS)
    value, first = climb(q_first, alpha, np.array([0.0, 0.3, -1.0]))
    return TwoStepAnswer(alpha, first, CubicSpline(NODES, np.array(thetas)), q_first, value)


# Nothing but noise: what critics see in it is their own


class PureNoise(gym.Env[Any, Any]):
    """Observations uniform in [-1, 1]^2 whatever is done, rewards N(0, 1) whatever is done, no end.

    Every action is worth the same: 0 to an agent without entropy, and as `noise_q` says to one with it.
    """

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, **_: Any) -> Any:
        """Begin."""
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, _: Any) -> Any:
        """Pay at random and go anywhere."""
        return self._observe(), float(self.np_random.standard_normal()), False, False, {}

    def _observe(self) -> Any:
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)


def noise_q(mean_entropy: float, alpha: float, gamma: float) -> float:
    """The soft Q of a policy in `PureNoise`, in nats its mean entropy: gamma alpha H / (1 - gamma)."""
    return gamma * alpha * mean_entropy / (1.0 - gamma)
