"""Exported policies act as their agents do: every algorithm, every space, every format."""

import getpass
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import torch

import policies
from softac import DQN, SAC, Model
from softac.agents.dqn import DQNAgent
from softac.agents.registry import AGENTS
from softac.agents.sac import SACAgent
from softac.envs.borders import draw, leaves, part_of
from softac.envs.flat import item
from softac.errors import ConfigError, NumericalError
from softac.nets import as_operations
from softac.nets.operations import Operation, affine, argmax, observation, part, relu
from softac.ship import policy as numpy_runtime
from softac.ship import to_c, to_numpy, to_onnx
from softac.ship.description import Policy, describe
from softac.ship.export import FORMATS, between, compare, export, trial, undecided
from softac.ship.runtimes import Batch, open_policy

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")

COARSE = {"float16": 5e-4, "far away": 6.2e-5}  # one step of the action's dtype, in widths of the bounds
PRINTERS = {"onnx": to_onnx.files, "numpy": to_numpy.files, "c": to_c.files}


def opened(policy: Policy, to: str, folder: Path) -> Batch:
    """The policy in this format, written and opened."""
    folder.mkdir(exist_ok=True)
    contents = PRINTERS[to](policy)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return open_policy(folder / next(iter(contents)), trust=True).batch


def agrees(model: Model, folder: Path, n: int, most: float = 1e-5) -> None:
    """Every format, tried by the command's own comparison; few observations may leave the agent undecided."""
    policy = describe(model)
    wanted = trial(model, policy, n)
    for to in FORMATS:
        agreement = compare(model, policy, opened(policy, to, folder / to), wanted)
        assert agreement.observations == n
        assert agreement.largest <= (0 if policy.action.n else most)
        assert agreement.undecided <= n / 100


@needs_compiler
@pytest.mark.parametrize("algorithm", AGENTS)
def test_every_algorithm_in_every_format_acts_as_its_agent(algorithm: str, tmp_path: Path) -> None:
    kinds = AGENTS[algorithm].actions
    if "continuous" in kinds:
        model = policies.untrained(algorithm, policies.OBSERVATIONS["float32"], policies.CONTINUOUS["own bounds"])
        agrees(model, tmp_path, 10_000)
    if "discrete" in kinds:
        model = policies.untrained(algorithm, policies.OBSERVATIONS["Dict"], policies.DISCRETE["from -3"])
        agrees(model, tmp_path, 10_000)


@needs_compiler
@pytest.mark.parametrize("space", policies.OBSERVATIONS)
def test_every_observation_space_in_every_format(space: str, tmp_path: Path) -> None:
    agrees(
        policies.untrained("sac", policies.OBSERVATIONS[space], policies.CONTINUOUS["[-1, 1]"]), tmp_path, 1_000
    )


@needs_compiler
@pytest.mark.parametrize("space", policies.CONTINUOUS)
@pytest.mark.parametrize("algorithm", ["td3", "ppo"])
def test_every_action_space_in_every_format(algorithm: str, space: str, tmp_path: Path) -> None:
    # Of these two, ppo's means lie beyond the bounds as often as not.
    model = policies.untrained(algorithm, policies.OBSERVATIONS["Tuple"], policies.CONTINUOUS[space])
    agrees(model, tmp_path, 1_000, COARSE.get(space, 1e-5))


@needs_compiler
@pytest.mark.parametrize(
    ("algorithm", "config"),
    [
        ("dqn", {"dueling": True}),
        ("sac", {"log_std": "tanh", "net_arch": (8,)}),
        ("gamid_pg", {"n_components": 1, "n_critics": 1}),
        ("gamid_pg", {"n_components": 3, "n_critics": 3}),
        ("sac_mixture", {"n_components": 7}),
        ("sac", {"precision": "bf16", "net_arch": (64, 64)}),
        ("gamid_pg", {"precision": "bf16", "net_arch": (64, 64)}),
    ],
)
def test_every_variant_in_every_format(algorithm: str, config: dict[str, Any], tmp_path: Path) -> None:
    action = policies.DISCRETE["Discrete"] if algorithm == "dqn" else policies.CONTINUOUS["float64"]
    agrees(policies.untrained(algorithm, policies.OBSERVATIONS["Dict"], action, **config), tmp_path, 1_000)


@needs_compiler
@pytest.mark.parametrize("algorithm", ["dqn", "ppo", "td3", "sac_discrete", "crossq"])
def test_images_in_every_kind_of_network(algorithm: str, tmp_path: Path) -> None:
    discrete = "continuous" not in AGENTS[algorithm].actions
    action = policies.DISCRETE["from -3"] if discrete else policies.CONTINUOUS["own bounds"]
    model = policies.untrained(algorithm, policies.OBSERVATIONS["Dict with images"], action, normalize="obs")
    agrees(model, tmp_path, 300)
    policy = describe(model)
    actions = trial(model, policy, 300).actions
    assert (actions.std(0) > 100 * policy.tolerance(actions).max(0)).any()  # they do depend on what is seen


def test_images_in_an_exported_file_are_large_and_tried_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    model = policies.untrained("sac", policies.OBSERVATIONS["small image"], policies.CONTINUOUS["[-1, 1]"])
    monkeypatch.setattr("softac.ship.export.MOST_BYTES", 500 * 12 * 10 * 2)
    assert len(trial(model, describe(model)).actions) == 500
    monkeypatch.setattr("softac.ship.export.MOST_BYTES", 1)
    assert len(trial(model, describe(model)).actions) == 1 + 7 + 256


def test_an_encoder_of_ones_own_that_does_not_say_what_it_computes(tmp_path: Path) -> None:
    def pooled(shape: tuple[int, int, int], _: torch.Generator) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.MaxPool2d(2), torch.nn.Flatten())

    space, action = policies.OBSERVATIONS["small image"], policies.CONTINUOUS["[-1, 1]"]
    with pytest.raises(ConfigError, match=r"^a MaxPool2d does not say what it computes; expected a method oper"):
        export(policies.untrained("sac", space, action, encoder=pooled), "numpy", tmp_path)


def test_a_layer_norm_with_another_epsilon_does_not_say_what_it_computes() -> None:
    with pytest.raises(ConfigError, match=r"^a LayerNorm does not say"):
        as_operations(torch.nn.LayerNorm(4, eps=1e-3), observation(4))


def test_predict_for_many_at_once_is_what_the_file_gives_for_many_at_once(tmp_path: Path) -> None:
    model = policies.untrained("sac", policies.OBSERVATIONS["float32"], policies.CONTINUOUS["own bounds"])
    session = onnxruntime.InferenceSession(to_onnx.files(describe(model))[to_onnx.FILE])
    generator = np.random.default_rng(5)
    width = np.subtract(model.spaces.high, model.spaces.low).reshape(2, 2)
    for size in (1, 7, 256):
        obs = generator.normal(size=(size, 5)).astype(np.float32)
        (action,) = session.run(["action"], {"observation": obs})
        assert action.shape == (size, 2, 2)
        assert action.dtype == np.float32
        assert (np.abs(action - model.predict(obs, deterministic=True)[0]) <= 1e-5 * width).all()


def test_the_actions_compared_are_worth_comparing() -> None:
    model = policies.untrained("sac", policies.OBSERVATIONS["float32"], policies.CONTINUOUS["[-1, 1]"])
    obs = draw(model.spaces.observation_space, 1_000, np.random.default_rng(0))
    actions, _ = model.predict(obs, deterministic=True)
    assert 0.3 < actions.std() < 0.95
    discrete = policies.untrained("dqn", policies.OBSERVATIONS["float32"], policies.DISCRETE["from -3"])
    chosen, _ = discrete.predict(obs, deterministic=True)
    assert len(np.unique(chosen)) >= 4
    assert chosen.min() >= -3
    assert chosen.max() <= 2


def test_observations_drawn_are_in_their_spaces() -> None:
    for name, space in policies.OBSERVATIONS.items():
        batch = draw(space, 50, np.random.default_rng(1))
        for i in range(50):
            assert space.contains(_gymnasium(item(space, batch, i), space)), name
    wide = draw(policies.OBSERVATIONS["wide"], 1_000, np.random.default_rng(1))
    assert wide.min() < -900
    assert wide.max() > 900


def _gymnasium(obs: Any, space: Any) -> Any:
    """As `contains` wants it: Discrete categories are integers of its type, a single number an array."""
    if isinstance(obs, dict):
        return {key: _gymnasium(value, space[key]) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_gymnasium(value, part) for value, part in zip(obs, space, strict=True))
    return np.asarray(obs)[()] if type(space).__name__ == "Discrete" else np.asarray(obs)


def test_leaves_have_names_and_keys_of_their_own() -> None:
    found = list(leaves(policies.OBSERVATIONS["Dict"]))
    assert [leaf.name for leaf in found] == [
        "observation/a~1b",
        "observation/int/0",
        "observation/int/1",
        "observation/mode",
        "observation/nested/none",
        "observation/nested/z",
    ]
    assert found[2].path == ("int", 1)
    assert [leaf.width for leaf in found] == [2, 2, 5, 3, 0, 2]
    assert found[3].starts == (-1,)
    assert part_of({"int": (7, 8)}, found[2].path) == 8


@pytest.fixture(scope="module")
def sac() -> Model:
    return SAC("Pendulum-v1", net_arch=(16, 16), device="cpu")


def test_an_onnx_file_is_one_that_old_programs_read(sac: Model) -> None:
    data = to_onnx.files(describe(sac))[to_onnx.FILE]
    model = onnx.load_from_string(data)
    assert (model.ir_version, [(i.domain, i.version) for i in model.opset_import]) == (7, [("", 13)])
    assert [node.op_type for node in model.graph.node] == [
        *("Gemm", "Relu", "Gemm", "Relu", "Gemm", "Tanh", "ReduceL1", "Less", "Mul", "Clip", "Where")
    ]
    assert [value.name for value in model.graph.input] == ["observation"]
    assert [value.name for value in model.graph.output] == ["action", "valid"]
    assert data == to_onnx.files(describe(sac))[to_onnx.FILE]


@needs_compiler
@pytest.mark.parametrize("to", FORMATS)
def test_every_file_says_where_it_comes_from(to: str, tmp_path: Path) -> None:
    model = SAC("Pendulum-v1", net_arch=(16, 16), device="cpu").learn(150)
    model.save(tmp_path / "saved")
    paths, _ = export(model, to, tmp_path)
    about = open_policy(paths[0], trust=True).about
    saved = (tmp_path / "saved/checkpoints/step-000000150/networks.safetensors").read_bytes()
    assert {name: str(value) for name, value in about.items() if name != "format"} == {
        "softac": model_version(),
        "algorithm": "sac",
        "environment": "Pendulum-v1",
        "step": "150",
        "networks_sha256": hashlib.sha256(saved).hexdigest(),
    }


def model_version() -> str:
    from softac import __version__

    return __version__


@needs_compiler
@pytest.mark.parametrize("to", FORMATS)
def test_no_path_user_or_host_is_in_any_file(to: str, tmp_path: Path) -> None:
    where = str(tmp_path / "secret-model.xml")
    model = Model(
        SACAgent,
        lambda note: policies.Spaced(policies.OBSERVATIONS["Dict"], policies.CONTINUOUS["float64"], note),
        env_kwargs={"note": where},
        net_arch=(8,),
        device="cpu",
    )
    paths, _ = export(model, to, tmp_path)
    words = [
        where,
        "secret-model",
        str(tmp_path),
        str(Path.cwd()),
        str(Path.home()),
        sys.prefix,
        "/home/",
    ]
    words += [str(Path(__file__).parents[1]), getpass.getuser(), socket.gethostname(), sys.version.split()[0]]
    for path in paths:
        data = path.read_bytes().lower()
        assert [word for word in words if word.lower().encode() in data] == [], path.name


def test_vectors_in_an_onnx_file_are_what_the_agent_does(sac: Model) -> None:
    session = onnxruntime.InferenceSession(to_onnx.files(describe(sac))[to_onnx.FILE])
    metadata = session.get_modelmeta().custom_metadata_map
    vectors = json.loads(metadata["vectors"])
    inputs = np.array(vectors["observation"], np.float32)
    assert len(inputs) == 8
    np.testing.assert_array_equal(
        np.array(vectors["action"], np.float32), [sac.predict(obs, deterministic=True)[0] for obs in inputs]
    )
    np.testing.assert_allclose(session.run(["action"], {"observation": inputs})[0], vectors["action"], atol=2e-5)


def test_the_numpy_file_needs_numpy_alone_and_checks_itself(tmp_path: Path) -> None:
    model = policies.untrained("sac_mixture", policies.OBSERVATIONS["Tuple"], policies.CONTINUOUS["own bounds"])
    export(model, "numpy", tmp_path)
    program = (
        "import sys; sys.path.insert(0, '.'); import policy; print(policy.main()); print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "8 of 8 actions as the agent gave them\n0\n" in done.stdout
    for package in ("'torch", "'softac", "'safetensors", "'gymnasium"):
        assert package not in done.stdout
    tensors = tmp_path / "policy.safetensors"
    read, description = numpy_runtime.read(tensors.read_bytes())
    read = {name: array * (0.5 if name == "bias_1" else 1) for name, array in read.items()}
    tensors.write_bytes(safetensors.numpy.save(read, {"policy": json.dumps(description)}))
    broken = subprocess.run(
        [sys.executable, "policy.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert broken.returncode == 1


def test_numpy_acts_on_single_observations_as_they_come(tmp_path: Path) -> None:
    space = policies.OBSERVATIONS["Dict"]
    model = policies.untrained("sac", space, policies.CONTINUOUS["own bounds"])
    export(model, "numpy", tmp_path)
    policy = open_policy(tmp_path / "policy.py")
    space.seed(3)
    for _ in range(20):
        obs = space.sample()
        action = policy.act(obs)
        assert action.shape == (2, 2)
        np.testing.assert_allclose(action, model.predict(obs, deterministic=True)[0], atol=1e-5)


class Untanhed(SACAgent):
    """Says less than it does."""

    def operations(self, obs: Operation) -> Operation:
        return as_operations(self.actor.module, obs).inputs[0]


class Halved(SACAgent):
    """Is right but for one observation in many."""

    def operations(self, obs: Operation) -> Operation:
        whole = as_operations(self.actor.module, obs)
        return part(relu(affine(whole, torch.eye(1), [1.0])), 0, 1)


@pytest.mark.parametrize("wrong", [Untanhed, Halved])
def test_what_does_not_act_as_the_agent_is_not_handed_over(wrong: type[Any], tmp_path: Path) -> None:
    model = Model(wrong, "Pendulum-v1", net_arch=(16, 16), device="cpu")
    with pytest.raises(NumericalError) as refused:
        export(model, "numpy", tmp_path / "out")
    assert re.fullmatch(
        rf"the exported policy of {wrong.__name__} differs from the agent by 0\.\d+; expected the agent's own "
        r"actions to 1e-05 of the bounds' width; nothing was written; please report it with the run's "
        r"config.json; if the agent is your own, look at its `operations`",
        str(refused.value),
    )
    assert not (tmp_path / "out").exists()


def test_a_file_that_leaves_the_bounds_or_changes_its_type_is_not_handed_over(sac: Model) -> None:
    policy = describe(sac)

    def beyond(inputs: list[Any]) -> Any:
        return np.full((len(inputs[0]), 1), 2.001, np.float32)

    def double(inputs: list[Any]) -> Any:
        return np.zeros((len(inputs[0]), 1))

    with pytest.raises(NumericalError, match="the exported policy of sac leaves the bounds; "):
        compare(sac, policy, beyond, trial(sac, policy, 300))
    with pytest.raises(NumericalError, match=r"gives float64 \(300, 1\), not float32 \(300, 1\); "):
        compare(sac, policy, double, trial(sac, policy, 300))


def test_one_wrong_action_in_ten_thousand_is_seen() -> None:
    model = policies.untrained("dqn", policies.OBSERVATIONS["float32"], policies.DISCRETE["Discrete"])
    policy, asked = describe(model), 0

    def almost(inputs: list[Any]) -> Any:
        nonlocal asked
        actions = np.array([model.predict(obs, deterministic=True)[0] for obs in inputs[0]])
        if asked <= 1234 < asked + len(actions):
            actions[1234 - asked] = (actions[1234 - asked] + 1) % 4
        asked += len(actions)
        return actions

    with pytest.raises(NumericalError, match=r"differs from the agent by 0\.0005; "):
        compare(model, policy, almost, trial(model, policy, 2_000))


def test_where_the_agent_itself_is_undecided_either_action_will_do() -> None:
    model = policies.untrained("dqn", policies.OBSERVATIONS["float32"], policies.DISCRETE["Discrete"])
    policy = describe(model)
    wanted = trial(model, policy, 50)
    others = [(wanted.inputs[0][i], (wanted.actions[i] + 1) % 4) for i in range(50)]
    assert sum(undecided(model, policy, [obs], np.array(action)) for obs, action in others) == 0
    with torch.no_grad():  # actions 0 and 1 are equally good to the last bits, and better than the others
        last = model.agent.critic.module.net[-1]  # type: ignore[attr-defined]
        last.weight[..., 1] = last.weight[..., 0] * (1.0 + 3e-7 * torch.tensor([1.0, -1.0]).repeat(8))
        last.bias[..., :] = torch.tensor([50.0, 50.0, -50.0, -50.0])
        last.weight[..., 2:] = 0.0
    actions = [model.predict(obs, deterministic=True)[0] for obs, _ in others]
    left_open = [undecided(model, policy, [obs], 1 - a) for (obs, _), a in zip(others, actions, strict=True)]
    assert sum(left_open) > 0
    assert not any(undecided(model, policy, [obs], np.array(2)) for obs, _ in others)


def test_of_several_components_each_may_be_off_where_numbers_are_large() -> None:
    """Observations of up to a thousand: float32 tells the action of a component to 1e-4, and not to 1e-5."""
    model = policies.untrained("sac_mixture", policies.OBSERVATIONS["wide"], policies.CONTINUOUS["[-1, 1]"])
    policy = describe(model)
    wanted = trial(model, policy, 10_000)
    rows = [9136, 3990, 6678, 9330, 9081]
    inputs = [[x[i] for x in wanted.inputs] for i in rows]
    for i, obs in zip(rows, inputs, strict=True):
        off = wanted.actions[i] + np.float32([8e-5, 0.0, 0.0])
        assert undecided(model, policy, obs, off) or abs(wanted.actions[i][0]) > 0.99
        assert not undecided(model, policy, obs, wanted.actions[i] - np.float32([2e-2, 0.0, 0.0]))


def test_what_few_neighbours_do_not_show_more_do() -> None:
    """The answers reach from 0.73063 to 0.73101 within the last bits, those of 16 neighbours from 0.73075 on."""
    model = policies.untrained("sac_mixture", policies.OBSERVATIONS["wide"], policies.CONTINUOUS["own bounds"])
    obs = [np.float32([448.9837, -965.9565, -7.6861753, 131.26648])]
    for second, expected in ((0.7306984, True), (0.7309, True), (0.7304, False), (0.7313, False)):
        action = np.float32([[2.0, second], [5.0, -0.5]])
        assert undecided(model, describe(model), obs, action) == expected, second


def test_between_the_answers_of_two_choices_lies_nothing() -> None:
    answers, slack = np.array([[0.0, 0.0], [0.0, 4e-5], [0.5, 0.5]]), np.array([1e-5, 1e-5])
    for action, one, several in (
        ([0.0, 2e-5], True, True),
        ([0.0, 4.9e-5], True, True),
        ([0.0, 6e-5], True, False),
        ([0.5, 0.5], True, True),
        ([0.25, 0.25], True, False),
        ([0.6, 0.5], False, False),
    ):
        found = [between(answers, np.array(action), slack, choices=choices) for choices in (False, True)]
        assert found == [one, several], action


class Silent(DQNAgent):
    operations = property()  # type: ignore[assignment]


def test_an_agent_that_does_not_say_what_it_computes(tmp_path: Path) -> None:
    model = Model(Silent, "CartPole-v1", net_arch=(8,), device="cpu")
    with pytest.raises(ConfigError) as refused:
        export(model, "numpy", tmp_path)
    assert str(refused.value) == (
        "Silent does not say what it computes; expected a learner `actor` whose module is the policy, or a method "
        "operations(obs); write one of softac.nets.operations, as in the guide on export"
    )


class Elsewhere(SACAgent):
    def operations(self, obs: Operation) -> Operation:
        return argmax(obs)


def test_an_agent_that_says_another_thing(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="the operations of Elsewhere end with argmax of 1 numbers; expected 1 numbers"
    ):
        export(Model(Elsewhere, "Pendulum-v1", net_arch=(8,), device="cpu"), "numpy", tmp_path)
    discrete = DQN("CartPole-v1", net_arch=(8,), device="cpu")
    discrete.agent.operations = lambda obs: obs  # type: ignore[attr-defined]
    with pytest.raises(
        ConfigError, match="the operations of dqn end with observation of 4 numbers; expected argmax"
    ):
        describe(discrete)


def test_a_layer_that_does_not_say_what_it_computes(tmp_path: Path) -> None:
    model = SAC("Pendulum-v1", net_arch=(8,), device="cpu")
    model.agent.actor.module.net[1] = torch.nn.GELU()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError) as refused:
        describe(model)
    assert str(refused.value) == (
        "a GELU does not say what it computes; expected a method operations(x), of softac.nets.operations; write "
        "one, or make the policy of layers that have it"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda x: affine(x, np.zeros((4, 2)), np.zeros(2)),
            "affine was given 3 numbers, weights [4, 2] and 2 biases",
        ),
        (
            lambda x: affine(x, np.full((3, 2), np.nan), np.zeros(2)),
            "an operation was given numbers that are not finite",
        ),
        (lambda x: part(x, 2, 5), "part was given numbers 2 to 5 of 3"),
        (lambda _: observation(0), "an operation was given 0 numbers"),
    ],
)
def test_operations_that_do_not_fit(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make(observation(3))
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith("; correct the agent's `operations`")
