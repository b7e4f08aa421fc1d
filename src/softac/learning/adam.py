"""Adam's step in operations, for executors that the fused kernel does not serve.

A compiler cannot look into that kernel; operations it joins with their neighbours into one pass. And the kernel
counts the steps of one agent, not of several.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from softac.learning import private
from softac.learning.learner import BETA_2, EPSILON, Learner


def adam_(
    rate: Tensor | float,
    beta_1: float,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
) -> None:
    """One step, in place, of one agent or of S at once.

    Args:
        rate: the step size, a scalar.
        beta_1: what is left of the mean gradient.
        parameters: each of any shape, or `[S, ...]`.
        gradients: as the parameters.
        exp_avgs: as the parameters.
        exp_avg_sqs: as the parameters.
        steps: for each parameter how many were made, a scalar or `[S]`.

    Source: arXiv:1412.6980, algorithm 1, with the bias corrections in the step size (section 2).
    """
    private.add_to_each_(steps, 1.0)
    step = steps[0].double()
    # As exponentials, which the compiler computes once a step; it would repeat a power for each vector.
    bias_1 = 1.0 - torch.exp(step * math.log(beta_1))
    bias_2 = (1.0 - torch.exp(step * math.log(BETA_2))).sqrt()
    dtype = parameters[0].dtype
    size, floor = (rate * bias_2 / bias_1).to(dtype), (EPSILON * bias_2).to(dtype)
    for p, g, m, v in zip(parameters, gradients, exp_avgs, exp_avg_sqs, strict=True):
        m.lerp_(g, 1.0 - beta_1)
        v.mul_(BETA_2).addcmul_(g, g, value=1.0 - BETA_2)
        each = (*step.shape, *(1 for _ in range(p.dim() - step.dim())))
        p.sub_(size.view(each) * m / (v.sqrt() + floor.view(each)))


class InOperations:
    """What a learner is handed to step by in a graph. The step size is a tensor: it may change, the graph stays.

    Args:
        learner: whose step size it is.
    """

    def __init__(self, learner: Learner) -> None:
        self.learning_rate = learner.learning_rate
        device = learner.parameters[0].device
        self.rate = torch.tensor(self.learning_rate, dtype=torch.float64, device=device)

    def __call__(self, learner: Learner, gradients: Sequence[Tensor]) -> None:
        """Take one step."""
        moments = (learner.exp_avgs, learner.exp_avg_sqs)
        adam_(self.rate, learner.beta_1, learner.parameters, gradients, *moments, learner.steps)

    def follow(self, learner: Learner) -> None:
        """Take over a step size that was changed."""
        if learner.learning_rate != self.learning_rate:
            self.learning_rate = learner.learning_rate
            self.rate.fill_(self.learning_rate)
