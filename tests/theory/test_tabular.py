"""Lemma 1, Lemma 2, Theorem 1, the Lagrangian and the limits, against solvers that share no code with softac."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from softac.errors import ConfigError, NumericalError
from softac.tabular import (
    LAYOUTS,
    FiniteMDP,
    grid_cells,
    gridworld,
    information_projection,
    log_partition_function,
    partition_function,
    policy_kl,
    policy_value,
    random_mdp,
    simulate,
    soft_bellman_backup,
    soft_optimality_backup,
    soft_policy_evaluation,
    soft_policy_evaluation_linear,
    soft_policy_improvement,
    soft_policy_iteration,
    soft_returns,
    soft_value,
    soft_value_iteration,
    stationarity_residual,
)


def many(examples: int):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def problems(draw, max_gamma=0.95):
    """A random MDP (dense or sparse, with or without terminal states), a temperature, and a generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    S, A = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    gamma = draw(st.sampled_from([0.0, 0.3, 0.7, 0.9, max_gamma]))
    alpha = draw(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 30.0]))
    P = rng.dirichlet(np.full(S, draw(st.sampled_from([0.2, 1.0, 5.0]))), size=(S, A))
    P /= P.sum(-1, keepdims=True)
    r = draw(st.sampled_from([0.1, 1.0, 100.0])) * rng.standard_normal((S, A))
    terminal = rng.random(S) < draw(st.sampled_from([0.0, 0.3]))
    P[terminal], r[terminal] = 0.0, 0.0
    table = sparse.csr_array(P.reshape(S * A, S)) if draw(st.booleans()) else P
    return FiniteMDP(table, r, gamma, terminal), alpha, rng


def random_policy(mdp, rng):
    """Rows of any temper: near-uniform to nearly deterministic, now and then with exact zeros."""
    logits = rng.standard_normal(mdp.r.shape) * rng.choice([0.3, 3.0, 300.0])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def size(Q):
    return max(np.abs(Q).max(), 1e-300)


@many(1000)
@given(problems())
def test_lemma_1(problem):
    mdp, alpha, rng = problem
    pi = random_policy(mdp, rng)
    exact = soft_policy_evaluation_linear(mdp, pi, alpha)
    Q = exact.Q + size(exact.Q) * rng.standard_normal(mdp.r.shape)
    for _ in range(5):
        before = np.abs(Q - exact.Q).max()
        Q = soft_bellman_backup(mdp, Q, pi, alpha)
        assert np.abs(Q - exact.Q).max() <= mdp.gamma * before + 1e-13 * (size(Q) + size(mdp.r) + alpha)

    iterated = soft_policy_evaluation(mdp, pi, alpha)
    assert np.abs(iterated.Q - exact.Q).max() <= 1e-9 * size(exact.Q)
    assert np.abs(iterated.V - exact.V).max() <= 1e-9 * (size(exact.Q) + alpha)
    assert iterated.iterations == len(iterated.residuals)
    assert (iterated.residuals[1:] <= mdp.gamma * iterated.residuals[:-1] + 1e-13 * (size(Q) + alpha)).all()
    assert not exact.V[mdp.terminal].any()
    assert not exact.Q[mdp.terminal].any()


@many(1000)
@given(problems())
def test_lemma_2(problem):
    mdp, alpha, rng = problem
    old = random_policy(mdp, rng)
    Q = soft_policy_evaluation_linear(mdp, old, alpha).Q
    better = soft_policy_improvement(Q, alpha)
    rise = soft_policy_evaluation_linear(mdp, better, alpha).Q - Q
    assert rise.min() >= -1e-9 * size(Q)

    candidates = np.stack([random_policy(mdp, rng), old, random_policy(mdp, rng)])
    projected = information_projection(Q, alpha, candidates)
    rise = soft_policy_evaluation_linear(mdp, projected, alpha).Q - Q
    assert rise.min() >= -1e-9 * size(Q)
    if alpha > 0.0:
        nearest = np.min([policy_kl(pi, Q, alpha) for pi in candidates], axis=0)
        chosen = policy_kl(projected, Q, alpha)
        assert (chosen <= nearest + 1e-12 * (1.0 + size(Q) / alpha)).all()


@many(300)
@given(problems())
def test_theorem_1_both_iterations_reach_the_same_fixed_point(problem):
    mdp, alpha, _ = problem
    by_policies, by_values = soft_policy_iteration(mdp, alpha), soft_value_iteration(mdp, alpha)
    Q = by_policies.Q
    assert np.abs(Q - by_values.Q).max() <= 1e-9 * size(Q)
    assert np.abs(by_policies.V - by_values.V).max() <= 1e-9 * (size(Q) + alpha)
    assert np.abs(soft_optimality_backup(mdp, Q, alpha) - Q).max() <= 1e-10 * size(Q)
    assert by_policies.iterations < 30
    if alpha >= 0.1:
        assert np.abs(by_policies.pi - by_values.pi).max() <= 1e-8 * (1.0 + size(Q) / alpha)
    evaluated = soft_policy_evaluation_linear(mdp, by_policies.pi, alpha)
    assert np.abs(evaluated.Q - Q).max() <= 1e-9 * size(Q)


@pytest.mark.parametrize("alpha", [0.0, 0.05, 1.0])
def test_theorem_1_beats_random_policies(alpha):
    rng = np.random.default_rng(7)
    mdp = random_mdp(8, 4, 0.9, rng)
    best = soft_policy_iteration(mdp, alpha).Q
    for _ in range(1000):
        Q = soft_policy_evaluation_linear(mdp, random_policy(mdp, rng), alpha).Q
        assert (best >= Q - 1e-9 * size(best)).all()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 3.0])
def test_theorem_1_in_a_restricted_class(alpha):
    rng = np.random.default_rng(3)
    mdp = random_mdp(4, 3, 0.9, rng)
    candidates = rng.dirichlet(np.ones(3), size=(4, 4))
    candidates /= candidates.sum(-1, keepdims=True)
    solution = soft_policy_iteration(mdp, alpha, candidates=candidates)
    # The class is a product over states, so it can be searched through: 4 choices in each of 4 states.
    members = [candidates[list(choice), range(4)] for choice in itertools.product(range(4), repeat=4)]
    values = np.array([soft_policy_evaluation_linear(mdp, pi, alpha).Q for pi in members])
    np.testing.assert_allclose(solution.Q, values.max(0), rtol=1e-9)
    assert any((solution.pi == pi).all() for pi in members)
    assert (soft_policy_iteration(mdp, alpha).Q >= solution.Q).all()


def test_candidates_may_be_shared_by_all_states():
    mdp = random_mdp(5, 2, 0.8, np.random.default_rng(0))
    shared = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    spread = np.repeat(shared[:, None], 5, axis=1)
    np.testing.assert_array_equal(
        soft_policy_iteration(mdp, 0.1, candidates=shared).pi,
        soft_policy_iteration(mdp, 0.1, candidates=spread).pi,
    )


@many(300)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.3, 1.0, 10.0]), st.integers(1, 6))
def test_lagrangian(seed, alpha, n_actions):
    rng = np.random.default_rng(seed)
    Q = rng.standard_normal((4, n_actions))
    best = soft_policy_improvement(Q, alpha)
    assert np.abs(stationarity_residual(Q, best, alpha)).max() <= 1e-10
    pi = rng.dirichlet(np.ones(n_actions), size=4)
    pi /= pi.sum(-1, keepdims=True)
    value, log_Z = policy_value(Q, pi, alpha), log_partition_function(Q, alpha)
    np.testing.assert_allclose(value, alpha * log_Z - alpha * policy_kl(pi, Q, alpha), rtol=0.0, atol=1e-10)
    np.testing.assert_allclose(policy_value(Q, best, alpha), soft_value(Q, alpha), rtol=0.0, atol=1e-10)
    np.testing.assert_allclose(soft_value(Q, alpha), alpha * log_Z, rtol=0.0, atol=1e-10)
    np.testing.assert_allclose(np.exp(Q / alpha) / partition_function(Q, alpha)[:, None], best, rtol=1e-10)
    assert (policy_kl(pi, Q, alpha) >= 0.0).all()
    if n_actions > 1:
        assert np.abs(stationarity_residual(Q, pi, alpha)).max() > 1e-3


def hard_optimum(mdp):
    """max over all deterministic policies of their values, by listing them: [S, A]."""
    S, A = mdp.r.shape
    P = mdp.P.toarray().reshape(S, A, S) if sparse.issparse(mdp.P) else mdp.P
    best = np.full(S, -np.inf)
    for choice in itertools.product(range(A), repeat=S):
        chosen = (np.arange(S), list(choice))
        best = np.maximum(best, np.linalg.solve(np.eye(S) - mdp.gamma * P[chosen], mdp.r[chosen]))
    return mdp.r + mdp.gamma * P @ best, best


@pytest.mark.parametrize("seed", range(10))
def test_soft_against_hard_optimum(seed):
    mdp = random_mdp(5, 3, 0.9, np.random.default_rng(seed))
    hard_Q, hard_V = hard_optimum(mdp)
    np.testing.assert_allclose(soft_policy_iteration(mdp, 0.0).Q, hard_Q, rtol=1e-9)
    np.testing.assert_allclose(soft_value_iteration(mdp, 0.0).Q, hard_Q, rtol=1e-9)
    gaps = []
    for alpha in (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6):
        solution, bound = soft_policy_iteration(mdp, alpha), alpha * math.log(3) / (1.0 - mdp.gamma)
        rounding = 1e-9 * size(hard_V)
        gap = solution.V - hard_V
        assert (gap >= -rounding).all()
        assert (gap <= bound + rounding).all()
        loss = hard_V - soft_policy_evaluation_linear(mdp, solution.pi, 0.0).V
        assert (loss >= -rounding).all()
        assert (loss <= bound + rounding).all()
        gaps.append(gap.max())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] <= 1e-9 * size(hard_V)


def test_alpha_zero_shares_between_equally_good_actions():
    Q = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [5.0, 1.0, 0.0]])
    limit = soft_policy_improvement(Q, 0.0)
    np.testing.assert_array_equal(limit, [[0.0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(soft_policy_improvement(Q, 1e-6), limit, atol=1e-12)
    np.testing.assert_array_equal(soft_value(Q, 0.0), [3.0, 2.0, 5.0])
    np.testing.assert_allclose(stationarity_residual(Q, limit, 0.0)[limit > 0.0], 0.0, atol=1e-12)


def exact_soft_optimum(mdp, alpha):
    """Soft policy iteration in 60 digits."""
    S, A = mdp.r.shape
    with mpmath.workdps(60):
        alpha, gamma = mpmath.mpf(alpha), mpmath.mpf(mdp.gamma)
        P = [[[mpmath.mpf(float(x)) for x in row] for row in rows] for rows in mdp.P]
        r = [[mpmath.mpf(float(x)) for x in row] for row in mdp.r]
        pi = [[mpmath.mpf(1) / A] * A for _ in range(S)]
        V = None
        for _ in range(60):
            system, reward = mpmath.eye(S), mpmath.zeros(S, 1)
            for s in range(S):
                for a in range(A):
                    p = pi[s][a]
                    reward[s] += p * (r[s][a] - (alpha * mpmath.log(p) if p > 0 else 0))
                    for s2 in range(S):
                        system[s, s2] -= gamma * p * P[s][a][s2]
            new = mpmath.lu_solve(system, reward)
            Q = [
                [r[s][a] + gamma * sum(P[s][a][t] * new[t] for t in range(S)) for a in range(A)] for s in range(S)
            ]
            if V is not None and max(abs(new[s] - V[s]) for s in range(S)) <= mpmath.mpf(10) ** -40 * max(
                map(abs, new)
            ):
                return np.array([[float(x) for x in row] for row in Q])
            V = new
            weights = [[mpmath.exp((x - max(row)) / alpha) for x in row] for row in Q]
            pi = [[w / sum(row) for w in row] for row in weights]
    raise AssertionError("the reference did not converge")


RANGE = list(itertools.product([1e-6, 1e-3, 1.0, 1e6], [1e-6, 1.0, 1e6], [0.0, 0.5, 0.9999]))


@pytest.mark.parametrize(("alpha", "scale", "gamma"), RANGE)
def test_numerical_range(alpha, scale, gamma):
    rng = np.random.default_rng(11)
    mdp = random_mdp(3, 2, gamma, rng)
    mdp = FiniteMDP(mdp.P, mdp.r * scale / np.abs(mdp.r).max(), gamma)
    Q = exact_soft_optimum(mdp, alpha)
    solution = soft_policy_iteration(mdp, alpha)
    assert np.isfinite(solution.pi).all()
    assert np.isfinite(solution.V).all()
    np.testing.assert_allclose(solution.pi.sum(-1), 1.0, rtol=1e-15)
    assert np.abs(solution.Q - Q).max() <= 1e-9 * size(Q)
    at_fixed_point = soft_policy_evaluation_linear(mdp, solution.pi, alpha)
    assert np.abs(at_fixed_point.Q - Q).max() <= 1e-9 * size(Q)
    if gamma < 0.9 or (alpha, scale) == (1e-6, 1e6):  # 200,000 sweeps take seconds: one corner is enough
        swept = soft_value_iteration(mdp, alpha)
        assert np.abs(swept.Q - Q).max() <= 1e-9 * size(Q)


def test_evaluation_by_sweeps_at_gamma_0_9999():
    mdp = random_mdp(3, 2, 0.9999, np.random.default_rng(11))
    pi = np.array([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]])
    exact, swept = soft_policy_evaluation_linear(mdp, pi, 1e6), soft_policy_evaluation(mdp, pi, 1e6)
    assert np.abs(swept.Q - exact.Q).max() <= 1e-9 * size(exact.Q)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99])
def test_the_smallest_tolerance_that_is_not_refused_is_reached(gamma):
    mdp = random_mdp(5, 3, gamma, np.random.default_rng(2))
    with pytest.raises(ConfigError) as refusal:
        soft_value_iteration(mdp, 0.5, tol=1e-17)
    floor = 16 * np.finfo(float).eps / (1 - gamma)
    assert f"{floor:.2g}" in str(refusal.value)
    reference = exact_soft_optimum(mdp, 0.5)
    for solve in (soft_value_iteration, soft_policy_iteration):
        assert np.abs(solve(mdp, 0.5, tol=floor).Q - reference).max() <= floor * size(reference)


@pytest.mark.parametrize("alpha", [1e-6, 1.0, 1e6])
def test_it_ends_where_the_values_cancel(alpha):
    """With r = -gamma alpha log A every Q is 0 up to rounding, and no relative change ever gets small."""
    P = np.random.default_rng(0).dirichlet(np.ones(4), size=(4, 3))
    P /= P.sum(-1, keepdims=True)
    mdp = FiniteMDP(P, np.full((4, 3), -0.99 * alpha * math.log(3)), 0.99)
    for Q in (
        soft_value_iteration(mdp, alpha).Q,
        soft_policy_iteration(mdp, alpha).Q,
        soft_policy_evaluation(mdp, np.full((4, 3), 1 / 3), alpha).Q,
    ):
        assert np.abs(Q).max() <= 1e-10 * alpha


def test_zero_rewards_without_entropy_are_solved_at_once():
    mdp = FiniteMDP(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), 0.9)
    assert soft_value_iteration(mdp, 0.0).iterations == 1
    assert soft_policy_iteration(mdp, 0.0).iterations == 1


def test_one_state_by_hand():
    """Two actions that pay 1 and 0 in a single state: V = alpha log(e^{1/alpha} + 1) / (1 - gamma)."""
    mdp = FiniteMDP([[[1.0], [1.0]]], [[1.0, 0.0]], 0.5)
    V = math.log(math.e + 1.0) / 0.5
    solution = soft_policy_iteration(mdp, 1.0)
    assert solution.V[0] == pytest.approx(V)
    assert solution.Q[0].tolist() == pytest.approx([1.0 + V / 2, V / 2])
    assert solution.pi[0, 0] == pytest.approx(math.e / (math.e + 1.0))


def test_a_terminal_state_earns_no_entropy_and_an_absorbing_one_does():
    P, r = np.zeros((2, 2, 2)), np.zeros((2, 2))
    P[:, :, 1] = 1.0
    ends = FiniteMDP(P, r, 0.9, terminal=[False, True])
    stays = FiniteMDP(P, r, 0.9)
    assert soft_policy_iteration(ends, 1.0).V.tolist() == pytest.approx([math.log(2), 0.0])
    assert soft_policy_iteration(stays, 1.0).V.tolist() == pytest.approx([10 * math.log(2)] * 2)
    assert soft_policy_iteration(ends, 1.0).pi[1].tolist() == [0.5, 0.5]
    assert ends.P[1].sum() == 0.0


def test_dense_and_sparse_agree():
    dense = random_mdp(6, 3, 0.9, np.random.default_rng(0))
    thin = FiniteMDP(sparse.csr_matrix(dense.P.reshape(18, 6)), dense.r, 0.9)
    for alpha in (0.0, 0.2):
        np.testing.assert_allclose(
            soft_policy_iteration(thin, alpha).Q, soft_policy_iteration(dense, alpha).Q, rtol=1e-12
        )
        np.testing.assert_allclose(
            soft_value_iteration(thin, alpha).Q, soft_value_iteration(dense, alpha).Q, rtol=1e-12
        )
    np.testing.assert_allclose(thin.under_policy(np.full((6, 3), 1 / 3)).toarray(), dense.P.mean(1), rtol=1e-12)
    for mdp in (dense, thin):
        states, chances = mdp.successors(2, 1)
        np.testing.assert_array_equal(states, np.arange(6))
        np.testing.assert_array_equal(chances, dense.P[2, 1])
    assert repr(thin) == "FiniteMDP(6 states of which 0 terminal, 3 actions, gamma=0.9, sparse)"


def test_an_mdp_is_a_copy_and_read_only():
    P, r = np.full((2, 1, 2), 0.5), np.zeros((2, 1))
    mdp = FiniteMDP(P, r, 0.9)
    P[0, 0] = 7.0
    assert mdp.P[0, 0].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="read-only"):
        mdp.r[0, 0] = 1.0
    with pytest.raises(AttributeError):
        mdp.gamma = 0.5


@pytest.mark.parametrize(
    "mdp", [random_mdp(6, 3, 0.8, np.random.default_rng(5)), gridworld(LAYOUTS["bridge"], 0.8, slip=0.2)]
)
def test_simulation_agrees_with_the_exact_values(mdp):
    alpha, n = 0.1, 20_000
    rng = np.random.default_rng(0)
    solution = soft_policy_iteration(mdp, alpha)
    episodes = simulate(mdp, solution.pi, 120, n, rng)
    returns = soft_returns(mdp, episodes, solution.pi, alpha)
    cut_off = mdp.gamma**120 * size(solution.V)
    assert abs(returns.mean() - mdp.start @ solution.V) <= 4.0 * returns.std() / n**0.5 + cut_off
    assert not mdp.terminal[episodes.states[:, :-1][episodes.alive]].any()

    again = simulate(mdp, solution.pi, 120, n, np.random.default_rng(0))
    np.testing.assert_array_equal(again.states, episodes.states)
    assert (simulate(mdp, solution.pi, 3, 5, rng, start=1).states[:, 0] == 1).all()


def test_simulation_draws_the_right_frequencies():
    mdp = random_mdp(4, 2, 0.9, np.random.default_rng(1))
    pi = random_policy(mdp, np.random.default_rng(2))
    n = 200_000
    episodes = simulate(mdp, pi, 1, n, np.random.default_rng(3), start=2)
    joint = np.zeros((2, 4))
    np.add.at(joint, (episodes.actions[:, 0], episodes.states[:, 1]), 1.0 / n)
    expected = pi[2][:, None] * mdp.P[2]
    assert (np.abs(joint - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / n) + 1e-12).all()


def test_gridworld_by_hand():
    layout = ["S.#", ".XG"]
    mdp, cells = gridworld(layout, 0.9, step_reward=-0.1), grid_cells(layout)
    assert cells.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert mdp.terminal.tolist() == [False, False, False, True, True]
    assert mdp.start.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    P = mdp.P.toarray().reshape(5, 4, 5)
    arrives = {(s, a): int(P[s, a].argmax()) for s in range(3) for a in range(4)}
    up, right, down, left = range(4)
    assert [arrives[0, a] for a in (up, right, down, left)] == [0, 1, 2, 0]
    assert [arrives[1, a] for a in (up, right, down, left)] == [1, 1, 3, 0]
    assert mdp.r[0].tolist() == pytest.approx([-0.1] * 4)
    assert mdp.r[1].tolist() == pytest.approx([-0.1, -0.1, -1.1, -0.1])
    assert P[3:].sum() == 0.0

    slippery = gridworld(layout, 0.9, slip=0.2).P.toarray().reshape(5, 4, 5)
    assert slippery[0, right].tolist() == pytest.approx([0.1, 0.8, 0.1, 0.0, 0.0])
    assert slippery[0, up].tolist() == pytest.approx([0.9, 0.1, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_solved(name):
    solution = soft_policy_iteration(gridworld(LAYOUTS[name], 0.95), 0.01)
    assert np.isfinite(solution.V).all()
    assert solution.V.max() > 0.5


def test_a_large_sparse_gridworld():
    side = 100
    layout = ["S" + "." * (side - 1)] + ["." * side] * (side - 2) + ["." * (side - 1) + "G"]
    mdp = gridworld(layout, 0.99, slip=0.1, step_reward=-0.01)
    by_policies = soft_policy_iteration(mdp, 0.01, tol=1e-8)
    by_values = soft_value_iteration(mdp, 0.01, tol=1e-6)
    assert np.abs(by_policies.Q - by_values.Q).max() <= 1.01e-6 * size(by_policies.Q)


HALF = np.full((2, 2, 2), 0.5)
ZERO = np.zeros((2, 2))
GOOD = FiniteMDP(HALF, ZERO, 0.9)


def spoiled(table, where, value):
    copy = np.array(table, dtype=float)
    copy[where] = value
    return copy


def thin(table):
    return sparse.csr_array(np.asarray(table).reshape(4, 2))


NAN = math.nan

REFUSALS = {
    "row sum": (
        lambda: FiniteMDP(spoiled(HALF, (1, 0, 1), 0.4), ZERO, 0.9),
        r"P\[1, 0\] \(state 1, action 0\) sums to 0\.9; .* must sum to 1; divide",
    ),
    "sparse row sum": (
        lambda: FiniteMDP(thin(spoiled(HALF, (1, 0, 1), 0.4)), ZERO, 0.9),
        r"P\[1, 0\] \(state 1, action 0\) sums to 0\.9",
    ),
    "empty sparse row": (
        lambda: FiniteMDP(thin(spoiled(HALF, (0, 1), 0.0)), ZERO, 0.9),
        r"P\[0, 1\] \(state 0, action 1\) sums to 0;",
    ),
    "negative": (
        lambda: FiniteMDP(spoiled(HALF, (1, 0), [1.5, -0.5]), ZERO, 0.9),
        r"P\[1, 0, 1\] \(state 1, action 0, next state 1\) is -0\.5; probabilities must be >= 0; look",
    ),
    "sparse negative": (
        lambda: FiniteMDP(thin(spoiled(HALF, (1, 0), [1.5, -0.5])), ZERO, 0.9),
        r"P\[1, 0, 1\] \(state 1, action 0, next state 1\) is -0\.5; .* finite and >= 0; look",
    ),
    "nan in P": (
        lambda: FiniteMDP(spoiled(HALF, (1, 0, 0), NAN), ZERO, 0.9),
        r"P\[1, 0, 0\] \(state 1, action 0, next state 0\) is nan; .* finite number; look",
    ),
    "sparse nan": (lambda: FiniteMDP(thin(spoiled(HALF, (1, 0, 0), NAN)), ZERO, 0.9), r"P\[1, 0, 0\] .* is nan"),
    "nan reward": (
        lambda: FiniteMDP(HALF, spoiled(ZERO, (0, 1), NAN), 0.9),
        r"r\[0, 1\] \(state 0, action 1\) is nan; every entry must be a finite number; look",
    ),
    "infinite reward": (
        lambda: FiniteMDP(HALF, spoiled(ZERO, (1, 1), -math.inf), 0.9),
        r"r\[1, 1\] \(state 1, action 1\) is -inf",
    ),
    "gamma 1": (lambda: FiniteMDP(HALF, ZERO, 1.0), r"gamma is 1\.0; it must be in \[0, 1\), .*; use 0\.99"),
    "gamma nan": (lambda: FiniteMDP(HALF, ZERO, NAN), r"gamma is nan"),
    "gamma negative": (lambda: FiniteMDP(HALF, ZERO, -0.1), r"gamma is -0\.1"),
    "r shape": (
        lambda: FiniteMDP(HALF, np.zeros(2), 0.9),
        r"r has shape \(2,\); it must be \[states, actions\] .*; average",
    ),
    "P shape": (
        lambda: FiniteMDP(np.full((2, 3, 2), 0.5), ZERO, 0.9),
        r"P has shape \(2, 3, 2\); with r of shape \(2, 2\) it must be \(2, 2, 2\); order the axes",
    ),
    "sparse shape": (
        lambda: FiniteMDP(sparse.csr_array(np.full((6, 2), 0.5)), ZERO, 0.9),
        r"P is sparse with shape \(6, 2\); .* must be \(4, 2\); give state s",
    ),
    "terminal shape": (
        lambda: FiniteMDP(HALF, ZERO, 0.9, [True]),
        r"terminal is \[True\]; it must be one boolean for each of the 2 states; write a list of False, with True",
    ),
    "terminal dtype": (
        lambda: FiniteMDP(HALF, ZERO, 0.9, [0, 2]),
        r"terminal is \[0, 2\]; it must be one boolean for",
    ),
    "terminal reward": (
        lambda: FiniteMDP(HALF, spoiled(ZERO, (1, 0), 2.0), 0.9, [False, True]),
        r"r\[1, 0\] \(state 1, action 0\) is 2 in a terminal state; .*; put the reward on the transitions",
    ),
    "terminal leaves": (
        lambda: FiniteMDP(HALF, ZERO, 0.9, [False, True]),
        r"P\[1, 0\] \(state 1, action 0\) leaves a terminal state; .*; make the row all zero",
    ),
    "sparse terminal leaves": (
        lambda: FiniteMDP(thin(HALF), ZERO, 0.9, [False, True]),
        r"P\[1, 0\] \(state 1, action 0\) leaves a terminal state",
    ),
    "start": (
        lambda: FiniteMDP(HALF, ZERO, 0.9, start=[0.5, 0.4]),
        r"start sums to 0\.9 with smallest entry 0\.4; .* over the 2 states; divide",
    ),
    "start shape": (lambda: FiniteMDP(HALF, ZERO, 0.9, start=[1.0]), r"start has shape \(1, 1\)"),
    "negative alpha": (
        lambda: soft_policy_iteration(GOOD, -0.1),
        r"alpha is -0\.1; the temperature must be a finite number >= 0; alpha = 0 gives",
    ),
    "alpha nan": (lambda: soft_value(ZERO, NAN), r"alpha is nan"),
    "alpha too large": (
        lambda: soft_policy_iteration(GOOD, 1e308),
        r"alpha is 1e\+308, at which values may be beyond .* holds; expected \(max .* below 1\.8e308; lower",
    ),
    "alpha infinite": (lambda: soft_value_iteration(GOOD, math.inf), r"alpha is inf"),
    "tol": (
        lambda: soft_policy_evaluation(GOOD, np.full((2, 2), 0.5), 1.0, tol=1e-15),
        r"tol is 1e-15; it is relative .* \[3\.6e-14, 1\) at gamma 0\.9, because .* rounding .*; ask for 4e-14",
    ),
    "tol 1": (lambda: soft_value_iteration(GOOD, 1.0, tol=1.0), r"tol is 1;"),
    "tol nan": (lambda: soft_policy_iteration(GOOD, 1.0, tol=NAN), r"tol is nan;"),
    "policy shape": (
        lambda: soft_policy_evaluation(GOOD, np.ones((2, 1)), 1.0),
        r"pi has shape \(2, 1\); it must be \(2, 2\): .*; put states first",
    ),
    "policy sum": (
        lambda: soft_policy_evaluation_linear(GOOD, [[0.5, 0.5], [0.5, 0.6]], 1.0),
        r"pi\[1\] \(state 1\) sums to 1\.1; .* must sum to 1; divide",
    ),
    "policy negative": (
        lambda: soft_bellman_backup(GOOD, ZERO, [[0.5, 0.5], [1.5, -0.5]], 1.0),
        r"pi\[1, 1\] \(state 1, action 1\) is -0\.5; probabilities must be >= 0; .* a logit is not",
    ),
    "policy nan": (
        lambda: simulate(GOOD, [[0.5, 0.5], [NAN, 0.5]], 1, 1, np.random.default_rng(0)),
        r"pi\[1, 0\] \(state 1, action 0\) is nan",
    ),
    "zero where positive": (
        lambda: stationarity_residual(ZERO, [[0.5, 0.5], [1.0, 0.0]], 1.0),
        r"pi\[1, 1\] \(state 1, action 1\) is 0 where the target .* is positive; .*; give every action",
    ),
    "Q shape": (
        lambda: soft_bellman_backup(GOOD, np.zeros((2, 3)), np.full((2, 2), 0.5), 1.0),
        r"Q has shape \(2, 3\); the MDP has 2 states and 2 actions, so it must be \(2, 2\); put",
    ),
    "Q nan": (lambda: soft_policy_improvement([[0.0, NAN]], 1.0), r"Q\[0, 1\] \(state 0, action 1\) is nan"),
    "Q empty": (
        lambda: soft_value(np.zeros((2, 0)), 1.0),
        r"Q has shape \(2, 0\); its last axis must run over the actions; use",
    ),
    "Z at 0": (lambda: log_partition_function(ZERO, 0.0), r"alpha is 0; .* needs alpha > 0; use soft_value"),
    "candidates": (
        lambda: information_projection(ZERO, 1.0, np.full((3, 4), 0.25)),
        r"candidates has shape \(3, 4\); .* \[K, 2\] or \[K, 2, 2\] with K >= 1; stack",
    ),
    "candidate": (
        lambda: information_projection(ZERO, 1.0, [[0.5, 0.5], [0.5, 0.4]]),
        r"candidates\[1\]\[0\] \(state 0\) sums to 0\.9",
    ),
    "no steps": (
        lambda: simulate(GOOD, np.full((2, 2), 0.5), 0, 1, np.random.default_rng(0)),
        r"n_steps is 0; expected a whole number, at least 1; give 1, say",
    ),
    "start state": (
        lambda: simulate(GOOD, np.full((2, 2), 0.5), 1, 1, np.random.default_rng(0), start=2),
        r"start is 2; the states are 0 to 1; name one",
    ),
    "slip": (lambda: gridworld(["SG"], 0.9, slip=1.5), r"slip is 1\.5; .* must be in \[0, 1\]; use 0"),
    "no layout": (lambda: gridworld([], 0.9), r"the layout is empty; it must have a row with a cell; draw one"),
    "ragged layout": (
        lambda: gridworld(["SG", "S"], 0.9),
        r"row 1 of the layout has 1 cells and row 0 has 2; .*; fill them up",
    ),
    "letter": (
        lambda: gridworld(["SG", ".?"], 0.9),
        r"row 1, column 1 of the layout is '\?'; the letters are .*; use one",
    ),
    "walls": (lambda: grid_cells(["##"]), r"the layout has walls only; .*; draw one"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    call, text = REFUSALS[name]
    with pytest.raises(ConfigError, match=text):
        call()


@pytest.mark.parametrize("Q", [[[1000.0, 0.0]], [[-1000.0, -900.0]]])
def test_a_partition_function_that_float64_cannot_hold(Q):
    assert np.isfinite(log_partition_function(Q, 1.0)).all()
    with pytest.raises(
        NumericalError, match=r"Z\[0\] \(state 0\) is exp\(.*00\); float64 .*; use log_partition_function"
    ):
        partition_function(Q, 1.0)
