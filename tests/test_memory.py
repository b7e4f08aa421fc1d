"""An update takes no memory from the system that the one before has given back."""

import os
import subprocess
import sys

import pytest

from softac.run import memory

# Layers and batches of 256: an update frees tensors of a quarter of a megabyte, some at a time.
FAULTS = """
import resource, torch
from softac import SAC
torch.set_num_threads(1)
model = SAC("Pendulum-v1", engine="eager", learning_starts=300).learn(320)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
model.learn(20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


def pages_taken(**variables: str) -> float:
    """Of the system in each update of a new process."""
    environment = {name: value for name, value in os.environ.items() if name not in memory.VARIABLES} | variables
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, env=environment, check=True
    )
    return float(done.stdout)


glibc = pytest.mark.skipif(not memory.keep_freed_memory(), reason="the C library is another one, or has been set")


@glibc
def test_updates_take_memory_from_the_system_once():
    assert pages_taken() < 100


@glibc
def test_what_the_user_has_set_is_left_alone():
    # The system's own choice is asked for by a name; with it an update takes hundreds of pages.
    assert pages_taken(MALLOC_TRIM_THRESHOLD_="131072") > 300


@pytest.mark.parametrize("name", memory.VARIABLES)
def test_a_variable_of_the_c_library_decides(name, monkeypatch):
    monkeypatch.setenv(name, "0")
    assert memory.keep_freed_memory() is False


def test_another_c_library_has_no_such_setting(monkeypatch):
    monkeypatch.setattr(memory, "MALLOPT", None)
    assert memory.keep_freed_memory() is False
