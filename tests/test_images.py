"""Images: what is one, how networks read it, random shifts, and runs that go on with the same bits."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn import functional

import softac
from folders import memory_folder
from probes import Probe, SpaceEnv
from softac import DQN, PPO, SAC, Model, evaluate_policy
from softac.agents.registry import AGENTS
from softac.cli.main import main
from softac.envs.images import images_of, is_image
from softac.errors import ConfigError, EnvironmentFailed
from softac.nets.encoders import Conv, DrQ, Nature, Small, encoder_name, make_encoder
from softac.nets.reading import Encoded, pixels, reader
from softac.replay import draw_shifts, shift
from softac.ship.export import export
from softac.types import EnvSpec, Image, Transition
from tiny_agents import OnPolicy

SMALL: dict[str, Any] = {"net_arch": [8], "batch_size": 8, "learning_starts": 16, "buffer_size": 60}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as path:
        yield path


def box(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


class Sides(Probe):
    """A bright square on one side of the last of two pictures of 16 x 16 pixels; the action names the side."""

    observation_space = spaces.Dict(camera=box(2, 16, 16), speed=spaces.Box(-np.inf, np.inf, (2,), np.float32))
    action_space: Any = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.pictures = np.zeros((2, 16, 16), np.uint8)
        return super().reset(seed=seed, options=options)

    def observe(self) -> Any:
        self.side, picture = int(self.np_random.integers(2)), np.zeros((16, 16), np.uint8)
        picture[4:10, 2 + 6 * self.side : 8 + 6 * self.side] = 200
        self.pictures = np.stack([self.pictures[1], picture])
        return {"camera": self.pictures, "speed": self.np_random.normal(100.0, 5.0, 2).astype(np.float32)}

    def step(self, action: Any) -> Any:
        side = self.side if isinstance(self.action_space, spaces.Discrete) else 2.0 * self.side - 1.0
        self.t += 1
        reward = -float(np.sum(np.abs(np.subtract(action, side))))
        return self.observe(), reward, False, self.t >= 10, {}


class Steering(Sides):
    """`Sides` with a continuous action."""

    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)


gym.register("tests/Sides-v0", Sides)
gym.register("tests/Steering-v0", Steering)


# -------------------------------------------------------------- what is an image


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((40, 50), (1, 40, 50, 1)),
        ((64, 48, 3), (1, 64, 48, 3)),
        ((64, 48, 1), (1, 64, 48, 1)),
        ((3, 64, 48), (3, 64, 48, 1)),
        ((84, 84, 12), (1, 84, 84, 12)),
        ((4, 84, 84), (4, 84, 84, 1)),
        ((4, 64, 48, 3), (4, 64, 48, 3)),
        ((4, 3, 64, 48), (12, 64, 48, 1)),
        ((7, 7, 7), (1, 7, 7, 7)),
        ((8, 8, 12), (1, 8, 8, 12)),
        ((12, 8, 8), (12, 8, 8, 1)),
        ((2, 10, 10, 16), (2, 10, 10, 16)),
        ((2, 16, 10, 10), (32, 10, 10, 1)),
    ],
)
def test_where_the_axes_are(shape: tuple[int, ...], layout: tuple[int, ...]) -> None:
    (image,) = images_of(box(*shape))
    assert (image.stack, image.height, image.width, image.channels) == layout
    assert image.stop == int(np.prod(shape))


@pytest.mark.parametrize(
    "space",
    [
        box(31, 31),
        box(4, 4, 3),
        box(64, 64, 17),
        box(17, 64, 64),
        spaces.Box(0, 1, (8, 8, 111), bool),
        spaces.Box(0, 254, (64, 64, 3), np.uint8),
        spaces.Box(1, 255, (64, 64, 3), np.uint8),
        spaces.Box(-128, 127, (64, 64, 3), np.int8),
        spaces.Box(0, 1, (6, 7), bool),
    ],
    ids=str,
)
def test_what_is_none(space: spaces.Box) -> None:
    assert not is_image(space)


def test_the_largest_value_is_that_of_the_space() -> None:
    assert [
        images_of(s)[0].high for s in (box(20, 20, 3), box(19, 40, 3), spaces.Box(0, 1, (10, 10, 4), bool))
    ] == [
        255.0,
        10.0,
        1.0,
    ]


@pytest.mark.parametrize(("side", "name"), [(5, "small"), (19, "small"), (20, "drq"), (35, "drq"), (36, "nature")])
def test_the_encoder_follows_from_the_shorter_side(side: int, name: str) -> None:
    assert encoder_name(Image(0, 1, side, 200, 3)) == encoder_name(Image(0, 3, 200, side, 1)) == name
    for bounded in (False, True):
        made, width = make_encoder(Image(0, 1, side, 200, 3), "auto", torch.Generator(), bounded=bounded)
        assert made(torch.zeros(2, 3, side, 200)).shape == (2, width)
        assert width == (50 if bounded else {"small": 128, "drq": 50, "nature": 512}[name])


# --------------------------------------------------------------- how it is read


def test_planes_come_first_whatever_the_layout() -> None:
    """Pixel (channel c, row y, column x) of an image is 100 c + 10 y + x, in each layout."""
    c, y, x = np.meshgrid(np.arange(2), np.arange(5), np.arange(6), indexing="ij")
    planes = (100 * c + 10 * y + x).astype(np.float32)
    for array, image in (
        (planes, Image(1, 2, 5, 6, 1, high=2.0)),
        (planes.transpose(1, 2, 0), Image(1, 1, 5, 6, 2, high=2.0)),
    ):
        rows = torch.tensor(np.concatenate([[7.0], array.ravel(), [8.0]]), dtype=torch.float32)[None]
        assert torch.equal(pixels(rows, image)[0], torch.from_numpy(planes / 2.0))
    stack = np.stack([planes, 1_000.0 + planes]).transpose(0, 2, 3, 1).astype(np.float32)
    read = pixels(torch.from_numpy(stack.reshape(1, -1)), Image(0, 2, 5, 6, 2, high=1.0))[0]
    assert torch.equal(read, torch.from_numpy(np.concatenate([planes, 1_000.0 + planes])))


def test_a_convolution_by_hand() -> None:
    conv = Conv(1, 1, 2, 1, generator=torch.Generator())
    conv.weight.data[:] = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    conv.bias.data[:] = 0.5
    picture = torch.tensor([[[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]]])
    assert conv(picture).tolist() == [[[[1.0 + 4.0 + 0.5, 4.0 + 3.0 + 0.5]]]]


@pytest.mark.parametrize(
    ("kind", "shape", "bounded", "parameters"),
    [
        (Small, (4, 10, 10), False, 16 * 4 * 9 + 16 + 1024 * 128 + 128),
        (Nature, (4, 84, 84), False, 1_684_128),  # 32 x 256 + 32, 64 x 512 + 64, 64 x 576 + 64, 3136 x 512 + 512
        (Nature, (4, 84, 84), True, 1_684_128 - 3137 * 512 + 3137 * 50 + 100),
        *[(DrQ, (9, 84, 84), b, 32 * 81 + 3 * 32 * 288 + 4 * 32 + 39_200 * 50 + 50 + 100) for b in (False, True)],
    ],
)
def test_the_sizes_of_the_encoders(kind: Any, shape: tuple[int, int, int], bounded: bool, parameters: int) -> None:
    made = kind(shape, torch.Generator().manual_seed(0), bounded=bounded)
    assert sum(p.numel() for p in made.parameters()) == parameters
    again = kind(shape, torch.Generator().manual_seed(0), bounded=bounded)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))
    bound = (shape[0] * made[0].weight.shape[2] ** 2) ** -0.5
    assert 0.9 * bound < made[0].weight.abs().max() <= bound


def test_the_nature_encoder_is_that_of_the_paper() -> None:
    """The same numbers from PyTorch's own layers with the same weights."""
    made = Nature((4, 84, 84), torch.Generator().manual_seed(0))
    x = torch.rand(2, 4, 84, 84, generator=torch.Generator().manual_seed(1))
    y = x
    for i, stride in ((0, 4), (2, 2), (4, 1)):
        y = functional.conv2d(y, made[i].weight, made[i].bias, stride).relu()
    y = (y.flatten(1) @ made[7].weight + made[7].bias).relu()
    torch.testing.assert_close(made(x), y)


@pytest.mark.parametrize("kind", [Small, Nature, DrQ])
def test_bounded_features_are_normalised_and_squashed(kind: Any) -> None:
    made = kind((3, 40, 40), torch.Generator().manual_seed(0), bounded=True)
    x = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    before = nn.Sequential(*list(made)[:-2])(x)
    assert before.shape == (2, 50)
    centred = before - before.mean(1, keepdim=True)
    torch.testing.assert_close(made(x), (centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()).tanh())


@pytest.mark.parametrize(("choices", "features"), [((), 50), ((3,), 512), ((3, 2), 512)])
def test_features_are_bounded_beside_continuous_actions(choices: tuple[int, ...], features: int) -> None:
    """Of hundreds of features beside it a critic would not hear a continuous action."""
    space = box(40, 40)
    spec = EnvSpec(1600, 2, choices=choices, images=images_of(space))
    assert reader(spec, generator=torch.Generator())[1] == features


def test_numbers_come_before_the_features_of_images() -> None:
    space = spaces.Dict(a=box(8, 8, 3), b=spaces.Box(-1, 1, (2,)), c=box(40, 40), d=spaces.Box(-1, 1, (1,)))
    size = spaces.flatdim(space)
    spec = EnvSpec(size, 1, images=images_of(space), normalize=True)
    read, width = reader(spec, generator=torch.Generator().manual_seed(0))
    assert isinstance(read, Encoded)
    assert width == 3 + 50 + 50
    assert spec.numbers == (slice(192, 194), slice(1794, 1795))
    obs = torch.rand(3, 5, size, generator=torch.Generator().manual_seed(1))
    read.normalise.mean[:] = torch.tensor([0.0, 0.0, 1.0])
    out = read(obs)
    assert out.shape == (3, 5, width)
    torch.testing.assert_close(out[..., :2], obs[..., 192:194])
    torch.testing.assert_close(out[..., 2], obs[..., 1794] - 1.0)
    torch.testing.assert_close(out[1, 2, 3:53], read.encoders[0](pixels(obs[1, 2][None], spec.images[0]))[0])


@pytest.mark.parametrize("name", sorted(name for name in AGENTS if name != "rebrac"))  # which meets no environment
def test_every_agent_takes_them(name: str, tmp_path: Path) -> None:
    kind = AGENTS[name]
    env = "tests/Steering-v0" if "continuous" in kind.actions else "tests/Sides-v0"
    settings = {"n_steps": 8} if kind.on_policy else SMALL | {"batch_size": 16}
    model = Model(kind, env, normalize="obs", **settings).learn(40, run_dir=tmp_path / "run", n_eval_episodes=1)
    obs, _ = Sides().reset(seed=1)
    loaded = Model.load(tmp_path / "run")
    assert np.array_equal(loaded.predict(obs, True)[0], model.predict(obs, True)[0])
    mean, _ = softac.evaluate_policy(model, env, 2)
    assert -20.0 <= mean <= 0.0


def test_it_learns_from_them() -> None:
    """Blind actions are wrong every second time: -5 an episode."""
    settings = SMALL | {"net_arch": [32], "buffer_size": 1_000, "batch_size": 32, "exploration_steps": 300}
    model = DQN(Sides, gamma=0.0, learning_rate=1e-3, normalize="obs", **settings).learn(700)
    assert softac.evaluate_policy(model, Sides, 5)[0] > -0.5


def test_a_policy_learns_to_steer_with_random_shifts() -> None:
    """Without seeing, the best action 0 costs 1 a step: -10 an episode."""
    settings = SMALL | {"net_arch": [32], "buffer_size": 1_000, "batch_size": 32, "learning_rate": 1e-3}
    model = SAC(Steering, gamma=0.0, normalize="obs", random_shift=1, ent_coef=0.01, **settings).learn(600)
    assert softac.evaluate_policy(model, Steering, 5)[0] > -3.0


# ----------------------------------------------------------------- random shifts


def test_what_a_shift_does() -> None:
    image = Image(1, 1, 2, 3, 1)
    row = torch.tensor([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    obs = row.repeat(4, 1)
    one = torch.zeros(4, 1)
    batch = Transition(obs, one, one[:, 0], one[:, 0], obs + 10.0)
    moves = torch.tensor([[[0, 0], [1, 0], [0, -1], [-5, 2]], [[0, 1], [0, 0], [0, 0], [0, 0]]])
    moved = shift(batch, (image,), moves)
    assert moved.obs.tolist() == [
        [9, 1, 2, 3, 4, 5, 6, 8],
        [9, 1, 2, 3, 1, 2, 3, 8],  # down by one: the first line twice
        [9, 2, 3, 3, 5, 6, 6, 8],  # to the left by one
        [9, 4, 4, 4, 4, 4, 4, 8],  # up and out, and to the right
    ]
    assert moved.next_obs[0].tolist() == [19, 11, 11, 12, 14, 14, 15, 18]
    assert torch.equal(moved.next_obs[1:], obs[1:] + 10.0)
    assert torch.equal(batch.obs, obs)  # what the replay lent is as it was


def test_frames_and_channels_move_together() -> None:
    image = Image(0, 2, 4, 5, 3)
    frames = torch.rand(2, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    row = frames.reshape(1, -1)
    batch = Transition(row, *(torch.zeros(1),) * 3, row)
    moved = shift(batch, (image,), torch.tensor([[[1, 2]], [[0, 0]]])).obs.view(2, 4, 5, 3)
    assert torch.equal(moved[:, 1:, 2:], frames[:, :-1, :-2])


def test_shifts_are_uniform_and_of_their_own_generator() -> None:
    drawn = draw_shifts(20_000, 2, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 20_000, 2)
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert (counts / drawn.numel() - 0.2).abs().max() < 0.005
    assert torch.equal(drawn, draw_shifts(20_000, 2, torch.Generator().manual_seed(0)))


def test_without_them_nothing_is_drawn() -> None:
    plain, shifted = (SAC(Steering, random_shift=n, **SMALL).learn(20) for n in (0, 2))
    streams = [model.training.streams.state_dict() for model in (plain, shifted)]
    assert torch.equal(streams[0]["replay"], streams[1]["replay"])
    assert not torch.equal(streams[0]["update"], streams[1]["update"])


def test_images_that_an_encoder_makes_of_floats_are_shifted_too() -> None:
    """What the networks read as images is moved in each batch, whether it was found by rule or asked for."""
    floats = spaces.Box(0.0, 1.0, (20, 20, 3), np.float32)
    model = SAC(lambda: SpaceEnv(observation_space=floats), encoder="drq", random_shift=4, **SMALL).learn(20)
    met: list[torch.Tensor] = []
    engine = model.training.engine
    update, engine.update_ = engine.update_, lambda batch, noise: met.append(batch.obs) or update(batch, noise)
    before = model.training.streams.replay.get_state()
    model.learn(1)
    model.training.streams.replay.set_state(before)
    drawn = model.training.memory.sample(len(met[0]), model.training.streams.replay)
    assert not torch.equal(met[0], drawn.obs)


# ------------------------------------------------------------------- runs go on


@pytest.mark.parametrize(("n_envs", "workers"), [(1, 0), (3, 2)])
def test_a_run_goes_on_with_the_same_bits(n_envs: int, workers: int, tmp_path: Path) -> None:
    settings = SMALL | {"n_envs": n_envs, "env_workers": workers, "n_steps": 2, "random_shift": 2}
    frequencies: dict[str, Any] = {"eval_freq": 0, "n_eval_episodes": 0, "save_freq": 25}
    legs = [1, 17, 13, 40, 30]
    whole = SAC("tests/Steering-v0", normalize="obs", **settings)
    whole.learn(sum(legs), run_dir=tmp_path / "whole", **frequencies)
    SAC("tests/Steering-v0", normalize="obs", **settings).learn(legs[0], run_dir=tmp_path / "legs", **frequencies)
    for leg in legs[1:]:
        parts = SAC.load(tmp_path / "legs")
        parts.learn(leg, run_dir=tmp_path / "legs", **frequencies)
    one, other = ({**m.agent.tensors()} for m in (whole, parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    memories = [m.training.memory for m in (whole, parts)]
    assert memories[0].added == memories[1].added > 60  # the ring has overflowed
    oldest = memories[0].added - len(memories[0])
    rows = [memory.explicit_rows(oldest, memory.added) for memory in memories]
    assert np.array_equal(*rows)
    for name, state in whole.training.streams.state_dict().items():
        assert torch.equal(state, parts.training.streams.state_dict()[name])


def test_an_older_run_reads_small_images_as_it_did(tmp_path: Path) -> None:
    """Before there were encoders, grids of codes were vectors; a folder without the word is of that time."""
    env = lambda: SpaceEnv(observation_space=box(7, 7, 3))  # noqa: E731
    model = SAC(env, encoder="none", **SMALL).learn(20)
    described = model.description()
    del described["run"]["encoder"], described["run"]["normalize"], described["run"]["random_shift"]
    from softac.run.stored import Description

    said = Description.read(tmp_path, lambda _: AGENTS["sac"], described)
    assert said.run.encoder == said.encoder == "none"
    assert not said.spec.images


# ---------------------------------------------------------------------- encoders


def flat(shape: tuple[int, int, int], _generator: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Identity())


def test_an_encoder_of_ones_own(tmp_path: Path) -> None:
    model = SAC(Steering, encoder=flat, **SMALL).learn(20)
    model.save(tmp_path / "model")
    assert model.run.encoder == "own"
    assert model.agent.actor.module.net[0].weight.shape[0] == 2 + 2 * 16 * 16
    obs, _ = Steering().reset(seed=0)
    loaded = SAC.load(tmp_path / "model", env=Steering, encoder=flat)
    assert np.array_equal(loaded.predict(obs, True)[0], model.predict(obs, True)[0])
    loaded.learn(5)
    with pytest.raises(ConfigError) as refused:
        SAC.load(tmp_path / "model", env=Steering)
    assert refused.value.given == "encoder=None was given for a model with encoder='own'"
    assert refused.value.remedy == "pass encoder= to load"


@pytest.mark.parametrize(
    ("made", "given"),
    [
        (nn.Identity(), "the encoder Identity gives (2, 2, 16, 16)"),
        (None, "the encoder NoneType raised TypeError: 'NoneType' object is not callable"),
        (lambda x: x.mean((1, 2, 3))[:, None] / 0.0, "the encoder function gives numbers that are not finite"),
        (nn.Conv2d(2, 4, 30), "the encoder Conv2d raised RuntimeError: Calculated padded input size"),
    ],
    ids=["images", "nothing", "nan", "too small"],
)  # fmt: skip
def test_an_encoder_that_gives_no_features_is_refused(made: Any, given: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SAC(Steering, encoder=lambda shape, generator: made, **SMALL)
    assert refused.value.given.startswith(given)
    assert refused.value.given.endswith("for images (2, 2, 16, 16)")
    assert refused.value.expected == "expected features (2, F)"
    assert refused.value.remedy == "end it with torch.nn.Flatten(), say"


@pytest.mark.parametrize("encoder", [nn.Flatten(), 1], ids=["a module", "a number"])
def test_what_makes_no_encoder_is_refused(encoder: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        SAC(Steering, encoder=encoder, **SMALL)
    name = type(encoder).__name__
    assert str(refused.value) == (
        f"encoder={name} was given, which makes no modules; expected what makes a new module of (C, H, W) and a "
        f"generator, each time it is called; give encoder=lambda shape, generator: {name}(...)"
    )


def test_encoders_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        SAC(Steering, encoder="nature", **SMALL)
    assert refused.value.given == "encoder='nature' was given for images of 16 x 16"
    assert refused.value.remedy == "leave it out for small"
    with pytest.raises(ConfigError, match='"auto" or "none" or "small" or "drq" or "nature" or "own"'):
        SAC(Steering, encoder="resnet", **SMALL)
    with pytest.raises(ConfigError, match="what makes a module, which only Python can give"):
        SAC(Steering, encoder="own", **SMALL)
    with pytest.raises(ConfigError, match="expected an array of two to four dimensions"):
        SAC("Pendulum-v1", encoder="small", **SMALL)
    model = SAC(Steering, **SMALL)
    model.save(tmp_path / "model")
    with pytest.raises(ConfigError, match="expected none: a file has the name"):
        SAC.load(tmp_path / "model", env=Steering, encoder="small")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Box(0, 200, (40, 40, 3), np.uint8), "(40, 40, 3) of uint8 are read as a vector of 4,800 numbers"),
        (spaces.Box(0, 255, (3, 40, 40), np.int64), "(3, 40, 40) of int64 are read as a vector of 4,800 numbers"),
        (spaces.Box(0, 255, (40, 40, 3), np.uint8), ""),
        (spaces.Box(0, 2, (19, 19, 3), np.int8), ""),
        (spaces.Box(-1.0, 1.0, (40, 40, 9), np.float32), ""),
    ],
)
def test_what_has_the_shape_of_a_picture_and_is_none_by_the_rule_is_said(
    space: spaces.Box, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    SAC(lambda: SpaceEnv(observation_space=space), **SMALL)
    told = [record.message for record in caplog.records if "read as a vector" in record.message]
    remedy = "; if they are images, declare them as uint8 from 0 to 255, or ask for an encoder (encoder='nature')"
    assert told == ([f"observations {said}{remedy}"] if said else [])


def test_floats_are_images_only_where_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    space = spaces.Box(0.0, 4.0, (40, 40, 3), np.float32)
    with caplog.at_level(logging.INFO, "softac"):
        model = SAC(lambda: SpaceEnv(observation_space=space), **SMALL).learn(20)
        assert caplog.text.count("observations (40, 40, 3) of float32 are read as a vector of 4,800 numbers") == 1
        assert not model.spaces.spec.images
        caplog.clear()
        model = SAC(lambda: SpaceEnv(observation_space=space), encoder="nature", **SMALL).learn(20)
    assert "3 planes of 40 x 40 pixels: encoder nature" in caplog.text
    (image,) = model.agent.actor.module.read.images
    assert (image.planes, image.high) == (3, 4.0)
    assert model.agent.actor.module.net[0].weight.shape[0] == 50


def test_pixels_as_a_vector() -> None:
    model = SAC(Steering, encoder="none", normalize="obs", **SMALL).learn(20)
    assert model.agent.actor.module.net[0].weight.shape[0] == 2 + 2 * 16 * 16
    assert len(model.training.statistics.obs.mean) == 2 + 2 * 16 * 16


# ---------------------------------------------------------------------- bad input


def test_images_of_changing_size_are_the_environments_fault() -> None:
    class Zoom(SpaceEnv):
        def observe(self) -> Any:
            return np.zeros((40 + self.t // 3, 40, 3), np.uint8)

    with pytest.raises(
        EnvironmentFailed, match=r"shape \(41, 40, 3\) where the space says \(40, 40, 3\) at step 3"
    ):
        SAC(lambda: Zoom(observation_space=box(40, 40, 3)), **SMALL).learn(20)


@pytest.mark.parametrize(
    ("scaled", "said"),
    [
        (lambda pixels: pixels / 255, "0.2 among the pixels"),  # a wrapper that forgot the space
        (lambda pixels: pixels.astype(np.int64) + 300, "351 among the pixels"),
        (lambda pixels: pixels.astype(np.int64) - 60, "-9 among the pixels"),
        (lambda pixels: pixels.astype(np.float32), None),  # another type, the same numbers
        (lambda pixels: pixels.tolist(), None),
    ],
)
def test_pixels_that_bytes_cannot_hold_are_the_environments_fault(scaled: Any, said: str | None) -> None:
    """The replay keeps bytes: what is learned from would not be what was acted on."""

    class Scaled(SpaceEnv):
        def observe(self) -> Any:
            return scaled(np.full((40, 40, 3), 51, np.uint8))

    model = SAC(lambda: Scaled(observation_space=box(40, 40, 3)), **SMALL)
    if said is None:
        model.learn(20)
        assert (model.training.memory.explicit_rows(0, 1)[0, : 40 * 40 * 3] == 51).all()
        return
    with pytest.raises(EnvironmentFailed, match=f"{said}, where the space says uint8, whole from 0 to 255"):
        model.learn(20)


def test_a_batch_in_another_layout_is_refused() -> None:
    model = SAC(lambda: SpaceEnv(observation_space=box(40, 48, 3)), **SMALL)
    assert model.predict(np.zeros((5, 40, 48, 3), np.uint8))[0].shape == (5, 1)
    for wrong in ((3, 40, 48), (5, 3, 40, 48), (5, 48, 40, 3), (2, 5, 40, 48, 3)):
        with pytest.raises(ConfigError, match=r"where the space says|does not fit"):
            model.predict(np.zeros(wrong, np.uint8))


@pytest.mark.parametrize(
    "other",
    [spaces.Box(0.0, 1.0, (40, 48, 3), np.float32), spaces.Box(0, 1, (40, 48, 3), bool)],
    ids=["float", "bool"],
)
def test_images_of_other_values_are_another_space(other: spaces.Box, tmp_path: Path) -> None:
    """Networks take pixels in parts of their largest value: what is 255 times darker is not the same picture."""
    model = SAC(lambda: SpaceEnv(observation_space=box(40, 48, 3)), **SMALL)
    model.save(tmp_path / "model")
    for use in (
        lambda env: evaluate_policy(model, env, 1),
        lambda env: SAC.load(tmp_path / "model", env),
    ):
        with pytest.raises(ConfigError) as refused:
            use(lambda: SpaceEnv(observation_space=other))
        there = "bool pixels (40, 48, 3)" if other.dtype == bool else "5,760 numbers (40, 48, 3)"
        assert refused.value.given.endswith(f" is {there} and was uint8 pixels (40, 48, 3)")


def test_shifts_without_images_are_refused() -> None:
    for make in (
        lambda: SAC("Pendulum-v1", random_shift=4),
        lambda: PPO("tests/Sides-v0", random_shift=2),
        lambda: SAC(Steering, random_shift=16),
        lambda: SAC(Steering, random_shift=2, encoder="none"),
    ):
        with pytest.raises(ConfigError) as refused:
            make()
        assert "random_shift=" in refused.value.given
        assert refused.value.remedy == "leave random_shift out"


def test_images_alone_are_not_normalised() -> None:
    with pytest.raises(ConfigError) as refused:
        SAC(lambda: SpaceEnv(observation_space=box(8, 8, 3)), normalize="obs")
    assert refused.value.given == "normalize='obs' was given for observations that are images alone"


def test_an_agent_that_does_not_read_images_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="an environment with images was given and no network of OnPolicy has it"
    ):
        Model(OnPolicy, Steering)


def test_an_image_policy_is_exported(tmp_path: Path) -> None:
    model = SAC(Steering, **SMALL).learn(20)
    _, agreement = export(model, "numpy", tmp_path)
    assert (agreement.observations, agreement.undecided) == (10_000, 0)
    assert agreement.largest < 1e-5


def test_the_commands_take_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--net-arch 8 --batch-size 8 --learning-starts 10 --random-shift 1 --normalize obs --n-eval-episodes 1"
    run = str(tmp_path / "run")
    assert main(["train", "sac", "tests/Steering-v0", "-n", "30", "--run-dir", run, *words.split()]) == 0
    said = capsys.readouterr()
    assert "2 planes of 16 x 16 pixels: encoder small" in said.out + said.err
    assert main(["eval", run, "--n-eval-episodes", "2"]) == 0
    assert main(["resume", run, "-n", "40"]) == 0
    assert main(["check", "tests/Steering-v0", "--steps", "60"]) == 0


def test_check_knows_what_an_image_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Its first lines are black all the time, which is no fault of it."""
    assert main(["check", "tests/Steering-v0", "--steps", "60"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "camera Box (2, 16, 16) uint8, 2 planes for the encoder small -> 512" in said
    assert "never changed" not in said
    assert "differ in scale" not in said
