"""Whether workers or overlap would pay, from the time of a step and that of an update here."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from softac.agents.dqn import DQNAgent
from softac.agents.sac import SACAgent
from softac.agents.sac_discrete import SACDiscreteAgent
from softac.examine.findings import Finding
from softac.types import Agent, EnvSpec, Transition

MESSAGE = 5e-5  # seconds that a step costs more in a worker
ENVS = 8  # environments of an on-policy run, of which forecasts speak
WORTH = 1.2  # times as fast
WARM_UP, UPDATES = 3, 10


def worth(step: float, update: float, cores: int) -> Iterator[Finding]:
    """What could be won.

    Args:
        step: seconds of one step of the environment.
        update: seconds of one update of soft actor-critic with its default networks.
        cores: that this process may use.
    """
    times = f"a step takes {1e3 * step:.2g} ms, an update of soft actor-critic {1e3 * update:.2g} ms here"
    overlapped = (step + update) / max(step + MESSAGE, update)
    spread = ENVS * step / (-(-ENVS // cores) * (step + MESSAGE))
    advice = []
    if overlapped >= WORTH:
        advice.append(
            f"--overlap (with --env-workers 1 if it computes) makes a run up to {overlapped:.1f} times as fast"
        )
    if spread >= WORTH and step >= 4 * MESSAGE:
        advice.append(
            f"--n-envs {ENVS} --env-workers {cores} steps the environments of an on-policy run {spread:.1f} times "
            "as fast"
        )
    said = "; ".join(advice) or "neither --env-workers nor --overlap would pay"
    yield Finding("ok", f"beside the learner: {times}; {said}")


def update_seconds(spec: EnvSpec) -> float:
    """Seconds of an update of soft actor-critic by default; where there is one action, of a deep Q-network."""
    generator, device = torch.Generator().manual_seed(0), torch.device("cpu")
    kind: type[Any] = {None: SACAgent, 1: DQNAgent}.get(spec.n_actions, SACDiscreteAgent)
    agent: Agent = kind(spec, kind.Config(), generator=generator, device=device)
    size = agent.config.batch_size
    obs, numbers = (
        torch.randn(2, size, spec.obs_dim, generator=generator),
        torch.rand(2, size, generator=generator),
    )
    action = torch.zeros(size, spec.action_dim)
    batch = Transition(obs[0], action, numbers[0], numbers[1], obs[1])
    began = 0.0
    for i in range(WARM_UP + UPDATES):
        if i == WARM_UP:
            began = time.perf_counter()
        agent.update_(batch, agent.update_noise(size, generator))
    return (time.perf_counter() - began) / UPDATES
