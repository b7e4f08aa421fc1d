"""Finite MDPs as Gymnasium environments and back: same numbers on both sides."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from softac.envs.finite_mdp import FiniteMDPEnv, from_toy_text, toy_text_grid
from softac.errors import ConfigError
from softac.tabular import LAYOUTS, FiniteMDP, gridworld, random_mdp, soft_policy_iteration

BRIDGE = gridworld(LAYOUTS["bridge"], 0.9, slip=0.2)


def rollout(env, seed, steps=200):
    trace, rng = [], np.random.default_rng(seed)
    s, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = rng.integers(env.action_space.n)
        s2, reward, terminated, _, _ = env.step(action)
        trace.append((int(s), int(action), int(s2), reward, terminated))
        s = env.reset()[0] if terminated else s2
    return trace


@pytest.mark.parametrize("mdp", [BRIDGE, random_mdp(5, 3, 0.9, np.random.default_rng(0))])
def test_gymnasium_accepts_it(mdp):
    check_env(FiniteMDPEnv(mdp), skip_render_check=True)


def test_one_seed_repeats_and_two_differ():
    assert rollout(FiniteMDPEnv(BRIDGE), 3) == rollout(FiniteMDPEnv(BRIDGE), 3)
    assert rollout(FiniteMDPEnv(BRIDGE), 3) != rollout(FiniteMDPEnv(BRIDGE), 4)


def test_steps_follow_the_tables():
    trace = rollout(FiniteMDPEnv(BRIDGE), 0, steps=5000)
    counts = np.zeros((*BRIDGE.r.shape, BRIDGE.n_states))
    for s, a, s2, reward, terminated in trace:
        counts[s, a, s2] += 1
        assert reward == BRIDGE.r[s, a]
        assert terminated == BRIDGE.terminal[s2]
    P = BRIDGE.P.toarray().reshape(counts.shape)
    n = counts.sum(-1, keepdims=True)
    assert not counts[P == 0.0].any()
    assert (np.abs(counts - n * P) <= 4.5 * np.sqrt(n * P * (1 - P)) + 1e-9).all()


def test_the_exact_solution_predicts_soft_returns():
    env, alpha, gamma = FiniteMDPEnv(BRIDGE), 0.05, BRIDGE.gamma
    solution = env.solution(alpha)
    rng, returns = np.random.default_rng(0), []
    for episode in range(1000):
        s, _ = env.reset(seed=0 if episode == 0 else None)
        total, discount, terminated = 0.0, 1.0, False
        while not terminated and discount > 1e-4:
            a = rng.choice(4, p=solution.pi[s])
            s2, reward, terminated, _, _ = env.step(a)
            total += discount * (reward - alpha * np.log(solution.pi[s, a]))
            discount, s = discount * gamma, s2
        returns.append(total)
    error = np.std(returns) / len(returns) ** 0.5
    assert abs(np.mean(returns) - BRIDGE.start @ solution.V) < 4.0 * error


def test_starting_in_a_terminal_state_ends_at_once():
    env = FiniteMDPEnv(FiniteMDP(np.zeros((1, 2, 1)), np.zeros((1, 2)), 0.9, terminal=[True]))
    assert env.reset(seed=0)[0] == 0
    assert env.step(np.int64(1)) == (0, 0.0, True, False, {})


def hard_values_of_toy_text(env, gamma):
    """Value iteration on Gymnasium's own table, ending where the table says so."""
    V = np.zeros(env.observation_space.n)
    for _ in range(600):
        V = np.array(
            [
                max(sum(p * (r + gamma * V[t] * (not end)) for p, t, r, end in row) for row in env.P[s].values())
                for s in range(len(V))
            ]
        )
    return V


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4"])
def test_toy_text_has_the_values_of_its_own_table(env_id):
    gamma = 0.9
    env, mdp = gym.make(env_id).unwrapped, from_toy_text(env_id, gamma)
    V = hard_values_of_toy_text(env, gamma)
    goes_on = ~mdp.terminal[: len(V)]
    np.testing.assert_allclose(
        soft_policy_iteration(mdp, 0.0).V[: len(V)][goes_on], V[goes_on], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(mdp.start[: len(V)], env.initial_state_distrib)


def test_toy_text_ends():
    lake = from_toy_text("FrozenLake-v1", 0.9)
    assert np.flatnonzero(lake.terminal).tolist() == [5, 7, 11, 12, 15]
    assert np.flatnonzero(from_toy_text("CliffWalking-v1", 0.9).terminal).tolist() == [47]
    taxi = from_toy_text("Taxi-v4", 0.9)
    assert taxi.n_states == 501
    assert np.flatnonzero(taxi.terminal).tolist() == [500]
    assert from_toy_text("FrozenLake-v1", 0.9, is_slippery=False).r.max() == 1.0


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1"])
def test_toy_text_grids_move_as_drawn(env_id):
    cells, moves = toy_text_grid(env_id)
    env = gym.make(env_id, is_slippery=False).unwrapped
    shape = cells.max(0) + 1
    for a, move in enumerate(moves):
        ((_, s2, reward, _),) = env.P[0][a]
        if reward > -100:
            assert cells[s2].tolist() == np.clip(cells[0] + move, 0, shape - 1).tolist()
    assert toy_text_grid("Taxi-v4") is None


def test_refusals():
    env = FiniteMDPEnv(BRIDGE)
    with pytest.raises(ResetNeeded, match=r"step was called without an episode; .*; call reset"):
        env.step(np.int64(0))
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"the action is 4; it must be an integer from 0 to 3; draw one"):
        env.step(4)
    with pytest.raises(
        ConfigError, match=r"cannot make 'FrozenLaek-v1' .*; a toy-text id was expected; try FrozenLake"
    ):
        from_toy_text("FrozenLaek-v1", 0.9)
    with pytest.raises(ConfigError, match=r"'Blackjack-v1' has no transition table P; .*; try FrozenLake"):
        from_toy_text("Blackjack-v1", 0.9)
    with pytest.raises(ConfigError, match=r"gamma is 1\.0"):
        from_toy_text("FrozenLake-v1", 1.0)
