"""`softac export` and `softac run` as a user meets them, and files that are not what they say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from onnx import TensorProto, helper, numpy_helper

import policies
from softac import SAC, Model
from softac.agents.sac import SACAgent
from softac.cli.main import main
from softac.envs import EnvSource
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.ship import policy as numpy_runtime
from softac.ship import runtimes, to_numpy, to_onnx
from softac.ship.description import describe
from softac.ship.export import FORMATS, export
from softac.ship.play import play
from softac.ship.runtimes import open_policy

SMALL = ["--net-arch", "16", "16", "--batch-size", "32", "--n-eval-episodes", "1"]

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    words = [
        "train",
        "Pendulum-v1",
        "--run-dir",
        str(folder),
        "-n",
        "400",
        "--save-freq",
        "200",
        "--eval-freq",
        "200",
    ]
    assert main([*words, *SMALL]) == 0
    return folder


@pytest.fixture(scope="module")
def model() -> Model:
    return policies.untrained("sac", policies.OBSERVATIONS["Dict"], policies.CONTINUOUS["[-1, 1]"])


@needs_compiler
@pytest.mark.parametrize(
    ("to", "files", "runtime"),
    [
        ("onnx", ["policy.onnx"], "onnxruntime"),
        ("numpy", ["policy.safetensors", "policy.py"], "NumPy"),
        ("c", ["policy.c", "policy.h", "check.c"], "C"),
    ],
)
def test_what_is_exported_plays_as_what_was_trained(
    run: Path, tmp_path: Path, to: str, files: list[str], runtime: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run), "--n-eval-episodes", "3", "--seed", "7"]) == 0
    trained = [line for line in capsys.readouterr().out.splitlines() if line.startswith("episode")]
    assert main(["export", str(run), "--to", to, "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[: len(files)]] == [str(tmp_path / name) for name in files]
    assert printed[-2].startswith("agent of step 400; 10,000 observations: at most ")
    assert printed[-1].startswith(f"play it   softac run {tmp_path / files[0]} Pendulum-v1")
    words = printed[-1].split()[3:]  # behind "play it softac"
    assert main([*words, "--n-eval-episodes", "3", "--seed", "7"]) == 0
    played = capsys.readouterr().out.splitlines()
    assert [line[:30] for line in played[:3]] == [line[:30] for line in trained]
    assert f"over 3 episodes, agent of step 400 through {runtime}, " in played[3]
    assert played[3].endswith(" µs an action")


def test_the_best_and_earlier_checkpoints(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, step in (["--step", "200"], 200), (["--step", "4e2"], 400), ([], 400):
        assert main(["export", str(run), *words, "-o", str(tmp_path)]) == 0
        assert f"agent of step {step}; " in capsys.readouterr().out
        assert open_policy(tmp_path / "policy.onnx").about["step"] == str(step)
    assert main(["export", str(run), "--best"]) == 0
    assert f"{run / 'export' / 'policy.onnx'}  " in capsys.readouterr().out
    assert main(["export", str(run), "--step", "300"]) == 3
    assert capsys.readouterr().err == (
        f"softac: {run / 'checkpoints'} has no checkpoint of step 300; expected 200 or 400, which it "
        "has; choose one, or leave the step out for the newest\n"
    )
    assert main(["export", str(run), "--step", "x"]) == 2
    assert capsys.readouterr().err.startswith(
        "softac: --step x was given; expected a whole number of environment steps"
    )
    assert main(["export", str(run), "--step", "200", "--best"]) == 2
    assert "argument --best: not allowed with argument --step" in capsys.readouterr().err


def test_what_cannot_be_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "tflite"]) == 2
    assert capsys.readouterr().err == (
        "softac: the format 'tflite' was given; expected onnx, numpy or c; take onnx for a program that "
        "reads it, c for one that reads nothing\n"
    )
    begun = tmp_path / "begun"
    shutil.copytree(run, begun)
    shutil.rmtree(begun / "checkpoints")
    shutil.rmtree(begun / "export", ignore_errors=True)  # where another test has exported this run
    assert main(["export", str(begun), "--to", "numpy"]) == 3
    assert "holds no checkpoint; expected at least one folder step-...; train first" in capsys.readouterr().err
    assert not (begun / "export").exists()
    (tmp_path / "file").write_text("")
    assert main(["export", str(run), "--to", "numpy", "-o", str(tmp_path / "file")]) == 5
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'file'} cannot be written (File exists); expected a folder of your own; "
        "name another with -o\n"
    )
    assert main(["export", str(tmp_path / "nothing")]) == 2


def test_missing_packages_and_compilers(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    assert main(["export", str(run)]) == 2
    assert capsys.readouterr().err == (
        "softac: export to ONNX needs onnx and onnxruntime, which is not installed; expected softac "
        "with its extra 'export'; run `pip install 'softac[export]'`\n"
    )
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert main(["export", str(run), "--to", "c"]) == 2
    assert capsys.readouterr().err == (
        "softac: a C policy has to be compiled to be tried and there is no compiler here; expected cc, "
        "gcc or clang; install one (apt install gcc), or export to onnx or numpy\n"
    )


def test_nothing_of_onnx_is_imported_for_the_others() -> None:
    program = "import sys, softac.ship.export, softac.ship.play; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_types_that_onnx_and_c_do_not_have(tmp_path: Path) -> None:
    long = spaces.Box(-1.0, 1.0, (2,), np.longdouble)  # type: ignore[arg-type]
    seen = Model(
        SACAgent, lambda: policies.Spaced(long, policies.CONTINUOUS["[-1, 1]"]), net_arch=(8,), device="cpu"
    )
    done = Model(
        SACAgent, lambda: policies.Spaced(policies.OBSERVATIONS["float32"], long), net_arch=(8,), device="cpu"
    )
    for to, whose in ("onnx", "ONNX does not have"), ("c", "C99 does not have everywhere"):
        with pytest.raises(ConfigError) as refused:
            export(seen, to, tmp_path)
        assert str(refused.value) == (
            f"observation are of type {long.dtype}, which {whose}; expected floats of at most 64 bits, "
            "integers or booleans; declare the space with dtype=np.float32, or export with --to numpy"
        )
        with pytest.raises(ConfigError, match=f"actions are of type {long.dtype}, which {whose}"):
            export(done, to, tmp_path)
    for model in seen, done:
        assert export(model, "numpy", tmp_path)[1].largest < 1e-5


def test_a_key_that_no_file_can_have(tmp_path: Path) -> None:
    space = spaces.Dict({"\ud800": policies.OBSERVATIONS["float32"]})
    model = policies.untrained("td3", space, policies.CONTINUOUS["[-1, 1]"])
    for to in FORMATS:
        with pytest.raises(ConfigError) as refused:
            export(model, to, tmp_path)
        assert str(refused.value) == (
            "an array of observations is called 'observation/\\ud800'; expected keys that can be written in UTF-8"
            "; rename it with gymnasium.wrappers.TransformObservation"
        )


def test_observations_that_are_none(model: Model, tmp_path: Path) -> None:
    export(model, "numpy", tmp_path)
    export(model, "onnx", tmp_path)
    space = policies.OBSERVATIONS["Dict"]
    space.seed(0)
    obs = space.sample()
    act = open_policy(tmp_path / "policy.safetensors").act
    numpy = numpy_runtime.Policy(tmp_path / "policy.safetensors")
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"))
    with pytest.raises(ValueError, match=r"observation/a~1b has shape \(3,\); expected \(2,\), or a batch"):
        numpy(obs | {"a/b": np.zeros(3, np.float32)})
    for broken, message in (
        (
            obs | {"a/b": np.array([np.nan, 0.0], np.float32)},
            "the observation, or what the policy makes of it, is",
        ),
        (obs | {"mode": 2}, "observation/mode is 2, which is not one of its categories"),
        (
            obs | {"int": (obs["int"][0], np.array([0, -1]))},
            r"observation/int/1 is \[ 0 -1\], which is not one of",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            numpy(broken)
        with pytest.raises(ValueError, match="is not"):
            act(broken)
        inputs = {
            leaf.name: np.asarray(runtimes.part_of(broken, leaf.path), leaf.dtype)[None]
            for leaf in open_policy(tmp_path / "policy.onnx").leaves
        }
        action, valid = session.run(None, inputs)
        assert (action.tolist(), valid.tolist()) == ([[0.0, 0.0, 0.0]], [[False]])
    with pytest.raises(ValueError, match="the observation is not finite, or has an unknown category"):
        open_policy(tmp_path / "policy.onnx").act(obs | {"mode": 2})


@needs_compiler
@pytest.mark.parametrize(
    ("algorithm", "config"),
    [("sac", {"activation": "tanh"}), ("sac", {"normalize": "obs"}), ("ppo", {}), ("td3", {}), ("dqn", {})],
)
def test_infinity_is_no_observation_whatever_the_policy_makes_of_it(
    algorithm: str, config: dict[str, Any], tmp_path: Path
) -> None:
    action = policies.DISCRETE["Discrete"] if algorithm == "dqn" else policies.CONTINUOUS["own bounds"]
    model = policies.untrained(algorithm, policies.OBSERVATIONS["float32"], action, **config)
    for to, file in (("numpy", "policy.safetensors"), ("onnx", "policy.onnx"), ("c", "policy.c")):
        export(model, to, tmp_path)
        act = open_policy(tmp_path / file, trust=True).act
        for place, wrong in ((0, np.inf), (2, -np.inf), (4, np.nan)):
            obs = np.zeros(5, np.float32)
            obs[place] = wrong
            with pytest.raises(ValueError, match=r"not finite|flag 1"):
                act(obs)
        act(np.full(5, 3e5, np.float32))
    numpy = numpy_runtime.Policy(tmp_path / "policy.safetensors")
    with pytest.raises(ValueError, match="the observation, or what the policy makes of it, is not finite"):
        numpy(np.array([np.zeros(5), np.full(5, np.inf)]))


def test_run_refuses_what_does_not_fit(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(run), "--to", "numpy", "-o", str(tmp_path)])
    capsys.readouterr()
    file = str(tmp_path / "policy.safetensors")
    assert main(["run", file, "CartPole-v1"]) == 2
    assert capsys.readouterr().err == (
        "softac: CartPole-v1 has other spaces than the environment the policy was trained in; expected "
        "Box([-1. -1. -8.], [1. 1. 8.], (3,), float32) and Box(-2.0, 2.0, (1,), float32); name that "
        "environment, or one like it\n"
    )
    assert main(["run", str(tmp_path / "policy.txt"), "Pendulum-v1"]) == 2
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'policy.txt'} is not an exported policy; expected policy.onnx, policy.py, "
        "policy.safetensors or policy.c; `softac export RUN` writes them\n"
    )
    (tmp_path / "policy.c").write_text("int policy_act(void) { return 0; }")
    assert main(["run", str(tmp_path / "policy.c"), "Pendulum-v1"]) == 2
    assert capsys.readouterr().err == (
        f"softac: {tmp_path / 'policy.c'} is a program, which would be compiled and run; expected your "
        "word that you exported or read it; add --trust\n"
    )


class Failing(policies.Spaced):
    def step(self, action: Any) -> Any:
        raise RuntimeError("a cable is loose")


class Leaving(policies.Spaced):
    def step(self, action: Any) -> Any:
        sys.exit(3)


class Blind(policies.Spaced):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, info = super().reset(seed=seed)
        return obs * np.nan, info


def test_an_environment_that_fails(tmp_path: Path) -> None:
    made = policies.OBSERVATIONS["float32"], policies.CONTINUOUS["[-1, 1]"]
    export(policies.untrained("sac", *made), "numpy", tmp_path)
    policy = open_policy(tmp_path / "policy.safetensors")
    with pytest.raises(
        EnvironmentFailed, match="with NumPy raised RuntimeError: a cable is loose at step 1 of the"
    ):
        play(policy, EnvSource(lambda: Failing(*made), {}), 1, 0)
    with pytest.raises(EnvironmentFailed, match="with NumPy raised SystemExit: 3 at step 1 of the"):
        play(policy, EnvSource(lambda: Leaving(*made), {}), 1, 0)
    with pytest.raises(
        EnvironmentFailed, match="raised ValueError: the observation, or what the policy makes of it, is"
    ):
        play(policy, EnvSource(lambda: Blind(*made), {}), 1, 0)


class Endless(policies.Spaced):
    reward = 1.0

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), self.reward, False, False, {}


class Rewardless(Endless):
    reward = np.nan


class Solvable(Endless):
    """Ten steps; solved from every second start state or so."""

    def reset(self, *, seed: int | None = None, **arguments: Any) -> Any:
        self.solved = (seed or 0) % 2 == 0
        return super().reset(seed=seed, **arguments)

    def step(self, action: Any) -> Any:
        self.left -= 1
        obs, reward, _, _, _ = super().step(action)
        return obs, reward, self.left == 0, False, {"is_success": self.solved}


def registered(kind: type[Endless], monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"export/{kind.__name__}-v0"
    made = {"observation": policies.OBSERVATIONS["float32"], "action": policies.CONTINUOUS["[-1, 1]"]}
    monkeypatch.setitem(gym.registry, name, EnvSpec(name, kind, kwargs=made))
    return name


def test_run_tells_success_as_eval_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = registered(Solvable, monkeypatch)
    model = SAC(env, net_arch=(8,), device="cpu")
    model.save(tmp_path / "run")
    export(model, "numpy", tmp_path)
    for command in (["eval", str(tmp_path / "run"), "--env"], ["run", str(tmp_path / "policy.py")]):
        assert main([*command, env, "--n-eval-episodes", "4", "--seed", "1"]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line.split()[-1] for line in printed[:4]] == ["failure", "failure", "success", "failure"]
        assert printed[4].startswith("mean 10.000  std 0.000  success 25 %  over 4 ")


def test_run_has_the_episodes_of_eval_where_they_have_no_end_or_no_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (Endless, Rewardless):
        registered(kind, monkeypatch)
    model = SAC("export/Endless-v0", net_arch=(8,), device="cpu")
    model.save(tmp_path / "run")
    export(model, "numpy", tmp_path)
    words = ["export/Endless-v0", "--n-eval-episodes", "2"]
    for command in (["eval", str(tmp_path / "run"), "--env"], ["run", str(tmp_path / "policy.py")]):
        assert main([*command, *words]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith(
            "episode    0  return   10,000.000  length 10,000\nmean 10,000.000  std 0.000  over 1 "
        )
        assert (
            "an evaluation episode was cut off after 10000 steps, and the evaluation ends with it" in printed.err
        )
    file = str(tmp_path / "policy.safetensors")
    assert main(["run", file, "export/Rewardless-v0"]) == 4
    assert capsys.readouterr().err.startswith(
        "softac: export/Rewardless-v0 returned the reward nan, not a finite float32 at step 1 of the episode with "
    )
    for command in (["eval", str(tmp_path / "run")], ["run", file, "export/Endless-v0"]):
        assert main([*command, "--n-eval-episodes", "0"]) == 2
        assert capsys.readouterr().err == (
            "softac: n_eval_episodes=0 was given; expected a whole number >= 1; give 10, say\n"
        )


def test_a_program_of_another_hand_is_not_run(model: Model, tmp_path: Path) -> None:
    export(model, "numpy", tmp_path)
    program = tmp_path / "policy.py"
    assert open_policy(program).runtime == "NumPy"
    program.write_text(program.read_text() + f"\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(ConfigError) as refused:
        open_policy(program)
    assert str(refused.value) == (
        f"{program} is not the policy.py of this softac; expected its very bytes, since a file that may come from "
        "anybody is not run; name policy.safetensors instead, which is data"
    )
    assert not (tmp_path / "ran").exists()


def damaged_onnx(model: onnx.ModelProto, how: str) -> bytes:
    match how:
        case "no metadata":
            del model.metadata_props[:]
        case "other files":
            constant = model.graph.initializer[0]
            constant.data_location = onnx.TensorProto.EXTERNAL
            constant.external_data.add(key="location", value="/etc/passwd")
        case "other operations":
            model.graph.node.add(op_type="Loop", input=["action"], output=["x"])
        case "other domain":
            model.graph.node[0].domain = "com.microsoft"
        case "another format":
            next(p for p in model.metadata_props if p.key == "format").value = "softac-policy-9"
        case "other spaces":
            next(p for p in model.metadata_props if p.key == "spaces").value = '{"observation": {"kind": "Any"}}'
        case "a product of all with all":
            for name, shape in ("a", (60_000, 1)), ("b", (1, 60_000)):
                model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
            model.graph.node.add(op_type="Mul", input=["a", "b"], output=["c"])
            model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1]))
        case "a size that is computed":
            model.graph.initializer.append(numpy_helper.from_array(np.array([9], np.int64), "n"))
            model.graph.node.add(op_type="Add", input=["n", "n"], output=["m"])
            model.graph.node.add(op_type="Reshape", input=["valid", "m"], output=["c"])
        case "few numbers of many":
            few = numpy_helper.from_array(np.ones(1, np.float32), "few")
            places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
            model.graph.sparse_initializer.append(helper.make_sparse_tensor(few, places, [60_000, 60_000]))
        case "another input":
            model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 3]))
        case "a kernel on an image without end":
            kernel = np.ones((1, 1, 1000, 1000), np.float32)
            for name, array in ("image", np.ones((1, 1, 1100, 1100), np.float32)), ("kernel", kernel):
                model.graph.initializer.append(numpy_helper.from_array(array, name))
            model.graph.node.add(op_type="Conv", input=["image", "kernel"], output=["c"])
        case "no step" | "half a step":
            step = next(p for p in model.metadata_props if p.key == "step")
            step.value = "0.5"
            if how == "no step":
                model.metadata_props.remove(step)
        case "cut off":
            return model.SerializeToString()[:200]
    return model.SerializeToString()


FOREIGN_ONNX = {
    "no metadata": "KeyError",
    "other files": "constants in other files, or of which only some numbers are there",
    "other operations": r"nodes that no policy has: \['Loop'\]",
    "other domain": "nodes that no policy has",
    "another format": "format 'softac-policy-9', not 'softac-policy-1'",
    "other spaces": "the spaces in the file are damaged",
    "a product of all with all": r"3\.6e\+09 numbers are held and made for one observation, not 268,435,456",
    "a size that is computed": "a Reshape whose result is of no known size",
    "few numbers of many": "or of which only some numbers are there",
    "another input": "other inputs than the spaces have",
    "a kernel on an image without end": r"1\.02e\+10 numbers",
    "no step": "it does not say of which step it is",
    "half a step": "it does not say of which step it is",
    "cut off": "DecodeError",
}


@pytest.mark.parametrize("how", FOREIGN_ONNX)
def test_an_onnx_file_that_is_not_ours(how: str, tmp_path: Path) -> None:
    data = to_onnx.files(describe(SAC("Pendulum-v1", net_arch=(8,), device="cpu")))[to_onnx.FILE]
    path = tmp_path / "policy.onnx"
    path.write_bytes(damaged_onnx(onnx.load_from_string(data), how))
    with pytest.raises(CheckpointError, match=FOREIGN_ONNX[how]):
        open_policy(path)


def beside(steps: list[dict[str, Any]], kind: str, arrays: dict[str, str], numbers: dict[str, Any]) -> None:
    """Put an operation behind the first one, of which the others know nothing."""
    for step in steps:
        step["inputs"] = [i + (i > 0) for i in step["inputs"]]
    steps.insert(1, {"kind": kind, "inputs": [0], "arrays": arrays, "numbers": numbers})


def damaged_numpy(tensors: dict[str, Any], description: dict[str, Any], how: str) -> None:
    steps = description["operations"]
    match how:
        case "a tensor is missing":
            del tensors["bias_1"]
        case "an unknown operation":
            steps[2]["kind"] = "__import__"
        case "an operation of itself":
            steps[2]["inputs"] = [2]
        case "doubled until the memory is full":
            for _ in range(60):
                steps.append({"kind": "concat", "inputs": [len(steps) - 1] * 2, "arrays": {}, "numbers": {}})
        case "other sizes":
            description["spaces"]["observation"]["shape"] = [4]
        case "half a number":
            beside(steps, "part", {}, {"start": 0.5, "stop": 3})
        case "a stride of nothing":
            tensors |= {"w": np.zeros((1, 1, 1, 3), np.float32), "b": np.zeros(3, np.float32)}
            beside(steps, "convolution", {"weight": "w", "bias": "b"}, {"height": 1, "width": 3, "stride": 0})
        case "a kernel larger than the image":
            tensors |= {"w": np.zeros((4, 4, 1, 3), np.float32), "b": np.zeros(3, np.float32)}
            beside(steps, "convolution", {"weight": "w", "bias": "b"}, {"height": 1, "width": 3, "stride": 1})
        case "a patch for every pixel":
            tensors |= {"w": np.zeros((200, 200, 1, 1), np.float32), "b": np.zeros(1, np.float32)}
            tensors |= {"large": np.zeros((3, 160_000), np.float32), "n": np.zeros(160_000, np.float32)}
            beside(steps, "convolution", {"weight": "w", "bias": "b"}, {"height": 400, "width": 400, "stride": 1})
            beside(steps, "affine", {"weight": "large", "bias": "n"}, {})
            steps[2]["inputs"] = [1]
            steps[3]["inputs"] = [0]
        case "every component at every mean":
            tensors |= {"large": np.zeros((3, 40_000), np.float32), "n": np.zeros(40_000, np.float32)}
            beside(steps, "mixture_density", {}, {})
            beside(steps, "affine", {"weight": "large", "bias": "n"}, {})
            steps[2]["inputs"] = [1, 1, 1]
            steps[3]["inputs"] = [0]
        case "a column in place of a row":
            tensors |= {"column": np.zeros((3, 1), np.float32), "row": np.zeros(3, np.float32)}
            beside(steps, "scale", {"centre": "column", "factor": "row", "shift": "row"}, {})
        case "counted from the end":
            beside(steps, "concat", {}, {})
            steps[1]["inputs"] = [0, -1, -1]
        case "two observations":
            steps.insert(1, {"kind": "observation", "inputs": [], "arrays": {}, "numbers": {"width": 3}})
        case "too many rows":
            tensors |= {"zero": np.zeros(1, np.float32)}
            tensors |= {"large": np.zeros((3, 1_000_000), np.float32), "n": np.zeros(1_000_000, np.float32)}
            for _ in range(100):
                beside(steps, "scale", dict.fromkeys(("centre", "factor", "shift"), "zero"), {})
            beside(steps, "affine", {"weight": "large", "bias": "n"}, {})
            beside(steps, "relu", {}, {})
            for i, step in enumerate(steps[2:104], 2):
                step["inputs"] = [i - 1]
            steps[1], steps[2] = steps[2] | {"inputs": [0]}, steps[1] | {"inputs": [1]}
        case "categories without end":
            description["leaves"][0] |= {"categories": [1, 1, 2 * 10**9], "starts": [0, 0, 0]}
        case "other bounds":
            description["action"]["high"] = [1e9]
        case "large spaces":
            box = description["spaces"]["observation"] | {"shape": [9_000_000], "low": [0.0], "high": [1.0]}
            description["spaces"]["observation"] = {"kind": "Tuple", "parts": [box] * 1000}
        case "no step" | "half a step":
            description["about"]["step"] = 0.5
            if how == "no step":
                del description["about"]["step"]
        case "about a list":
            description["about"] = []
        case "NaN":
            tensors["bias_1"] = np.full_like(tensors["bias_1"], np.nan)
        case "no format":
            del description["format"]


FOREIGN_NUMPY = {
    "a tensor is missing": "KeyError: 'bias_1'",
    "an unknown operation": "KeyError: '__import__'",
    "an operation of itself": "IndexError",
    "doubled until the memory is full": "an operation was given",
    "other sizes": "cannot be used|damaged",
    "half a number": "the numbers of part are not whole",
    "a stride of nothing": "convolution was given",
    "a kernel larger than the image": "convolution was given",
    "a patch for every pixel": r"1\.62e\+09 numbers",
    "every component at every mean": r"1\.6e\+09 numbers are held and made for one observation, not 268,435,456",
    "a column in place of a row": "constants of scale that are no vectors",
    "counted from the end": "the numbers of concat are not whole",
    "two observations": "observation as operation 1",
    "too many rows": r"2\.7e\+08 numbers",
    "categories without end": "arrays that are not those of the spaces",
    "other bounds": "arrays that are not those of the spaces",
    "large spaces": "the spaces in the file are damaged",
    "no step": "it does not say of which step it is",
    "half a step": "it does not say of which step it is",
    "about a list": "it does not say of which step it is",
    "NaN": "numbers that are not finite",
    "no format": "KeyError: 'format'",
}


@pytest.mark.parametrize("how", FOREIGN_NUMPY)
def test_a_numpy_file_that_is_not_ours(how: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    data = to_numpy.files(describe(SAC("Pendulum-v1", net_arch=(8,), device="cpu")))[to_numpy.TENSORS]
    tensors, description = numpy_runtime.read(data)
    damaged_numpy(tensors, description, how)
    path.write_bytes(safetensors.numpy.save(tensors, {"policy": json.dumps(description)}))
    with pytest.raises((CheckpointError, ConfigError), match=FOREIGN_NUMPY[how]):
        open_policy(path)
    path.write_bytes(data[:100])
    with pytest.raises(
        CheckpointError, match=r"cannot be used .*; expected what `softac export` writes; export it again"
    ):
        open_policy(path)
