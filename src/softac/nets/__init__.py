"""Networks: observation to distribution, observation and action to an ensemble of values."""

from softac.nets.actors import SquashedGaussianActor
from softac.nets.critics import EnsembleCritic
from softac.nets.layers import mlp

__all__ = ["EnsembleCritic", "SquashedGaussianActor", "mlp"]
