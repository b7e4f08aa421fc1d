"""Soft policy evaluation, soft policy iteration and soft value iteration on finite MDPs."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.special import xlogy

from softac.errors import ConfigError
from softac.tabular.checks import Array, check_alpha, check_policy, check_tol, rounding_floor
from softac.tabular.mdp import FiniteMDP, check_mdp
from softac.tabular.operators import (
    _improve,
    _policy_value,
    _project,
    _soft_value,
    back_up,
    check_candidates,
    sum_actions,
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The soft values of one policy.

    Attributes:
        Q: `[S, A]`.
        V: `[S]`, zero in terminal states.
        iterations: sweeps made; 0 for the linear solve.
        residuals: `[iterations]`, max |Q_{k+1} - Q_k| of each sweep, at most gamma times the one before.
    """

    Q: Array
    V: Array
    iterations: int
    residuals: Array


@dataclass(frozen=True, eq=False)
class Solution:
    """The soft-optimal policy of an MDP and its values.

    Attributes:
        pi: `[S, A]`; in terminal states, where nothing is decided, it is uniform.
        Q: `[S, A]`.
        V: `[S]`, zero in terminal states.
        iterations: policies evaluated (policy iteration) or sweeps made (value iteration).
    """

    pi: Array
    Q: Array
    V: Array
    iterations: int


def soft_policy_evaluation(mdp: FiniteMDP, pi: ArrayLike, alpha: ArrayLike, tol: ArrayLike = 1e-10) -> Evaluation:
    """Q^pi by repeated soft Bellman backups from Q = 0 (Lemma 1).

    Args:
        mdp: the MDP.
        pi: policy `[S, A]`.
        alpha: temperature >= 0, in reward per nat.
        tol: bound on max |Q - Q^pi| / max |Q|.

    Stops when the contraction guarantees the tolerance: gamma / (1 - gamma) times the last change is at most
    `tol` max |Q|. It always ends: from Q = 0 the relative error after k sweeps is at most gamma^k, so
    log(tol) / log(gamma) sweeps are enough whatever rounding does to the changes.

    Raises:
        ConfigError: for a policy that does not fit, an alpha that is negative or so large that values are not
            finite, or a tolerance below rounding.

    Source: arXiv:1812.05905, Lemma 1.
    """
    check_mdp(mdp)
    alpha, tol = _finite_alpha(alpha, mdp), check_tol(tol, mdp.gamma)
    policy = check_policy(pi, mdp.r.shape)
    bonus = -alpha * xlogy(policy, policy).sum(-1)
    Q, residuals = np.zeros_like(mdp.r), []
    for _ in range(_sweep_limit(tol, mdp.gamma)):
        previous, Q = Q, back_up(mdp, sum_actions(policy * Q) + bonus)
        residuals.append(_largest(Q - previous))
        if _close(residuals[-1], Q, tol, mdp.gamma):
            break
    V = np.where(mdp.terminal, 0.0, _policy_value(Q, policy, alpha))
    return Evaluation(Q, V, len(residuals), np.array(residuals))


def soft_policy_evaluation_linear(mdp: FiniteMDP, pi: ArrayLike, alpha: ArrayLike) -> Evaluation:
    """Q^pi by one linear solve, (I - gamma P_pi) V = r_pi + alpha H(pi), then Q = r + gamma E[V].

    Exact up to rounding, about 1e-16 / (1 - gamma) relative. A sparse MDP is solved by a sparse LU, whose
    memory grows faster than the number of states.

    Raises:
        ConfigError: for a policy that does not fit or a negative alpha.

    Source: the fixed point of `soft_bellman_backup`, an affine map.
    """
    check_mdp(mdp)
    alpha = _finite_alpha(alpha, mdp)
    V = _solve_values(mdp, check_policy(pi, mdp.r.shape), alpha)
    return Evaluation(back_up(mdp, V), V, 0, np.zeros(0))


def soft_policy_iteration(
    mdp: FiniteMDP, alpha: ArrayLike, tol: ArrayLike = 1e-10, candidates: ArrayLike | None = None
) -> Solution:
    """Alternate exact evaluation and improvement until no policy of the class is better (Theorem 1).

    Args:
        mdp: the MDP.
        alpha: temperature >= 0, in reward per nat; 0 is ordinary policy iteration.
        tol: bound on max |Q - Q*| / max |Q|.
        candidates: the restricted class of `information_projection`, `[K, A]` or `[K, S, A]`; all policies
            unless given. The first candidate is the first policy; otherwise the uniform one is.

    Stops when the Bellman residual guarantees the tolerance, or when a new policy raises Q nowhere by more
    than rounding; Q only ever rises (Lemma 2), so one of the two happens.

    Raises:
        ConfigError: for a negative alpha, a tolerance below rounding, or candidates that do not fit.

    Source: arXiv:1812.05905, Theorem 1.
    """
    check_mdp(mdp)
    alpha, tol = _finite_alpha(alpha, mdp), check_tol(tol, mdp.gamma)
    offered = None if candidates is None else check_candidates(candidates, mdp.r.shape)
    pi = np.full_like(mdp.r, 1.0 / mdp.n_actions) if offered is None else offered[0]
    units = _largest(mdp.r) + alpha * math.log(mdp.n_actions)
    Q, iterations = np.full_like(mdp.r, -np.inf), 0
    while True:
        previous, Q = Q, back_up(mdp, _solve_values(mdp, pi, alpha))
        iterations += 1
        pi = _improve(Q, alpha) if offered is None else _project(Q, alpha, offered)
        V = np.where(mdp.terminal, 0.0, _policy_value(Q, pi, alpha))
        residual, rise = _largest(back_up(mdp, V) - Q), float((Q - previous).max())
        settled = residual <= tol * (1.0 - mdp.gamma) * _largest(Q)
        if settled or rise <= rounding_floor(mdp.gamma) * max(units, _largest(Q)):
            return Solution(_uniform_at_end(mdp, pi), Q, V, iterations)


def soft_value_iteration(mdp: FiniteMDP, alpha: ArrayLike, tol: ArrayLike = 1e-10) -> Solution:
    """Q* by repeated soft optimality backups from Q = 0; the policy is exp(Q / alpha) / Z.

    Args:
        mdp: the MDP.
        alpha: temperature >= 0, in reward per nat; 0 is ordinary value iteration.
        tol: bound on max |Q - Q*| / max |Q|; it stops by the same rule as `soft_policy_evaluation`.

    Needs memory for a few tables beside the MDP only, so it is the solver for large sparse MDPs.

    Raises:
        ConfigError: for a negative alpha or a tolerance below rounding.
    """
    check_mdp(mdp)
    alpha, tol = _finite_alpha(alpha, mdp), check_tol(tol, mdp.gamma)
    Q, sweeps = np.zeros_like(mdp.r), 0
    for _ in range(_sweep_limit(tol, mdp.gamma)):
        previous, Q = Q, back_up(mdp, _soft_value(Q, alpha))
        sweeps += 1
        previous -= Q
        if _close(_largest(previous), Q, tol, mdp.gamma):
            break
    V = np.where(mdp.terminal, 0.0, _soft_value(Q, alpha))
    return Solution(_uniform_at_end(mdp, _improve(Q, alpha)), Q, V, sweeps)


def _finite_alpha(alpha: ArrayLike, mdp: FiniteMDP) -> float:
    """The temperature, if no value at it is beyond float64."""
    alpha = check_alpha(alpha)
    largest = (float(np.abs(mdp.r).max()) + alpha * math.log(mdp.n_actions)) / (1.0 - mdp.gamma)
    if not math.isfinite(largest):
        raise ConfigError(
            f"alpha is {alpha:g}, at which values may be beyond what float64 holds",
            "expected (max |r| + alpha log A) / (1 - gamma) below 1.8e308",
            "lower alpha",
        )
    return alpha


def _solve_values(mdp: FiniteMDP, pi: Array, alpha: float) -> Array:
    """V^pi [S] from its linear system."""
    reward = np.where(mdp.terminal, 0.0, _policy_value(mdp.r, pi, alpha))
    chain = mdp.under_policy(pi)
    if isinstance(chain, np.ndarray):
        return np.asarray(np.linalg.solve(np.eye(mdp.n_states) - mdp.gamma * chain, reward))
    system = sparse.csc_array(sparse.eye_array(mdp.n_states) - mdp.gamma * chain)
    # The diagonal dominates every row, so no pivoting is needed and the order is free for little fill-in.
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.asarray(factors.solve(reward))


def _sweep_limit(tol: float, gamma: float) -> int:
    return 1 if gamma == 0.0 else max(1, math.ceil(math.log(tol) / math.log(gamma)))


def _close(change: float, Q: Array, tol: float, gamma: float) -> bool:
    return gamma * change <= tol * (1.0 - gamma) * _largest(Q)


def _largest(table: Array) -> float:
    return float(max(table.max(), -table.min()))


def _uniform_at_end(mdp: FiniteMDP, pi: Array) -> Array:
    return np.where(mdp.terminal[:, None], 1.0 / mdp.n_actions, pi)
