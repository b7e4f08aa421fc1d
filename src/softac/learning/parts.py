"""What an agent consists of, for executors and for what looks at all of its networks."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from softac.learning.learner import Learner
from softac.learning.schedules import Scheduled
from softac.types import Image


def parts(agent: Any) -> list[Learner | nn.Module]:
    """The learners of an agent and its other networks, once each, also those in lists, dicts and smaller objects.

    The network of a learner is part of the learner and not named again.
    """
    found: dict[int, Learner | nn.Module] = {id(part): part for part in _parts(vars(agent), {id(agent)})}
    within = {id(part.module) for part in found.values() if isinstance(part, Learner)}
    return [part for part in found.values() if id(part) not in within]


def learners(agent: Any) -> list[Learner]:
    """The learners of an agent, once each."""
    return [part for part in parts(agent) if isinstance(part, Learner)]


def networks(agent: Any) -> list[nn.Module]:
    """The networks of an agent, those of its learners among them, once each."""
    return [part.module if isinstance(part, Learner) else part for part in parts(agent)]


def followers(agent: Any) -> list[Learner | Scheduled]:
    """What of an agent has a schedule to follow."""
    numbers = [value for value in vars(agent).values() if isinstance(value, Scheduled)]
    every: list[Learner | Scheduled] = [*learners(agent), *numbers]
    return [part for part in every if part.schedule is not None]


def images_read(agent: Any) -> tuple[Image, ...]:
    """The images that the networks of an agent read as such, be it only since an encoder was asked for."""
    said = (getattr(module, "images", ()) for network in networks(agent) for module in network.modules())
    return next((images for images in said if images and isinstance(images, tuple)), ())


def _parts(thing: Any, met: set[int]) -> Iterator[Learner | nn.Module]:
    if id(thing) in met:
        return
    met.add(id(thing))
    match thing:
        case Learner() | nn.Module():
            yield thing
        case dict():
            for value in thing.values():
                yield from _parts(value, met)
        case list() | tuple():
            for value in thing:
                yield from _parts(value, met)
        case Tensor() | type():
            return
        case _:
            yield from _parts(getattr(thing, "__dict__", {}), met)
