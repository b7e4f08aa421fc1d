"""What a folder says of a model: read back and checked, or written."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from softac.config import as_it_was, default, fields, make_config
from softac.envs import EnvSource, FreeEnvs, Spaces, VectorEnv, as_batch, open_envs
from softac.envs.make import EnvLike
from softac.errors import CheckpointError, ConfigError, DiskError, SoftacError
from softac.files import exists
from softac.run.changes import Change, Past, change, read_history, since
from softac.run.checkpoint import (
    CHECKPOINTS,
    KEEP,
    Home,
    Snapshot,
    checkpoints,
    prune,
    read_newest,
    write_checkpoint,
)
from softac.run.config import EXCHANGEABLE, LATER, RunConfig, exchanged
from softac.run.folder import (
    BEST,
    CONFIG,
    REPLAY,
    RunFolder,
    config_sha256,
    read_config,
    write_description,
)
from softac.run.free import require_free
from softac.run.prior import require_prior_fits
from softac.run.recorder import require_finite
from softac.run.size import weights_described
from softac.run.training import Training
from softac.types import Agent, AsEncoder, EnvSpec

MOST_THREADS = 1024

Environments: TypeAlias = tuple[EnvSource, VectorEnv | None, str]  # where from, they, and why there are none
Found: TypeAlias = tuple[Snapshot, Home]

log = logging.getLogger("softac")


@dataclass(frozen=True)
class Setup:
    """What a model is made of besides its environments.

    Attributes:
        agent_class: of its agent.
        hyperparameters: an instance of `agent_class.Config`.
        run: how it is trained.
        spaces: those of its environments.
        threads: of the processor, for all that is computed.
        encoder: of images; where it has a name, `run` has it, too.
    """

    agent_class: type[Any]
    hyperparameters: Any
    run: RunConfig
    spaces: Spaces
    threads: int
    encoder: AsEncoder

    @property
    def spec(self) -> EnvSpec:
        """What its networks are given."""
        return self.spaces.read_with(self.encoder, normalize=self.run.normalize != "none")


@dataclass(frozen=True)
class Description(Setup):
    """What `config.json` says of a model, checked.

    Attributes:
        path: the folder it lies in.
        device: the one it was trained on last.
        past: how it was begun, and what has been changed since.
        sha256: identifies the configuration in checkpoints.
    """

    path: Path
    env_id: str
    env_kwargs: dict[str, Any]
    registered: bool
    device: str
    past: Past
    sha256: str

    @classmethod
    def read(cls, path: Path, find: Callable[[str], type[Any]], config: dict[str, Any] | None = None) -> Self:
        """The configuration in the folder `path`.

        Args:
            path: of a run or a saved model.
            find: an agent's class by the name of its algorithm; raises `ConfigError` for one it does not know.
            config: what `config.json` says, where it has been read.

        Raises:
            CheckpointError: something in it cannot be what softac wrote.
        """
        config = read_config(path) if config is None else config
        try:
            settings, env = dict(config["run"]), config["env"]
            threads = int(settings.pop("threads"))
            if not 1 <= threads <= MOST_THREADS:
                raise ValueError(f"{threads} threads")
            found, run = find(str(config["algorithm"])), make_config(RunConfig, LATER | settings)
            history = read_history(config.get("history", []))
            begun_with, kwargs = _with_tuples(config["hyperparameters"]), dict(env["kwargs"])
            hyperparameters = since(history, _defaults(found.Config) | as_it_was(found.Config) | begun_with)
            return cls(
                path=path,
                agent_class=found,
                hyperparameters=make_config(found.Config, hyperparameters),
                run=run,
                threads=threads,
                encoder=run.encoder,
                env_id=str(env["id"]),
                env_kwargs=dict(since(history, {"env_kwargs": kwargs})["env_kwargs"]),
                registered=bool(env["registered"]),
                spaces=Spaces.from_json(env["spaces"]),
                device=str(since(history, {"device": run.device})["device"]),
                past=Past(begun_with, str(env["id"]), kwargs, history),
                sha256=config_sha256(config),
            )
        except (ConfigError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{path / CONFIG} cannot be used ({error})",
                "expected what softac wrote",
                "restore the file",
            ) from None

    def with_encoder(self, encoder: AsEncoder | None) -> Self:
        """The same with the module of an encoder, if it is one that has no name.

        Raises:
            ConfigError: it is missing, or not the one it was made with.
        """
        own, made = self.run.encoder == "own", None if isinstance(encoder, str) else encoder
        if (own and made is None) or (not own and encoder is not None):
            raise ConfigError(
                f"encoder={encoder!r:.100} was given for a model with encoder={self.run.encoder!r}",
                "expected the module that it was made with" if own else "expected none: a file has the name",
                "pass encoder= to load" if own else "leave encoder out",
            )
        return replace(self, encoder=made or self.encoder)

    def newest(self, *, best: bool, verify_replay: bool, step: int | None = None) -> Found:
        """The newest checkpoint that verifies, or the agent of the best evaluation, and the folder it is in.

        With `step`, the newest of those written at this step.

        Raises:
            CheckpointError: there is none.
        """
        seen = frozenset(path.name for path in checkpoints(self.path / CHECKPOINTS))
        snapshot, failures = read_newest(
            self.path / (BEST if best else CHECKPOINTS),
            self.sha256,
            self.spaces.spec.action_dim,
            replay=self.path / REPLAY if verify_replay else None,
            step=step,
        )
        for sentence in failures:
            log.warning("%s; using the checkpoint of step %d", sentence, snapshot.step)
        good = [] if best or snapshot.path is None else [snapshot.path]
        return snapshot, Home(self.path, snapshot.segments, good, seen)

    def changed(self, step: int, given: Mapping[str, Any]) -> Self:
        """The same with other settings from `step` on.

        Args:
            step: environment steps made so far.
            given: by name: hyperparameters; device, env_kwargs and those of `softac.run.config.EXCHANGEABLE`, of
                which None is as before; the encoder, as for `with_encoder`.

        Raises:
            ConfigError: one of them cannot be changed, or cannot work.
        """
        run = exchanged(self.run, **{name: given[name] for name in EXCHANGEABLE if name in given})
        others: dict[str, Any] = {"env_kwargs": self.env_kwargs, "device": self.device}
        apart = (*EXCHANGEABLE, *others, "encoder")
        asked = {name: value for name, value in given.items() if name not in apart}
        hyperparameters, made = change(self.hyperparameters, asked, step)
        now: dict[str, Any] = {
            name: was if given.get(name) is None else given[name] for name, was in others.items()
        }
        now["env_kwargs"] = plain_arguments(now["env_kwargs"])
        made += [Change(step, name, was, now[name]) for name, was in others.items() if was != now[name]]
        past = replace(self.past, history=(*self.past.history, *made), made=tuple(made))
        changed = replace(self, run=run, hyperparameters=hyperparameters, past=past, **now)
        return changed.with_encoder(given.get("encoder"))

    def require_as_large(self, snapshot: Snapshot) -> None:
        """Refuse a configuration that asks for larger networks than were saved, before they get their memory.

        Raises:
            CheckpointError: it does.
        """
        asked = weights_described(self.agent_class, self.hyperparameters, self.run, self.spaces)
        saved = sum(tensor.numel() for tensor in snapshot.tensors.values())
        if asked > saved:
            raise CheckpointError(
                f"{self.path / CONFIG} describes networks of {asked} weights, and the checkpoint of step "
                f"{snapshot.step} has {saved}",
                "expected the configuration it was trained with",
                "restore the file",
            )

    def environments(self, env: EnvLike | None, *, trust_module: bool) -> tuple[EnvSource, VectorEnv | None, str]:
        """Environments to go on in: those it was trained in, or those that are given.

        Returns:
            Where they come from, they, and why there are none, if those of the file cannot be made.

        Raises:
            SoftacError: those that were given cannot be made, or have other spaces.
        """
        trust_module = trust_module and env is not None  # the word of the caller is not that of the file
        same = env is None or (isinstance(env, str) and env == self.env_id)
        source = EnvSource(self.env_id if env is None else env, self.env_kwargs if same else {}, trust_module)
        try:
            if env is None and not self.registered:
                raise ConfigError(
                    f"it learned in {self.env_id}, which has no id",
                    "expected one, since a file cannot make the environment again",
                    "pass env=",
                )
            with ExitStack() as stack:
                envs = training_envs(source, self.run)
                if source.repeatable:
                    stack.callback(envs.close)
                require_same_spaces(source, envs.spaces, self.spaces)
                stack.pop_all()
        except SoftacError as error:
            if env is not None:
                raise
            return source, None, str(error)
        return source, envs, ""


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _defaults(config: type[Any]) -> dict[str, Any]:
    return {name: default(config, name) for name in fields(config)}


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's arguments as a file gives them back; a NumPy number becomes one of Python, a tuple a list.

    Raises:
        ConfigError: one of them cannot be written so that the same thing is read.
    """
    return {str(name): _plain(value, str(name)) for name, value in arguments.items()}


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        value = list(value)
    if type(value) is list:
        return [_plain(part, f"{place}[{i}]") for i, part in enumerate(value)]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _plain(part, f"{place}[{key!r}]") for key, part in value.items()}
    if value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    raise ConfigError(
        f"env_kwargs {place}={value!r:.100} was given, which cannot be written into {CONFIG} and read back",
        "expected texts, finite numbers, booleans, None, and lists and dicts of them",
        "pass a function that makes the environment instead",
    )


def describe(
    algorithm: str, agent: Agent, run: RunConfig, threads: int, source: EnvSource, spaces: Spaces
) -> dict[str, Any]:
    """What `config.json` says of a model."""
    return {
        "algorithm": algorithm,
        "env": {
            "id": source.name,
            "registered": source.registered,
            "kwargs": source.kwargs,
            "spaces": spaces.to_json(),
        },
        "hyperparameters": asdict(agent.config),
        "run": asdict(run) | {"threads": threads},
    }


def save(path: Path, description: dict[str, Any], training: Training, before: Home | None) -> Home:
    """Write a model that `Description.read` finds again; see `Model.save`.

    Args:
        path: the folder.
        description: what `config.json` is to say.
        training: the state.
        before: what was saved there of the same training; None: nothing may be there.

    Returns:
        What is there now.
    """
    identity = config_sha256(description)
    with RunFolder(path):
        if before is not None:
            before.require_own()
        _require_no_other(path, own=before is not None)
        try:
            snapshot = training.snapshot(path / REPLAY, [])
            require_finite(snapshot)
            # The description last: until it is there, the model saved here before is whole.
            written = write_checkpoint(path / CHECKPOINTS, snapshot, identity)
            write_description(path, description)
            good = [*(before.good if before else ()), written][-KEEP:]
            prune(path / CHECKPOINTS, path / REPLAY, good)
        except OSError as error:
            raise DiskError(
                f"the model could not be written to {path} ({error.strerror})",
                "expected a disk that takes it",
                "free some space or choose another folder",
            ) from None
        return Home(path, snapshot.segments, good, frozenset(p.name for p in checkpoints(path / CHECKPOINTS)))


def _require_no_other(path: Path, *, own: bool) -> None:
    """Refuse to save over a run, or over a model that is not an earlier state of the same one."""
    if not exists(path / CONFIG) or not checkpoints(path / CHECKPOINTS):
        return
    run = "total_timesteps" in read_config(path)
    if run or not own:
        raise ConfigError(
            f"{path} holds a {'run' if run else 'saved model'} already",
            "expected a new folder, or one that this model was saved to or loaded from",
            "choose another; `learn(run_dir=...)` saves a run by itself" if run else "choose another",
        )


def training_envs(source: EnvSource, run: RunConfig) -> VectorEnv:
    """The environments that a run learns in; raises as `softac.envs.open_envs`."""
    if as_batch(source.env) is not None and run.on_env_failure == "restart":
        raise ConfigError(
            f"on_env_failure='restart' was given with a simulator ({source.name})",
            "expected environments of which one can be made anew without the others",
            "leave it out",
        )
    if run.collect == "free":
        if run.env_workers != run.n_envs:
            raise ConfigError(
                f"collect='free' was given with n_envs={run.n_envs} and env_workers={run.env_workers}",
                "expected a process for each environment, so that none waits for another",
                f"give env_workers={run.n_envs}",
            )
        return FreeEnvs(source, run.n_envs, run.env_timeout, run.env_on)
    return open_envs(
        source, run.n_envs, workers=run.env_workers, timeout=run.env_timeout, beside=run.overlap, on=run.env_on
    )


def require_fitting(agent_class: type[Any], run: RunConfig, spec: EnvSpec) -> None:
    """Refuse what goes only with a replay, or only without one.

    Raises:
        ConfigError: an agent that learns from what its policy has just done should do so while it acts, or one
            with a replay should normalise rewards.
    """
    if run.normalize != "none" and getattr(agent_class, "offline", False):
        raise ConfigError(
            f"normalize={run.normalize!r} was given with {agent_class.__name__}, which steps no environment",
            "expected an algorithm that does: each of its steps counts once in the statistics",
            "leave normalize out",
        )
    if run.normalize == "obs,reward" and not agent_class.on_policy:
        raise ConfigError(
            f"normalize='obs,reward' was given with {agent_class.__name__}, which keeps rewards in a replay",
            "expected it with an on-policy algorithm; a replay outlives the scale of its rewards",
            "give normalize='obs'",
        )
    _require_hindsight_fits(agent_class, run)
    sides = [min(image.height, image.width) for image in spec.images]
    if run.random_shift and (agent_class.on_policy or run.random_shift >= min(sides, default=0)):
        raise ConfigError(
            f"random_shift={run.random_shift} was given with {agent_class.__name__} for {_called(sides)}",
            "expected images, of more pixels a side than they are moved by, and an algorithm with a replay",
            "leave random_shift out",
        )
    require_prior_fits(agent_class, run)
    if run.collect == "free":
        require_free(agent_class, run)
    if run.overlap and agent_class.on_policy:
        raise ConfigError(
            f"overlap was given with {agent_class.__name__}, which learns from each rollout of its present policy",
            "expected an algorithm with a replay, which may learn while the environments are stepped",
            "leave overlap out, or choose sac or td3, say",
        )


def _require_hindsight_fits(agent_class: type[Any], run: RunConfig) -> None:
    if run.hindsight != "none" and agent_class.on_policy:
        raise ConfigError(
            f"hindsight was given with {agent_class.__name__}, which learns from what its own policy has done",
            "expected an algorithm with a replay, which may learn from what might have been wanted",
            "leave hindsight out, or choose sac, td3 or dqn, say",
        )
    if run.hindsight == "none" and run.n_sampled_goal != default(RunConfig, "n_sampled_goal"):
        raise ConfigError(
            f"n_sampled_goal={run.n_sampled_goal} was given without hindsight",
            "expected hindsight, which takes other goals for those that were wanted",
            "give hindsight='future' as well, or leave n_sampled_goal out",
        )


def _called(sides: Sequence[int]) -> str:
    return f"images of {min(sides)} pixels" if sides else "observations without images"


def require_same_spaces(source: EnvSource, given: Spaces, expected: Spaces) -> None:
    """Refuse environments of other spaces than a model's own.

    Raises:
        ConfigError: they differ.
    """
    if different := expected.difference(given):
        raise ConfigError(
            f"{source.name} has other spaces than the environment of this model: {different}",
            "expected what it was trained with",
            "pass one that has the same",
        )
