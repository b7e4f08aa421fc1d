"""Finite Markov decision processes: the transition table, checked once and then trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from softac.errors import ConfigError
from softac.tabular.checks import (
    Array,
    as_numbers,
    as_whole,
    at,
    check_distribution,
    check_finite,
    check_gamma,
    check_generator,
    check_policy,
    check_row_sums,
    check_table,
    first_index,
)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class FiniteMDP:
    """A finite MDP with known transitions and expected rewards, in float64 and read-only.

    Args:
        P: transition probabilities: dense `[S, A, S]`, or a scipy.sparse matrix `[S * A, S]` whose
            row s * A + a belongs to state s and action a. Rows sum to one. The row of a terminal state
            may be all zero or a self-loop; it is stored as zero.
        r: expected rewards `[S, A]`, zero in terminal states.
        gamma: discount in [0, 1).
        terminal: booleans `[S]`: states where the episode is over. Their value is 0, *without* an
            entropy bonus, which is what a deep agent's target assumes when it drops the next value.
            An absorbing state that is not terminal goes on earning alpha log A at each step instead.
        start: distribution `[S]` of the first state, used by simulation only; uniform over the states
            that are not terminal unless given.

    Raises:
        ConfigError: naming the state and action, for rows that do not sum to one, numbers that are not
            finite, negative probabilities, shapes that do not fit, gamma outside [0, 1), a reward in a
            terminal state.
    """

    P: Array | sparse.csr_array
    r: Array
    gamma: float
    terminal: NDArray[np.bool_]
    start: Array

    def __init__(
        self,
        P: ArrayLike | sparse.sparray | sparse.spmatrix,
        r: ArrayLike,
        gamma: ArrayLike,
        terminal: ArrayLike | None = None,
        start: ArrayLike | None = None,
    ) -> None:
        rewards = as_numbers(r, "r").copy()
        if rewards.ndim != 2 or 0 in rewards.shape:
            raise ConfigError(
                f"r has shape {rewards.shape}",
                "it must be [states, actions] with at least one of each",
                "average a reward that depends on the next state over P first",
            )
        S, A = rewards.shape
        check_finite(rewards, "r")
        ends = _check_terminal(terminal, rewards)
        table = _check_sparse(P, S, A, ends) if sparse.issparse(P) else _check_dense(P, S, A, ends)
        first = _check_start(start, ends)
        entries = table.data if isinstance(table, sparse.csr_array) else table
        for array in (rewards, ends, first, entries):
            array.flags.writeable = False
        fields = {"P": table, "r": rewards, "gamma": check_gamma(gamma), "terminal": ends, "start": first}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def n_states(self) -> int:
        """Number of states S, terminal ones included."""
        return int(self.r.shape[0])

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return int(self.r.shape[1])

    def expected_next(self, V: ArrayLike) -> Array:
        """E[V(s') given s, a] as a table `[S, A]`, for values `V [S]`; 0 after a terminal state."""
        values = as_numbers(V, "V")
        if values.shape != (self.n_states,):
            raise ConfigError(
                f"V has shape {values.shape}",
                f"expected one value for each of the {self.n_states} states",
                "give a list of them",
            )
        rows = self.P if isinstance(self.P, sparse.csr_array) else self.P.reshape(-1, self.n_states)
        return np.asarray(rows @ values).reshape(self.r.shape)

    def under_policy(self, pi: ArrayLike) -> Array | sparse.csr_array:
        """The Markov chain `[S, S]` that a policy `pi [S, A]` makes of this MDP, sparse if P is."""
        pi = check_policy(pi, self.r.shape)
        if not isinstance(self.P, sparse.csr_array):
            return np.asarray(np.einsum("sa,sat->st", pi, self.P))
        S, A = self.r.shape
        average = sparse.csr_array(
            (pi.ravel(), np.arange(S * A, dtype=np.int32), np.arange(0, S * A + 1, A, dtype=np.int32)),
            shape=(S, S * A),
        )
        return sparse.csr_array(average @ self.P)

    def successors(self, state: int, action: int) -> tuple[NDArray[np.intp], Array]:
        """The next states with positive probability, and these probabilities."""
        for name, index, n in (("state", state, self.n_states), ("action", action, self.n_actions)):
            if not as_whole(index, name) < n:
                raise ConfigError(f"{name} is {index}", f"expected 0 to {n - 1}", "name one of them")
        state, action = int(state), int(action)
        if isinstance(self.P, sparse.csr_array):
            row = state * self.n_actions + action
            span = slice(self.P.indptr[row], self.P.indptr[row + 1])
            return self.P.indices[span].astype(np.intp), self.P.data[span]
        row_of_P = self.P[state, action]
        following = np.flatnonzero(row_of_P)
        return following, row_of_P[following]

    def __repr__(self) -> str:
        """Sizes, not tables."""
        kind = "sparse" if isinstance(self.P, sparse.csr_array) else "dense"
        return (
            f"FiniteMDP({self.n_states} states of which {int(self.terminal.sum())} terminal, "
            f"{self.n_actions} actions, gamma={self.gamma:g}, {kind})"
        )


def check_mdp(mdp: Any) -> None:
    """Raise ConfigError where something else than a `FiniteMDP` was given."""
    if not isinstance(mdp, FiniteMDP):
        raise ConfigError(
            f"mdp is {mdp!r:.100}",
            "expected a softac.tabular.FiniteMDP",
            "make one of P, r and gamma, or with softac.tabular.gridworld",
        )


def random_mdp(n_states: int, n_actions: int, gamma: float, generator: np.random.Generator) -> FiniteMDP:
    """A dense MDP with transition rows uniform on the simplex and standard normal rewards."""
    n_states, n_actions = as_whole(n_states, "n_states", 1), as_whole(n_actions, "n_actions", 1)
    generator = check_generator(generator)
    P = generator.exponential(size=(n_states, n_actions, n_states))
    P /= P.sum(-1, keepdims=True)
    return FiniteMDP(P, generator.standard_normal((n_states, n_actions)), gamma)


def _check_terminal(terminal: ArrayLike | None, r: Array) -> NDArray[np.bool_]:
    S = r.shape[0]
    given = np.zeros(S) if terminal is None else as_numbers(terminal, "terminal")
    ends: NDArray[np.bool_] = given == 1.0
    if ends.shape != (S,) or not (ends | (given == 0.0)).all():
        raise ConfigError(
            f"terminal is {terminal!r:.100}",
            f"it must be one boolean for each of the {S} states",
            "write a list of False, with True for each terminal state",
        )
    paid = (r != 0.0) & ends[:, None]
    if paid.any():
        where = first_index(paid)
        raise ConfigError(
            f"r{at(where)} is {r[where]:g} in a terminal state",
            "nothing is paid once the episode is over",
            "put the reward on the transitions that enter the state",
        )
    return ends


def _check_dense(P: Any, S: int, A: int, terminal: NDArray[np.bool_]) -> Array:
    table = as_numbers(P, "P").copy()
    if table.shape != (S, A, S):
        raise ConfigError(
            f"P has shape {table.shape}",
            f"with r of shape {(S, A)} it must be {(S, A, S)}",
            "order the axes state, action, next state",
        )
    check_finite(table, "P")
    for s in np.flatnonzero(terminal).tolist():
        targets = np.count_nonzero(table[s], axis=-1)
        _refuse_leaving(s, ~((targets == 0) | ((targets == 1) & (table[s, :, s] == 1.0))))
        table[s] = 0.0
    negative = table < 0.0
    if negative.any():
        check_distribution(table, "P")
    _check_rows(table.sum(-1), terminal, S)
    return table


def _check_sparse(P: Any, S: int, A: int, terminal: NDArray[np.bool_]) -> sparse.csr_array:
    if P.shape != (S * A, S):
        raise ConfigError(
            f"P is sparse with shape {P.shape}",
            f"with r of shape {(S, A)} it must be {(S * A, S)}",
            "give state s and action a the row s * A + a",
        )
    table: sparse.csr_array = sparse.csr_array(P, dtype=np.float64, copy=True)
    table.sum_duplicates()
    table.eliminate_zeros()
    rows = np.repeat(np.arange(S * A), np.diff(table.indptr))
    wrong = ~np.isfinite(table.data) | (table.data < 0.0)
    if wrong.any():
        entry = first_index(wrong)[0]
        where = (*divmod(int(rows[entry]), A), int(table.indices[entry]))
        raise ConfigError(
            f"P{at(where)} is {table.data[entry]:g}",
            "probabilities must be finite and >= 0",
            "look at what computed it",
        )
    over = terminal[rows // A]
    leaves = over & ((table.indices != rows // A) | (table.data != 1.0))
    if leaves.any():
        s, a = divmod(int(rows[first_index(leaves)[0]]), A)
        _refuse_leaving(s, np.arange(A) == a)
    if over.any():
        table.data[over] = 0.0
        table.eliminate_zeros()
    _check_rows(
        np.asarray(table.sum(1), dtype=np.float64).reshape(S, A), terminal, int(np.diff(table.indptr).max())
    )
    return table


def _refuse_leaving(state: int, leaves: NDArray[np.bool_]) -> None:
    if leaves.any():
        raise ConfigError(
            f"P{at((state, first_index(leaves)[0]))} leaves a terminal state",
            "the episode is over there",
            "make the row all zero, or do not mark the state as terminal",
        )


def _check_rows(sums: Array, terminal: NDArray[np.bool_], terms: int) -> None:
    check_row_sums(np.where(terminal[:, None], 1.0, sums), terms, "P")


def _check_start(start: ArrayLike | None, terminal: NDArray[np.bool_]) -> Array:
    S = terminal.shape[0]
    if start is None:
        goes_on = ~terminal if not terminal.all() else ~np.zeros(S, dtype=np.bool_)
        return np.asarray(goes_on / goes_on.sum())
    first = check_table(np.atleast_2d(as_numbers(start, "start")).T, (S, 1), "start")[:, 0].copy()
    if (first < 0.0).any() or abs(first.sum() - 1.0) > 1e-9:
        raise ConfigError(
            f"start sums to {first.sum():.12g} with smallest entry {first.min():g}",
            f"it must be a distribution over the {S} states",
            "divide it by its sum",
        )
    return np.asarray(first / first.sum())
