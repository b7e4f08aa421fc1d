"""How a run is made, agent apart."""

import logging
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from softac.config import STRICT, default, fields, make_config
from softac.errors import ConfigError

MOST_STEPS = 10**12
OF_A_LEARNED_TEMPERATURE = ("ent_coef_learning_rate", "target_entropy", "alpha_loss")

log = logging.getLogger("softac")


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """The part of a run's configuration that no algorithm owns."""

    seed: Annotated[int, Field(ge=0, lt=2**32, description="seed of everything random")] = 0
    n_envs: Annotated[int, Field(ge=1, le=1024, description="environments stepped in each round")] = 1
    device: Annotated[
        str,
        Field(
            description="where the networks live",
            json_schema_extra={"expected": '"auto", "cpu", "cuda" or "cuda:0"'},
        ),
    ] = "auto"
    engine: Annotated[
        Literal["auto", "eager", "compiled", "cudagraph"], Field(description="how updates are executed")
    ] = "auto"
    precision: Annotated[
        Literal["float32", "bf16"], Field(description="of the products between hidden layers")
    ] = "float32"
    env_workers: Annotated[
        int,
        Field(ge=0, le=1024, description="processes that step the environments; 0: they are stepped in this one"),
    ] = 0
    env_on: Annotated[
        Literal["local", "ray"],
        Field(description="where these processes are: here, or on the machines of a Ray cluster (RAY_ADDRESS)"),
    ] = "local"
    env_timeout: Annotated[
        float,
        Field(gt=0.0, le=1e6, description="seconds that making, resetting or stepping one in a process may take"),
    ] = 300.0
    on_env_failure: Annotated[
        Literal["stop", "restart"],
        Field(description="what follows when an environment fails: the end, saved, or a new instance and episode"),
    ] = "stop"
    overlap: Annotated[
        bool,
        Field(
            description="update while the environments are stepped; actions are of the policy one update before"
        ),
    ] = False
    collect: Annotated[
        Literal["lockstep", "free"],
        Field(description="whether environments wait for each other, or each sets its own pace: not repeatable"),
    ] = "lockstep"
    normalize: Annotated[
        Literal["none", "obs", "obs,reward"],
        Field(description="what is brought to mean 0 and standard deviation 1 by statistics that are learned"),
    ] = "none"
    encoder: Annotated[
        Literal["auto", "none", "small", "drq", "nature", "own"],
        Field(description="what images become features in; none: their pixels are a vector"),
    ] = "auto"
    random_shift: Annotated[
        int, Field(ge=0, le=64, description="pixels by which the images of a batch are moved at random; 0: none")
    ] = 0
    prior: Annotated[
        str | None,
        Field(
            description="a data set in Minari's format that every batch has its share of; share 1: all, and no "
            "environment is stepped",
            json_schema_extra={"expected": "the folder of a data set, or Minari's id of a local one"},
        ),
    ] = None
    prior_share: Annotated[
        float | None, Field(gt=0.0, le=1.0, description="share of every batch that is prior data (default: 0.5)")
    ] = None

    hindsight: Annotated[
        Literal["none", "future", "final"],
        Field(
            description="what was achieved later, or at the end, taken for what was wanted, in part of each batch"
        ),
    ] = "none"
    n_sampled_goal: Annotated[
        int,
        Field(ge=1, le=1_000, description="with hindsight, transitions with another goal for each with its own"),
    ] = 4


# What may differ where a run goes on: it changes no bit of a run whose environments do not fail.
EXCHANGEABLE = ("env_workers", "env_on", "env_timeout", "on_env_failure")
# What runs did before these were there.
LATER = {"overlap": False, "collect": "lockstep", "normalize": "none", "encoder": "none", "random_shift": 0}
LATER |= {"hindsight": "none", "n_sampled_goal": 4, "prior": None, "prior_share": None}


def exchanged(run: RunConfig, **values: Any) -> RunConfig:
    """`run` with those of `EXCHANGEABLE` that are not None.

    Raises:
        ConfigError: a value that cannot work.
    """
    changed: RunConfig = make_config(RunConfig, asdict(run) | {k: v for k, v in values.items() if v is not None})
    return changed


def say_without_run_dir(record: "RecordConfig") -> None:
    """Say what was asked for in vain by a training without a run folder, which writes and evaluates nothing."""
    usual = asdict(RecordConfig())
    asked = [f"{name}={value}" for name, value in asdict(record).items() if value not in (0, usual[name])]
    if asked and record.n_eval_episodes > 0:
        log.warning("%s has no effect without run_dir, the folder to evaluate and save in", ", ".join(asked))


def say_without_effect(run: RunConfig, hyperparameters: Any) -> None:
    """Say what was asked for and waits for another setting."""
    own, ent_coef = fields(type(hyperparameters)), getattr(hyperparameters, "ent_coef", "auto")
    for name in OF_A_LEARNED_TEMPERATURE if not isinstance(ent_coef, str) else ():
        if name in own and (value := getattr(hyperparameters, name)) != default(type(hyperparameters), name):
            log.warning("%s=%s has no effect with ent_coef=%s, which is not learned", name, value, ent_coef)
    if run.env_workers == 0 and run.env_timeout != default(RunConfig, "env_timeout"):
        log.warning("env_timeout=%g has no effect without env_workers, which it is for", run.env_timeout)


@dataclass(frozen=True, config=STRICT)
class RecordConfig:
    """When a run is evaluated and saved."""

    eval_freq: Annotated[
        int, Field(ge=0, description="environment steps between evaluations; 0: only at the end")
    ] = 5_000
    n_eval_episodes: Annotated[
        int, Field(ge=0, le=10_000, description="episodes per evaluation; 0: no evaluation")
    ] = 10
    save_freq: Annotated[
        int, Field(ge=0, description="environment steps between checkpoints; 0: only at the end")
    ] = 10_000


def whole_steps(given: Any) -> int:
    """A number of environment steps: 100_000, or 1e5.

    Raises:
        ConfigError: it is no whole number, or less than 1.
    """
    number = isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)
    if not number or not 1 <= given <= MOST_STEPS or given != int(given):
        raise ConfigError(
            f"total_timesteps={given!r:.100} was given",
            "expected a whole number of environment steps, at least 1",
            "give 100_000, say",
        )
    return int(given)
