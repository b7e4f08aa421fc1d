"""Exercise 4. Seven questions about the improvement step.

    pi_new(.|s) = argmin over pi' in Pi of KL(pi'(.|s) || exp(Q(s, .) / alpha) / Z(s))

Each question has an answer in words (solutions/answers.md) and one in numbers, which is asked for here.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def question_1_divergence(pi: Tensor, Q: Tensor, alpha: float) -> Tensor:
    """1. What does the equation do? Compute what it minimises: the divergence in each state, [S].

    Args:
        pi: [S, A], a policy without zeros.
        Q: [S, A].
        alpha: the temperature.
    """
    log_target = (Q / alpha).log_softmax(-1)
    return (pi * (pi.log() - log_target)).sum(-1)


def question_2_project(candidates: Tensor, Q: Tensor, alpha: float) -> Tensor:
    """2. What does "pi' in Pi" mean? Let Pi allow one of K distributions in each state, and improve within it.

    Args:
        candidates: [K, A], without zeros.
        Q: [S, A].
        alpha: the temperature.

    Returns:
        [S], integers: the number of the candidate chosen in each state.
    """
    divergences = torch.stack([question_1_divergence(c.expand_as(Q), Q, alpha) for c in candidates])
    return divergences.argmin(0)


def question_3_log_partition(Q: Tensor, alpha: float) -> Tensor:
    """3. What is Z, and why is it needed? Compute log Z(s), [S], for Q [S, A] that may be as large as 1000."""
    return torch.logsumexp(Q / alpha, -1)


def question_4_q_of_state(Q: Tensor, s: int) -> Callable[[int], Tensor]:
    """4. What kind of thing is Q(s, .)? Return it, for the table Q [S, A] and one state."""
    return lambda a: Q[s, a]


def question_5_fill_the_dot(q: Callable[[int], Tensor], pi: Tensor, a: int) -> tuple[Tensor, Tensor, Tensor]:
    """5. What does the dot in Q(s, .) stand for? Fill it in three ways.

    Args:
        q: Q(s, .), to be called with an action 0, ..., A - 1.
        pi: [A], the policy in the same state.
        a: one action.

    Returns:
        Q of the action a, the expected Q under pi, and the largest Q.
    """
    values = torch.stack([q(b) for b in range(len(pi))])
    return values[a], (pi * values).sum(), values.max()


def question_6_gap(pi: Tensor, Q: Tensor, alpha: float) -> Tensor:
    """6. Why is exp(Q_old / alpha) / Z the target of the new policy?

    Judge a policy in each state by E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)]. Compute how far it stays behind the
    best of all policies, [S], for pi [S, A] without zeros and Q [S, A]. Then compare with question 1.
    """
    best = alpha * torch.logsumexp(Q / alpha, -1)
    own = (pi * (Q - alpha * pi.log())).sum(-1)
    return best - own


def question_7_weights(Q: Tensor, alpha: float) -> Tensor:
    """7. Why the exponential? Return weights [S, A], not necessarily summing to 1, for Q [S, A].

    Divided by their sum they must be the policy that maximises E_{a ~ pi}[Q(s, a) - alpha log pi(a|s)].
    Is it enough that they are positive?
    """
    return (Q / alpha).exp()
