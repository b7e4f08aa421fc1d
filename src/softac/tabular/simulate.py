"""Drawing episodes from a finite MDP, many at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from softac.errors import ConfigError
from softac.tabular.checks import Array, as_whole, check_alpha, check_generator, check_policy
from softac.tabular.mdp import FiniteMDP, check_mdp


@dataclass(frozen=True, eq=False)
class Episodes:
    """N episodes of T steps, side by side.

    Attributes:
        states: `[N, T + 1]`; a terminal state repeats once it is reached.
        actions: `[N, T]`.
        rewards: `[N, T]`, the expected rewards r(s, a).
        alive: `[N, T]`, whether the episode was still going when the action was taken.
    """

    states: NDArray[np.intp]
    actions: NDArray[np.intp]
    rewards: Array
    alive: NDArray[np.bool_]


def simulate(
    mdp: FiniteMDP,
    pi: ArrayLike,
    n_steps: int,
    n_episodes: int,
    generator: np.random.Generator,
    start: int | None = None,
) -> Episodes:
    """Follow `pi [S, A]` for `n_steps` in `n_episodes` independent copies of the MDP.

    The first states are drawn from `mdp.start`, or are all `start`. Time and memory grow with the number of
    transitions of the MDP once, and with `n_steps * n_episodes`.
    """
    check_mdp(mdp)
    pi, generator = check_policy(pi, mdp.r.shape), check_generator(generator)
    shape = (as_whole(n_episodes, "n_episodes", 1), as_whole(n_steps, "n_steps", 1))
    if start is not None and not as_whole(start, "start") < mdp.n_states:
        raise ConfigError(
            f"start is {start}",
            f"the states are 0 to {mdp.n_states - 1}",
            "name one of them",
        )
    draw_action = _RowSampler(pi)
    draw_next = _RowSampler(mdp.P if isinstance(mdp.P, sparse.csr_array) else mdp.P.reshape(-1, mdp.n_states))
    states = np.empty((shape[0], shape[1] + 1), dtype=np.intp)
    actions = np.empty(shape, dtype=np.intp)
    if start is None:
        states[:, 0] = generator.choice(mdp.n_states, size=shape[0], p=mdp.start)
    else:
        states[:, 0] = start
    for t in range(shape[1]):
        s = states[:, t]
        a = draw_action(s, generator)
        going = ~mdp.terminal[s]
        following = s.copy()
        following[going] = draw_next(s[going] * mdp.n_actions + a[going], generator)
        actions[:, t], states[:, t + 1] = a, following
    before = states[:, :-1]
    return Episodes(states, actions, mdp.r[before, actions], ~mdp.terminal[before])


def soft_returns(mdp: FiniteMDP, episodes: Episodes, pi: ArrayLike, alpha: ArrayLike) -> Array:
    """sum_t gamma^t (r_t - alpha log pi(a_t given s_t)) of each episode, `[N]`.

    A one-sample estimate of V^pi at the first state, cut off after T steps: the rest is at most gamma^T of
    the largest |V|. Steps after a terminal state add nothing.
    """
    check_mdp(mdp)
    pi, alpha = check_policy(pi, mdp.r.shape), check_alpha(alpha)
    if not isinstance(episodes, Episodes):
        raise ConfigError(
            f"episodes is {episodes!r:.100}",
            "expected what softac.tabular.simulate returns",
            "call it first",
        )
    taken = np.where(episodes.alive, pi[episodes.states[:, :-1], episodes.actions], 1.0)
    with np.errstate(divide="ignore"):  # what pi never does surprises without bound
        bonus = -alpha * np.log(taken) if alpha > 0.0 else 0.0
    steps = np.where(episodes.alive, episodes.rewards + bonus, 0.0)
    return np.asarray(steps @ mdp.gamma ** np.arange(steps.shape[1]))


class _RowSampler:
    """Draws a column of a stochastic matrix for each given row, by inverting the running sum of all rows."""

    def __init__(self, rows: Array | sparse.csr_array) -> None:
        table = sparse.csr_array(rows, copy=True)
        table.eliminate_zeros()
        self.indices, self.indptr = table.indices, table.indptr
        self.running = np.concatenate(([0.0], np.cumsum(table.data)))

    def __call__(self, row: NDArray[np.intp], generator: np.random.Generator) -> NDArray[np.intp]:
        first, last = self.indptr[row], self.indptr[row + 1]
        low, high = self.running[first], self.running[last]
        drawn = np.searchsorted(self.running, low + generator.random(len(row)) * (high - low), side="right") - 1
        return np.asarray(self.indices[np.clip(drawn, first, last - 1)], dtype=np.intp)
