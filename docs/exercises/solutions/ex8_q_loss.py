"""Exercise 8. The loss of the Q function.

J = E[1/2 (Q(s, a) - y)^2],   y = r + gamma E_{s'}[V(s')], over transitions from a replay buffer
"""

from torch import Tensor


def q_loss(
    q: Tensor,
    reward: Tensor,
    states: Tensor,  # noqa: ARG001 - the target does not need it
    next_states: Tensor,
    terminated: Tensor,
    v: Tensor,
    gamma: float,
) -> Tensor:
    """The loss, a scalar. Only q learns from it.

    Args:
        q: [B], the predictions Q(s, a).
        reward: [B].
        states: [B], integers: the number of the state in which a was taken.
        next_states: [B], integers: the number of the state that followed.
        terminated: [B], booleans: the episode ended at the next state.
        v: [S], the target network's value of every state.
        gamma: the discount.
    """
    target = reward + gamma * v[next_states] * (~terminated)
    return 0.5 * (q - target.detach()).square().mean()
