"""What the plain implementations of updates have in common, to compare the agents of the family with.

A plain implementation shares nothing with the library but the names and initial values of the tensors: its layers
are products of matrices, one member of an ensemble after the other, its densities are those of
`torch.distributions`, its gradients come from `backward()` and its steps from `torch.optim.Adam`.
"""

import pytest
import torch
from torch import Tensor

from softac.agents.registry import find_agent
from softac.config import make_config
from softac.learning.state import state_of
from softac.types import EnvSpec

CONTINUOUS = EnvSpec(obs_dim=3, action_dim=2)
DISCRETE = EnvSpec(obs_dim=3, action_dim=1, n_actions=4)


def make_agent(name: str, spec: EnvSpec, seed: int = 0, **config):
    agent_class = find_agent(name)
    generator = torch.Generator().manual_seed(seed)
    made = make_config(agent_class.Config, config)
    return agent_class(spec, made, generator=generator, device=torch.device("cpu"))


class Plain:
    """The tensors of an agent by their names, and one optimizer for each of its learners.

    Args:
        agent: its tensors are copied; nothing else of it is used.
        learners: the names of those parts that descend.
    """

    def __init__(self, agent, *learners: str) -> None:
        self.config = c = agent.config
        self.tensors = {k: v for k, v in state_of(agent).items() if not k.startswith("optim.")}
        own = {
            "actor": getattr(c, "actor_learning_rate", None),
            "critic": getattr(c, "critic_learning_rate", None),
            "value": getattr(c, "critic_learning_rate", None),
            "temperature": getattr(c, "ent_coef_learning_rate", None),
        }
        self.optimizers = {}
        for name in learners:
            parameters = [p.requires_grad_() for p in self.learned(name).values()]
            beta_1 = 0.9 if name == "temperature" else getattr(c, "adam_beta_1", 0.9)
            self.optimizers[name] = torch.optim.Adam(
                parameters, lr=own[name] or c.learning_rate, betas=(beta_1, 0.999), foreach=False
            )

    def of(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part."""
        return {k: v for k, v in self.tensors.items() if k.startswith(name + ".")}

    def learned(self, name: str) -> dict[str, Tensor]:
        """Its parameters, without running statistics."""
        return {k: v for k, v in self.of(name).items() if ".running_" not in k}

    def net(self, name: str, x: Tensor, member: int | None = None, activation=torch.relu) -> Tensor:
        """The outputs `[B, out]` of one network, or of one member of an ensemble."""
        layers = sorted({int(k.split(".")[2]) for k in self.of(name) if ".net." in k})
        for i in layers:
            weight, bias = self.tensors[f"{name}.net.{i}.weight"], self.tensors[f"{name}.net.{i}.bias"]
            if member is not None:
                weight, bias = weight[member], bias[member, 0]
            x = x @ weight + bias
            if i != layers[-1]:
                x = activation(x)
        return x

    def descend(self, name: str, loss: Tensor, max_grad_norm: float | None = None) -> None:
        """One step of one learner; gradients that the loss leaves with others are thrown away by their next."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        if max_grad_norm is not None:
            gradients = [p.grad for p in self.of(name).values()]
            norm = sum(g.square().sum() for g in gradients).sqrt()
            for g in gradients:
                g *= min(1.0, max_grad_norm / (norm.item() + 1e-6))
        optimizer.step()

    def follow(self, target: str, online: str) -> None:
        """Move a target by the share tau of the way."""
        for k in self.learned(target):
            new = self.tensors[online + k.removeprefix(target)].detach()
            self.tensors[k] = (1 - self.config.tau) * self.tensors[k] + self.config.tau * new

    def state_dict(self) -> dict[str, Tensor]:
        """Under the agent's names."""
        state = {k: v.detach() for k, v in self.tensors.items()}
        for name, optimizer in self.optimizers.items():
            for k, p in self.learned(name).items():
                before = {
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                    "step": torch.zeros(()),
                }
                moments = optimizer.state.get(p, before)
                state |= {f"optim.{k}.{moment}": moments[moment].detach() for moment in before}
        return state


def assert_same_state(agent, plain: Plain) -> None:
    """All tensors agree: parameters, targets, moments and counters."""
    expected = plain.state_dict()
    found = state_of(agent)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if name == "n_updates" or name.endswith(".step"):
            assert tensor == expected[name], name
        else:
            torch.testing.assert_close(
                tensor, expected[name], rtol=1e-10, atol=1e-12, msg=lambda text, at=name: f"{at}: {text}"
            )


def assert_same_metrics(found: dict[str, Tensor], expected: dict[str, float | Tensor]) -> None:
    """All metrics are scalars without gradient and agree."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.shape == ()
        assert not value.requires_grad
        rounding = 1e-6 if value.dtype == torch.float32 else 1e-9  # shares are counted in float32
        assert value.item() == pytest.approx(torch.as_tensor(expected[name]).item(), rel=rounding, abs=1e-10), name
