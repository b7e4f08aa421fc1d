"""Is the installation sound?"""

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from softac._version import __version__, installed_version
from softac.agents.sac import SACAgent, SACConfig
from softac.envs.rendering import EGL_PACKAGES, has_display, has_egl
from softac.envs.video import find_ffmpeg
from softac.errors import CheckpointError
from softac.examine.findings import Finding
from softac.learning.engine import what_compiling_lacks
from softac.learning.state import state_of
from softac.replay.ring import available_memory
from softac.run.checkpoint import Snapshot, read_newest, write_checkpoint
from softac.run.numerics import numerics
from softac.run.waiting import FAIR, ProcessorTime, how_threads_wait
from softac.types import EnvSpec, Transition

OLDEST = {"torch": "2.10", "numpy": "1.26", "gymnasium": "1.1"}
OLDEST_OF_EXTRAS = {"mujoco": "3.3.6"}
LITTLE_MEMORY = 2e9
LONG_ENOUGH = 1.0  # seconds


def installation() -> Iterator[Finding]:
    """Versions, processor, how it is shared, memory and what films need."""
    yield from _versions()
    yield _processor()
    yield _waiting()
    yield _neighbours()
    yield _cuda()
    if missing := what_compiling_lacks():
        yield Finding("note", missing, "install it", "updates are executed eagerly, which is slower")
    else:
        yield Finding("ok", "updates can be compiled: C++ compiler and Python's headers are there")
    free = available_memory()
    if free < LITTLE_MEMORY:
        yield Finding(
            "note",
            f"only {free / 1e9:.1f} GB of memory are free",
            "close other programs, or lower --buffer-size",
            "the replay of a long run on a large task takes one or two",
        )
    else:
        yield Finding("ok", f"memory: {free / 1e9:.1f} GB free")
    yield from _films()


def _versions() -> Iterator[Finding]:
    oldest = OLDEST | OLDEST_OF_EXTRAS
    found = {name: installed_version(name) for name in oldest}
    words = ", ".join(f"{name} {number or 'not installed'}" for name, number in found.items())
    old = [f"{n} {v}" for n, v in found.items() if v is not None and _release(v) < _release(oldest[n])]
    missing = [name for name in OLDEST if found[name] is None]
    if missing or old:
        wanted = ", ".join(f"{name}>={number}" for name, number in oldest.items() if name in OLDEST or found[name])
        yield Finding(
            "problem",
            f"{' and '.join([*(f'{m} is missing' for m in missing), *(f'{o} is too old' for o in old)])}",
            f"pip install --upgrade softac (it asks for {wanted})",
            "softac is not tested with these",
            exit_code=1,
        )
    elif found["mujoco"] == "4.0.0":
        yield Finding(
            "problem",
            "mujoco 4.0.0 computes wrong accelerations for sparse models",
            "pip install 'mujoco!=4.0.0'",
            "results on MuJoCo tasks would be wrong",
            exit_code=1,
        )
    else:
        yield Finding("ok", f"softac {__version__}, Python {platform.python_version()}, {words}")
    if found["mujoco"] is None:
        yield Finding(
            "note",
            "MuJoCo is not installed",
            "pip install 'softac[mujoco]', where they are wanted",
            "tasks such as HalfCheetah-v5 cannot be made",
        )


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, kind = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    what = f"processor: {cores} cores for this process, {threads} PyTorch threads, {kind}"
    if threads > cores:
        return Finding("note", what, f"export OMP_NUM_THREADS={cores}", "threads beyond the cores slow each other")
    if kind in ("DEFAULT", "NO AVX"):
        return Finding(
            "note", what, "use a processor with AVX2 if there is one", "PyTorch is several times slower without"
        )
    return Finding("ok", what)


def _waiting() -> Finding:
    how = how_threads_wait()
    settings = ", ".join(f"{name}={value}" for name, value in how["waiting"].items())
    library = f"OpenMP: {how['openmp'] or 'unknown'}"
    if how["waiting_chosen_by"] == "nobody":
        return Finding(
            "note",
            f"{library}, whose threads spin while they wait",
            "import softac before PyTorch, or set GOMP_SPINCOUNT=1000",
            "beside other programs training can be many times slower",
        )
    return Finding("ok", f"{library}, whose threads wait with {settings} (chosen by {how['waiting_chosen_by']})")


def _neighbours() -> Finding:
    """How much of the processor time that an update's products ask for they get, in a second."""
    threads = torch.get_num_threads()
    a, clock, end = torch.ones(256, 256), ProcessorTime(), time.monotonic() + LONG_ENOUGH
    while time.monotonic() < end:
        torch.mm(a, a)
    share = clock.share()
    if share is None:
        return Finding("ok", "this system does not count how long threads wait for a core")
    what = f"processor time: {share:.0%} of what {threads} threads ask for"
    if share < FAIR:
        return Finding(
            "note",
            what,
            "end other programs, or export OMP_NUM_THREADS=1",
            "training is slower by as much, or more",
        )
    return Finding("ok", what)


def _cuda() -> Finding:
    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    if torch.version.cuda is not None:
        return Finding(
            "note",
            f"this PyTorch is built for CUDA {torch.version.cuda} and finds no GPU",
            "see that `nvidia-smi` works, or ignore it to train on the CPU",
            "training runs on the CPU",
        )
    return Finding("ok", "no GPU: training runs on the CPU")


def _films() -> Iterator[Finding]:
    if ffmpeg := find_ffmpeg():
        yield Finding("ok", f"films: .mp4 with {ffmpeg}, and .gif")
    else:
        yield Finding(
            "note",
            "films: .gif only, since there is no ffmpeg",
            "apt install ffmpeg, or pip install imageio-ffmpeg",
        )
    if has_display() or has_egl():
        yield Finding("ok", "drawing: with a display" if has_display() else "drawing: no display, MuJoCo with EGL")
    else:
        yield Finding(
            "note",
            "drawing: neither a display nor EGL",
            EGL_PACKAGES,
            "MuJoCo tasks can be trained on but not filmed",
        )


def self_test() -> Iterator[Finding]:
    """One update made twice, and one checkpoint written and read, in a folder that is then deleted."""
    first, second = _one_update(), _one_update()
    if different := [name for name in first if not torch.equal(first[name], second[name])]:
        yield Finding(
            "problem",
            f"the same update made twice gave different bits ({different[0]})",
            "export OMP_NUM_THREADS=1 and try again; if that does not help, reinstall PyTorch or test the memory",
            "no result here can be repeated",
            exit_code=1,
        )
    else:
        yield Finding("ok", "the same update made twice gives the same bits")
    try:
        with tempfile.TemporaryDirectory(prefix="softac-") as folder:
            snapshot = Snapshot(1, first, {"steps": 1}, np.zeros((0, 1), np.float32), [])
            write_checkpoint(Path(folder), snapshot, "self-test")
            again, _ = read_newest(Path(folder), "self-test", 1)
            whole = again.tensors.keys() == first.keys() and all(
                torch.equal(again.tensors[name], first[name]) for name in first
            )
        fault = "" if whole else "what was read is not what was written"
    except (OSError, CheckpointError) as error:
        fault = str(error)
    if fault:
        yield Finding(
            "problem",
            f"a checkpoint in {tempfile.gettempdir()} cannot be written and read again ({fault})",
            "see that the disk has space and is sound (df, dmesg)",
            "a run could not be saved",
            exit_code=1,
        )
    else:
        yield Finding("ok", "a checkpoint can be written, and verifies")


def _one_update() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    with numerics(torch.get_num_threads()):
        agent = SACAgent(EnvSpec(3, 1), SACConfig(net_arch=(16, 16)), generator=draw, device=torch.device("cpu"))
        obs, next_obs = (torch.randn(32, 3, generator=draw) for _ in range(2))
        action, reward = torch.rand(32, 1, generator=draw) * 2 - 1, torch.randn(32, generator=draw)
        batch = Transition(obs, action, reward, torch.full((32,), 0.99), next_obs)
        agent.update_(batch, agent.update_noise(32, draw))
        return state_of(agent)


def _release(number: str) -> tuple[int, ...]:
    parts = number.split("+")[0].split(".")[:3]
    return tuple(int(digits) if (digits := "".join(filter(str.isdigit, part))) else 0 for part in parts)
