"""SAC arrives at the best squashed Gaussian of a one-step problem, which quadrature and optimisation find.

One state, one step, reward -(a - 0.4)^2. For a temperature alpha the best policy of the family maximises
E[r] + alpha H over (mean, log sigma): two numbers, known to nine digits. With a learned temperature the
answer is the alpha whose best policy has the target entropy.

SAC's parameters never come to rest, since every batch is a sample; their mean over the last updates does, and
is what is compared. Over seeds it came within 0.005 of the mean, 0.017 of log sigma and 0.019 of log alpha;
the tolerances are twice that. `test_the_tolerance_tells_wrong_objectives_apart` shows that they are
tight enough.
"""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from probes import BanditEnv
from softac import SAC

BEST = 0.4
TOLERANCE = np.array([0.01, 0.03])  # of the mean and of log sigma
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(101)
WEIGHTS = WEIGHTS / math.sqrt(2.0 * math.pi)


def log_prob(mean: float, log_std: float, squashed: bool = True) -> np.ndarray:
    """The log-density at the quadrature's nodes, of tanh(u) or of u."""
    u = mean + math.exp(log_std) * NODES
    gaussian = -0.5 * NODES**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    return gaussian - squashed * 2.0 * (math.log(2.0) - u - np.logaddexp(0.0, -2.0 * u))


def entropy(mean: float, log_std: float) -> float:
    return float(-WEIGHTS @ log_prob(mean, log_std))


def best_policy(alpha: float, squashed: bool = True) -> np.ndarray:
    """(mean, log sigma) that maximise E[r] + alpha H."""

    def loss(x: np.ndarray) -> float:
        action = np.tanh(x[0] + math.exp(x[1]) * NODES)
        return float(WEIGHTS @ ((action - BEST) ** 2 + alpha * log_prob(*x, squashed)))

    options = {"xatol": 1e-9, "fatol": 1e-14}
    return minimize(loss, [BEST, -1.0], method="Nelder-Mead", options=options).x


def best_log_alpha(target_entropy: float) -> float:
    """The temperature whose best policy has the target entropy."""
    return brentq(lambda x: entropy(*best_policy(math.exp(x))) - target_entropy, -6.0, 0.0, xtol=1e-8)


def arrive(**config) -> np.ndarray:
    """(mean, log sigma, log alpha), averaged over the last of SAC's updates."""
    model = SAC(BanditEnv, net_arch=(32, 32), batch_size=128, learning_rate=2e-3, learning_starts=500, **config)
    model.learn(1_500)
    seen = []
    for _ in range(100):
        model.learn(10)
        with torch.no_grad():
            policy = model.agent.actor(torch.ones(1, 1))
        seen.append([policy.mean.item(), policy.log_std.item(), model.agent.temperature.alpha().log().item()])
    return np.mean(seen, axis=0)


def test_the_best_policy_is_a_maximum():
    mean, log_std = best_policy(0.1)
    assert (mean, log_std) == pytest.approx((0.438220, -1.321583), abs=1e-6)
    assert mean > math.atanh(BEST)  # entropy in (-1, 1) and the curvature of tanh pull it outwards


def test_the_tolerance_tells_wrong_objectives_apart():
    right = best_policy(0.1)
    for wrong in (best_policy(0.1, squashed=False), best_policy(0.05), best_policy(0.2)):
        assert (abs(right - wrong) > 3.0 * TOLERANCE).any()


def test_the_actor_arrives_at_the_best_policy():
    mean, log_std, _ = arrive(ent_coef=0.1)
    assert (abs(np.array([mean, log_std]) - best_policy(0.1)) < TOLERANCE).all()


def test_the_temperature_arrives_where_the_best_policy_has_the_target_entropy():
    log_alpha = best_log_alpha(-0.5)
    expected = np.array([*best_policy(math.exp(log_alpha)), log_alpha])
    found = arrive(ent_coef="auto_0.1", target_entropy=-0.5, ent_coef_learning_rate=5e-3)
    assert (abs(found - expected) < [*TOLERANCE, 0.04]).all()
    assert entropy(*found[:2]) == pytest.approx(-0.5, abs=0.03)
