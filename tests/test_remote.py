"""Environments on a Ray cluster: the bits of one process, and what becomes of them where something is lost."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folders import memory_folder
from hashing import digests
from softac import SAC
from softac.errors import ConfigError
from worlds import Drift

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'softac[ray]'")
from softac.envs.cluster import cluster  # noqa: E402 - it needs Ray
from softac.envs.machine import machine  # noqa: E402
from softac.envs.make import EnvSource  # noqa: E402
from softac.envs.remote import RayVectorEnv  # noqa: E402
from softac.envs.vector import EnvFault, Step  # noqa: E402

pytestmark = pytest.mark.timeout(280)

SMALL: dict[str, Any] = {"net_arch": [16], "batch_size": 16, "learning_starts": 20, "buffer_size": 200}


@pytest.fixture(scope="module", autouse=True)
def connected() -> Iterator[None]:
    """One cluster for all of these tests, of this machine alone."""
    os.environ.pop("RAY_ADDRESS", None)
    try:
        with cluster(None):
            yield
    except ConfigError as error:
        pytest.skip(f"Ray does not start here: {error}")


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def run(path: Path, legs: list[tuple[int, str, int]], **settings: Any) -> dict[str, str]:
    model = None
    for steps, on, workers in legs:
        if model is None:
            model = SAC(Drift, n_envs=4, env_on=on, env_workers=workers, **SMALL, **settings)
        else:
            model = SAC.load(path, Drift, env_on=on, env_workers=workers)
        model.learn(steps, run_dir=path, eval_freq=60, n_eval_episodes=1, save_freq=50)
        model.close()
    return digests(path)


def told(steps: Iterator[Step]) -> list[tuple[Any, ...]]:
    return [(step.obs.tobytes(), step.reward, step.terminated, step.truncated) for step in steps]


def test_on_machines_and_here_are_the_same_bits(folder: Path) -> None:
    """Also where a run goes on elsewhere than it was begun, in the middle of a round."""
    here = run(folder / "here", [(151, "local", 0)])
    assert run(folder / "there", [(151, "ray", 2)]) == here
    assert run(folder / "both", [(57, "ray", 2), (94, "local", 0)]) == here


def test_they_step_at_the_same_time() -> None:
    envs = RayVectorEnv(EnvSource(Drift, {"pause": 0.2}), 4, 4, 60.0)
    try:
        for i in range(4):
            envs.reset(i, i)
        began = time.monotonic()
        for _ in range(5):
            assert len(list(envs.step(0, np.zeros((4, 2), np.float32)))) == 4
        assert 1.0 <= time.monotonic() - began < 3.0  # one after the other: 4 s
    finally:
        envs.close()


def test_a_fault_is_told_as_here() -> None:
    envs = RayVectorEnv(EnvSource(Drift, {"fault": "raise", "at": 2}), 2, 2, 60.0)
    try:
        for i in range(2):
            envs.reset(i, i)
        list(envs.step(0, np.zeros((2, 2), np.float32)))
        with pytest.raises(EnvFault) as fault:
            list(envs.step(0, np.zeros((2, 2), np.float32)))
        assert "in step" in str(fault.value)
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (signal.SIGKILL, "their machine is lost (ActorDiedError"),
        (signal.SIGSTOP, "their machine did not answer within 4 s"),
    ],
)
def test_a_machine_that_is_lost_is_replaced_and_its_episodes_are_found_again(
    sent: signal.Signals, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The actor of two environments is killed, or hangs, in the middle of an episode: the same answers as ever."""
    monkeypatch.setattr("softac.envs.remote.MARGIN", 2.0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (6, 2, 2)).astype(np.float32)
    wanted = EnvSource(Drift, {}).vector(2)
    envs = RayVectorEnv(EnvSource(Drift, {}), 2, 1, 60.0)
    try:
        for i in range(2):
            assert envs.reset(i, 7 + i).tobytes() == wanted.reset(i, 7 + i).tobytes()
        envs.timeout = 1.0  # from here on, since making one takes longer
        actor = ray.get(envs._processes[0]._world.__ray_call__.remote(lambda _: os.getpid()))
        for n, chosen in enumerate(actions):
            expected = told(wanted.step(0, chosen))
            if n == 3:
                os.kill(actor, sent)
            with caplog.at_level(logging.WARNING):
                assert told(envs.step(0, chosen)) == expected
    finally:
        envs.close()
        wanted.close()
    assert f"environments 0 to 1: {said}" in caplog.text
    assert "; another goes on with them" in caplog.text


def test_a_machine_of_other_versions_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    envs = RayVectorEnv(EnvSource("Pendulum-v1", {}), 1, 1, 60.0)
    try:
        assert not caplog.records
        other = machine() | {"numpy": "1.26.0", "host": "far"}
        with caplog.at_level(logging.WARNING):
            envs._compare(other)
            envs._compare(other)
        said = (
            f"environments on far may answer with other bits than here: numpy 1.26.0 instead of {np.__version__}"
        )
        assert [record.getMessage() for record in caplog.records] == [said]
    finally:
        envs.close()


def test_without_workers_it_says_so() -> None:
    with pytest.raises(ConfigError) as error:
        SAC("Pendulum-v1", env_on="ray")
    assert error.value.given == "env_on='ray' was given without env_workers"
    assert error.value.remedy == "give env_workers as well, at most n_envs"
