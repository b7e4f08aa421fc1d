"""Finite MDPs with exact soft values: the theory as running code, and the oracle for deep agents.

numpy float64 throughout; entropy in nats. Shapes: P `[S, A, S]`, r, Q and pi `[S, A]`, V `[S]`.
"""

from softac.tabular.gridworld import LAYOUTS, MOVES, grid_cells, gridworld
from softac.tabular.mdp import FiniteMDP, random_mdp
from softac.tabular.operators import (
    information_projection,
    log_partition_function,
    partition_function,
    policy_kl,
    policy_value,
    soft_bellman_backup,
    soft_optimality_backup,
    soft_policy_improvement,
    soft_value,
    stationarity_residual,
)
from softac.tabular.simulate import Episodes, simulate, soft_returns
from softac.tabular.solve import (
    Evaluation,
    Solution,
    soft_policy_evaluation,
    soft_policy_evaluation_linear,
    soft_policy_iteration,
    soft_value_iteration,
)

__all__ = [
    "LAYOUTS",
    "MOVES",
    "Episodes",
    "Evaluation",
    "FiniteMDP",
    "Solution",
    "grid_cells",
    "gridworld",
    "information_projection",
    "log_partition_function",
    "partition_function",
    "policy_kl",
    "policy_value",
    "random_mdp",
    "simulate",
    "soft_bellman_backup",
    "soft_optimality_backup",
    "soft_policy_evaluation",
    "soft_policy_evaluation_linear",
    "soft_policy_improvement",
    "soft_policy_iteration",
    "soft_returns",
    "soft_value",
    "soft_value_iteration",
    "stationarity_residual",
]
