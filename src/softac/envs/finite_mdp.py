"""Finite MDPs and Gymnasium, both ways: worlds with known soft values behind the usual interface."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from scipy import sparse

from softac.errors import RAISED, ConfigError
from softac.tabular import FiniteMDP, Solution, soft_policy_iteration
from softac.words import clean, described

# Row and column steps of the actions of the toy-text environments that are grids.
FROZEN_LAKE_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
CLIFF_WALKING_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


class FiniteMDPEnv(gym.Env[np.int64, np.int64]):
    """A `FiniteMDP` as an environment: `Discrete(S)` observations, `Discrete(A)` actions.

    Args:
        mdp: first states come from `mdp.start`, terminal states end the episode.

    The reward is the expected r(s, a). Episodes of an MDP without terminal states never end: put a
    `gymnasium.wrappers.TimeLimit` around it. All randomness comes from `reset(seed=...)`.
    """

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self.observation_space = gym.spaces.Discrete(mdp.n_states)
        self.action_space = gym.spaces.Discrete(mdp.n_actions)
        self._state: int | None = None

    def solution(self, alpha: float) -> Solution:
        """The exact soft-optimal pi, Q and V at temperature `alpha`, which a learner can be held against."""
        return soft_policy_iteration(self.mdp, alpha)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Draw the first state from `mdp.start`."""
        super().reset(seed=seed, options=options)
        self._state = int(self.np_random.choice(self.mdp.n_states, p=self.mdp.start))
        return np.int64(self._state), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Take an action in [0, A); the episode is terminated on entering a terminal state.

        Raises:
            ResetNeeded: before the first `reset` and after the end of an episode.
            ConfigError: for an action that the MDP does not have.
        """
        if self._state is None:
            raise ResetNeeded("step was called without an episode; an episode starts with reset(); call reset()")
        if not self.action_space.contains(action):
            raise ConfigError(
                f"the action is {action!r}",
                f"it must be an integer from 0 to {self.mdp.n_actions - 1}",
                "draw one from action_space",
            )
        state, a = self._state, int(action)
        following, chances = self.mdp.successors(state, a)
        arrived = int(self.np_random.choice(following, p=chances)) if len(following) else state
        terminated = bool(self.mdp.terminal[arrived])
        self._state = None if terminated else arrived
        return np.int64(arrived), float(self.mdp.r[state, a]), terminated, False, {}


def from_toy_text(env_id: str, gamma: float, **env_kwargs: Any) -> FiniteMDP:
    """The MDP of a Gymnasium toy-text environment (FrozenLake-v1, CliffWalking-v1, Taxi-v4, ...).

    States and actions keep their numbers. A state that is entered only by transitions that end the episode
    becomes terminal. Where a state is entered both with and without ending the episode, one more state, the
    last, is added as the end, because termination belongs to the transition there (Taxi).

    Args:
        env_id: a Gymnasium id.
        gamma: discount in [0, 1).
        **env_kwargs: for `gymnasium.make`.

    Raises:
        ConfigError: for an id that Gymnasium does not know, or an environment without a transition table.
    """
    env = _toy_text(env_id, **env_kwargs)
    S, A = int(env.observation_space.n), int(env.action_space.n)
    transitions = [
        (s, a, float(chance), int(s2), float(reward), bool(ends))
        for s in range(S)
        for a in range(A)
        for chance, s2, reward, ends in env.P[s][a]
    ]
    ended_in = {s2 for _, _, _, s2, _, ends in transitions if ends}
    passed_through = {s2 for s, _, _, s2, _, ends in transitions if not ends and s not in ended_in}
    terminal = np.zeros(S + 1, dtype=np.bool_)
    terminal[list(ended_in - passed_through)] = True
    terminal[S] = True
    if not ended_in & passed_through:
        terminal = terminal[:S]

    rows, columns, chances = [], [], []
    r = np.zeros((len(terminal), A))
    for s, a, chance, s2, reward, ends in transitions:
        if not terminal[s]:
            rows.append(s * A + a)
            columns.append(S if ends and not terminal[s2] else s2)
            chances.append(chance)
            r[s, a] += chance * reward
    P = sparse.csr_array((chances, (rows, columns)), shape=(len(terminal) * A, len(terminal)))
    start = np.zeros(len(terminal))
    start[:S] = env.initial_state_distrib
    return FiniteMDP(P, r, gamma, terminal, start)


def toy_text_grid(env_id: str, **env_kwargs: Any) -> tuple[NDArray[np.intp], tuple[tuple[int, int], ...]] | None:
    """Cells `[S, 2]` and the step of each action, if the environment is a grid that is walked; else None.

    Raises:
        ConfigError: as `from_toy_text`.
    """
    env = _toy_text(env_id, **env_kwargs)
    if env_id.startswith("FrozenLake"):
        return np.argwhere(np.ones((env.nrow, env.ncol))), FROZEN_LAKE_MOVES
    if env_id.startswith("CliffWalking"):
        return np.argwhere(np.ones(env.shape)), CLIFF_WALKING_MOVES
    return None


def _toy_text(env_id: str, **env_kwargs: Any) -> Any:
    try:
        env = gym.make(env_id, **env_kwargs).unwrapped
    except RAISED as error:  # a module that it names may raise anything
        raise ConfigError(
            f"Gymnasium cannot make {env_id!r} ({clean(error) or described(error)})",
            "a toy-text id was expected",
            "try FrozenLake-v1, CliffWalking-v1 or Taxi-v4",
        ) from error
    if not (hasattr(env, "P") and hasattr(env, "initial_state_distrib")):
        raise ConfigError(
            f"{env_id!r} has no transition table P",
            "a toy-text environment with one was expected",
            "try FrozenLake-v1, CliffWalking-v1 or Taxi-v4",
        )
    return env
