"""The model a user holds: environment, agent, replay and run together."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from softac.agents.registry import algorithm_name, find_agent, serving
from softac.config import make_config
from softac.envs import EnvSource, InProcessVectorEnv, Spaces
from softac.envs.make import EnvLike
from softac.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    EnvironmentFailed,
    NumericalError,
    SoftacError,
    either,
    one_line,
)
from softac.files import exists
from softac.learning.engine import Engine, choose_engine, require_engine
from softac.learning.learner import Learner
from softac.nets.layers import round_hidden_products
from softac.replay import Segment, require_memory
from softac.run.checkpoint import (
    OPTIM_PREFIX,
    Snapshot,
    checkpoints,
    differences,
    prune,
    read_newest,
    write_checkpoint,
)
from softac.run.config import RecordConfig, RunConfig
from softac.run.evaluate import Returns, act, evaluate
from softac.run.folder import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    REPLAY,
    RunFolder,
    config_sha256,
    read_config,
    write_description,
)
from softac.run.numerics import numerics, usual_threads
from softac.run.recorder import Recorder, require_finite
from softac.run.seeding import Purpose, generator
from softac.run.training import Training, rows_kept, train
from softac.types import Agent, Moment, Sink

Callback = Callable[["Model", dict[str, float]], bool | None]

MOST_THREADS = 1024

log = logging.getLogger("softac")


class Model:
    """An agent together with the environment it learns in.

    Args:
        agent_class: a class with the members of `softac.types.Agent`, e.g. one of `softac.agents`.
        env: a Gymnasium id, a function that makes an environment, or an environment (which then
            belongs to the model: nothing else may step it).
        seed: of everything random, 0 to 2^32 - 1.
        n_envs: environments stepped in each round; more than one needs an id or a function.
        env_kwargs: keyword arguments of the environment.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:0".
        engine: "auto" (by rule, from the updates planned), "eager", "compiled" or "cudagraph".
        precision: "float32", or "bf16" for the products between hidden layers.
        trust_module: accept an id "module:Env-v0", which imports the module.
        config: hyperparameters; `softac defaults` lists them.

    Raises:
        ConfigError: an argument, hyperparameter or space that cannot work.
        EnvironmentFailed: the environment could not be made.
    """

    def __init__(
        self,
        agent_class: type[Any],
        env: EnvLike,
        *,
        seed: int = 0,
        n_envs: int = 1,
        env_kwargs: Mapping[str, Any] | None = None,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "float32",
        trust_module: bool = False,
        **config: Any,
    ) -> None:
        settings = {"seed": seed, "n_envs": n_envs, "device": device, "engine": engine}
        run = make_config(RunConfig, {**settings, "precision": precision})
        _require_agent(agent_class)
        hyperparameters = make_config(agent_class.Config, config)
        find_device(device)
        source = EnvSource(env, dict(env_kwargs or {}), trust_module)
        envs = source.vector(run.n_envs)
        self._assemble(agent_class, hyperparameters, run, envs.spaces, source, envs)
        require_engine(run.engine, self.agent)

    def _assemble(
        self,
        agent_class: type[Any],
        config: Any,
        run: RunConfig,
        spaces: Spaces,
        source: EnvSource,
        envs: InProcessVectorEnv | None,
        threads: int | None = None,
    ) -> None:
        _require_served(agent_class, spaces, source.name)
        self.run, self.spaces, self.source = run, spaces, source
        batch_size, net_arch = getattr(config, "batch_size", 1), getattr(config, "net_arch", ())
        self.threads = threads or usual_threads(batch_size, net_arch)
        with numerics(self.threads):
            weights = generator(Purpose.INITIAL_WEIGHTS, run.seed)
            self.agent: Agent = agent_class(spaces.spec, config, generator=weights, device=find_device(run.device))
        if run.precision == "bf16":
            _round_hidden_products(self.agent)
        self._envs = envs
        self._no_env = ""  # why there is none
        self._training: Training | None = None
        self._loaded: Snapshot | None = None
        self._engine_started = False
        self._home: Path | None = None  # the folder whose files this state belongs to
        self._segments: list[Segment] = []
        self._prediction_noise = generator(Purpose.PREDICTION, run.seed)

    @property
    def num_timesteps(self) -> int:
        """Environment steps made so far."""
        if self._training is not None:
            return self._training.steps
        return 0 if self._loaded is None else self._loaded.step

    def learn(
        self,
        total_timesteps: int,
        *,
        callback: Callback | None = None,
        run_dir: str | Path | None = None,
        eval_freq: int = 5_000,
        n_eval_episodes: int = 10,
        save_freq: int = 10_000,
    ) -> Self:
        """Train for exactly `total_timesteps` further environment steps.

        Args:
            total_timesteps: at least 1.
            callback: called with this model and the metrics every 1,000 steps and at the end;
                returning False ends the training.
            run_dir: a folder for metrics, evaluations and checkpoints: a new one, or the one this
                model was loaded from or trained in. Without it no file is written.
            eval_freq: environment steps between evaluations; 0: only at the end.
            n_eval_episodes: episodes per evaluation; 0: no evaluation.
            save_freq: environment steps between checkpoints; 0: only at the end.

        Raises:
            ConfigError: an argument that cannot work, or a replay that does not fit in memory.
            EnvironmentFailed: the environment raised or returned what it must not.
            DiskError: the folder could not be written.
            NumericalError: a loss or parameter is no longer finite.
        """
        frequencies = {"eval_freq": eval_freq, "n_eval_episodes": n_eval_episodes, "save_freq": save_freq}
        record = make_config(RecordConfig, frequencies)
        if not isinstance(total_timesteps, int) or total_timesteps < 1:
            raise ConfigError(
                f"total_timesteps={total_timesteps!r} was given",
                "expected a whole number of environment steps, at least 1",
                "give 100_000, say",
            )
        folder = None if run_dir is None else Path(run_dir)
        return self.train(self.num_timesteps + total_timesteps, record, folder, callback=callback)

    def train(
        self,
        until: int,
        record: RecordConfig,
        folder: Path | None = None,
        *,
        callback: Callback | None = None,
        sinks: Sequence[Sink] = (),
        heartbeat: Callable[[Training], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        engine: Engine | None = None,
    ) -> Self:
        """Train until `until` environment steps have been made in total; `learn` in full.

        Args:
            until: total environment steps.
            record: when to evaluate and save.
            folder: the run folder, or None.
            callback: as in `learn`.
            sinks: get every row of metrics.
            heartbeat: called after every round.
            stop: asked in every loop; True saves and ends the training.
            engine: executes the updates from the first call on; None: the one that was chosen.

        Raises:
            SoftacError: as `learn`.
        """
        with ExitStack() as stack:
            stack.enter_context(numerics(self.threads))
            training = self._ready(until)
            eval_envs = None
            if folder is not None and record.n_eval_episodes > 0 and self.source.repeatable:
                eval_envs = stack.enter_context(closing(self.source.vector(1)))
            if folder is not None:
                stack.enter_context(RunFolder(folder))
            self._start_engine(training, until, engine)
            continued = folder is not None and self._settle(folder, until, record)
            recorder = Recorder(
                training,
                folder,
                eval_envs,
                record=record,
                config_sha256="" if folder is None else config_sha256(self.description()),
                resume_step=training.steps if continued else None,
                segments=self._segments if continued else (),
                sinks=sinks,
                callback=None if callback is None else partial(callback, self),
                stop=stop,
            )
            stack.callback(recorder.close)

            def after_round() -> bool:
                heartbeat(training)
                return recorder.after_round()

            try:
                recorder.begin()
                train(training, until, after_round, stop)
                recorder.finish()
            except (EnvironmentFailed, NumericalError) as error:
                recorder.crashed(error)
                raise
            finally:
                # Also after an error: the same model may go on in the same folder.
                self._home, self._segments = folder, recorder.segments
        return self

    def _ready(self, until: int) -> Training:
        """The training state, made or restored when it is first needed."""
        rows = min(rows_kept(self.agent, self.run.n_envs), until)
        rollout_envs = self.run.n_envs if self.agent.on_policy else None
        if self._training is not None:
            # Rows that hold something already are not counted as free any more.
            require_memory(max(0, rows - len(self._training.memory)), self.spaces.spec, rollout_envs=rollout_envs)
            return self._training
        if self._envs is None:
            raise ConfigError(
                f"this model has no environment to learn in ({self._no_env})",
                "expected one",
                "pass env= to load",
            )
        if self._loaded is not None and not self._loaded.state:
            raise ConfigError(
                f"the agent of the best evaluation (step {self._loaded.step}) was loaded, which can only act",
                "expected a whole checkpoint to learn on from",
                "load without best",
            )
        require_memory(rows, self.spaces.spec, rollout_envs=rollout_envs)
        training = Training(self.agent, self._envs, self.run.seed)
        if self._loaded is None or self._home is None:
            training.collector.begin()
        else:
            for sentence in training.restore(self._loaded, self._home / REPLAY):
                log.warning("%s", sentence)
            if changed := differences(self._loaded.made_on):
                log.warning("continuing, not bit for bit: %s", changed)
        self._training = training
        return training

    def _start_engine(self, training: Training, until: int, given: Engine | None) -> None:
        """Decide how updates are executed, once for all that this model will learn."""
        if self._engine_started:
            return
        asked = self.run.engine
        if asked == "auto" and self._loaded is not None:
            asked = "eager"  # what it was saved with, and its folder says "auto"
        name, why = choose_engine(asked, self.agent, training.updates_by(until))
        if asked == "auto":
            self.run = make_config(RunConfig, asdict(self.run) | {"engine": name})
        elif name != asked and given is None:
            log.warning("updates are executed eagerly and not %s: %s", asked, why)
        if given is not None:
            training.engine, name, why = given, given.name, "several seeds at once"
        elif name != "eager":
            training.engine = Engine(self.agent, name)
        log.info("engine %s (%s), threads %d, %s", name, why, self.threads, self.run.precision)
        if given is None and name != "eager":
            log.info("the first update waits for the compiler: 15 seconds, or 3 if it has compiled the like")
        before = None if self._loaded is None else self._loaded.state.get("engine", "eager")
        if before not in (None, name):
            log.warning("continuing, not bit for bit: engine was %s and is %s", one_line(str(before), 40), name)
        self._engine_started = True

    def _settle(self, folder: Path, until: int, record: RecordConfig) -> bool:
        """Write the description of the run; True if the folder's files belong to this state."""
        continued = self._home is not None and folder.resolve() == self._home.resolve()
        if not continued and exists(folder / CONFIG) and checkpoints(folder / CHECKPOINTS):
            raise ConfigError(
                f"{folder} holds a run already",
                "expected a new folder, or the one this model was loaded from",
                "choose another, or continue that run with `softac resume`",
            )
        description = self.description()
        config_sha256(description)  # before anything is written: refuses what is not plain data
        try:
            write_description(folder, description | {"record": asdict(record), "total_timesteps": until})
        except OSError as error:
            raise DiskError(
                f"{folder} cannot be written ({error.strerror})",
                "expected a folder with space of your own",
                "choose another",
            ) from None
        return continued

    def predict(self, obs: Any, deterministic: bool = False) -> tuple[NDArray[Any], None]:
        """The policy's action for one observation or a batch of them.

        Args:
            obs: as the environment returns it, or with one leading dimension more.
            deterministic: the mode of the policy; otherwise a sampled action.

        Returns:
            The action in the environment's own bounds, shape and dtype (with the leading dimension
            of the batch, if there was one; one discrete action is a NumPy integer), and None for
            recurrent state.

        Raises:
            ConfigError: the observation is not of the environment's shape.
        """
        try:
            flat, batched = self.spaces.flatten_batch(obs)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(
                f"an observation that does not fit was given ({error})",
                f"expected {self.spaces.observation_space} or a batch of such",
                "pass it as the environment returns it",
            ) from None
        noise = None
        if not deterministic:
            noise = self.agent.act_noise(len(flat), self._prediction_noise, Moment(self.num_timesteps))
        actions = [self.spaces.to_env(action) for action in act(self.agent, flat, noise)]
        return (np.stack(actions) if batched else actions[0]), None

    def evaluate(self, env: EnvLike | None, n_eval_episodes: int, *, deterministic: bool, seed: int) -> Returns:
        """Returns of whole episodes; `env` None: the kind this model learns in. See `evaluate_policy`."""
        used = [e.unwrapped for e in self._envs.envs] if self._envs is not None else []
        inner = getattr(env, "unwrapped", env)  # a wrapper around it would step it just as well
        if any(inner is e for e in used) or (env is None and not self.source.repeatable):
            raise ConfigError(
                "the environment this model trains in was given",
                "expected another, since evaluating would end its episode",
                "pass its id, a function, or a second one",
            )
        source = self.source if env is None else EnvSource(env, {})
        with ExitStack() as stack:
            envs = source.vector(1)
            if source.repeatable:  # made here; an environment that was given stays open
                stack.enter_context(closing(envs))
            stack.enter_context(numerics(self.threads))
            _require_same_spaces(source, envs.spaces, self.spaces)
            return evaluate(
                self.agent,
                envs,
                n_eval_episodes,
                deterministic=deterministic,
                seed=seed,
                step=self.num_timesteps,
            )

    def description(self) -> dict[str, Any]:
        """What `config.json` says of this model."""
        return {
            "algorithm": algorithm_name(type(self.agent)),
            "env": {
                "id": self.source.name,
                "registered": self.source.registered,
                "kwargs": self.source.kwargs,
                "spaces": self.spaces.to_json(),
            },
            "hyperparameters": asdict(self.agent.config),
            "run": asdict(self.run) | {"threads": self.threads},
        }

    def save(self, folder: str | Path) -> None:
        """Write everything `load` and `learn` need to go on, replay included.

        Args:
            folder: made if it does not exist. Saving there again keeps the last two.

        Raises:
            DiskError: it cannot be written.
            NumericalError: a parameter is not finite.
        """
        path = Path(folder)
        description, training = self.description(), self._ready(1)
        identity = config_sha256(description)
        with RunFolder(path), numerics(self.threads):
            try:
                snapshot = training.snapshot(path / REPLAY, [])
                require_finite(snapshot)
                # The description last: until it is there, the model saved here before is whole.
                written = write_checkpoint(path / CHECKPOINTS, snapshot, identity)
                write_description(path, description)
                prune(path / CHECKPOINTS, path / REPLAY, written)
            except OSError as error:
                raise DiskError(
                    f"the model could not be written to {path} ({error.strerror})",
                    "expected a disk that takes it",
                    "free some space or choose another folder",
                ) from None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        env: EnvLike | None = None,
        *,
        agent_class: type[Any] | None = None,
        best: bool = False,
        verify_replay: bool = False,
        trust_module: bool = False,
    ) -> Self:
        """The model of a run folder, or of a folder that `save` wrote, at its newest checkpoint.

        Nothing in the folder is executed. Where the newest checkpoint is damaged, the one before
        is used and a warning logged. The replay is read when `learn` is called.

        Args:
            folder: of a run or a saved model.
            env: as for a new model; None: the registered environment it was trained in.
            agent_class: for an agent that is not one of softac's.
            best: the agent of the best evaluation instead; it can act but not go on learning.
            verify_replay: pass over a checkpoint whose replay files are damaged, too.
            trust_module: accept "module:Env-v0" for `env`, which imports the module.

        Raises:
            CheckpointError: a file is missing, damaged or hostile.
            ConfigError: `env` does not have the spaces the model was trained with, or the agent is not
                one, or of another algorithm than this class.
        """
        path = Path(folder)
        if agent_class is not None:
            _require_agent(agent_class)
        config = read_config(path)
        described = Description.read(config, path, agent_class)
        cls._require_own(described.agent_class, path)
        spaces, name = described.spaces, described.env_id
        snapshot, failures = read_newest(
            path / (BEST if best else CHECKPOINTS),
            config_sha256(config),
            spaces.spec.action_dim,
            replay=path / REPLAY if verify_replay else None,
        )
        if agent_class is None:
            _require_as_large(snapshot, spaces, described.hyperparameters, path)
        for sentence in failures:
            log.warning("%s; using the checkpoint of step %d", sentence, snapshot.step)
        same = env is None or (isinstance(env, str) and env == name)
        source = EnvSource(name if env is None else env, described.env_kwargs if same else {}, trust_module)
        envs, no_env = None, ""
        try:
            if env is None and not described.registered:
                raise ConfigError(
                    f"it learned in {name}, which has no id",
                    "expected one, since a file cannot make the environment again",
                    "pass env=",
                )
            envs = source.vector(described.run.n_envs)
            _require_same_spaces(source, envs.spaces, spaces)
        except SoftacError as error:
            if env is not None:
                raise
            envs, no_env = None, str(error)
        model = cls.__new__(cls)
        model._assemble(
            described.agent_class,
            described.hyperparameters,
            described.run,
            spaces,
            source,
            envs,
            described.threads,
        )
        model._no_env = no_env
        networks = {k: v for k, v in snapshot.tensors.items() if not k.startswith(OPTIM_PREFIX)}
        optim = {k: v for k, v in model.agent.state_dict().items() if k.startswith(OPTIM_PREFIX)}
        model.agent.load_state_dict(networks | optim)
        model._loaded, model._home, model._segments = snapshot, path, snapshot.segments
        return model

    @classmethod
    def _require_own(cls, found: type[Any], path: Path) -> None:
        """Refuse a folder of another algorithm; `Model` takes any."""

    def close(self) -> None:
        """Close the environments; the model can still predict."""
        if self._envs is not None:
            self._envs.close()


@dataclass(frozen=True)
class Description:
    """What `config.json` says of a model, checked."""

    agent_class: type[Any]
    hyperparameters: Any
    run: RunConfig
    threads: int
    env_id: str
    env_kwargs: dict[str, Any]
    registered: bool
    spaces: Spaces

    @classmethod
    def read(cls, config: Mapping[str, Any], path: Path, agent_class: type[Any] | None = None) -> Self:
        """Check the configuration found in the folder `path`.

        Raises:
            CheckpointError: something in it cannot be what softac wrote.
        """
        try:
            settings, env = dict(config["run"]), config["env"]
            threads = int(settings.pop("threads"))
            if not 1 <= threads <= MOST_THREADS:
                raise ValueError(f"{threads} threads")
            found = agent_class or find_agent(str(config["algorithm"]))
            return cls(
                agent_class=found,
                hyperparameters=make_config(found.Config, config["hyperparameters"]),
                run=make_config(RunConfig, settings),
                threads=threads,
                env_id=str(env["id"]),
                env_kwargs=dict(env["kwargs"]),
                registered=bool(env["registered"]),
                spaces=Spaces.from_json(env["spaces"]),
            )
        except (ConfigError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{path / CONFIG} cannot be used ({error})",
                "expected what softac wrote",
                "restore the file",
            ) from None


def evaluate_policy(
    model: Model,
    env: EnvLike,
    n_eval_episodes: int = 10,
    deterministic: bool = True,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation of the undiscounted return over whole episodes.

    Args:
        model: acts; its training is left as it is.
        env: an id, a function, or an environment that nothing else uses meanwhile.
        n_eval_episodes: at least 1.
        deterministic: the mode of the policy; otherwise sampled actions.
        seed: of the start states; the same seed gives every model the same ones.

    Raises:
        ConfigError: the environment has other spaces than the model, or is the one it trains in.
        EnvironmentFailed: the environment raised or returned what it must not.
    """
    returns = model.evaluate(env, n_eval_episodes, deterministic=deterministic, seed=seed)
    return returns.mean, returns.std


def find_device(name: str) -> torch.device:
    """The device a user means.

    Raises:
        ConfigError: it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"device={name!r} was given",
            f"expected auto, cpu, or a CUDA device that is present ({torch.cuda.device_count()} here)",
            "leave it out for auto",
        ) from None
    return device


def _require_agent(agent_class: type[Any]) -> None:
    """Refuse a class that is not an agent; only names are looked at, `check_agent` tries the rest."""
    names = [n for n in (*vars(Agent), *Agent.__annotations__) if not n.startswith("_")]
    missing = sorted(n for n in names if n not in ("config", "device") and not hasattr(agent_class, n))
    if missing:
        raise ConfigError(
            f"{agent_class.__name__} has no {', '.join(missing)}",
            "expected the members of softac.types.Agent",
            "add them, then try softac.check_agent on it",
        )


def _round_hidden_products(agent: Agent) -> None:
    """Compute in bfloat16 what may be; refuse an agent that has nothing such."""
    parts = [part.module if isinstance(part, Learner) else part for part in vars(agent).values()]
    if not sum(round_hidden_products(part) for part in parts if isinstance(part, nn.Module)):
        raise ConfigError(
            f"precision='bf16' was given and {algorithm_name(type(agent))} has no product between hidden layers, "
            "which is what it rounds",
            "expected two hidden layers or more",
            "leave precision out",
        )


def _require_served(agent_class: type[Any], spaces: Spaces, env: str) -> None:
    """Refuse an action space that the agent cannot choose from."""
    kind = spaces.spec.actions
    if kind not in agent_class.actions:
        given, wanted = (
            (f"{spaces.spec.n_actions} discrete actions", "continuous ones (a Box)")
            if kind == "discrete"
            else ("continuous actions", "discrete ones (Discrete)")
        )
        raise ConfigError(
            f"{env} has {given} and {algorithm_name(agent_class)} chooses {wanted}",
            f"expected an algorithm for {kind} actions",
            f"choose {either(serving(kind))}",
        )


def _require_as_large(snapshot: Snapshot, spaces: Spaces, hyperparameters: Any, path: Path) -> None:
    """Refuse a configuration that asks for larger networks than were saved, before it gets their memory."""
    outputs = spaces.spec.n_actions or spaces.spec.action_dim
    widths = (spaces.spec.obs_dim, *getattr(hyperparameters, "net_arch", ()), outputs)
    asked = sum(a * b for a, b in pairwise(widths))
    saved = sum(tensor.numel() for tensor in snapshot.tensors.values())
    if asked > saved and len(widths) > 2:
        raise CheckpointError(
            f"{path / CONFIG} describes a network of {asked} weights or more, and the checkpoint of step "
            f"{snapshot.step} has {saved}",
            "expected the configuration it was trained with",
            "restore the file",
        )


def _require_same_spaces(source: EnvSource, given: Spaces, expected: Spaces) -> None:
    if given.to_json() != expected.to_json():
        raise ConfigError(
            f"{source.name} has other spaces than the environment of this model",
            f"expected {expected.observation_space} and {expected.action_space}",
            "pass one that has",
        )
