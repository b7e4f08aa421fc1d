"""What an agent remembers: everything, and nothing of it elsewhere."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from softac.errors import CheckpointError
from softac.examine.findings import Finding
from softac.examine.reach import copied, different, leaves, overlap, same
from softac.examine.trial import COPIES, UPDATES, Trial, stream
from softac.run.checkpoint import OPTIM_PREFIX
from softac.types import Moment
from softac.words import counted, described, some

FORGETFUL = (
    "everything that the agent remembers in state_dict",
    "add what is missing: targets, optimizer moments, counters, running means",
)


def state_dict(trial: Trial) -> Iterator[Finding]:
    """A state of copies, with all that acting needs under names without optim."""
    agent = trial.build(0)
    trial.update(agent, 0)
    whole, names = trial.state(agent), list(trial.state(agent))
    state, again = (trial.call(agent, "state_dict") for _ in range(2))
    for name, tensor in state.items():
        if overlap(tensor, again[name]):
            raise trial.fault(
                f"state_dict returned {name} as a view of what the agent works with",
                "copies, which the next update leaves alone",
                COPIES,
            )
        if tensor.requires_grad or not tensor.is_contiguous():
            raise trial.fault(
                f"{name} {'has a gradient' if tensor.requires_grad else 'is not contiguous'}",
                "plain tensors, as a file holds them",
                "return tensor.detach().clone(memory_format=torch.contiguous_format)",
            )
    if shared := [(a, b) for i, a in enumerate(names) for b in names[:i] if overlap(state[a], state[b])]:
        raise trial.fault(
            f"state_dict returned {shared[0][1]} and {shared[0][0]} in one piece of memory",
            "a piece for each, as a file holds them",
            "clone() each",
        )
    networks = [name for name in names if not name.startswith(OPTIM_PREFIX)]
    actor = trial.build(1)
    others = trial.state(actor)
    trial.call(actor, "load_state_dict", {n: whole[n] if n in networks else others[n] for n in names})
    if not _act_alike(trial, agent, actor):
        raise trial.fault(
            "what state_dict holds under names without optim. is not enough to act the same",
            "everything that acting needs there; it is what the best checkpoint keeps",
            "take optim. from its name",
        )
    n = sum(tensor.numel() for tensor in state.values())
    yield trial.ok(f"state_dict returns {len(state)} tensors ({n:,} numbers), all copies")


def restoring(trial: Trial) -> Iterator[Finding]:
    """Whoever loads a state goes on as the one that saved it; what does not fit is refused."""
    whole, restored = trial.build(0), trial.build(1)
    for i in range(UPDATES):
        trial.update(whole, i)
    state = trial.state(whole)
    _require_refusals(trial, restored, state)
    given = copied(state)
    trial.call(restored, "load_state_dict", given)
    if odd := different(state, trial.state(restored)):
        raise trial.fault(
            f"after load_state_dict, state_dict returns another {odd[0]}",
            "what was loaded",
            "copy every tensor in, in place: softac.learning.learner.copy_state_ does",
        )
    mine, its = leaves(whole), leaves(restored)
    hidden = [path for path in mine | its if mine.get(path) != its.get(path)]
    hint = f" (the two differ in {some(hidden)})" if hidden else ""
    if not _act_alike(trial, whole, restored):
        raise trial.fault(f"an agent restored from its state_dict acts otherwise{hint}", *FORGETFUL)
    for i in range(UPDATES, 2 * UPDATES):
        metrics, again = trial.update(whole, i), trial.update(restored, i)
        states = [trial.state(agent) for agent in (whole, restored)]
        if odd := [*different(*states), *different(metrics, again)]:
            raise trial.fault(
                f"an agent restored from its state_dict has another {odd[0]} after "
                f"{counted(i - UPDATES + 1, 'more update')}{hint}",
                *FORGETFUL,
            )
    if odd := different(state, given):
        raise trial.fault(
            f"updates changed the {odd[0]} that load_state_dict was given",
            "an agent that copies what it loads",
            "write tensor.copy_(state[name]) under torch.no_grad()",
        )
    yield trial.ok(f"an agent restored from its state_dict goes on bit for bit for {UPDATES} updates")
    if hidden:
        yield Finding(
            "note",
            f"{trial.kind} actions: {some(hidden)} differed after load_state_dict, and nothing came of it",
            "put it into state_dict if an update ever reads it; else it is fine",
            f"only {UPDATES} updates were tried",
        )


def _require_refusals(trial: Trial, agent: Any, state: dict[str, Tensor]) -> None:
    before, name = trial.state(agent), next(iter(state))
    wrong = {
        f"without {name}": {key: tensor for key, tensor in state.items() if key != name},
        "with a tensor it does not know": state | {"unknown": torch.zeros(2)},
        f"with {name} of another shape": state | {name: torch.zeros((*state[name].shape, 2))},
    }
    for how, given in wrong.items():
        wanted = "a CheckpointError where names or shapes differ"
        remedy = "compare them first: softac.learning.learner.copy_state_ does"
        try:
            agent.load_state_dict(given)
        except CheckpointError:
            pass
        except Exception as error:
            raise trial.fault(f"a state {how} raised {described(error)}", wanted, remedy) from error
        else:
            raise trial.fault(f"load_state_dict took a state {how}", wanted, remedy)
        if odd := different(before, trial.state(agent)):
            raise trial.fault(
                f"load_state_dict refused a state {how} after it had changed {odd[0]}",
                "an agent as it was before",
                remedy,
            )


def _act_alike(trial: Trial, one: Any, other: Any) -> bool:
    obs = torch.randn(32, trial.spec.obs_dim, generator=stream(3)).to(trial.device)
    noise = trial.call(one, "act_noise", 32, stream(4), Moment(0))
    return all(same(trial.call(one, "act", obs, x), trial.call(other, "act", obs, x)) for x in (None, noise))
