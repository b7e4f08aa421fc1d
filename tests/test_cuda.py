"""Training on a GPU; skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from softac import SAC
from softac.learning.state import state_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_a_gpu_follows_the_cpu_within_rounding() -> None:
    arguments = {"seed": 0, "net_arch": [32, 32], "batch_size": 32, "learning_starts": 50}
    cpu = SAC("Pendulum-v1", device="cpu", **arguments).learn(60)
    gpu = SAC("Pendulum-v1", device="cuda", **arguments).learn(60)
    for name, tensor in state_of(cpu.agent).items():
        torch.testing.assert_close(state_of(gpu.agent)[name].cpu(), tensor, rtol=1e-3, atol=1e-4)


def test_a_model_saved_on_a_gpu_goes_on_from_its_files(tmp_path: Path) -> None:
    model = SAC("Pendulum-v1", device="cuda", net_arch=[32, 32], batch_size=32).learn(150)
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model")
    assert loaded.agent.device.type == "cuda"
    obs = np.zeros(3, np.float32)
    np.testing.assert_array_equal(
        loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    )
    assert loaded.learn(50).num_timesteps == 200
