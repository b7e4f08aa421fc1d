"""What an agent is at this moment: its named tensors, and how they are copied out and in."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from softac.errors import CheckpointError
from softac.learning.learner import Learner, tensors_of


class HasTensors(Protocol):
    """Offers its named live tensors, as an agent does."""

    def tensors(self) -> dict[str, Tensor]:
        """See `softac.types.Agent`."""
        ...


def live_tensors(**parts: Learner | nn.Module | Tensor | None) -> dict[str, Tensor]:
    """The tensors that an agent's parts consist of, by key, to be read and written in place.

    A module (a target network) gives its parameters and what it keeps of them in checkpoints (running
    statistics), a learner its Adam state, too, a tensor itself; None gives nothing.
    """
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        match part:
            case Learner():
                tensors |= part.tensors(name)
            case nn.Module():
                tensors |= tensors_of(part, name)
            case Tensor():
                tensors[name] = part
            case None:
                pass
    return tensors


def state_of(agent: HasTensors) -> dict[str, Tensor]:
    """Copies of everything the agent's next action and update depend on, by name, as a file holds them."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in agent.tensors().items()
    }


def load_state_(agent: HasTensors, state: Mapping[str, Tensor]) -> None:
    """Copy `state`, from whatever device, into the agent's tensors.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape or dtype differs; nothing has been changed.
    """
    live = agent.tensors()
    if live.keys() != state.keys():
        odd = sorted(live.keys() ^ state.keys())
        raise CheckpointError(
            f"the saved agent and this configuration differ in {len(odd)} tensors, first {odd[0]!r}",
            "expected the same names",
            "load it with the configuration it was saved with",
        )
    for name, tensor in live.items():
        given = state[name]
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            raise CheckpointError(
                f"{name} was saved as {given.dtype} {tuple(given.shape)}",
                f"expected {tensor.dtype} {tuple(tensor.shape)}",
                "load it with the configuration it was saved with",
            )
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(state[name])
