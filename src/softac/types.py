"""The nouns that the rooms hand to each other, and the protocols a third party may implement.

PyTorch is only named here, not imported: processes that step environments do without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FloatArray = NDArray[np.float32]
Metrics = dict[str, "Tensor"]
ActionKind = Literal["continuous", "discrete", "multi_discrete", "masked"]
Activation = Literal["relu", "tanh", "elu", "silu"]
# What makes a module [B, C, H, W] -> [B, F] of (C, H, W) and a generator of first weights, or the name of such.
AsEncoder = str | Callable[[tuple[int, int, int], "torch.Generator"], "torch.nn.Module"]


@dataclass(frozen=True)
class Image:
    """Where an image, or a stack of images, lies in a flattened observation, and how: `[S, H, W, C]`.

    The planes of an image with its channels first are a stack of images with one channel.

    Attributes:
        start: its first number.
        high: the largest value; networks read parts of it.
    """

    start: int
    stack: int
    height: int
    width: int
    channels: int
    high: float = 255.0

    @property
    def planes(self) -> int:
        """The channels of all images of the stack, S C."""
        return self.stack * self.channels

    @property
    def stop(self) -> int:
        """The number behind its last one."""
        return self.start + self.planes * self.height * self.width


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know of its environment.

    Attributes:
        obs_dim: length of a flattened observation.
        action_dim: numbers in one action. Continuous: its coordinates, each in [-1, 1] where the
            policy is bounded; the environment room rescales them to the environment's own bounds
            and cuts what lies beyond. Discrete: 1, the index of the action from 0. Several choices at
            once: the index of each.
        n_actions: how many actions there are to choose from; None where they are continuous, or several
            choices at once.
        choices: how many there are to choose from in each choice; empty where actions are continuous.
        mask: where in the observation a number for each of them begins, choice after choice: 1 where it is
            allowed, 0 where not; at least one of each choice is. None: everything is allowed at all times.
        images: those among the numbers of an observation.
        encoder: of the images; see `softac.nets.encoders`.
        normalize: whether networks normalise the other numbers, which they are given as they come.
    """

    obs_dim: int
    action_dim: int
    n_actions: int | None = None
    choices: tuple[int, ...] = field(default=(), repr=False)
    mask: int | None = field(default=None, repr=False)
    images: tuple[Image, ...] = field(default=(), repr=False)
    encoder: AsEncoder = field(default="auto", repr=False)
    normalize: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """One choice is the same, said in either way."""
        if self.n_actions is not None and not self.choices:
            object.__setattr__(self, "choices", (self.n_actions,))

    @property
    def actions(self) -> ActionKind:
        """Whether actions are coordinates, one choice, or several at once."""
        if not self.choices:
            return "continuous"
        return "multi_discrete" if self.n_actions is None else "discrete"

    @property
    def kinds(self) -> tuple[ActionKind, ...]:
        """All that an agent must be able to choose from: `actions`, and "masked" where there is a mask."""
        return (self.actions,) if self.mask is None else (self.actions, "masked")

    @property
    def outputs(self) -> int:
        """Numbers that a policy has one of: coordinates, or all there is to choose from."""
        return sum(self.choices) or self.action_dim

    @property
    def numbers(self) -> tuple[slice, ...]:
        """Where in a flattened observation the numbers lie that belong to no image."""
        edges = [0, *(edge for image in self.images for edge in (image.start, image.stop)), self.obs_dim]
        return tuple(slice(*pair) for pair in zip(edges[::2], edges[1::2], strict=True) if pair[0] < pair[1])

    @property
    def pixels(self) -> int:
        """How many numbers of a flattened observation are parts of images."""
        return sum(image.stop - image.start for image in self.images)

    def reading(self, images: tuple[Image, ...], encoder: AsEncoder) -> EnvSpec:
        """The same for networks that read these images with this encoder."""
        return replace(self, images=images, encoder=encoder)


class Row(NamedTuple):
    """One transition on its way from the collector into a memory."""

    obs: FloatArray  # [obs_dim]
    action: FloatArray  # [action_dim]
    reward: float
    discount: float
    next_obs: FloatArray  # [obs_dim]
    ended: bool  # whether the episode ended with it, terminated or truncated


class SoftRow(NamedTuple):
    """A `Row` whose n steps brought entropy bonuses, too."""

    obs: FloatArray
    action: FloatArray
    reward: float
    discount: float
    next_obs: FloatArray
    ended: bool
    bonus: float  # the sum of gamma^k (-log pi(a_k|s_k)) over the n - 1 later steps


class Transition(NamedTuple):
    """A batch of B transitions, as an update receives it.

    `discount` is gamma^n (1 - terminated): the weight of the value of `next_obs`. It is made in
    one place, `softac.run.episode`; a truncated episode keeps its full discount.
    """

    obs: Tensor  # [B, obs_dim]
    action: Tensor  # [B, action_dim]; a discrete action as its index
    reward: Tensor  # [B], the discounted sum of n rewards
    discount: Tensor  # [B]
    next_obs: Tensor  # [B, obs_dim], the true one, also where the episode ended


class SoftTransition(NamedTuple):
    """A `Transition` for agents with `n_step_return="soft"`: its n steps brought entropy bonuses, too."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    bonus: Tensor  # [B], the discounted sum of -log pi over the n - 1 later steps, as they were chosen


class DataTransition(NamedTuple):
    """A `Transition` from a data set, for agents with `offline = True`: it tells what was done next, too."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    next_action: Tensor  # [B, action_dim]; of no meaning where the discount is 0


class Rollout(NamedTuple):
    """T successive rounds of N environments, as an on-policy update receives them."""

    obs: Tensor  # [T, N, obs_dim]
    action: Tensor  # [T, N, action_dim], as the policy gave it, before the environment cuts it
    reward: Tensor  # [T, N]
    discount: Tensor  # [T, N], gamma (1 - terminated)
    next_obs: Tensor  # [T, N, obs_dim], the true one, also where the episode ended
    continues: Tensor  # [T, N], 0 where the episode ended, terminated or truncated, else 1


class Moment(NamedTuple):
    """When exploration happens; for noise that fades or remembers."""

    step: int  # environment steps of training made so far
    previous: Tensor | None = None  # the last noise `[B, ...]`, zero where an episode begins; None: there was none


class OffPolicyConfig(Protocol):
    """The part of an off-policy agent's configuration that the run reads."""

    buffer_size: int
    learning_starts: int
    batch_size: int
    gamma: float
    n_steps: int  # rewards summed before bootstrapping
    train_freq: int
    gradient_steps: float


class OnPolicyConfig(Protocol):
    """The part of an on-policy agent's configuration that the run reads."""

    gamma: float
    n_steps: int  # rounds of the environments in one rollout


class Agent(Protocol):
    """A learner. It sees tensors only: no environment, no replay, no logger.

    A class that offers these members can be trained with `softac.Model(AgentClass, env)`.

    An engine makes one graph of `update_`. Where an update counts and asks whose turn it is, which is
    no work for a graph, it does so and leaves the rest to a method `gradient_step_` of tensors and
    booleans, and the graph is made of that (see `softac.agents.td3`).

    An agent with a class attribute `offline = True` learns from data alone (`softac.run.prior`), in batches of
    class `DataTransition`.

    An agent whose configuration has `n_step_return="soft"` and `n_steps` above 1 gets a `SoftTransition`. It
    has a method `act_log_prob(obs, noise)`: log pi(a|s) `[B]` of the actions that `act(obs, noise)` chooses.
    """

    Config: ClassVar[type[Any]]
    # The kinds of actions it can choose; "masked": it chooses none that `EnvSpec.mask` forbids.
    actions: ClassVar[tuple[ActionKind, ...]]
    on_policy: ClassVar[bool]  # learns from each rollout once; otherwise from a replay
    config: Any  # an OnPolicyConfig or an OffPolicyConfig
    device: torch.device

    def __init__(
        self, spec: EnvSpec, config: Any, *, generator: torch.Generator, device: torch.device
    ) -> None: ...

    def act(self, obs: Tensor, noise: Tensor | None, /) -> Tensor:
        """Actions `[B, action_dim]` for `obs` `[B, obs_dim]`; no noise: deterministic."""
        ...

    def act_noise(self, batch_size: int, generator: torch.Generator, moment: Moment, /) -> Tensor:
        """The noise `[batch_size, ...]` that `act` turns into exploration."""
        ...

    def update_noise(self, batch_size: int, generator: torch.Generator, /) -> Any:
        """All noise that one `update_` consumes.

        `batch_size` is the number of transitions: of the batch, or T N of a rollout.
        """
        ...

    def update_(self, batch: Any, noise: Any, /) -> Metrics:
        """Learn from a `Transition`, or from a `Rollout` if on-policy, in place; 0-D tensors to log."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything the next update depends on, live: what is written into these tensors is what the agent has.

        Their names, shapes and types stay what they are from construction on. What acting does not need, such as
        an optimizer's state, has a name that begins `optim.`.
        """
        ...


class Sink(Protocol):
    """Where metrics go: TensorBoard, the terminal, a tracker of one's own."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of environment step `step`."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...
