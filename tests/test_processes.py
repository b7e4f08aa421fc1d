"""Environments in processes of their own: the same answers, whatever becomes of the processes."""

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import worlds
from softac.envs import EnvFault, EnvSource, ProcessVectorEnv, VectorEnv
from softac.errors import ConfigError, EnvironmentFailed

DRIFT = "worlds/Drift-v0"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
    assert children() == []


def children(pid: int | None = None) -> list[int]:
    tasks = Path(f"/proc/{pid or os.getpid()}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def pool(n: int, workers: int, timeout: float = 30.0, env: Any = DRIFT, **kwargs: Any) -> ProcessVectorEnv:
    return ProcessVectorEnv(EnvSource(env, kwargs), n, workers, timeout)


def play(envs: VectorEnv, rounds: int = 50) -> list[bytes]:
    """All that `envs` answer to the same actions; an episode that ends is followed by another."""
    rng, seen = np.random.default_rng(0), [envs.reset(i, 100 + i).tobytes() for i in range(envs.num_envs)]
    for k in range(rounds):
        actions = rng.uniform(-1, 1, (envs.num_envs, envs.spaces.spec.action_dim)).astype(np.float32)
        for i, step in enumerate(envs.step(0, actions)):
            seen.append(step.obs.tobytes() + repr((step.reward, step.terminated, step.truncated)).encode())
            if step.terminated or step.truncated:
                seen.append(envs.reset(i, 1000 * k + i).tobytes())
    return seen


@pytest.mark.parametrize(("n", "workers"), [(1, 1), (4, 2), (5, 3)])
def test_the_same_answers_as_in_process(n: int, workers: int) -> None:
    envs = pool(n, workers)
    assert play(envs) == play(EnvSource(DRIFT, {}).vector(n))
    envs.close()


@pytest.mark.parametrize("env", ["Pendulum-v1", "Hopper-v5", "CartPole-v1"])
def test_the_same_answers_of_environments_of_gymnasium(env: str) -> None:
    envs = pool(3, 2, env=env)
    assert play(envs) == play(EnvSource(env, {}).vector(3))
    envs.close()


def test_environments_are_spread_evenly_over_processes_of_their_own() -> None:
    envs = pool(5, 2)
    assert [list(process.envs) for process in envs._processes] == [[0, 1], [2, 3, 4]]
    assert len(set(children())) == 2
    envs.close()


def test_the_shared_memory_has_no_name() -> None:
    before = Path("/proc/self/maps").read_text().count("/dev/shm/")  # noqa: S108 - what other tests have used
    envs = pool(2, 2)
    play(envs, 2)
    for pid, named in (("self", before), *((child, 0) for child in children())):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "/memfd:softac (deleted)" in maps
        assert maps.count("/dev/shm/") == named  # noqa: S108
    envs.close()


def test_all_are_stepped_at_the_same_time() -> None:
    envs = pool(4, 4, pause=0.2)
    for i in range(4):
        envs.reset(i, i)
    began = time.perf_counter()
    answers = envs.step(0, np.zeros((4, 2), np.float32))
    assert time.perf_counter() - began < 0.1  # under way, not waited for
    assert len(list(answers)) == 4
    assert time.perf_counter() - began < 0.6
    envs.close()


def test_a_function_of_any_kind_may_make_them() -> None:
    length = 7

    class Own(worlds.Drift):
        def __init__(self) -> None:
            super().__init__(length=length)

    for make in (Own, lambda: worlds.Drift(length=length), worlds.Drift):
        envs = pool(2, 1, env=make)
        assert play(envs, 20) == play(EnvSource(make, {}).vector(2), 20)
        envs.close()


def test_an_id_that_only_this_program_has_registered() -> None:
    gym.register("OnlyHere-v0", entry_point=lambda: worlds.Drift(length=5))
    try:
        envs = pool(1, 1, env="OnlyHere-v0")
        assert play(envs, 12) == play(EnvSource("OnlyHere-v0", {}).vector(1), 12)
        envs.close()
    finally:
        del gym.registry["OnlyHere-v0"]


def test_denormal_numbers_are_zero_as_in_a_run() -> None:
    code = "import numpy as np; from softac.envs.denormals import flush_denormals as f; f(); "
    code += "assert (np.full(3, 2.0**-130, np.float32) * 2 == 0).all() and np.float64(1e-310) * 2 == 0"
    subprocess.run([sys.executable, "-c", code], check=True)


# --------------------------------------------------------------------- what cannot be sent


def message(error: type[Exception], *arguments: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        pool(*arguments, **kwargs)
    return str(caught.value)


def test_an_environment_object() -> None:
    assert message(ConfigError, 1, 1, env=worlds.Drift()) == (
        "an environment object (Drift) was given with env_workers; expected an id or a function, since an object "
        "cannot be sent to another process; pass one that makes it"
    )


def test_a_function_that_cannot_be_sent() -> None:
    lock = threading.Lock()
    assert message(ConfigError, 1, 1, env=lambda: (lock, worlds.Drift())[1]) == (
        "the function or class <lambda> cannot be sent to another process (TypeError: cannot pickle "
        "'_thread.lock' object); expected an id that an import registers, or a function that holds plain data; "
        "write module:Env-v0, with the module that registers it, or make inside the function what it needs"
    )


def test_a_registration_that_cannot_be_sent() -> None:
    lock = threading.Lock()
    gym.register("OnlyHere-v0", entry_point=lambda: (lock, worlds.Drift())[1])
    try:
        text = message(ConfigError, 1, 1, env="OnlyHere-v0")
    finally:
        del gym.registry["OnlyHere-v0"]
    assert text.startswith("the registration of OnlyHere-v0 cannot be sent to another process (TypeError: ")


def test_a_module_that_the_workers_cannot_import(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("only_in_memory")
    module.Own = worlds.Drift  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_in_memory", module)
    gym.register("OnlyHere-v0", entry_point="only_in_memory:Own")
    try:
        assert message(ConfigError, 1, 1, env="OnlyHere-v0") == (
            "OnlyHere-v0 is made from the module 'only_in_memory', which its process cannot import; expected a "
            "module that a new process finds as well; save it as a file beside the program, or leave env_workers "
            "out"
        )
    finally:
        del gym.registry["OnlyHere-v0"]


def test_more_workers_than_environments() -> None:
    assert message(ConfigError, 2, 3) == (
        "env_workers=3 was given with n_envs=2; expected at most one worker for each environment; give "
        "env_workers=2, or more environments"
    )


def test_environments_that_are_not_alike(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def make() -> Any:
        env = worlds.Drift()
        if mark.exists():
            env.observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
        mark.touch()
        return env

    assert re.fullmatch(
        r"environment 1 has other spaces than environment 0; expected Box.*; make them all alike",
        message(ConfigError, 2, 2, env=make),
    )


def test_a_space_that_cannot_be_learned_on() -> None:
    class Speaking(worlds.Drift):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Text(5)

    with pytest.raises(ConfigError) as caught:
        EnvSource(Speaking, {}).vector(1)
    assert message(ConfigError, 1, 1, env=Speaking) == str(caught.value)


def test_a_constructor_that_raises() -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        pool(1, 1, fault="raise", place="constructor")
    assert str(caught.value) == (
        "worlds/Drift-v0 could not be made with {'fault': 'raise', 'place': 'constructor'}: RuntimeError: the "
        "model exploded; expected a Gymnasium environment; check --env-kwargs and the environment"
    )
    assert 'worlds.py", line' in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("kill", "ended its process (SIGKILL)"),
        ("exit", "ended its process (exit code 3)"),
        ("hang", "did not answer within 0.5 s"),
    ],
)
def test_a_constructor_that_does_worse(fault: str, said: str) -> None:
    assert message(EnvironmentFailed, 2, 2, timeout=0.5, fault=fault, place="constructor") == (
        f"worlds/Drift-v0 {said} while it was made; expected a Gymnasium environment that comes up in time; check "
        "the environment, or raise env_timeout where it only needs longer"
    )


# --------------------------------------------------------------------- faults

SAID = {
    "raise": "raised RuntimeError: the model exploded in step",
    "nan": "returned an observation with nan in it, at index 1",
    "hang": "did not answer within 1 s in step",
    "hang in C": "did not answer within 1 s in step",
    "segfault": "ended its process (SIGSEGV) in step",
    "kill": "ended its process (SIGKILL) in step",
    "exit": "ended its process (exit code 3) in step",
    "sys.exit": "raised SystemExit: 4 in step",
    "close descriptors": "closed the descriptors of its process in step",
    "lie": "wrote b'x' into the pipe to the learner in step",
}


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_is_told_and_the_others_go_on(fault: str, tmp_path: Path) -> None:
    """Environment 1 of 4 in 2 processes, at step 5: in the process of 0, beside 2 and 3."""
    calm = pool(4, 2)
    expected = play(calm, 12)
    calm.close()
    envs = pool(4, 2, timeout=1.0, fault=fault, at=5, seed=101, once=str(tmp_path / "once"))
    rng, seen = np.random.default_rng(0), [envs.reset(i, 100 + i).tobytes() for i in range(4)]
    faults = []
    for k in range(12):
        actions = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
        answers: list[Any] = []
        while len(answers) < 4:
            try:
                # As a collector does: on from the environment that failed, with the same actions.
                for step in envs.step(len(answers), actions[len(answers) :]):
                    answers.append(step)  # noqa: PERF402
            except EnvFault as caught:
                faults.append((k, len(answers), str(caught)))
        seen += [s.obs.tobytes() + repr((s.reward, s.terminated, s.truncated)).encode() for s in answers]
    envs.close()
    assert faults == [(4, 1, SAID[fault])]
    if fault not in ("raise", "nan", "sys.exit"):  # these have stepped it, and it is asked for the same step again
        assert seen == expected


def test_the_place_of_an_exception_arrives() -> None:
    envs = pool(1, 1, fault="raise")
    envs.reset(0, 1)
    with pytest.raises(EnvFault) as caught:
        list(envs.step(0, np.zeros((1, 2), np.float32)))
    text = str(caught.value.__cause__)
    assert "RuntimeError: the model\nexploded" in text
    assert 'worlds.py", line' in text
    envs.close()


@pytest.mark.parametrize("fault", ["raise", "kill", "hang"])
def test_a_reset_that_fails_can_be_asked_again(fault: str, tmp_path: Path) -> None:
    envs = pool(2, 1, timeout=0.5, fault=fault, place="reset", at=2, seed=7, once=str(tmp_path / "once"))
    first, other = envs.reset(0, 7), envs.reset(1, 8)
    with pytest.raises(EnvFault, match=r" in reset$"):
        envs.reset(0, 7)
    np.testing.assert_array_equal(envs.reset(0, 7), first)
    # The other one is where it was, also in a new process.
    calm = EnvSource(DRIFT, {}).vector(2)
    np.testing.assert_array_equal(calm.reset(1, 8), other)
    action = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(next(envs.step(1, action)).obs, next(calm.step(1, action)).obs)
    envs.close()


@pytest.mark.parametrize("fault", ["raise", "segfault"])
def test_restart_makes_a_new_instance(fault: str) -> None:
    envs = pool(2, 1, fault=fault, at=2)
    zero = np.zeros((2, 2), np.float32)
    for i in range(2):
        envs.reset(i, i)
    assert len(list(envs.step(0, zero))) == 2
    with pytest.raises(EnvFault):
        next(envs.step(0, zero))
    envs.restart(0)
    envs.reset(0, 5)
    next(envs.step(0, zero[:1]))  # the new instance has made one step, the old one had made two
    with pytest.raises(EnvFault):
        next(envs.step(0, zero[:1]))
    envs.close()


def test_an_environment_that_does_not_repeat_itself_is_said_to_be_lost(tmp_path: Path) -> None:
    once = tmp_path / "once"

    class Forgetful(worlds.Drift):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed=int.from_bytes(os.urandom(3), "big"))

        def step(self, action: Any) -> Any:
            if action[0] == 2.0 and not once.exists():
                once.touch()
                os._exit(1)
            return super().step(action)

    envs = pool(2, 1, env=Forgetful)
    for i in range(2):
        envs.reset(i, i)
    with pytest.raises(EnvFault, match=r"^ended its process \(exit code 1\) in step$"):
        list(envs.step(0, np.float32([[1.0, 0.0], [0.0, 0.0]])))
    list(envs.step(0, np.zeros((0, 2), np.float32)))
    with pytest.raises(EnvFault) as caught:
        list(envs.step(1, np.zeros((1, 2), np.float32)))
    assert str(caught.value) == (
        "did not repeat its episode from the seed and the actions after its process had been lost"
    )
    envs.restart(1)
    envs.reset(1, 3)
    assert len(list(envs.step(1, np.zeros((1, 2), np.float32)))) == 1
    envs.close()


def test_an_episode_too_long_to_be_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softac.envs.processes.LONGEST_EPISODE", 3)
    envs = pool(1, 1, length=100)
    envs.reset(0, 0)
    zero = np.zeros((1, 2), np.float32)
    for _ in range(5):
        list(envs.step(0, zero))
    os.kill(envs._processes[0].process.pid, signal.SIGKILL)
    with pytest.raises(EnvFault, match=r"^ended its process \(SIGKILL\) in step$"):
        list(envs.step(0, zero))
    with pytest.raises(EnvFault, match=r"^was 5 steps into an episode, too many to be played again, after "):
        list(envs.step(0, zero))
    envs.close()


# --------------------------------------------------------------------- manners


def test_slow_is_not_hung() -> None:
    envs = pool(3, 1, timeout=0.5, fault="slow")  # 0.9 s together, each within its deadline
    for i in range(3):
        envs.reset(i, i)
    assert len(list(envs.step(0, np.zeros((3, 2), np.float32)))) == 3
    envs.close()


@pytest.mark.parametrize("fault", ["print megabytes", "change directory"])
def test_bad_manners_change_nothing(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    here = Path.cwd()
    envs = pool(2, 2, fault=fault, at=3)
    assert play(envs) == play(EnvSource(DRIFT, {}).vector(2))
    envs.close()
    assert Path.cwd() == here
    assert len(capfd.readouterr().out) == (6_000_000 if fault == "print megabytes" else 0)


def test_threads_and_programs_of_an_environment_end_with_it(tmp_path: Path) -> None:
    envs = pool(1, 1, env="worlds/WithThread-v0", note=str(tmp_path / "pid"))
    assert play(envs) == play(EnvSource(DRIFT, {}).vector(1))
    began = time.perf_counter()
    envs.close()
    assert time.perf_counter() - began < 5
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_is_logged_there_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    pool(2, 2, fault="raise", place="close").close()
    assert caplog.messages == ["an environment raised RuntimeError: the model exploded in close"] * 2
    assert {(record.name, record.levelno) for record in caplog.records} == {("softac.envs", logging.WARNING)}


def test_an_environment_that_hangs_in_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("softac.envs.process.CLOSING", 0.5)
    pool(1, 1, fault="hang", place="close").close()
    assert caplog.messages == ["environments were not closed within 0.5 s; their process is ended"]


def test_closing_twice_and_forgetting() -> None:
    envs = pool(2, 2)
    envs.close()
    envs.close()
    pool(2, 2)  # not closed: the fixture sees whether its processes end with it


def test_a_copy_is_refused() -> None:
    import copy
    import pickle

    envs = pool(1, 1)
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot be copied; save the model and load it$"):
            make(envs)
    envs.close()


def test_signals_of_the_terminal_do_not_reach_them() -> None:
    envs = pool(1, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(envs._processes[0].process.pid, number)
    assert play(envs) == play(EnvSource(DRIFT, {}).vector(1))
    envs.close()


def test_a_forked_copy_of_the_learner_leaves_them_alone() -> None:
    envs = pool(1, 1)
    envs.reset(0, 0)
    pid = os.fork()
    if pid == 0:
        envs.close()
        envs._end()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(list(envs.step(0, np.zeros((1, 2), np.float32)))) == 1
    envs.close()


def gone(pid: int, within: float = 2.0) -> bool:
    """Whether a process has ended, or does so soon."""
    for _ in range(int(within * 50)):
        try:
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("fault", ["none", "hang", "hang in C"])
def test_no_worker_outlives_a_learner_that_is_killed(fault: str, tmp_path: Path) -> None:
    code = (
        "import numpy as np, os, sys; from softac.envs import *; import worlds\n"
        f"envs = ProcessVectorEnv(EnvSource('{DRIFT}', dict(fault='{fault}')), 2, 2, 100.0)\n"
        "for i in range(2): envs.reset(i, i)\n"
        "if os.fork() == 0: os.read(os.pipe()[0], 1)\n"  # a copy that outlives it
        "envs.step(0, np.zeros((2, 2), np.float32)); print('ready', flush=True); os.read(0, 1)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as learner:
        assert learner.stdout is not None
        assert learner.stdout.readline() == b"ready\n"
        descendants = children(learner.pid)
        workers = [pid for pid in descendants if "softac.envs.worker" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(workers) == 2
        learner.kill()
        learner.wait()
        assert all(gone(pid) for pid in workers)
        for pid in set(descendants) - set(workers):
            os.kill(pid, signal.SIGKILL)


def test_no_worker_that_is_still_importing_outlives_a_learner_that_is_killed() -> None:
    code = (
        "import os, signal; from softac.envs import process\n"
        "worker = process.Process(range(1), os.memfd_create('a'), os.memfd_create('b')); worker.begin()\n"
        "os.kill(worker.process.pid, signal.SIGSTOP); print(worker.process.pid, flush=True); os.read(0, 1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as learner:
        assert learner.stdout is not None
        worker = int(learner.stdout.readline())
        assert not gone(worker, 0.1)
        learner.kill()
        learner.wait()
        assert gone(worker)


def test_answers_that_nobody_waited_for_are_kept() -> None:
    """As where a budget or a signal ends a round: the same actions are asked for again."""
    calm, envs = EnvSource(DRIFT, {}).vector(3), pool(3, 2)
    for i in range(3):
        np.testing.assert_array_equal(calm.reset(i, i), envs.reset(i, i))
    actions = np.random.default_rng(1).uniform(-1, 1, (3, 2)).astype(np.float32)
    next(envs.step(0, actions))  # the others have been stepped as well
    envs.step(1, actions[1:])
    found = [step.obs for step in envs.step(1, actions[1:])]
    expected = [step.obs for step in calm.step(0, actions)][1:]
    np.testing.assert_array_equal(found, expected)
    envs.close()
