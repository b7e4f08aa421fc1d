"""Writes the golden models of one version: `PYTHONPATH=CHECKOUT/src python tests/golden/make.py FOLDER`.

Each algorithm trains for `STEPS`, is saved, and goes on for `FURTHER`; the tensors it has then lie beside the
saved model. `tests/test_golden.py` loads the model with the code of today and goes on likewise. Those in this
folder were written by 0.1.0 as of commit d1b16e0, whose agents offered `state_dict()` for today's `tensors()`.
"""

import os
import sys
from pathlib import Path

from safetensors.torch import save_file

from softac import Model
from softac.agents.registry import AGENTS

STEPS, FURTHER = 260, 90
OFF_POLICY = {"learning_starts": 60, "buffer_size": 200, "batch_size": 16, "net_arch": (8, 8)}
ON_POLICY = {"n_steps": 32, "net_arch": (8,)}
CASES = {
    "sac": ("Pendulum-v1", OFF_POLICY | {"target_update_interval": 2, "n_steps": 3}),
    "sac_v": ("Pendulum-v1", OFF_POLICY),
    "sac_discrete": ("CartPole-v1", OFF_POLICY),
    "sac_mixture": ("Pendulum-v1", OFF_POLICY | {"n_components": 2}),
    "gamid_pg": ("Pendulum-v1", OFF_POLICY | {"n_components": 2}),
    "ddpg": ("Pendulum-v1", OFF_POLICY | {"action_noise": "ou"}),
    "td3": ("Pendulum-v1", OFF_POLICY),
    "dqn": ("CartPole-v1", OFF_POLICY | {"target_update_interval": 7}),
    "reinforce": ("CartPole-v1", ON_POLICY | {"baseline": "value", "value_steps": 3}),
    "a2c": ("Pendulum-v1", ON_POLICY),
    "ppo": ("CartPole-v1", ON_POLICY | {"batch_size": 16, "n_epochs": 2}),
}


def write(folder: Path) -> None:
    """Write all of them below `folder`."""
    for name, (env, config) in CASES.items():
        model = Model(AGENTS[name], env, seed=7, device="cpu", engine="eager", **config).learn(STEPS)
        model.save(folder / name)
        agent = model.learn(FURTHER).agent
        live = agent.tensors() if hasattr(agent, "tensors") else agent.state_dict()
        save_file({key: tensor.clone() for key, tensor in live.items()}, folder / name / "further.safetensors")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    write(Path(sys.argv[1]))
