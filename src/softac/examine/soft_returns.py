"""What the critics say against what follows: soft returns of whole episodes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from softac.agents.sac import SACAgent
from softac.envs import InProcessVectorEnv
from softac.run.seeding import Purpose, derive_seed, generator
from softac.types import Moment

Floats = NDArray[np.float64]

EPISODES, LONGEST = 5, 2_000  # for the comparison of Q with what follows
MOST_BOOTSTRAP = 0.25


def soft_returns(
    agent: SACAgent, envs: InProcessVectorEnv, n_episodes: int = EPISODES
) -> tuple[Floats, Floats, int]:
    """Q and what it estimates, at the steps of some episodes of the sampling policy.

    The critics are trained towards r + gamma (1 - terminated) (Q(s', a') - alpha log pi(a'|s')), so

        Q(s_t, a_t)  ~  r_t + sum_{k > t} gamma^(k-t) (r_k - alpha log pi(a_k|s_k)):

    the entropy of a_t itself is not in it. With plain n-step targets the intermediate entropies are not either:
    only every n-th term after t has one. A terminated episode ends the sum; one that was cut off ends in
    gamma^(T-t) (min_i Q_i(s_T, a_T) - alpha log pi(a_T|s_T)), and steps where this takes the critics' own
    word for more than a quarter are left out.

    Args:
        agent: acts with its own noise, at its present temperature.
        envs: the first environment is used.
        n_episodes: episodes, each cut off after 2,000 steps.

    Returns:
        min_i Q_i(s, a) and the soft return, one pair a step, and the number of episodes.
    """
    noise = generator(Purpose.EVALUATION_NOISE, 0)
    q_all, g_all = [np.zeros(0)], [np.zeros(0)]
    for episode in range(n_episodes):
        q, g = _episode(agent, envs, noise, derive_seed(Purpose.EVALUATION_EPISODE, 0, episode))
        if q.size:
            q_all.append(q)
            g_all.append(g)
    return np.concatenate(q_all), np.concatenate(g_all), len(q_all) - 1


def _episode(
    agent: SACAgent, envs: InProcessVectorEnv, noise: torch.Generator, seed: int
) -> tuple[Floats, Floats]:
    """Q and what followed, at the steps of one episode where that does not rest on the critics themselves."""
    gamma, alpha = agent.config.gamma, float(agent.temperature.alpha())
    rewards: list[float] = []
    bonuses: list[float] = []
    values: list[float] = []
    obs, terminated, truncated = envs.reset(0, seed), False, False
    while True:
        s = torch.from_numpy(obs)[None].to(agent.device)
        with torch.no_grad():
            action, log_prob = agent.actor(s).rsample(agent.act_noise(1, noise, Moment(0)))
            values.append(float(agent.critic(s, action).amin(0)))
        bonuses.append(-alpha * float(log_prob))
        if terminated or truncated or len(rewards) == LONGEST:
            break  # the last pair is that of the final state
        (step,) = envs.step(0, action.cpu().numpy())
        rewards.append(step.reward)
        obs, terminated, truncated = step.obs, step.terminated, step.truncated
    last_value = 0.0 if terminated else values[-1] + bonuses[-1]
    n = 1 if agent.config.n_step_return == "soft" else agent.config.n_steps
    follows = discounted(rewards, bonuses[:-1], gamma, n, last_value)
    left = np.arange(len(rewards), 0, -1)
    sound = np.full(len(rewards), True) if terminated else gamma**left <= MOST_BOOTSTRAP
    return np.array(values[:-1])[sound], follows[sound]


def discounted(
    rewards: Sequence[float], bonuses: Sequence[float], gamma: float, n: int, last_value: float
) -> Floats:
    """G_t = r_t + ... + gamma^(n-1) r_(t+n-1) + gamma^n (bonus_(t+n) + G_(t+n)) for every step t.

    Args:
        rewards: r_0 .. r_(T-1).
        bonuses: -alpha log pi(a_t|s_t) for the same steps.
        gamma: discount per step.
        n: rewards between two bonuses.
        last_value: what stands for bonus_T + G_T; 0 after termination.
    """
    size = len(rewards)
    out = np.zeros(size)
    for t in reversed(range(size)):
        stop = min(t + n, size)
        total = sum(gamma ** (k - t) * rewards[k] for k in range(t, stop))
        tail = last_value if stop == size else bonuses[stop] + out[stop]
        out[t] = total + gamma ** (stop - t) * tail
    return out
