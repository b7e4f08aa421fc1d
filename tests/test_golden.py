"""Models saved by an earlier version load, and go on to the same bits."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softac import Model
from softac.envs.machine import processor
from softac.learning.state import state_of
from softac.run.checkpoint import checkpoints, differences, read_manifest

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make import CASES, FURTHER, STEPS  # noqa: E402

sys.path.remove(str(GOLDEN))

# Written down before checkpoints knew their processor: on one of these, and to the same bits on the other.
ALIKE = re.compile(r"AMD.*cpu family 25,|Intel.*cpu family 6,")


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_an_earlier_version_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(GOLDEN / name, folder)
    (checkpoint,) = checkpoints(folder / "checkpoints")
    model = Model.load(folder)
    assert model.num_timesteps == STEPS
    found, expected = state_of(model.learn(FURTHER).agent), load_file(folder / "further.safetensors")
    assert found.keys() == expected.keys()
    if differences(read_manifest(checkpoint)["fingerprint"]) or not ALIKE.match(processor()):
        # Another PyTorch or another processor adds up in another order, and 90 updates carry it on.
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
    else:
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    moved = load_file(checkpoint / "networks.safetensors")
    assert any(not torch.equal(found[key], tensor) for key, tensor in moved.items())


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 1_000_000
