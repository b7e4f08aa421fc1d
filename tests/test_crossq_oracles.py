"""CrossQ arrives at the exact answers of a problem that quadrature solves.

Rewards are scaled, and the temperature with them: what is best for scaled rewards at a temperature alpha is best
for the environment's at alpha / scale. So the policy is compared with the best one at *that* temperature, which
follows from what the replay holds, and Q / scale with its value. As in `test_oracles`, the mean over the last
updates is compared, since Adam never comes to rest. The problem is the one-step one with an observation that
means nothing: where it never changes there is no variance to normalise by.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from softac import CrossQ

ROOT = Path(__file__).parents[1]
p = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks/oracles/problems.py")))
SEEN = (-0.5, 0.0, 0.5)
DISTANCE = 0.1  # total variation; 0.02 to 0.05 was seen
SIZES = {"net_arch": (32, 32), "batch_size": 128, "learning_starts": 500, "gamma": p.GAMMA, "ent_coef": 0.08}


class Unseeing(p.OneStep):
    """`OneStep`, whose observation is a random number."""

    def reset(self, **given: Any) -> Any:
        """Begin."""
        super().reset(**given)
        return self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32), {}


def arrive(model, updates):
    """The policy at three observations, and Q and alpha in the unit of the environment: means of the last ones."""

    def look(agent):
        scale = agent.reward_scale().item()
        policies = [p.policy_of(agent, x) for x in SEEN]
        q = np.mean([p.q_of(agent, x) for x in SEEN], axis=0)
        return np.array(policies), q / scale, agent.temperature.alpha().item() / scale

    seen = p.watch(model.learn(500 + updates - 400), 40, 10, look)
    return [np.mean(column, axis=0) for column in zip(*seen, strict=True)]


def test_the_policy_is_the_best_gaussian_at_the_temperature_in_the_unit_of_the_environment():
    policies, q, alpha = arrive(CrossQ(Unseeing, **SIZES), 2_400)
    rewards = p.two_bumps(p.ACTIONS)
    value, best = p.local_bests(rewards, alpha, 1, 4)[0]
    assert p.distance(best, p.local_bests(rewards, SIZES["ent_coef"], 1, 4)[0][1]) > 2.0 * DISTANCE  # unscaled
    assert max(p.distance(policy, best) for policy in policies) < DISTANCE
    assert p.soft_value(best, q, alpha) == pytest.approx(value, rel=0.06)
