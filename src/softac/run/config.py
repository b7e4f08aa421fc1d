"""How a run is made, agent apart."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from softac.config import STRICT


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
