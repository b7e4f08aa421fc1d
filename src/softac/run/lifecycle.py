"""The life of one training: made or loaded, begun when it is first needed, and gone on with by every call."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict
from weakref import WeakSet

from softac.config import make_config
from softac.envs import EnvSource, InProcessVectorEnv, Spaces, VectorEnv, as_batch, open_envs
from softac.envs.goals import goals_of
from softac.envs.make import EnvLike
from softac.errors import ConfigError, DiskError, EnvironmentFailed, NumericalError, SoftacError, one_line
from softac.files import exists, remove
from softac.learning.engine import Engine, choose_engine
from softac.learning.state import load_state_, state_of
from softac.replay import Hindsight, require_memory
from softac.run.changes import Past
from softac.run.checkpoint import CHECKPOINTS, OPTIM_PREFIX, Home, Snapshot, checkpoints, differences
from softac.run.config import RecordConfig, RunConfig
from softac.run.evaluate import LONGEST
from softac.run.folder import BEST, CONFIG, CRASH, REPLAY, RunFolder, config_sha256, write_description
from softac.run.memory import keep_freed_memory
from softac.run.numerics import device_name, numerics
from softac.run.prior import ALL, open_prior, share_of
from softac.run.recorder import Recorder
from softac.run.stored import describe, require_same_spaces, save
from softac.run.training import Training, rows_kept, train
from softac.run.waiting import ProcessorTime, cost_of_waiting
from softac.types import Agent, Sink

log = logging.getLogger("softac")

# All that hold environments in this process, so that no two step the same one.
HOLDERS: "WeakSet[Lifecycle]" = WeakSet()


def _inner(envs: VectorEnv | None) -> list[Any]:
    """The environments inside all wrappers; none where they are in other processes."""
    here = getattr(envs, "inner", envs)  # a thread may step them
    return [env.unwrapped for env in getattr(here, "envs", ())]


def _owner(envs: VectorEnv) -> "Lifecycle | None":
    """The training that one of the environments belongs to."""
    asked = {id(env) for env in _inner(envs)}
    return next((life for life in HOLDERS if any(id(env) in asked for env in _inner(life.envs))), None)


class Attending(TypedDict, total=False):
    """Who attends a training.

    Attributes:
        sinks: get every row of metrics.
        heartbeat: called after every round.
        stop: asked in every loop; True saves and ends the training.
        engine: executes the updates from the first call on; without it, the one that was chosen.
    """

    sinks: Sequence[Sink]
    heartbeat: Callable[[Training], None]
    stop: Callable[[], bool]
    engine: Engine | None


class Lifecycle:
    """What becomes of an agent between its first weights and its last checkpoint.

    Args:
        algorithm: the name it is stored under.
        agent: learns.
        envs: what it learns in, or None.
        source: where they came from.
        spaces: theirs.
        run: how the run is made.
        threads: of the processor, for all that is computed.

    Attributes:
        training: the state, once it is needed.
        loaded: what it goes on from, if it was loaded.
        home: the folder that this state was read from or that its run is in.
        saves: the folders it was saved to.
        left: the folders that were its home before.
        no_env: why there are no environments.
        past: of a model that was loaded.
    """

    def __init__(
        self,
        algorithm: str,
        agent: Agent,
        envs: VectorEnv | None,
        source: EnvSource,
        spaces: Spaces,
        run: RunConfig,
        threads: int,
    ) -> None:
        self.algorithm, self.agent, self.envs, self.source = algorithm, agent, envs, source
        self.spaces, self.run, self.threads = spaces, run, threads
        self.training: Training | None = None
        self.loaded: Snapshot | None = None
        self.home: Home | None = None
        self.saves: dict[Path, Home] = {}
        self.left: set[Path] = set()
        self._claim()
        wanted = run.hindsight != "none" and envs is not None
        self.goals = goals_of(source, spaces) if wanted else None
        self.no_env = ""
        self.past: Past | None = None
        self._engine_chosen = False

    def _claim(self) -> None:
        """Note whose the environments are; refuse one that another model steps."""
        if self.envs is None:
            return
        if _owner(self.envs) is not None:
            gc.collect()  # a model that nobody holds any more holds nothing
        if _owner(self.envs) is not None:
            raise ConfigError(
                f"this {type(_inner(self.envs)[0]).__name__} belongs to another model, which steps it",
                "expected an environment for each model, since both would cut each other's episodes",
                "make a second one, or close() the other model first",
            )
        HOLDERS.add(self)

    def go_on_from(self, snapshot: Snapshot, home: Home, no_env: str, past: Past) -> None:
        """Take the networks of a checkpoint now, and the rest when it is needed; `no_env`: why it cannot learn.

        Raises:
            CheckpointError: it does not fit the agent.
        """
        networks = {k: v for k, v in snapshot.tensors.items() if not k.startswith(OPTIM_PREFIX)}
        optim = {k: v for k, v in state_of(self.agent).items() if k.startswith(OPTIM_PREFIX)}
        load_state_(self.agent, networks | optim)
        self.loaded, self.home, self.no_env, self.past = snapshot, home, no_env, past
        self.saves[home.folder.resolve()] = home

    @property
    def steps(self) -> int:
        """Environment steps made so far."""
        if self.training is not None:
            return self.training.steps
        return 0 if self.loaded is None else self.loaded.step

    def description(self) -> dict[str, Any]:
        """What `config.json` says of it."""
        said = describe(self.algorithm, self.agent, self.run, self.threads, self.source, self.spaces)
        return said if self.past is None else self.past.described(said)

    def begun(self, until: int) -> Training:
        """The state, made or restored when it is first needed.

        Args:
            until: total environment steps that memory is needed for.

        Raises:
            ConfigError: it cannot learn, or the memory does not suffice.
            CheckpointError: what was loaded does not fit.
            EnvironmentFailed: an environment failed in its first steps.
        """
        steps = 0 if share_of(self.run, type(self.agent)) == ALL else until
        rows = min(rows_kept(self.agent, self.run.n_envs), steps)
        if self.training is not None:
            # Rows that hold something already are not counted as free any more.
            self._require_memory(max(0, rows - len(self.training.memory)))
            return self.training
        envs = self._require_able()
        self._require_memory(rows)
        training = Training(
            self.agent,
            envs,
            self.run.seed,
            on_env_failure=self.run.on_env_failure,
            overlap=self.run.overlap,
            normalize=self.run.normalize,
            hindsight=self._hindsight(),
            random_shift=self.run.random_shift,
            prior=open_prior(self.run, self.agent, self.spaces),
        )
        if self.loaded is None or self.home is None:
            training.collector.begin()
        else:
            for sentence in training.restore(self.loaded, self.home.folder / REPLAY):
                log.warning("%s", sentence)
            if changed := differences(self.loaded.made_on):
                log.warning("continuing, not bit for bit: %s", changed)
            for change in self.past.made if self.past else ():
                if change.name != "device":  # which may be called otherwise and be the same
                    log.warning("continuing, not bit for bit: %s", one_line(str(change), 300))
            before, now = self.loaded.state.get("device"), device_name(self.agent.device)
            if before not in (None, now):
                log.warning("continuing, not bit for bit: device was %s and is %s", one_line(str(before), 60), now)
        self.training = training
        return training

    @contextmanager
    def prepared(self) -> Iterator[Training]:
        """The state, to be changed from outside; raises as `begun`."""
        with numerics(self.threads):
            yield self.begun(1)

    def train(
        self,
        until: int,
        record: RecordConfig,
        folder: Path | None,
        callback: Callable[[dict[str, float]], bool | None] | None,
        by: Attending,
    ) -> None:
        """Train until `until` environment steps have been made in total; see `Model.train`."""
        with ExitStack() as stack:
            stack.enter_context(numerics(self.threads))
            self._require_whole_rounds(until)
            training = self.begun(until)
            eval_envs = None
            if folder is not None and record.n_eval_episodes > 0:
                eval_envs = self._second(stack)
            if folder is not None:
                stack.enter_context(RunFolder(folder))  # from here on messages may go into it
            if self.source.time_limit is None and training.steps == 0:
                log.info(
                    "%s declares no time limit: an evaluation episode is cut off after %d steps; where episodes "
                    "may never end, put gymnasium.wrappers.TimeLimit around it",
                    self.source.name,
                    LONGEST,
                )
            self._choose_engine(training, until, by.get("engine"))
            home = None if folder is None else self._settle(folder, until, record)
            recorder = Recorder(
                training,
                folder,
                eval_envs,
                record=record,
                config_sha256="" if folder is None else config_sha256(self.description()),
                home=home,
                other_task_until=-1 if self.past is None else self.past.other_task_until,
                sinks=by.get("sinks", ()),
                callback=callback,
                stop=by.get("stop", lambda: False),
                longest=max(LONGEST, self.source.time_limit or 0),
            )
            stack.callback(recorder.close)
            try:
                self._attended(training, until, recorder, by)
            finally:
                self._move(recorder.home)  # also after an error: the same model may go on in the same folder

    def _move(self, home: Home | None) -> None:
        if self.home is not None:
            self.left.add(self.home.folder.resolve())
        self.home = home

    def _envs_to_evaluate_in(self) -> VectorEnv:
        # In a process of its own as the others, where it cannot take the run with it either.
        workers, timeout = min(1, self.run.env_workers), self.run.env_timeout
        try:
            return open_envs(self.source, 1, workers=workers, timeout=timeout, on=self.run.env_on)
        except SoftacError as error:
            raise type(error)(
                f"a second environment, to evaluate in, is needed: {error.given}",
                error.expected,
                f"{error.remedy}, or train without evaluations: n_eval_episodes=0 (--n-eval-episodes 0)",
            ) from error

    def save(self, folder: Path) -> None:
        """Write everything that is needed to go on; see `Model.save`."""
        with numerics(self.threads):
            training = self.begun(1)
            place = folder.resolve()
            self.saves[place] = save(folder, self.description(), training, self.saves.get(place))

    @contextmanager
    def other_envs(self, env: EnvLike | None) -> Iterator[InProcessVectorEnv]:
        """An environment that the training does not use; one that is made here is closed again.

        Args:
            env: where it comes from; None: from where the training's own come.

        Raises:
            ConfigError: it is the training's own, or has other spaces.
            EnvironmentFailed: it could not be made.
        """
        source = self.source if env is None else EnvSource(env, {})
        with ExitStack() as stack:
            envs = source.vector(1)
            owner = _owner(envs)
            if owner is not None:
                raise ConfigError(
                    f"the environment {'this' if owner is self else 'another'} model trains in was given",
                    "expected another, since evaluating would end its episode",
                    "pass its id, a function, or a second one",
                )
            if source.repeatable:  # made here; an environment that was given stays open
                stack.enter_context(closing(envs))
            require_same_spaces(source, envs.spaces, self.spaces)
            yield envs

    def _second(self, stack: ExitStack) -> VectorEnv | None:
        """An environment for evaluations during training; None, with a line that says so, if there is none."""
        source, envs = self.source.second(), None
        if source is self.source:
            envs = self._envs_to_evaluate_in()
        elif source is not None:
            with suppress(SoftacError):  # what was given may not be what its spec says
                envs = open_envs(source, 1, workers=0, timeout=self.run.env_timeout)
        if source is None or envs is None:
            log.warning(
                "no evaluation is made: there is only the one %s that was given; pass its id or a function that "
                "makes it (or n_eval_episodes=0, to evaluate nothing)",
                self.source.name,
            )
            return None
        if _owner(envs) is not None:
            raise ConfigError(
                f"{source.name} returned the environment that this model trains in, to evaluate in",
                "expected a new one from each call, since evaluating would end the episode of training",
                "make it inside the function",
            )
        stack.enter_context(closing(envs))
        if source is not self.source:
            require_same_spaces(source, envs.spaces, self.spaces)
            kind = type(_inner(envs)[0]).__name__
            log.info("evaluations are made in a second %s, made as the one that was given", kind)
        return envs

    def close(self) -> None:
        """Close the environments."""
        if self.goals is not None:
            self.goals.close()
        if self.envs is not None:
            self.envs.close()
            HOLDERS.discard(self)

    def _attended(self, training: Training, until: int, recorder: Recorder, by: Attending) -> None:
        heartbeat, processor = by.get("heartbeat"), ProcessorTime()

        def after_round() -> bool:
            processor.watch(self.threads)
            if heartbeat is not None:
                heartbeat(training)
            return recorder.after_round()

        try:
            recorder.begin()
            train(training, until, after_round, by.get("stop", lambda: False))
            recorder.finish()
        except (EnvironmentFailed, NumericalError) as error:
            recorder.crashed(error)
            raise

    def _hindsight(self) -> Hindsight | None:
        if self.goals is None or self.run.hindsight == "none":
            return None
        config, how = self.agent.config, self.run.hindsight
        return Hindsight(self.goals, how, self.run.n_sampled_goal, config.gamma, config.n_steps, self.run.n_envs)

    def _require_able(self) -> VectorEnv:
        """The environments; refuses to learn without, or on from what can only act."""
        if self.envs is None:
            raise ConfigError(
                f"this model has no environment to learn in ({self.no_env})",
                "expected one",
                "pass env= to load",
            )
        if self.loaded is not None and not self.loaded.state:
            raise ConfigError(
                f"the agent of the best evaluation (step {self.loaded.step}) was loaded, which can only act",
                "expected a whole checkpoint to learn on from",
                "load without best",
            )
        return self.envs

    def _require_whole_rounds(self, until: int) -> None:
        n = self.run.n_envs
        if as_batch(self.source.env) is not None and until % n:
            raise ConfigError(
                f"{until} steps were asked for of {n} environments that are stepped together",
                f"expected a multiple of {n}",
                f"ask for {until // n * n + n}",
            )

    def _require_memory(self, rows: int) -> None:
        rollout_envs = self.run.n_envs if self.agent.on_policy else None
        spec = self.spaces.spec if self.run.hindsight == "none" else replace(self.spaces.spec, images=())
        require_memory(rows, spec, rollout_envs=rollout_envs)

    def _choose_engine(self, training: Training, until: int, given: Engine | None) -> None:
        """Decide how updates are executed, once for all that this model will learn."""
        if self._engine_chosen:
            return
        keep_freed_memory()
        asked = self.run.engine
        if asked == "auto" and self.loaded is not None:
            asked = "eager"  # what it was saved with, and its folder says "auto"
        name, why = choose_engine(asked, self.agent, training.updates_by(until))
        if asked == "auto" and given is None:  # several seeds at once decide it anew, and alike
            self.run = make_config(RunConfig, asdict(self.run) | {"engine": name})
        elif name != asked and given is None:
            how = "executed eagerly" if name == "eager" else name
            log.warning("updates are %s and not %s: %s", how, asked, why)
        if given is not None:
            training.engine, name, why = given, given.name, "several seeds at once"
        elif name != "eager":
            training.engine = Engine(self.agent, name)
        if training.prior is not None:
            log.info("%s", training.prior.told)
        log.info("engine %s (%s), threads %d, %s", name, why, self.threads, self.run.precision)
        if sentence := cost_of_waiting(self.threads):
            log.warning("%s", sentence)
        if given is None and name != "eager":
            log.info("the first update waits for the compiler: 15 seconds, or 3 if it has compiled the like")
        before = None if self.loaded is None else self.loaded.state.get("engine", "eager")
        if before not in (None, name):
            log.warning("continuing, not bit for bit: engine was %s and is %s", one_line(str(before), 40), name)
        self._engine_chosen = True

    def _settle(self, folder: Path, until: int, record: RecordConfig) -> Home | None:
        """Write the description of the run; its home if the folder's files belong to this state."""
        home = self.home if self.home is not None and folder.resolve() == self.home.folder.resolve() else None
        if home is not None:
            home.require_own()
        elif exists(folder / CONFIG) and checkpoints(folder / CHECKPOINTS):
            if folder.resolve() in self.left:
                raise ConfigError(
                    f"{folder} holds an earlier state of this model, which has gone on without it",
                    "expected the same run_dir in every call of learn, so that the folder lacks no steps",
                    "choose a new folder, or load the model from that one and go on from there",
                )
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
        if home is None:
            for left in (BEST, CRASH):  # by a run that ended before its first checkpoint
                remove(folder / left)
        return home
