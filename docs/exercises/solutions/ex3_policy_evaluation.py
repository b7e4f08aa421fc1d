"""Exercise 3. Policy evaluation: one application of the soft Bellman operator.

(T Q)(s, a) = r(s, a) + gamma E_{s' ~ p}[V(s')],   V(s) = E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)]
"""

import torch
from torch import Tensor


def soft_bellman_backup(
    P: Tensor, r: Tensor, gamma: float, Q: Tensor, pi: Tensor, alpha: float, terminal: Tensor
) -> Tensor:
    """The new Q, [S, A].

    Args:
        P: [S, A, S], P[s, a, s2] is the probability of s2 after a in s. Terminal states lead to themselves.
        r: [S, A], 0 in terminal states.
        gamma: the discount.
        Q: [S, A], the old values.
        pi: [S, A], the policy; all entries are positive.
        alpha: the temperature.
        terminal: [S], booleans. What are V and the entropy worth once the episode is over?
    """
    V = (pi * (Q - alpha * pi.log())).sum(-1)
    V = torch.where(terminal, 0.0, V)
    return r + gamma * (P @ V)
