"""The four-goal point: its steps by hand, and the four modes of its exact soft-optimal policy."""

import importlib
import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import softac.envs
from softac.envs.multigoal import GOALS, MultiGoalEnv, goal_of
from softac.errors import ConfigError
from softac.examine.environment import check_env as softac_check

ENV_ID = "softac/MultiGoal-v0"
# The symmetries of the square: swap the axes or not, then turn either round or not.
SYMMETRIES = [
    np.diag(signs) @ P for signs in itertools.product((1, -1), repeat=2) for P in np.eye(2)[[[0, 1], [1, 0]]]
]

# The grid of the exact solution: positions and actions in steps of H, so that every action ends on the grid.
H, GAMMA = 0.2, 0.99
SIDE = np.linspace(-7.0, 7.0, 71)
MOVES = np.arange(-5, 6)


def at(*position):
    """An environment in the middle of an episode, at this position."""
    env = MultiGoalEnv()
    env.reset(seed=0)
    env._position = np.array(position, np.float32)
    return env


def step(position, action):
    return at(*position).step(np.array(action, np.float32))


@pytest.mark.parametrize(
    ("position", "action", "arrived", "reward"),
    [
        # |a|² = 0.25 + 0.0625; the nearest goal is (5, 0), 3.5 and 0.25 away: 12.25 + 0.0625.
        ((1.0, 0.5), (0.5, -0.25), (1.5, 0.25), -3 * 0.3125 - 0.1 * 12.3125),
        # From the centre all goals are 5 away.
        ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), -2.5),
        # Clipped at the corner: 2 and 7 from (5, 0). The cost is that of the action, not of the way made.
        ((6.5, -6.5), (1.0, -1.0), (7.0, -7.0), -3 * 2 - 0.1 * 53),
        # 1 from the goal is not nearer than 1.
        ((-3.5, 0.0), (-0.5, 0.0), (-4.0, 0.0), -3 * 0.25 - 0.1),
    ],
)
def test_a_step_by_hand(position, action, arrived, reward):
    obs, r, terminated, truncated, info = step(position, action)
    assert obs.dtype == np.float32
    assert obs.tolist() == list(arrived)
    assert r == pytest.approx(reward, rel=1e-12)
    assert type(r) is float
    assert (terminated, truncated, info) == (False, False, {"goal": None})


@pytest.mark.parametrize("goal", range(4))
def test_arriving_at_a_goal_pays_one_and_terminates(goal):
    towards = GOALS[goal] / 5.0
    obs, reward, terminated, truncated, info = step(3.75 * towards, 0.5 * towards)
    assert obs.tolist() == (4.25 * towards).tolist()
    assert reward == pytest.approx(-3 * 0.25 - 0.1 * 0.5625 + 1.0, rel=1e-12)
    assert (terminated, truncated, info) == (True, False, {"goal": goal})


def test_goal_of_a_position():
    assert [goal_of(goal) for goal in GOALS] == [0, 1, 2, 3]
    assert goal_of([5.75, -0.5]) == 0  # 0.5625 + 0.25 < 1
    assert goal_of([5.75, -0.75]) is None  # 0.5625 + 0.5625 > 1
    assert goal_of([0.0, 4.0]) is None
    assert goal_of([0.0, 0.0]) is None


@pytest.mark.parametrize("M", SYMMETRIES, ids=lambda M: str(M.astype(int).tolist()))
def test_the_symmetries_of_the_square(M):
    rng = np.random.default_rng(0)
    arrivals = 0
    for s, a in zip(rng.uniform(-7, 7, (500, 2)), rng.uniform(-1, 1, (500, 2)), strict=True):
        obs, reward, terminated, _, info = step(s, a)
        turned, same_reward, same_end, _, there = step(M @ s, M @ a)
        np.testing.assert_array_equal(turned, (M @ obs).astype(np.float32))
        assert same_reward == pytest.approx(reward, rel=1e-12)
        assert same_end == terminated
        if terminated:
            arrivals += 1
            assert GOALS[there["goal"]].tolist() == (M @ GOALS[info["goal"]]).tolist()
    assert arrivals > 10
    assert len(SYMMETRIES) == len({M.tobytes() for M in SYMMETRIES}) == 8


def test_starts_near_the_centre_and_one_seed_repeats():
    env = MultiGoalEnv()
    starts = np.array([env.reset(seed=seed)[0] for seed in range(2000)])
    # Standard errors: 0.1 / sqrt(2000) = 0.0022 of a mean, 0.1 / sqrt(4000) = 0.0016 of a deviation.
    np.testing.assert_allclose(starts.mean(0), 0.0, atol=0.009)
    np.testing.assert_allclose(starts.std(0), 0.1, atol=0.007)
    assert abs(np.corrcoef(starts.T)[0, 1]) < 4 / 2000**0.5

    obs, info = env.reset(seed=3)
    assert obs.tolist() == starts[3].tolist() != starts[4].tolist()
    assert info == {"goal": None}
    following = env.reset()[0].tolist()
    env.reset(seed=3)
    assert env.reset()[0].tolist() == following != starts[3].tolist()


def test_what_it_returned_can_be_written_to():
    env = MultiGoalEnv()
    obs, _ = env.reset(seed=0)
    first = obs.copy()
    obs[:] = 5.0
    obs, *_ = env.step(np.array([0.5, 0.0], np.float32))
    assert obs.tolist() == (first + np.array([0.5, 0.0], np.float32)).tolist()
    after = obs.copy()
    obs[:] = 5.0
    assert env.step(np.zeros(2, np.float32))[0].tolist() == after.tolist()


@pytest.mark.parametrize(
    "action", [(1.01, 0.0), (0.0, -1.5), (np.nan, 0.0), (np.inf, 0.0), (0.5,), 0.5, (0, 0, 0)]
)
def test_an_action_that_is_none_is_refused(action):
    env = at(0.0, 0.0)
    with pytest.raises(
        ConfigError,
        match=r"^the action is .*; it must be two numbers from -1 to 1, the displacement along x and y; "
        r"clip it, or draw one from action_space$",
    ):
        env.step(np.array(action, np.float32))
    assert env.step(np.ones(2, np.float32))[0].tolist() == [1.0, 1.0]


def test_no_step_outside_an_episode():
    message = r"^step was called without an episode; an episode starts with reset\(\); call reset\(\)$"
    with pytest.raises(ResetNeeded, match=message):
        MultiGoalEnv().step(np.zeros(2, np.float32))
    env = at(3.75, 0.0)
    assert env.step(np.array([0.5, 0.0], np.float32))[2]
    with pytest.raises(ResetNeeded, match=message):
        env.step(np.zeros(2, np.float32))


def test_registered_with_thirty_steps():
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


def test_importing_twice_does_not_register_twice():
    spec = gym.spec(ENV_ID)
    importlib.reload(softac.envs)  # a warning would fail
    assert gym.spec(ENV_ID) is spec


def test_gymnasium_accepts_it():
    check_env(MultiGoalEnv(), skip_render_check=True)
    check_env(gym.make(ENV_ID).unwrapped)


def test_softac_check_has_nothing_to_say():
    assert [finding for finding in softac_check(ENV_ID, steps=200) if finding.level != "ok"] == []


# --------------------------------------------------------------------------- the exact soft-optimal policy


def grid_model():
    """Rewards `[71, 71, 11, 11]`, successors as flat indices, and `[71, 71]` whether a position is at a goal.

    Written out from the equations, without the environment, which is held against it below.
    """
    i = np.arange(71)
    next_i = np.clip(i[:, None] + MOVES, 0, 70)  # [71, 11], the same along x and y
    successors = next_i[:, None, :, None] * 71 + next_i[None, :, None, :]
    x, y = np.meshgrid(SIDE, SIDE, indexing="ij")
    distance = np.min([np.hypot(x - gx, y - gy) for gx, gy in ((5, 0), (-5, 0), (0, 5), (0, -5))], axis=0)
    at_goal = distance < 1.0 - 1e-9
    gain = -0.1 * distance**2 + 1.0 * at_goal
    effort = 3.0 * H**2 * (MOVES[:, None] ** 2 + MOVES**2)
    return gain.ravel()[successors] - effort, successors, at_goal


def soft_optimal(alpha):
    """V `[71, 71]` and the density over actions `[71, 71, 11, 11]`, by value iteration.

    V(s) = alpha log of the integral of exp(Q(s, a) / alpha) over the box, by the trapezoidal rule.
    """
    r, successors, at_goal = grid_model()
    line = np.full(11, H)
    line[[0, -1]] /= 2.0
    area = np.outer(line, line)
    V = np.zeros((71, 71))
    for _ in range(500):
        Q = r + GAMMA * np.where(at_goal, 0.0, V).ravel()[successors]
        top = Q.max((-2, -1))
        before, V = V, top + alpha * np.log((np.exp((Q - top[..., None, None]) / alpha) * area).sum((-2, -1)))
        if np.abs(V - before).max() < 1e-10:
            return V, np.exp((Q - V[..., None, None]) / alpha), area
    raise AssertionError("value iteration did not converge")


@pytest.fixture(scope="module")
def solution():
    return soft_optimal(0.3)


def test_the_model_of_the_grid_is_the_environment():
    r, successors, at_goal = grid_model()
    rng = np.random.default_rng(0)
    for i, j in rng.integers(0, 71, (1000, 2)):
        k, m = rng.integers(0, 11, 2)
        obs, reward, terminated, _, _ = step((SIDE[i], SIDE[j]), (H * MOVES[k], H * MOVES[m]))
        i2, j2 = divmod(int(successors[i, j, k, m]), 71)
        np.testing.assert_allclose(obs, [SIDE[i2], SIDE[j2]], atol=1e-6)
        # On the circle itself, float32 positions may be a rounding error inside.
        if abs(np.linalg.norm(GOALS - obs, axis=-1).min() - 1.0) > 1e-5:
            assert terminated == at_goal[i2, j2]
            assert reward == pytest.approx(r[i, j, k, m], abs=1e-5)


def test_the_density_at_the_centre_has_four_equal_maxima_towards_the_goals(solution):
    _, pi, area = solution
    centre = pi[35, 35]
    assert (centre * area).sum() == pytest.approx(1.0, abs=1e-9)
    framed = np.pad(centre, 1)
    around = [framed[1 + i : 12 + i, 1 + j : 12 + j] for i, j in itertools.product((-1, 0, 1), repeat=2) if i or j]
    modes = np.argwhere(centre > np.max(around, axis=0))
    # Index 5 is no move; 0.8 along an axis is 4 further. On a finer grid it is 0.9.
    assert sorted(map(tuple, modes)) == [(1, 5), (5, 1), (5, 9), (9, 5)]
    heights = centre[tuple(modes.T)]
    np.testing.assert_allclose(heights, heights[0], rtol=1e-9)
    # Every way from one mode to the next crosses a diagonal, or the centre, which lies on both.
    assert np.diagonal(centre).max() < 0.02 * heights[0]
    assert centre[5, 5] < 0.001 * heights[0]


def test_the_soft_value_at_the_centre(solution):
    # -13.89 with a grid of 0.05, -13.92 with 0.1.
    assert solution[0][35, 35] == pytest.approx(-13.89, abs=0.2)


def test_the_soft_optimal_policy_reaches_every_goal_equally_often(solution):
    _, pi, area = solution
    _, successors, at_goal = grid_model()
    chances = pi * area
    there = np.zeros((71, 71))
    there[35, 35] = 1.0
    arrived = np.zeros(4)
    on_the_way = []
    for _ in range(30):
        weights = there[..., None, None] * chances
        there = np.bincount(successors.ravel(), weights.ravel(), 71 * 71).reshape(71, 71)
        arrived += [there[at_goal & near].sum() for near in quarters()]
        there[at_goal] = 0.0
        on_the_way.append(there.sum())
    np.testing.assert_allclose(arrived, 0.25, atol=1e-4)
    assert on_the_way[-1] < 1e-6
    assert 7.0 < 1.0 + sum(on_the_way) < 8.0  # the mean number of steps


def quarters():
    """For each goal, which positions of the grid are nearest to it."""
    x, y = np.meshgrid(SIDE, SIDE, indexing="ij")
    return [x > np.abs(y), -x > np.abs(y), y > np.abs(x), -y > np.abs(x)]


def test_a_start_of_ones_own():
    env = MultiGoalEnv()
    obs, _ = env.reset(seed=0, options={"position": (1.5, -2.0)})
    assert obs.tolist() == [1.5, -2.0]
    for bad in ((8.0, 0.0), (0.0,), (0.0, float("nan"))):
        with pytest.raises(ConfigError, match=r"it must be two numbers from -7 to 7; give \(0, 0\)"):
            env.reset(options={"position": bad})
