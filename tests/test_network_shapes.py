"""Activations, layer norm, and widths of the actor and the critics apart."""

import math
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from forgery import Forgery
from probes import SpaceEnv
from softac import DQN, PPO, SAC, Model
from softac.agents.registry import AGENTS
from softac.cli.main import main
from softac.config import bodies, fields, make_config
from softac.errors import CheckpointError, ConfigError
from softac.learning.size import weights_of
from softac.learning.state import state_of
from softac.nets.encoders import Conv
from softac.nets.layers import LayerNorm, Linear, mlp, orthogonal_mlp
from softac.run import size
from softac.ship.export import export
from softac.ship.runtimes import open_policy
from softac.types import EnvSpec, Image

WITH_BOTH = [name for name, agent in AGENTS.items() if "actor_net_arch" in fields(agent.Config)]
WITH_NORM = [name for name, agent in AGENTS.items() if "critic_layer_norm" in fields(agent.Config)]
WITH_ACTIVATION = [name for name, agent in AGENTS.items() if "activation" in fields(agent.Config)]

gym.register("tests/Seen-v0", lambda: SpaceEnv(spaces.Box(0, 255, (20, 24, 1), np.uint8)))


def agent_of(name: str, **options: Any) -> Any:
    env = "Pendulum-v1" if "continuous" in AGENTS[name].actions else "CartPole-v1"
    return Model(AGENTS[name], env, **options).agent


def test_the_algorithms_that_have_them() -> None:
    assert set(WITH_BOTH) == set(AGENTS) - {"dqn"}
    assert set(WITH_ACTIVATION) >= set(AGENTS) - {"crossq", "xqc"}
    assert set(WITH_NORM) >= {"sac", "sac_v", "sac_discrete", "sac_mixture", "td3", "ddpg", "gamid_pg", "dqn"}


@pytest.mark.parametrize("name", WITH_BOTH)
def test_widths_apart(name: str) -> None:
    options = {"baseline": "value"} if name == "reinforce" else {}
    agent = agent_of(name, net_arch=(7,), actor_net_arch=(5, 6), **options)
    shapes = {key: tuple(tensor.shape) for key, tensor in agent.tensors().items() if key.endswith("weight")}
    actor = [shape[-2:] for key, shape in shapes.items() if key.startswith("actor.net")]
    critic = [shape[-2:] for key, shape in shapes.items() if key.startswith("critic.net")]
    assert [shape[1] for shape in actor[:2]] == [5, 6]
    assert critic[0][1] == 7
    agent = agent_of(name, net_arch=(7,), critic_net_arch=(5, 6), **options)
    critic = [
        tuple(t.shape)[-2:] for k, t in agent.tensors().items() if k.startswith("critic.net") and "weight" in k
    ]
    assert [shape[1] for shape in critic[:2]] == [5, 6]


@pytest.mark.parametrize("name", WITH_ACTIVATION)
def test_the_activation_is_that_of_every_network(name: str) -> None:
    agent = agent_of(name, activation="elu", net_arch=(4, 4))
    learners = [part.module for part in vars(agent).values() if hasattr(part, "module") and hasattr(part, "adam_")]
    kinds = {type(layer) for module in learners for layer in module.modules() if not list(layer.children())}
    assert torch.nn.ELU in kinds
    assert not kinds & {torch.nn.ReLU, torch.nn.Tanh}


def test_an_activation_that_is_none() -> None:
    with pytest.raises(ConfigError) as caught:
        SAC("Pendulum-v1", activation="sigmoid")
    assert str(caught.value) == (
        'activation=\'sigmoid\' was given; expected "relu" or "tanh" or "elu" or "silu"; '
        "leave it out for the default relu"
    )


def test_numbers_of_a_layer_norm() -> None:
    norm = LayerNorm(4)
    found = norm(torch.tensor([[1.0, 2.0, 3.0, 6.0]]))
    # mean 3, variance 3.5
    expected = torch.tensor([[-2.0, -1.0, 0.0, 3.0]]) / math.sqrt(3.5 + 1e-5)
    torch.testing.assert_close(found, expected)
    norm.gain.data, norm.bias.data = torch.full((4,), 2.0), torch.full((4,), 0.5)
    torch.testing.assert_close(norm(torch.tensor([[1.0, 2.0, 3.0, 6.0]])), 2.0 * expected + 0.5)
    several = LayerNorm(4, members=3)
    assert several(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))).shape == (3, 2, 4)


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu", "silu"])
def test_where_the_layers_lie(activation: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    names = [type(x).__name__ for x in mlp((3, 4, 5, 2), generator=draw, activation=activation, layer_norm=True)]
    kind = {"relu": "ReLU", "tanh": "Tanh", "elu": "ELU", "silu": "SiLU"}[activation]
    assert names == ["Linear", "LayerNorm", kind, "Linear", "LayerNorm", kind, "Linear"]
    names = [type(x).__name__ for x in orthogonal_mlp((3, 4, 2), 1.0, generator=draw, activation=activation)]
    assert names == ["Linear", kind, "Linear"]


def test_without_them_nothing_is_drawn_otherwise() -> None:
    plain, normal = (SAC("Pendulum-v1", net_arch=(8,), critic_layer_norm=norm).agent for norm in (False, True))
    first, second = state_of(plain), state_of(normal)
    assert len(second) > len(first)
    assert torch.equal(first["actor.net.0.weight"], second["actor.net.0.weight"])
    assert torch.equal(first["critic.net.0.weight"], second["critic.net.0.weight"])


@pytest.mark.parametrize("name", WITH_NORM)
def test_a_normed_critic_keeps_its_size_where_there_are_no_data(name: str) -> None:
    """What layer norm is for: values far from the data are bounded by the weights, not by the distance."""
    far = 1e4 * torch.ones(1, 3 if name not in ("dqn", "sac_discrete") else 4)
    for norm in (False, True):
        agent = agent_of(name, critic_layer_norm=norm, net_arch=(32, 32))
        actions = () if name in ("dqn", "sac_discrete") else (torch.ones(1, 1),)
        size = float(agent.critic(far, *actions).abs().max().detach())
        assert (size < 10.0) == norm, (name, size)


@pytest.mark.parametrize("to", ["numpy", "onnx", "c"])
@pytest.mark.parametrize(
    ("model", "env", "options"),
    [
        (SAC, "Pendulum-v1", {"activation": "elu"}),
        (SAC, "Pendulum-v1", {"activation": "silu", "actor_net_arch": (8, 9)}),
        (PPO, "CartPole-v1", {"activation": "silu"}),
        (DQN, "CartPole-v1", {"critic_layer_norm": True, "activation": "elu", "dueling": True}),
    ],
    ids=["elu", "silu", "ppo", "dqn"],
)
def test_exported_policies_have_them(to: str, model: Any, env: str, options: Any, tmp_path: Path) -> None:
    made = model(env, net_arch=(16, 16), **options).learn(60)
    export(made, to, tmp_path)
    name = {"numpy": "policy.safetensors", "onnx": "policy.onnx", "c": "policy.c"}[to]
    policy = open_policy(tmp_path / name, trust=True)
    observations = np.random.default_rng(0).normal(size=(200, made.spaces.spec.obs_dim)).astype(np.float32)
    expected = made.predict(observations, deterministic=True)[0]
    np.testing.assert_allclose(policy.batch([observations]), expected, atol=1e-5)


def test_bodies() -> None:
    config = make_config(AGENTS["sac"].Config, {"critic_net_arch": (3,), "critic_layer_norm": True})
    assert bodies(config) == (
        {"net_arch": (256, 256), "activation": "relu"},
        {"net_arch": (3,), "activation": "relu", "layer_norm": True},
    )


def learned_layers(agent: Any) -> list[torch.nn.Module]:
    learners = [part.module for part in vars(agent).values() if hasattr(part, "module") and hasattr(part, "adam_")]
    return [layer for module in learners for layer in module.modules() if isinstance(layer, Linear | Conv)]


@pytest.mark.parametrize("images", [(), (Image(1, 2, 20, 24, 1),)], ids=["numbers", "images"])
@pytest.mark.parametrize("name", AGENTS)
def test_weights_are_counted_without_being_made(name: str, images: tuple[Image, ...]) -> None:
    kind = AGENTS[name]
    options = {"n_critics": 5} if "n_critics" in fields(kind.Config) else {}
    n_actions = None if "continuous" in kind.actions else 3
    spec = EnvSpec(1 + 2 * 20 * 24 + 2, 1, n_actions, images=images)
    config = make_config(kind.Config, {"net_arch": (7, 6), **options})
    agent = kind(spec, config, generator=torch.Generator(), device=torch.device("cpu"))
    made = sum(p.numel() for layer in learned_layers(agent) for p in layer.parameters(recurse=False))
    assert weights_of(kind, spec, config) == made
    huge = make_config(kind.Config, {"net_arch": (16384,) * 16, **options})
    assert weights_of(kind, spec, huge) > 15 * 16384**2  # 16 GB at least


LARGER: dict[str, tuple[str, Any]] = {
    "actor": ("Pendulum-v1", {"actor_net_arch": [16384] * 16}),
    "critic": ("Pendulum-v1", {"critic_net_arch": [16384] * 16}),
    "critics": ("Pendulum-v1", {"n_critics": 64}),
    "behind images": ("tests/Seen-v0", {"net_arch": [16384] * 16}),
    "critics of images": ("tests/Seen-v0", {"n_critics": 64}),
}


@pytest.mark.parametrize("name", LARGER)
def test_a_file_that_asks_for_larger_networks_is_refused_first(name: str, tmp_path: Path) -> None:
    env, changes = LARGER[name]
    SAC(env, net_arch=(64, 64)).learn(10).save(tmp_path / "m")
    Forgery(tmp_path / "m").config(lambda c: c["hyperparameters"].update(changes))
    with pytest.raises(
        CheckpointError, match=r"describes networks of \d+ weights, and the checkpoint of step 10 has"
    ):
        SAC.load(tmp_path / "m")


def test_an_encoder_of_ones_own_says_nothing_of_its_size(tmp_path: Path) -> None:
    def encoder(shape: tuple[int, int, int], generator: torch.Generator) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), Linear(math.prod(shape), 4, generator=generator))

    SAC("tests/Seen-v0", net_arch=(8,), encoder=encoder).learn(10).save(tmp_path / "m")
    assert SAC.load(tmp_path / "m", encoder=encoder).num_timesteps == 10
    Forgery(tmp_path / "m").config(lambda c: c["hyperparameters"].update(net_arch=[16384] * 16))
    with pytest.raises(CheckpointError, match="describes networks"):
        SAC.load(tmp_path / "m", encoder=encoder)


def test_networks_that_do_not_fit_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    SAC("Pendulum-v1", net_arch=(8,)).learn(10, run_dir=tmp_path / "run", n_eval_episodes=0)
    Forgery(tmp_path / "run").config(lambda c: c["hyperparameters"].update(net_arch=[16384] * 16, n_critics=64))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    monkeypatch.setattr(size, "available_memory", lambda: 10**9)
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "softac: the networks need 3140.96 GB for 261,746,933,826 weights; expected at most the 1.00 GB of memory "
        "free now; lower net_arch, say, or free memory\n"
    )
