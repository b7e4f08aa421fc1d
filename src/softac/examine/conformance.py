"""Does an agent keep the promises of `softac.types.Agent`? Every one is tried on small environments.

What goes wrong without a word in a long run is found here in seconds: a moment that is not in
`tensors`, a number drawn from a global generator, an action outside its bounds.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from softac.config import make_config
from softac.errors import ConfigError
from softac.examine import behaviour, declaration, rehearsal, state
from softac.examine.findings import Finding
from softac.examine.generators import process_generators
from softac.examine.trial import N_ENVS, Fault, Trial
from softac.words import counted


def check_agent(agent_class: type[Any], **config: Any) -> list[Finding]:
    """Try every promise of `softac.types.Agent` on an agent of softac's or of one's own.

    For each kind of actions the class says it serves, on environments of a few numbers: members and
    configuration, construction, acting, noise, updates, state, and training that is stopped and
    resumed; then once more on a GPU, if there is one. It takes seconds with small networks. The random
    generators of the process are left as they were.

    A failure is raised rather than returned, so that `check_agent(MyAgent)` alone is a test. A check is
    left out where one it builds upon failed.

    Args:
        agent_class: a class with the members of `softac.types.Agent`.
        config: hyperparameters; without them the class's own defaults, apart from buffer_size 200,
            learning_starts 10 and batch_size 16, or n_steps 8 where it is on-policy.

    Returns:
        What holds, one "ok" for each check, and "note" for what is worth knowing.

    Raises:
        ConfigError: a promise is broken. The message says how, what was expected and what to do, and
            how many further checks failed; these are its notes (`__notes__`), which a traceback shows.
    """
    report = _Report()
    with process_generators():
        _examine(report, agent_class, config)
    if not report.faults:
        return report.findings
    first, *others = report.faults
    name = getattr(agent_class, "__name__", type(agent_class).__name__)
    more = f" ({counted(len(others), 'further failure')})" if others else ""
    error = ConfigError(f"{name}: {first.did}", f"expected {first.expected}", f"{first.remedy}{more}")
    for fault in others:
        error.add_note(str(fault))
    raise error from first.__cause__


@dataclass
class _Report:
    """What was found so far."""

    findings: list[Finding] = dataclasses.field(default_factory=list)
    faults: list[Fault] = dataclasses.field(default_factory=list)

    def passes(self, check: Callable[..., Iterator[Finding]], *arguments: Any) -> bool:
        """Run a check; whether it found no fault."""
        try:
            self.findings.extend(check(*arguments))
        except Fault as fault:
            self.faults.append(fault)
            return False
        return True


def _examine(report: _Report, agent_class: type[Any], config: dict[str, Any]) -> None:
    said = (declaration.members, declaration.configuration)
    if not all(report.passes(check, agent_class) for check in said):
        return
    make_config(agent_class.Config, config)  # what the caller gave is the caller's to correct
    stages: list[list[Callable[[Trial], Iterator[Finding]]]] = [
        [behaviour.construction],
        [behaviour.act_noise, behaviour.act, behaviour.act_log_prob, behaviour.update],
        [state.tensors, state.restoring],
        [partial(rehearsal.training, n_envs=1), partial(rehearsal.training, n_envs=N_ENVS), rehearsal.devices],
    ]
    for kind in agent_class.actions:
        trial = Trial(agent_class, config, kind, torch.device("cpu"))
        if trial.offline:  # an environment teaches it nothing
            stages[-1] = [rehearsal.devices]
        for checks in stages:
            passed = [report.passes(check, trial) for check in checks]
            if not all(passed):
                break  # what follows builds upon it
