"""What soft actor-critic will and will not like about an environment."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from softac.envs.make import EnvLike, EnvSource
from softac.envs.spaces import Spaces
from softac.envs.vector import EnvFault, InProcessVectorEnv
from softac.errors import ConfigError
from softac.examine.findings import Finding
from softac.types import FloatArray

PLAN = 1_000_000  # transitions and steps that forecasts speak of
TRACE, TRACE_SEED = 200, 12345  # steps and seed of an episode that is played twice
LARGE_REWARD, SMALL_REWARD = 100.0, 0.01
LARGE_OBS, SCALE_RATIO = 1_000.0, 1_000.0
WIDE_ACTIONS = 10.0
SPARSE = 0.95
SLOW = 50.0  # steps per second

Trace = list[tuple[FloatArray, float, bool, bool]]


def check_env(
    env: EnvLike,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    steps: int = 1_000,
    trust_module: bool = False,
) -> list[Finding]:
    """Run an environment with random actions and judge what it does.

    The random generators of the process are left as they were. What is found depends on where random
    actions lead: a reward that looks constant may only be hard to reach.

    Args:
        env: a Gymnasium id, a function that makes an environment, or an environment (reset and stepped
            here, not closed).
        env_kwargs: keyword arguments of the environment.
        steps: random steps to make, at least 1.
        trust_module: accept an id "module:Env-v0", which imports the module.

    Returns:
        What was found. Where `exit_code` is not 0 the environment cannot be trained on: 2 for a space,
        4 for an environment that failed.

    Raises:
        ConfigError: there is no such environment, or `steps` is less than 1.
        EnvironmentFailed: its constructor raised.
    """
    if steps < 1:
        raise ConfigError(
            f"steps={steps} was given",
            "expected at least 1",
            "give 1000, say",
        )
    source = EnvSource(env, dict(env_kwargs or {}), trust_module)
    with process_generators() as generators:
        made = source.make()
        try:
            return _examine(made, source, steps, generators)
        finally:
            if source.repeatable:
                made.close()


def _examine(
    env: gym.Env[Any, Any], source: EnvSource, steps: int, generators: Callable[[], list[str]]
) -> list[Finding]:
    try:
        seen = Spaces(env.observation_space, env.action_space)
    except ConfigError as error:
        return [Finding("problem", error.given, error.remedy, error.expected, exit_code=2)]
    findings = [_observation_space(seen), *_action_space(seen)]
    spy = _Spy(env)
    envs = InProcessVectorEnv(lambda: spy, 1)
    log = _Log(seen)
    try:
        _roll(envs, spy, log, steps)
        findings += [
            *_repetition(envs, env, source, min(TRACE, steps)),
            *_process_randomness(generators()),
            *_episodes(env, log),
            *_rewards(log),
            *_observations(log),
            *_manners(log),
            *_cost(seen, log),
        ]
    except EnvFault as fault:
        where = (
            f"at step {log.steps + 1} of {steps} random ones" if not log.over else "when an episode was repeated"
        )
        findings.append(
            Finding(
                "problem",
                f"the environment {fault} {where}",
                "correct the environment, then check it again",
                "training stops at the first such answer, since it must not enter the replay",
                exit_code=4,
            )
        )
    return findings


# --------------------------------------------------------------------------- running it


class _Spy(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the last answer as the environment gave it, and the time it took."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.obs: Any = None
        self.seconds = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        began = time.perf_counter()
        answer = self.env.reset(seed=seed, options=options)
        self.seconds += time.perf_counter() - began
        self.obs = answer[0] if isinstance(answer, tuple) else answer
        return answer

    def step(self, action: Any) -> Any:
        began = time.perf_counter()
        answer = self.env.step(action)
        self.seconds += time.perf_counter() - began
        if isinstance(answer, tuple) and len(answer) == 5:
            self.obs = answer[0]
        return answer


@dataclass
class _Log:
    """What happened during the random steps."""

    spaces: Spaces
    obs: list[FloatArray] = field(default_factory=list)
    starts: list[FloatArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    reused: bool = False
    seconds: float = 0.0
    over: bool = False

    @property
    def steps(self) -> int:
        return len(self.rewards)


def _roll(envs: InProcessVectorEnv, spy: _Spy, log: _Log, steps: int) -> None:
    rng = np.random.default_rng(0)
    episode, length, before = 0, 0, None
    log.starts.append(envs.reset(0, episode))
    for _ in range(steps):
        before = _arrays(log, spy.obs, before)
        (step,) = envs.step(0, _random_action(rng, log.spaces)[None])
        log.obs.append(step.obs)
        log.rewards.append(step.reward)
        length += 1
        if step.terminated or step.truncated:
            log.lengths.append(length)
            log.terminated.append(step.terminated)
            episode, length = episode + 1, 0
            log.starts.append(envs.reset(0, episode))
    _arrays(log, spy.obs, before)
    log.seconds, log.over = spy.seconds, True


def _arrays(log: _Log, obs: Any, before: list[Any] | None) -> list[Any]:
    """Note the dtypes of one raw observation, and whether it lies where the one before did."""
    leaves = [(name, space, _inside(obs, path)) for name, path, space in _parts(log.spaces.observation_space)]
    for name, space, value in leaves:
        if isinstance(space, spaces.Box) and (dtype := np.asarray(value).dtype) != space.dtype:
            log.dtypes[name] = f"{dtype} where the space says {space.dtype}"
    arrays = [value for _, _, value in leaves if isinstance(value, np.ndarray)]
    if before is not None:
        log.reused |= any(np.may_share_memory(a, b) for a, b in zip(arrays, before, strict=False))
    return arrays


def _play(envs: InProcessVectorEnv, seed: int, actions: Sequence[FloatArray]) -> Trace:
    trace: Trace = [(envs.reset(0, seed), 0.0, False, False)]
    for action in actions:
        (step,) = envs.step(0, action[None])
        trace.append((step.obs, step.reward, step.terminated, step.truncated))
        if step.terminated or step.truncated:
            break
    return trace


def _random_action(rng: np.random.Generator, seen: Spaces) -> FloatArray:
    n = seen.spec.n_actions
    drawn = rng.uniform(-1.0, 1.0, seen.spec.action_dim) if n is None else rng.integers(n, size=1)
    return drawn.astype(np.float32)


@contextmanager
def process_generators() -> Iterator[Callable[[], list[str]]]:
    """Inside, asking says which of the process's own generators have moved; after it they have not."""
    before = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()  # noqa: NPY002

    def moved() -> list[str]:
        numpy_now: Any = np.random.get_state(legacy=False)  # noqa: NPY002
        numpy_then: Any = before[1]
        same_keys = np.array_equal(numpy_now["state"]["key"], numpy_then["state"]["key"])
        return [
            name
            for name, same in (
                ("random", random.getstate() == before[0]),
                ("np.random", same_keys and numpy_now["state"]["pos"] == numpy_then["state"]["pos"]),
                ("torch", torch.equal(torch.get_rng_state(), before[2])),
            )
            if not same
        ]

    try:
        yield moved
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


# --------------------------------------------------------------------------- judging it


def _observation_space(seen: Spaces) -> Finding:
    space, size = seen.observation_space, seen.spec.obs_dim
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return Finding("ok", f"observations: {_kind(space)}, read as {_count(size, 'number')}")
    parts = ", ".join(f"{name} {_kind(part)} -> {spaces.flatdim(part)}" for name, _, part in _parts(space))
    order = "sorted by key" if isinstance(space, spaces.Dict) else "by position"
    return Finding("ok", f"observations: a {type(space).__name__}, read as {size} numbers, {order}: {parts}")


def _action_space(seen: Spaces) -> Iterator[Finding]:
    if seen.spec.n_actions is not None:
        yield Finding("ok", f"actions: {_count(seen.spec.n_actions, 'discrete choice')}")
        return
    low, high = seen.low, seen.high
    bounds = _range(low.min(), high.max())
    same = (low == low[0]).all() and (high == high[0]).all()
    how = "" if same else ", each with bounds of its own"
    dims = seen.action_space.shape or ()
    shape = "" if len(dims) == 1 else f" of shape {dims}"
    dtype = seen.action_space.dtype
    yield Finding("ok", f"actions: {_count(low.size, 'coordinate')}{shape}, {dtype}, in {bounds}{how}")
    if fixed := np.flatnonzero(low == high).tolist():
        yield Finding(
            "note",
            f"action {_some(fixed)} cannot move: its bounds are equal",
            "leave it out of the action space",
            "the automatic target entropy, -dim(A), counts it as one that can",
        )
    moving = low < high
    if (lopsided := np.flatnonzero(moving & (np.abs(low + high) > 1e-6 * (high - low)))).size:
        first = int(lopsided[0])
        middle = 0.5 * (low[first] + high[first])
        yield Finding(
            "ok",
            f"bounds of action {_some(lopsided.tolist())} are not symmetric: they are mapped from [-1, 1], so an "
            f"untrained policy acts around their middle ({middle:.3g} for action {first})",
        )
    if (wide := np.flatnonzero(np.maximum(np.abs(low), np.abs(high)) > WIDE_ACTIONS)).size:
        yield Finding(
            "note",
            f"action {_some(wide.tolist())} reaches {_range(low[wide].min(), high[wide].max())}",
            "if only a part is ever useful, declare that part, for instance with gymnasium.wrappers.RescaleAction",
            "exploration covers the whole range from the first step, and the entropy is measured relative to it",
        )


def _repetition(
    envs: InProcessVectorEnv, env: gym.Env[Any, Any], source: EnvSource, steps: int
) -> Iterator[Finding]:
    rng = np.random.default_rng(1)
    actions = [_random_action(rng, envs.spaces) for _ in range(steps)]
    first = _play(envs, TRACE_SEED, actions)
    again = _play(envs, TRACE_SEED, actions)
    consequence = "a resumed run begins a new episode where the stopped one was inside one: not bit for bit"
    if (at := _parting(first, again)) == 0:
        yield Finding(
            "note",
            "reset(seed=...) is not honoured: the same seed gave two different first observations",
            "begin reset with super().reset(seed=seed) and draw from self.np_random alone",
            f"evaluations start elsewhere each time, and {consequence}",
        )
    elif at is not None:
        yield Finding(
            "note",
            f"it does not repeat itself: the same seed and actions gave something else after {_count(at, 'step')}",
            "draw all randomness from self.np_random, and let nothing depend on time or threads",
            consequence,
        )
    else:
        fresh = source.make() if source.repeatable else env
        # A function may return one environment again and again.
        at = None if fresh is env else _parting(first, _play_and_close(fresh, actions))
        if at is not None:
            yield Finding(
                "note",
                "it carries something from one episode into the next: a new environment answered differently "
                f"after {_count(at, 'step')} with the same seed and actions",
                "set everything back in reset",
                consequence,
            )
        else:
            yield Finding(
                "ok",
                f"deterministic: {_count(len(first) - 1, 'step')} with the same seed and actions repeated "
                "exactly, so resuming is bit for bit inside an episode",
            )
    starts = [envs.reset(0, seed) for seed in range(1, 6)]
    if at != 0 and all(np.array_equal(start, starts[0]) for start in starts):
        yield Finding(
            "note",
            "every seed gives the same first observation",
            "nothing, if the task has one start state; else draw it from self.np_random in reset",
            "deterministic evaluation then repeats one episode, whatever --n-eval-episodes is",
        )


def _play_and_close(env: gym.Env[Any, Any], actions: Sequence[FloatArray]) -> Trace:
    envs = InProcessVectorEnv(lambda: env, 1)
    try:
        return _play(envs, TRACE_SEED, actions)
    finally:
        envs.close()


def _parting(first: Trace, second: Trace) -> int | None:
    """The first step after which two traces differ; None if they do not."""
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if not np.array_equal(a[0], b[0]) or a[1:] != b[1:]:
            return i
    return None if len(first) == len(second) else min(len(first), len(second))


def _process_randomness(moved: list[str]) -> Iterator[Finding]:
    if moved:
        yield Finding(
            "note",
            f"it draws from or reseeds the process's own random generators ({', '.join(moved)})",
            "draw from self.np_random, which reset(seed=...) seeds",
            "softac draws from none of them, but other code in the process does, and they are no part of a "
            "checkpoint",
        )


def _episodes(env: gym.Env[Any, Any], log: _Log) -> Iterator[Finding]:
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
        one = _count(n, "episode")
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


def _rewards(log: _Log) -> Iterator[Finding]:
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
    yield Finding("ok", f"rewards: {_range(low, high)}, mean {rewards.mean():.4g} a step")
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


def _observations(log: _Log) -> Iterator[Finding]:
    obs = np.stack(log.starts + log.obs)
    names, low, high, is_box = _coordinates(log.spaces.observation_space)
    constant = np.flatnonzero(is_box & (obs == obs[0]).all(0)).tolist()
    if constant and len(obs) > 2:
        yield Finding(
            "note",
            f"{_count(len(constant), 'coordinate')} of the observation never changed: {_some(constant, names)}",
            "nothing, if random actions just do not reach it; else leave it out",
            "it costs memory and tells the networks nothing",
        )
    size = np.quantile(np.abs(obs), 0.99, axis=0)
    counted = is_box & (size > 0)
    counted[constant] = False
    by_numbers = (
        "divide it by a fixed number in gymnasium.wrappers.TransformObservation (the statistics that "
        "NormalizeObservation learns are no part of a checkpoint)"
    )
    huge = np.flatnonzero(is_box & (size > LARGE_OBS)).tolist()
    if huge:
        yield Finding(
            "note",
            f"observation {_some(huge, names)} reaches {size[huge].max():.3g}",
            by_numbers,
            "networks learn best from numbers of about 1; beyond 1,000 one of them drowns the others",
        )
    if counted.any():
        largest, smallest = (int(np.flatnonzero(counted)[f(size[counted])]) for f in (np.argmax, np.argmin))
        if size[largest] > SCALE_RATIO * size[smallest] and not huge:
            yield Finding(
                "note",
                f"coordinates differ in scale: {names[largest]} reaches {size[largest]:.3g}, "
                f"{names[smallest]} {size[smallest]:.3g}",
                by_numbers.replace("divide it", "divide each"),
                "the networks see the small ones late or not at all",
            )
    outside = np.flatnonzero(((obs < low) | (obs > high)).any(0)).tolist()
    if outside:
        worst = obs[:, outside[0]]
        yield Finding(
            "note",
            f"observation {_some(outside, names)} leaves its declared bounds "
            f"{_range(low[outside[0]], high[outside[0]])}: it was in {_range(worst.min(), worst.max())}",
            "declare the bounds it keeps, or infinite ones",
            "softac does not use these bounds, but wrappers that rescale by them do",
        )


def _manners(log: _Log) -> Iterator[Finding]:
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


def _cost(seen: Spaces, log: _Log) -> Iterator[Finding]:
    # As softac.replay.ring.forecast: observation, action, reward and discount, and a pointer.
    each = 4 * (seen.spec.obs_dim + seen.spec.action_dim + 2) + 8
    memory = each * PLAN / 1e9
    yield Finding("ok", f"memory: a replay of {PLAN:,} transitions takes {memory:.2f} GB ({each} bytes each)")
    speed = log.steps / log.seconds if log.seconds > 0 else float("inf")
    forecast = f"{speed:,.0f} steps/s alone, so {PLAN:,} steps take {_hours(PLAN / speed)} besides the updates"
    if speed < SLOW:
        yield Finding(
            "note",
            f"slow: {forecast}",
            "find out what a step spends its time on",
            "training will wait for it; more --n-envs do not help, since they are stepped one after the other",
        )
    else:
        yield Finding("ok", f"speed: {forecast}")


# --------------------------------------------------------------------------- words


def _parts(
    space: gym.Space[Any], name: str = "", path: tuple[Any, ...] = ()
) -> Iterator[tuple[str, tuple[Any, ...], gym.Space[Any]]]:
    """The leaves of a space in the order in which `Spaces.flatten` reads them: name, keys, space."""
    match space:
        case spaces.Dict():
            for key, part in sorted(space.spaces.items()):
                yield from _parts(part, f"{name}.{key}" if name else str(key), (*path, key))
        case spaces.Tuple():
            for i, part in enumerate(space.spaces):
                yield from _parts(part, f"{name}[{i}]", (*path, i))
        case _:
            yield name or "the observation", path, space


def _coordinates(space: gym.Space[Any]) -> tuple[list[str], Any, Any, Any]:
    """For each flattened number: its name, its bounds, and whether it comes from a Box."""
    names: list[str] = []
    low, high, is_box = [], [], []
    for name, path, part in _parts(space):
        n = spaces.flatdim(part)
        prefix = name if path else ""
        names += [f"{prefix}[{i}]" if prefix else str(i) for i in range(n)]
        box = isinstance(part, spaces.Box)
        low.append(part.low.ravel() if isinstance(part, spaces.Box) else np.zeros(n))
        high.append(part.high.ravel() if isinstance(part, spaces.Box) else np.ones(n))
        is_box.append(np.full(n, box))
    with np.errstate(over="ignore"):
        bounds = [np.concatenate(b).astype(np.float32) for b in (low, high)]
    return names, bounds[0], bounds[1], np.concatenate(is_box)


def _inside(obs: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        obs = obs[key]
    return obs


def _kind(space: gym.Space[Any]) -> str:
    match space:
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


def _range(low: Any, high: Any) -> str:
    return f"[{low:.4g}, {high:.4g}]"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _some(indices: Sequence[int], names: Sequence[str] | None = None) -> str:
    shown = [names[i] if names else str(i) for i in indices[:3]]
    return ", ".join(shown) + (f" and {len(indices) - 3} more" if len(indices) > 3 else "")


def _hours(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
