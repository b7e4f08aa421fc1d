"""The temperature of a soft policy: fixed, or learned as the dual variable of an entropy constraint."""

from typing import Literal

import torch
from torch import Tensor, nn

from softac.config import initial_temperature
from softac.equations.losses import log_temperature_loss, temperature_loss
from softac.learning.learner import Learner


class Temperature:
    """alpha, the weight of the entropy.

    Args:
        ent_coef: a number stays what it is; "auto" is learned from 1, "auto_0.1" from 0.1.
        target_entropy: of the policy, in nats; of no effect on a fixed temperature.
        learning_rate: Adam's step size, or a schedule of it.
        device: where log alpha lives.
        multiplier: what the dual loss multiplies, alpha or its logarithm.

    Attributes:
        learner: of log alpha; None where alpha is fixed.

    Source: arXiv:1812.05905, section 5.
    """

    def __init__(
        self,
        ent_coef: float | str,
        target_entropy: float,
        learning_rate: float | str,
        device: torch.device,
        multiplier: Literal["alpha", "log_alpha"] = "alpha",
    ) -> None:
        self.ent_coef, self.target_entropy, self.device = ent_coef, target_entropy, device
        self.multiplier = multiplier
        self.learner: Learner | None = None
        if isinstance(ent_coef, str):
            log_alpha = torch.tensor(initial_temperature(ent_coef)).log()
            module = nn.ParameterDict({"log_alpha": nn.Parameter(log_alpha)}).to(device)
            self.learner = Learner(module, learning_rate)

    def alpha(self) -> Tensor:
        """The temperature now, a scalar tensor without gradient."""
        if self.learner is None:
            return torch.full((), float(self.ent_coef), device=self.device)
        return self.learner.parameters[0].detach().exp()

    def descend(self, log_pi: Tensor) -> Tensor:
        """One gradient step on J(alpha) where alpha is learned; returns J, 0 where it is fixed.

        Args:
            log_pi: log-probabilities `[B]` of the policy's own actions, or their means; no gradient goes there.
        """
        if self.learner is None:
            return torch.zeros((), device=self.device)
        j_alpha = temperature_loss if self.multiplier == "alpha" else log_temperature_loss
        loss = j_alpha(self.learner.parameters[0], log_pi.detach(), self.target_entropy)
        self.learner.descend(loss)
        return loss.detach()
