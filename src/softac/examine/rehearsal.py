"""An agent in training: through, stopped and resumed, and on another device."""

import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softac.envs import InProcessVectorEnv
from softac.envs.flat import item
from softac.envs.probes import ENVIRONMENTS, PROBES, drawn
from softac.examine import behaviour
from softac.examine.findings import Finding
from softac.examine.reach import different, graph, overlap
from softac.examine.trial import LIVE, N_ENVS, UPDATES, Fault, Trial
from softac.model import Model
from softac.replay import Replay, RolloutStorage
from softac.run.config import RecordConfig
from softac.run.training import Training
from softac.words import counted, described


def training(trial: Trial, n_envs: int) -> Iterator[Finding]:
    """Train twice, once without a stop and once with; the second ends in the same bits."""
    cut, total = _budgets(trial, n_envs)
    where = f"training for {total} steps in {counted(n_envs, 'environment')}"
    try:
        with tempfile.TemporaryDirectory(prefix="softac-") as folder:
            found = list(_trained(trial, n_envs, cut, total, Path(folder) / "run"))
    except Fault:
        raise
    except Exception as error:
        raise trial.fault(
            f"{where} raised {described(error)}",
            "an agent that trains, stops and resumes",
            "see the traceback; softac.Model(...).learn(...) raises it as well",
        ) from error
    yield from found


def _trained(trial: Trial, n_envs: int, cut: int, total: int, folder: Path) -> Iterator[Finding]:
    probe, agent_class, record = PROBES[trial.kind], trial.agent_class, RecordConfig(n_eval_episodes=1)
    make = partial(Model, agent_class, probe, seed=0, n_envs=n_envs, device=str(trial.device), **trial.values)
    seen: deque[Training] = deque(maxlen=1)
    whole = make().train(total, record, heartbeat=seen.append)
    training = seen[0]
    _require_nothing_kept(trial, whole.agent, training)
    _require_predictions(trial, whole)
    make().train(cut, record, folder)
    resumed = Model.load(folder, env=probe, agent_class=agent_class).train(total, record, folder)
    if odd := different(whole.agent.tensors(), resumed.agent.tensors()):
        raise trial.fault(
            f"a run in {counted(n_envs, 'environment')}, saved and resumed at step {cut}, has another {odd[0]} "
            f"at step {total} than one that went through",
            "the same bits",
            "keep no memory in modules, classes or closures, and none in act; tensors is all that is saved",
        )
    made = f"{whole.num_timesteps} steps in {counted(n_envs, 'environment')} with {training.updates} updates"
    yield trial.ok(f"{made}, and the same bits when resumed at step {cut}")


def _budgets(trial: Trial, n_envs: int) -> tuple[int, int]:
    """Where to stop, inside of a rollout and of a round, and where to end."""
    config = trial.config
    if trial.agent_class.on_policy:
        rollout = config.n_steps * n_envs
        cut, total = rollout + rollout // 2, 2 * rollout + rollout // 2
    else:
        rounds = -(-max(12, 3 / config.gradient_steps) // config.train_freq)
        learning = int(rounds * config.train_freq)
        cut, total = config.learning_starts + learning // 2, config.learning_starts + learning + 2 * n_envs
    return cut + (cut % n_envs == 0), total + (total % n_envs == 0)


def _require_nothing_kept(trial: Trial, agent: Any, training: Training) -> None:
    memory = training.memory
    lent = memory.rows if isinstance(memory, RolloutStorage) else memory.lent
    for path, kept in graph(agent):
        if isinstance(kept, (*ENVIRONMENTS, InProcessVectorEnv, Replay, RolloutStorage, Training, Model)):
            raise trial.fault(
                f"{path} is a {type(kept).__name__}",
                "an agent that sees tensors only: what it keeps of a run is not in its checkpoints",
                "take what it needs from the batch or from `spec`",
            )
        if isinstance(kept, Tensor) and overlap(kept, lent):
            raise trial.fault(
                f"{path} is a view of the run's memory, which the next steps overwrite",
                "an agent that keeps no part of a batch",
                "clone() what it needs",
            )


def _require_predictions(trial: Trial, model: Model) -> None:
    space, obs_space = model.spaces.action_space, model.spaces.observation_space
    rng = np.random.default_rng(0)
    for deterministic in (True, False):
        batch = drawn(obs_space, N_ENVS, rng)
        actions, _ = model.predict(batch, deterministic=deterministic)
        single, _ = model.predict(item(obs_space, batch, 0), deterministic=deterministic)
        if outside := [action for action in (single, *actions) if not space.contains(action)]:
            raise trial.fault(
                f"predict returned {outside[0]!r}", f"an action of {space}", "look at what act returns for it"
            )


def devices(trial: Trial) -> Iterator[Finding]:
    """The same on a GPU, if there is one."""
    if torch.cuda.is_available():
        yield from elsewhere(replace(trial, device=torch.device("cuda")))
    else:
        yield Finding(
            "note",
            f"{trial.kind} actions: tried on the CPU only, there is no CUDA device here",
            "check it once where there is one, before it trains there",
            "a tensor made without device=self.device fails only there",
        )


def elsewhere(trial: Trial) -> Iterator[Finding]:
    """Acting, updates and state on another device; sums there need not repeat bit for bit."""
    for check in (behaviour.act_noise, behaviour.act):
        list(check(trial))
    agent, restored = trial.build(0), trial.build(1)
    for i in range(UPDATES):
        trial.update(agent, i)
    state = trial.state(agent)
    trial.load(restored, {name: tensor.cpu() for name, tensor in state.items()})
    if odd := different(state, trial.state(restored)):
        raise trial.fault(
            f"on {trial.device}, a state that was loaded left {odd[0]} as it was",
            "what was loaded, from wherever it comes",
            LIVE,
        )
    yield trial.ok(f"acting, updates and state work on {trial.device}, too")
