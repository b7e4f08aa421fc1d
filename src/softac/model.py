"""The model a user holds: environment, agent, replay and run together."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from numpy.typing import NDArray

from softac.agents.make import find_device, make_agent, present_device, require_agent, require_served
from softac.agents.registry import AGENTS, algorithm_name, find_agent
from softac.config import make_config
from softac.envs import EnvSource, VectorEnv, number_of
from softac.envs.images import say_what_may_be_images
from softac.envs.make import EnvLike
from softac.files import user_path
from softac.learning.engine import require_engine
from softac.run import given, habits, stored
from softac.run.config import RecordConfig, RunConfig, say_without_effect, say_without_run_dir, whole_steps
from softac.run.evaluate import Returns, evaluate, predict
from softac.run.lifecycle import Attending, Lifecycle
from softac.run.numerics import numerics, single_precision, usual_threads
from softac.run.prior import named, with_norm
from softac.run.seeding import Purpose, generator
from softac.run.signals import Interruption
from softac.run.size import require_memory_for, weights_described
from softac.run.training import Training
from softac.types import AsEncoder

Callback = Callable[["Model", dict[str, float]], bool | None]


class Model:
    """An agent together with the environment it learns in.

    Args:
        agent_class: a class with the members of `softac.types.Agent`, e.g. one of `softac.agents`.
        env: a Gymnasium id, a function that makes an environment, an environment (which then belongs to the
            model: nothing else may step it), or a simulator of many (`softac.envs.BatchEnv`).
        seed: of everything random, 0 to 2^32 - 1.
        n_envs: environments stepped in each round; more than one needs an id or a function.
        env_kwargs: keyword arguments of the environment.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:0".
        engine: "auto" (by rule, from the updates planned), "eager", "compiled" or "cudagraph".
        precision: "float32", or "bf16" for the products between hidden layers.
        env_workers, env_on: processes that step them, with the same bits (0: this one); "local" or "ray" ones.
        env_timeout: seconds that making, resetting or stepping one may take, where processes step them.
        on_env_failure: "stop", or "restart": a new instance begins a new episode where an environment fails.
        overlap, collect: update while the environments are stepped (an update late); "free": each at its own pace.
        normalize: "none", "obs", or "obs,reward" (on-policy): what is brought to one size by learned statistics.
        encoder: of images: "auto", "none", a name, or what makes a module of (C, H, W) and a generator.
        random_shift: pixels by which the images of each batch are moved at random (DrQ); 0: none.
        hindsight: "future" or "final": off-policy, other goals for rows of a task with goals; `softac.envs.goals`.
        n_sampled_goal: with hindsight, rows with another goal for each with its own, in the mean.
        prior, prior_share: a data set (Minari), and its share of every batch (0.5); 1: no steps are made.
        trust_module: accept an id "module:Env-v0", which imports the module.
        config: hyperparameters; `softac defaults` lists them.

    Raises:
        ConfigError, EnvironmentFailed: what cannot work; an environment that could not be made.
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
        env_workers: int = 0,
        env_on: str = "local",
        env_timeout: float = 300.0,
        on_env_failure: str = "stop",
        overlap: bool = False,
        collect: str = "lockstep",
        normalize: str = "none",
        encoder: AsEncoder = "auto",
        random_shift: int = 0,
        hindsight: str = "none",
        n_sampled_goal: int = 4,
        prior: str | Path | None = None,
        prior_share: float | None = None,
        trust_module: bool = False,
        **config: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in RunConfig.__dataclass_fields__}
        habits.refuse_made(config, agent_class, algorithm_name(agent_class))
        given |= {"n_envs": number_of(env, n_envs), "encoder": encoder if isinstance(encoder, str) else "own"}
        run = make_config(RunConfig, given | {"prior": named(prior)})
        hyperparameters = make_config(require_agent(agent_class).Config, with_norm(agent_class, config, prior))
        widths = getattr(hyperparameters, "batch_size", 1), getattr(hyperparameters, "net_arch", ())
        source, where = EnvSource(env, stored.plain_arguments(env_kwargs or {}), trust_module), find_device(device)
        require_engine(run.engine, agent_class, where)
        envs = stored.training_envs(source, run)
        with ExitStack() as stack:
            if source.repeatable:  # made here
                stack.callback(envs.close)
            threads = usual_threads(*widths, envs.spaces.spec.pixels, may_compile=run.engine != "eager")
            setup = stored.Setup(agent_class, hyperparameters, run, envs.spaces, threads, encoder)
            self._assemble(setup, source, envs, where)
            stack.pop_all()

    def _assemble(
        self, setup: stored.Setup, source: EnvSource, envs: VectorEnv | None, device: torch.device
    ) -> None:
        kind, config, run, spaces = setup.agent_class, setup.hyperparameters, setup.run, setup.spaces
        require_served(kind, spaces.spec, source.name)
        stored.require_fitting(kind, run, setup.spec)
        say_what_may_be_images(spaces.observation_space, setup.encoder)
        if kind in AGENTS.values():
            require_memory_for(weights_described(kind, config, run, spaces), device)
        made: dict[str, Any] = {"generator": generator(Purpose.INITIAL_WEIGHTS, run.seed), "device": device}
        with numerics(setup.threads), single_precision():
            self.agent = make_agent(kind, setup.spec, config, **made, precision=run.precision)
        self.spaces, self.source = spaces, source
        self.life = Lifecycle(algorithm_name(kind), self.agent, envs, source, spaces, run, setup.threads)
        self._prediction_noise = generator(Purpose.PREDICTION, run.seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__} on {self.source.name}, seed {self.run.seed}: {self.num_timesteps:,} steps"

    @property
    def run(self) -> RunConfig:
        """How the run is made; its engine is "auto" until the first `learn`."""
        return self.life.run

    @property
    def threads(self) -> int:
        """Threads of the processor, for all that is computed."""
        return self.life.threads

    @property
    def num_timesteps(self) -> int:
        """Environment steps made so far."""
        return self.life.steps

    @property
    def training(self) -> Training | None:
        """Episodes, memory and random streams; None before they are needed."""
        return self.life.training

    def learn(
        self,
        total_timesteps: int,
        *,
        callback: Callback | None = None,
        run_dir: str | Path | None = None,
        eval_freq: int = 5_000,
        n_eval_episodes: int = 10,
        save_freq: int = 10_000,
        **others: Any,
    ) -> Self:
        """Train for exactly `total_timesteps` further environment steps.

        Args:
            total_timesteps: at least 1.
            callback: called with this model and the metrics every 1,000 steps and at the end; False ends it.
            run_dir: a folder for metrics and checkpoints: a new one, or this model's. None: no file is written.
            eval_freq: environment steps between evaluations; 0: only at the end.
            n_eval_episodes: episodes per evaluation; 0: no evaluation.
            save_freq: environment steps between checkpoints; 0: only at the end.
            others: none; what Stable-Baselines3 has is answered with the line to write here.

        Raises:
            ConfigError: an argument that cannot work, or a replay that does not fit in memory.
            EnvironmentFailed: the environment raised or returned what it must not.
            DiskError, NumericalError: the folder could not be written; a loss or parameter is no longer finite.
            KeyboardInterrupt: Ctrl-C was pressed; the step is finished and the run is saved. The model can go on.
        """
        frequencies = {"eval_freq": eval_freq, "n_eval_episodes": n_eval_episodes, "save_freq": save_freq}
        record = make_config(RecordConfig, frequencies)
        habits.refuse_learnt(others)
        habits.require_callback(callback)
        if run_dir is None:
            say_without_run_dir(record)
        until = self.num_timesteps + whole_steps(total_timesteps)
        with Interruption() as stop:
            return self.train(until, record, run_dir, callback=callback, stop=stop)

    def train(
        self,
        until: int,
        record: RecordConfig,
        folder: str | Path | None = None,
        *,
        callback: Callback | None = None,
        **attending: Unpack[Attending],
    ) -> Self:
        """`learn` in full, until `until` steps in total; `attending`: who watches the training and may stop it."""
        place = None if folder is None else user_path(folder)
        if self.num_timesteps == 0:
            say_without_effect(self.run, self.agent.config)
        self.life.train(until, record, place, callback and partial(callback, self), attending)
        return self

    def predict(
        self, obs: Any, deterministic: bool = False, *, action_masks: Any = None
    ) -> tuple[NDArray[Any], None]:
        """The policy's action for one observation or a batch of them.

        Args:
            obs: as the environment returns it, or with one leading dimension more.
            deterministic: the mode of the policy; otherwise a sampled action.
            action_masks: what is allowed, where the environment says it: `info["action_mask"]`, `action_masks()`.

        Returns:
            The action in the environment's own bounds, shape and dtype (with the leading dimension
            of the batch, if there was one; one discrete action is a NumPy integer), and None for
            recurrent state.

        Raises:
            ConfigError: the observation is not of the environment's shape, or its action mask is missing.
        """
        draw = None if deterministic else self._prediction_noise
        return predict(self.agent, self.spaces, obs, draw, self.num_timesteps, action_masks), None

    def evaluate(self, env: EnvLike | None, n_eval_episodes: int, *, deterministic: bool, seed: int) -> Returns:
        """Returns of whole episodes; `env` None: the kind this model learns in. See `evaluate_policy`."""
        with self.life.other_envs(env) as envs, numerics(self.threads):
            now = self.num_timesteps
            return evaluate(self.agent, envs, n_eval_episodes, deterministic=deterministic, seed=seed, step=now)

    add = given.add

    def description(self) -> dict[str, Any]:
        """What `config.json` says of this model."""
        return self.life.description()

    def save(self, folder: str | Path) -> None:
        """Write everything `load` and `learn` need to go on, replay included.

        Args:
            folder: made if it does not exist. Saving there again keeps the last two.

        Raises:
            ConfigError: a run is there, or another model.
            DiskError, NumericalError: it cannot be written, or a parameter is not finite.
        """
        self.life.save(user_path(folder))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        env: EnvLike | None = None,
        *,
        agent_class: type[Any] | None = None,
        best: bool = False,
        step: int | None = None,
        verify_replay: bool = False,
        trust_module: bool = False,
        **changes: Any,
    ) -> Self:
        """The model of a run folder, or of one that `save` wrote; nothing in it is executed.

        Where the newest checkpoint is damaged, the one before is used and a warning logged.

        Args:
            folder: of a run or a saved model.
            env: as for a new model; None: the one it was trained in, by its id.
            agent_class: for an agent that is not one of softac's.
            best: the agent of the best evaluation instead; it can act but not go on learning.
            step: the checkpoint written at this step instead of the newest.
            verify_replay: pass over a checkpoint whose replay files are damaged, too.
            trust_module: accept "module:Env-v0" for `env`, which imports the module; not for the file's.
            changes: settings instead of those it had: device, env_kwargs, env_workers, env_on, env_timeout,
                on_env_failure, an encoder of one's own, and hyperparameters but for those that shape networks,
                stored rows or the count of updates. It then goes on not bit for bit, and its history tells.

        Raises:
            CheckpointError: a file is missing, damaged or hostile.
            ConfigError: `env` has other spaces, a setting cannot be changed, or the agent is another or none.
        """
        own = None if agent_class is None else require_agent(agent_class)
        place = user_path(folder)
        said = stored.Description.read(Path(folder).expanduser(), lambda name: own or find_agent(name))
        cls._require_own(said.agent_class, said.path)
        said = replace(said, path=place)  # up to here it is called as the user has called it
        found = said.newest(best=best, step=step, verify_replay=verify_replay)
        if own is None:
            said.require_as_large(found[0])
        find_device(changes.get("device") or "auto")  # one that is asked for must be there
        said = said.changed(found[0].step, changes)
        return cls._from(said, said.environments(env, trust_module=trust_module), found)

    @classmethod
    def _from(cls, said: stored.Description, environments: stored.Environments, found: stored.Found) -> Self:
        source, envs, no_env = environments
        model = cls.__new__(cls)
        with ExitStack() as stack:
            if envs is not None and source.repeatable:  # made for it
                stack.callback(envs.close)
            model._assemble(said, source, envs, present_device(said.device))
            if model.life.goals is not None:
                stack.callback(model.life.goals.close)
            model.life.go_on_from(*found, no_env, said.past)
            stack.pop_all()
        return model

    @classmethod
    def _require_own(cls, found: type[Any], path: Path) -> None:
        """Refuse a folder of another algorithm; `Model` takes any."""

    def close(self) -> None:
        """Close the environments; the model can still predict."""
        self.life.close()
