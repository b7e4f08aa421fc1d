"""Networks: observation to distribution or action, observation and action to values."""

from softac.nets.actors import (
    DeterministicActor,
    SoftmaxActor,
    SquashedGaussianActor,
    SquashedMixtureActor,
)
from softac.nets.critics import DiscreteCritic, EnsembleCritic, ValueNet
from softac.nets.layers import as_operations, mlp, orthogonal_mlp
from softac.nets.normalised import NormalisedActor, NormalisedCritic, RewardScale
from softac.nets.on_policy import StochasticActor
from softac.nets.reading import reader

__all__ = [
    "DeterministicActor",
    "DiscreteCritic",
    "EnsembleCritic",
    "NormalisedActor",
    "NormalisedCritic",
    "RewardScale",
    "SoftmaxActor",
    "SquashedGaussianActor",
    "SquashedMixtureActor",
    "StochasticActor",
    "ValueNet",
    "as_operations",
    "mlp",
    "orthogonal_mlp",
    "reader",
]
