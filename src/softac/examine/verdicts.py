"""What soft actor-critic makes of what an environment did."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac.envs.images import image_of, is_image
from softac.envs.leaves import coordinates, leaves
from softac.envs.spaces import Spaces
from softac.examine.findings import Finding
from softac.examine.random_steps import Log
from softac.nets.encoders import encoder_name
from softac.replay import forecast
from softac.words import counted, duration, interval, some

LARGE_OBS, SCALE_RATIO = 1_000.0, 1_000.0
LARGE_REWARD, SMALL_REWARD = 100.0, 0.01
WIDE_ACTIONS = 10.0
SPARSE = 0.95
SLOW = 50.0  # steps per second
PLAN = 1_000_000  # transitions and steps that forecasts speak of


def observation_space(seen: Spaces) -> Finding:
    """How observations are read."""
    space, size = seen.observation_space, seen.spec.obs_dim
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return Finding("ok", f"observations: {_kind(space)}, read as {counted(size, 'number')}")
    parts = ", ".join(f"{name} {_kind(part)} -> {spaces.flatdim(part)}" for name, _, part in leaves(space))
    order = "sorted by key" if isinstance(space, spaces.Dict) else "by position"
    return Finding("ok", f"observations: a {type(space).__name__}, read as {size} numbers, {order}: {parts}")


def action_space(seen: Spaces) -> Iterator[Finding]:
    """Coordinates and their bounds, or choices."""
    if choices := seen.spec.choices:
        some = counted(choices[0], "discrete choice")
        several = f"{len(choices)} choices at once, of {', '.join(map(str, choices))}"
        masked = "; which are allowed is said by its masks" if seen.spec.mask is not None else ""
        yield Finding("ok", f"actions: {some if seen.spec.n_actions else several}{masked}")
        return
    low, high = seen.low, seen.high
    bounds = interval(low.min(), high.max())
    same = (low == low[0]).all() and (high == high[0]).all()
    how = "" if same else ", each with bounds of its own"
    dims = seen.action_space.shape or ()
    shape = "" if len(dims) == 1 else f" of shape {dims}"
    dtype = seen.action_space.dtype
    yield Finding("ok", f"actions: {counted(low.size, 'coordinate')}{shape}, {dtype}, in {bounds}{how}")
    if fixed := np.flatnonzero(low == high).tolist():
        yield Finding(
            "note",
            f"action {_indices(fixed)} cannot move: its bounds are equal",
            "leave it out of the action space",
            "the automatic target entropy, -dim(A), counts it as one that can",
        )
    moving = low < high
    if (lopsided := np.flatnonzero(moving & (np.abs(low + high) > 1e-6 * (high - low)))).size:
        first = int(lopsided[0])
        middle = 0.5 * (low[first] + high[first])
        yield Finding(
            "ok",
            f"bounds of action {_indices(lopsided)} are not symmetric: they are mapped from [-1, 1], so an "
            f"untrained policy acts around their middle ({middle:.3g} for action {first})",
        )
    if (wide := np.flatnonzero(np.maximum(np.abs(low), np.abs(high)) > WIDE_ACTIONS)).size:
        yield Finding(
            "note",
            f"action {_indices(wide)} reaches {interval(low[wide].min(), high[wide].max())}",
            "if only a part is ever useful, declare that part, for instance with gymnasium.wrappers.RescaleAction",
            "exploration covers the whole range from the first step, and the entropy is measured relative to it",
        )


def _indices(numbers: Any) -> str:
    return some([str(i) for i in numbers])


def process_randomness(moved: list[str]) -> Iterator[Finding]:
    """Whether it draws from the process's own generators."""
    if moved:
        yield Finding(
            "note",
            f"it draws from or reseeds the process's own random generators ({', '.join(moved)})",
            "draw from self.np_random, which reset(seed=...) seeds",
            "softac draws from none of them, but other code in the process does, and they are no part of a "
            "checkpoint",
        )


def episodes(env: gym.Env[Any, Any], log: Log) -> Iterator[Finding]:
    """How long episodes are and how they end."""
    limit = _time_limit(env)
    lengths = log.lengths
    if not lengths and limit is not None:
        yield Finding("ok", f"episodes: none ended within {log.steps:,} steps; the time limit is {limit:,}")
    elif not lengths:
        yield Finding(
            "note",
            f"no episode ended within {log.steps:,} random steps, and there is no time limit",
            "register it with max_episode_steps, wrap it in gymnasium.wrappers.TimeLimit, or see with --steps "
            "whether it ends later",
            "an evaluation waits for the end of an episode, and replay without restarts sees little variety",
        )
    else:
        n, ended = len(lengths), sum(log.terminated)
        spread = f"{min(lengths):,} to {max(lengths):,}" if min(lengths) < max(lengths) else f"{lengths[0]:,}"
        ends = " and ".join(
            f"{k} by {what}" for k, what in ((ended, "termination"), (n - ended, "truncation")) if k
        )
        one = counted(n, "episode")
        yield Finding("ok", f"episodes: {one} of {spread} steps, ended {ends}")
        if ended == n >= 3 and min(lengths) == max(lengths) > 1:
            yield Finding(
                "note",
                f"every episode terminated after exactly {lengths[0]:,} steps, which looks like a time limit",
                "if it is one, return truncated=True instead of terminated=True, or wrap it in "
                "gymnasium.wrappers.TimeLimit",
                "termination says that no reward can follow; after a mere time limit the value of the last state "
                "still counts",
            )


def rewards(log: Log) -> Iterator[Finding]:
    """Constant, sparse, very large or tiny."""
    rewards = np.array(log.rewards)
    low, high = rewards.min(), rewards.max()
    typical = float(np.quantile(np.abs(rewards), 0.99))
    values, counts = np.unique(rewards, return_counts=True)
    commonest, share = values[counts.argmax()], counts.max() / rewards.size
    if low == high and rewards.size > 1:
        yield Finding(
            "note",
            f"the reward was {low:.4g} in all {rewards.size:,} random steps",
            "reward progress too, or learn from an environment with a denser reward",
            "there is nothing to learn from until exploration meets another value, and random actions did not",
        )
        return
    yield Finding("ok", f"rewards: {interval(low, high)}, mean {rewards.mean():.4g} a step")
    if share >= SPARSE and rewards.size >= 100:
        yield Finding(
            "note",
            f"the reward was {commonest:.4g} in {share:.1%} of the random steps: it is sparse",
            "expect to need more steps and a longer --learning-starts; reward progress too if you can",
            "only the rare other values carry information",
        )
    if typical > LARGE_REWARD:
        yield Finding(
            "note",
            f"rewards are very large: 1 step in 100 exceeds {typical:.4g}",
            f"divide them by about {10 ** np.floor(np.log10(typical)):,.0f} with "
            "gymnasium.wrappers.TransformReward",
            "the temperature starts at 1 and needs long to grow to their scale, and the critics' errors grow with "
            "its square",
        )
    elif typical < SMALL_REWARD:
        yield Finding(
            "note",
            f"rewards are tiny: 99 steps in 100 are within {typical:.2g} of zero",
            "multiply them with gymnasium.wrappers.TransformReward until they are about 1, or start with a "
            "smaller temperature (--ent-coef auto_0.01)",
            "the entropy bonus, of the order of 1 a step at first, drowns them",
        )


def observations(log: Log) -> Iterator[Finding]:
    """Which numbers never change, differ in scale, or leave their bounds."""
    obs = np.stack(log.starts + log.obs)
    names, low, high, is_box = coordinates(log.spaces.observation_space)
    for image in log.spaces.spec.images:  # a black corner is no fault, and encoders know what pixels are
        is_box[image.start : image.stop] = False
    constant = np.flatnonzero(is_box & (obs == obs[0]).all(0)).tolist()
    if constant and len(obs) > 2:
        yield Finding(
            "note",
            f"{counted(len(constant), 'coordinate')} of the observation never changed: {_named(names, constant)}",
            "nothing, if random actions just do not reach it; else leave it out",
            "it costs memory and tells the networks nothing",
        )
    moving = is_box.copy()
    moving[constant] = False
    yield from _scales(np.quantile(np.abs(obs), 0.99, axis=0), names, is_box, moving)
    outside = np.flatnonzero(((obs < low) | (obs > high)).any(0)).tolist()
    if outside:
        worst = obs[:, outside[0]]
        yield Finding(
            "note",
            f"observation {_named(names, outside)} leaves its declared bounds "
            f"{interval(low[outside[0]], high[outside[0]])}: it was in {interval(worst.min(), worst.max())}",
            "declare the bounds it keeps, or infinite ones",
            "softac does not use these bounds, but wrappers that rescale by them do",
        )


def _scales(size: Any, names: list[str], is_box: Any, moving: Any) -> Iterator[Finding]:
    """Judge how large each number of an observation usually is."""
    normalise = "train with --normalize obs, whose statistics are part of the agent"
    if huge := np.flatnonzero(is_box & (size > LARGE_OBS)).tolist():
        yield Finding(
            "note",
            f"observation {_named(names, huge)} reaches {size[huge].max():.3g}",
            normalise,
            "networks learn best from numbers of about 1; beyond 1,000 one of them drowns the others",
        )
    seen = np.flatnonzero(moving & (size > 0))
    if huge or not seen.size:
        return
    largest, smallest = int(seen[size[seen].argmax()]), int(seen[size[seen].argmin()])
    if size[largest] > SCALE_RATIO * size[smallest]:
        yield Finding(
            "note",
            f"coordinates differ in scale: {names[largest]} reaches {size[largest]:.3g}, "
            f"{names[smallest]} {size[smallest]:.3g}",
            normalise,
            "the networks see the small ones late or not at all",
        )


def _named(names: list[str], indices: list[int]) -> str:
    return some([names[i] for i in indices])


def manners(log: Log) -> Iterator[Finding]:
    """What is no fault here and one elsewhere."""
    if log.dtypes:
        name, what = next(iter(log.dtypes.items()))
        more = f", and {len(log.dtypes) - 1} more" if len(log.dtypes) > 1 else ""
        yield Finding(
            "note",
            f"{name} is {what}{more}",
            "return it with .astype, or declare the dtype it has",
            "softac reads everything as float32, but other libraries refuse this",
        )
    if log.reused:
        yield Finding(
            "note",
            "successive observations lie in the same array, which each step overwrites",
            "nothing for softac, which copies them; return a copy for other libraries",
            "whoever keeps an observation would find the next one in it",
        )


def cost(seen: Spaces, log: Log) -> Iterator[Finding]:
    """Memory of a replay, and time."""
    each = forecast(1, seen.spec)
    memory = each * PLAN / 1e9
    yield Finding("ok", f"memory: a replay of {PLAN:,} transitions takes {memory:.2f} GB ({each} bytes each)")
    speed = log.steps / log.seconds if log.seconds > 0 else float("inf")
    outlook = f"{speed:,.0f} steps/s alone, so {PLAN:,} steps take {duration(PLAN / speed)} besides the updates"
    if speed < SLOW:
        yield Finding(
            "note",
            f"slow: {outlook}",
            "find out what a step spends its time on",
            "training will wait for it",
        )
    else:
        yield Finding("ok", f"speed: {outlook}")


def _kind(space: gym.Space[Any]) -> str:
    match space:
        case spaces.Box() if is_image(space) and (image := image_of(space)):
            planes = f"{counted(image.planes, 'plane')} for the encoder {encoder_name(image)}"
            return f"Box {space.shape} {space.dtype}, {planes}"
        case spaces.Box():
            return f"Box {space.shape} {space.dtype}"
        case spaces.Discrete():
            return f"Discrete({int(space.n)}) as one-hot"
        case spaces.MultiDiscrete():
            return f"MultiDiscrete {space.nvec.tolist()} as one-hots"
        case _:
            return f"{type(space).__name__} {space.shape}"


def _time_limit(env: gym.Env[Any, Any]) -> int | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None
