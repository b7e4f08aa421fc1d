"""What an agent remembers: everything, and nothing of it elsewhere."""

from collections.abc import Iterator
from typing import Any

from softac.examine.findings import Finding
from softac.examine.reach import copied, different, leaves, overlap, same
from softac.examine.trial import LIVE, UPDATES, Trial, stream
from softac.run.checkpoint import OPTIM_PREFIX
from softac.types import Moment
from softac.words import counted, some

FORGETFUL = (
    "everything that the agent remembers in tensors",
    "add what is missing: targets, optimizer moments, counters, running means",
)


def tensors(trial: Trial) -> Iterator[Finding]:
    """Live tensors, the same from the beginning on, with all that acting needs under names without optim."""
    agent, actor = trial.build(0), trial.build(1)
    first = trial.state(agent)
    trial.update(agent, 0)
    whole, others = trial.state(agent), trial.state(actor)
    now, again = (trial.call(agent, "tensors") for _ in range(2))
    if copies := [name for name, tensor in now.items() if tensor.numel() and not overlap(tensor, again[name])]:
        raise trial.fault(
            f"tensors returned {copies[0]} as a copy",
            "what the agent works with, since a state is loaded by writing into it",
            LIVE,
        )
    kinds = [{name: (tuple(t.shape), t.dtype) for name, t in state.items()} for state in (first, whole)]
    if odd := [name for name in kinds[0] | kinds[1] if kinds[0].get(name) != kinds[1].get(name)]:
        raise trial.fault(
            f"tensors returned another {some(odd)} after an update than before",
            "names, shapes and types that are the same from construction on, since a new agent loads the state",
            "make all of them in __init__, an optimizer's moments, too",
        )
    acting = {name: whole[name] if not name.startswith(OPTIM_PREFIX) else others[name] for name in whole}
    trial.load(actor, acting)
    if not _act_alike(trial, agent, actor):
        raise trial.fault(
            "what tensors holds under names without optim. is not enough to act the same",
            "everything that acting needs there; it is what the best checkpoint keeps",
            "take optim. from its name",
        )
    n = sum(tensor.numel() for tensor in whole.values())
    yield trial.ok(f"tensors returns {len(whole)} live tensors ({n:,} numbers)")


def restoring(trial: Trial) -> Iterator[Finding]:
    """Whoever loads a state goes on as the one that saved it."""
    whole, restored = trial.build(0), trial.build(1)
    for i in range(UPDATES):
        trial.update(whole, i)
    state = trial.state(whole)
    trial.load(restored, copied(state))
    if odd := different(state, trial.state(restored)):
        raise trial.fault(f"after a state was loaded, tensors returns another {odd[0]}", "what was loaded", LIVE)
    mine, its = leaves(whole), leaves(restored)
    hidden = [path for path in mine | its if mine.get(path) != its.get(path)]
    hint = f" (the two differ in {some(hidden)})" if hidden else ""
    if not _act_alike(trial, whole, restored):
        raise trial.fault(f"an agent restored from its tensors acts otherwise{hint}", *FORGETFUL)
    for i in range(UPDATES, 2 * UPDATES):
        metrics, again = trial.update(whole, i), trial.update(restored, i)
        states = [trial.state(agent) for agent in (whole, restored)]
        if odd := [*different(*states), *different(metrics, again)]:
            raise trial.fault(
                f"an agent restored from its tensors has another {odd[0]} after "
                f"{counted(i - UPDATES + 1, 'more update')}{hint}",
                *FORGETFUL,
            )
    yield trial.ok(f"an agent restored from its tensors goes on bit for bit for {UPDATES} updates")
    if hidden:
        yield Finding(
            "note",
            f"{trial.kind} actions: {some(hidden)} differed after a state was loaded, and nothing came of it",
            "put it into tensors if an update ever reads it; else it is fine",
            f"only {UPDATES} updates were tried",
        )


def _act_alike(trial: Trial, one: Any, other: Any) -> bool:
    obs = trial.observations((32,), stream(3)).to(trial.device)
    noise = trial.call(one, "act_noise", 32, stream(4), Moment(0))
    return all(same(trial.call(one, "act", obs, x), trial.call(other, "act", obs, x)) for x in (None, noise))
