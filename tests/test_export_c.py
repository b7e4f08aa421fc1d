"""The exported C: what it compiles with, and what it does with anything it is given."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import policies
from softac import SAC, Model
from softac.envs.borders import Leaf, draw, part_of
from softac.ship import to_c
from softac.ship.description import describe
from softac.ship.export import export
from softac.ship.runtimes import c_rows, compile_c, open_policy

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")

STRICT = ["-std=c99", "-pedantic", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
FREESTANDING = ["-ffreestanding", "-fno-builtin", "-nostdlib"]
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero"

ZOO = {
    "sac": ("float32", "own bounds"),
    "ppo": ("half bounded", "float64"),
    "sac_mixture": ("Dict", "[-1, 1]"),
    "gamid_pg": ("Tuple", "float16"),
    "td3": ("uint8", "far away"),
    "dqn": ("Dict", "from -3"),
    "sac_discrete": ("MultiDiscrete", "Discrete"),
}

# Reads observations as bytes, one array after the other, and writes the flag and the action.
DRIVER = """\
#include <stdio.h>
#include "policy.h"
int main(void)
{{
    {declarations}
    {action} action[{size}];
    int flag;
    while ({reads}) {{
        flag = policy_act({arguments}, action);
        fwrite(&flag, sizeof flag, 1, stdout);
        fwrite(action, sizeof action, 1, stdout);
    }}
    return 0;
}}
"""


def model_of(algorithm: str) -> Model:
    observation, action = ZOO[algorithm]
    actions = policies.CONTINUOUS | policies.DISCRETE
    config = {"dueling": True} if algorithm == "dqn" else {}
    return policies.untrained(algorithm, policies.OBSERVATIONS[observation], actions[action], **config)


def written(model: Model, folder: Path) -> Path:
    for name, data in to_c.files(describe(model)).items():
        (folder / name).write_bytes(data)
    return folder / "policy.c"


def compiled(*words: str | Path, by: str = "gcc") -> None:
    if shutil.which(by) is None:
        pytest.skip(f"there is no {by} here")
    done = subprocess.run([by, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("by", ["gcc", "clang"])
@pytest.mark.parametrize("algorithm", ZOO)
def test_it_builds_without_a_library_or_a_warning(algorithm: str, by: str, tmp_path: Path) -> None:
    source = written(model_of(algorithm), tmp_path)
    compiled(*STRICT, *FREESTANDING, "-c", source, "-o", tmp_path / "policy.o", by=by)
    needed = subprocess.run(["nm", "-u", tmp_path / "policy.o"], capture_output=True, text=True, check=True).stdout
    assert set(needed.split()) <= {"U", "memcpy", "memset"}  # which both demand of every environment
    includes = re.findall(r"#include (\S+)", source.read_text() + (tmp_path / "policy.h").read_text())
    assert set(includes) == {'"policy.h"', "<float.h>", "<stdint.h>"}
    assert re.findall(r"malloc|calloc|realloc|free\(", source.read_text()) == []


@pytest.mark.parametrize("algorithm", ["sac", "dqn"])
def test_it_is_c_plus_plus_friendly_and_checks_itself(algorithm: str, tmp_path: Path) -> None:
    source = written(model_of(algorithm), tmp_path)
    compiled(*STRICT, source, tmp_path / "check.c", "-o", tmp_path / "check")
    done = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"8 of 8 actions as the agent gave them\n\d+\.\d{3} microseconds an action\n", done.stdout)
    (tmp_path / "user.cpp").write_text(
        '#include "policy.h"\nint main() { auto *volatile act = &policy_act; return act == nullptr; }\n'
    )
    compiled("-c", *STRICT, source, "-o", tmp_path / "policy.o")
    done = subprocess.run(
        [
            "g++",
            "-std=c++17",
            "-Wall",
            "-Werror",
            tmp_path / "user.cpp",
            tmp_path / "policy.o",
            "-o",
            tmp_path / "u",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    broken = source.read_text().replace("bias_1[", "unused_1[", 1)
    zeros = ", ".join(["0.5f"] * 24)
    source.write_text(
        broken.replace(
            "static const float unused_1", f"static const float bias_1[24] = {{{zeros}}};\nconst float unused_1"
        )
    )
    compiled("-std=c99", source, tmp_path / "check.c", "-o", tmp_path / "check")
    assert subprocess.run([tmp_path / "check"], capture_output=True, check=False).returncode == 1


def test_it_refuses_to_be_compiled_blind_to_nan(tmp_path: Path) -> None:
    source = written(model_of("sac"), tmp_path)
    done = subprocess.run(
        ["gcc", "-std=c99", "-ffast-math", "-c", source, "-o", tmp_path / "x.o"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "a broken sensor would not be noticed" in done.stderr


def hostile(leaf: Leaf, n: int, generator: np.random.Generator) -> NDArray[Any]:
    """Any bits at all, and the values that hurt most."""
    dtype = np.dtype("float32" if leaf.dtype == "float16" else "uint8" if leaf.dtype == "bool" else leaf.dtype)
    array = np.frombuffer(generator.bytes(n * leaf.size * dtype.itemsize), dtype).reshape(n, leaf.size).copy()
    if dtype.kind == "f":
        info = np.finfo(dtype)
        worst = [np.nan, np.inf, -np.inf, info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 0.0, 1e-30]
    else:
        whole = np.iinfo(dtype)
        worst = [whole.min, whole.max, 0, 1]
    planted = generator.random(array.shape) < 0.3
    array[planted] = generator.choice(np.array(worst).astype(dtype), planted.sum())
    return array


@pytest.mark.parametrize("algorithm", ZOO)
def test_under_sanitizers_anything_gives_a_flag_or_an_action_within_the_bounds(
    algorithm: str, tmp_path: Path
) -> None:
    model, n = model_of(algorithm), 20_000
    policy = describe(model)
    source = written(model, tmp_path)
    prototype = re.search(r"int policy_act\((.*)\);", (tmp_path / "policy.h").read_text())
    assert prototype
    *arguments, action = [
        re.match(r"(?:const )?(\w+) (\w+)\[(\d+)\]", p).groups() for p in prototype[1].split(", ")
    ]  # type: ignore[union-attr]
    names = [name for _, name, _ in arguments]
    driver = DRIVER.format(
        declarations="\n    ".join(f"{kind} {name}[{size}];" for kind, name, size in arguments),
        action=action[0],
        size=action[2],
        reads=" && ".join(f"fread({name}, sizeof {name}, 1, stdin) == 1" for name in names),
        arguments=", ".join(names),
    )
    (tmp_path / "driver.c").write_text(driver)
    flags = ["-std=c99", "-g", "-O1", SANITIZERS, "-fno-sanitize-recover=all"]
    compiled(*flags, source, tmp_path / "driver.c", "-o", tmp_path / "driver")

    generator = np.random.default_rng(7)
    arrays = [hostile(leaf, n, generator) for leaf in policy.leaves]
    good = draw(model.spaces.observation_space, n // 2, generator)
    for leaf, array in zip(policy.leaves, arrays, strict=True):  # half of them are observations of the space
        array[: n // 2] = np.asarray(part_of(good, leaf.path)).reshape(n // 2, -1)
    for i in range(n // 4, n // 2):  # of which half have one array that is not
        which = int(generator.integers(len(arrays)))
        arrays[which][i] = hostile(policy.leaves[which], 1, generator)[0]
    rows = b"".join(b"".join(array[i].tobytes() for array in arrays) for i in range(n))
    done = subprocess.run([tmp_path / "driver"], input=rows, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]

    form = policy.action
    dtype = np.dtype("float32" if form.dtype == "float16" else form.dtype)
    answers = np.frombuffer(done.stdout, [("flag", "<i4"), ("action", dtype, max(1, int(np.prod(form.shape))))])
    assert len(answers) == n
    actions = answers["action"].astype(np.float64)
    low, high = (form.start, form.start + form.n - 1) if form.n else (np.array(form.low), np.array(form.high))
    assert ((actions >= low) & (actions <= high)).all()
    resting = np.ravel(form.resting).astype(np.float64)
    assert (actions[answers["flag"] != 0] == resting).all()
    bad = np.zeros(n, bool)
    for leaf, array in zip(policy.leaves, arrays, strict=True):
        bad |= broken_rows(leaf, array)
    assert answers["flag"][bad].all()
    assert (answers["flag"][: n // 4] == 0).all()
    assert 0.1 < (answers["flag"] == 0).mean() < (0.95 if bad.any() else 1.01)
    assert set(np.unique(answers["flag"])) <= {0, 1, 2}


def broken_rows(leaf: Leaf, array: NDArray[Any]) -> NDArray[np.bool_]:
    """Observations in which this array is not finite as float32, or has an unknown category."""
    if leaf.categories:
        first = np.array(leaf.starts)
        return ((array < first) | (array >= first + np.array(leaf.categories))).any(-1)
    if array.dtype.kind != "f":
        return np.zeros(len(array), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        return ~np.isfinite(array.astype(np.float32)).all(-1)


def test_nan_gives_the_action_nearest_to_zero_and_a_flag(tmp_path: Path) -> None:
    model = model_of("sac")  # bounds [-2, 2], [0, 1], [5, 9], [-0.5, -0.25]
    paths, _ = export(model, "c", tmp_path)
    policy = describe(model)
    call = compile_c(paths[0]).policy_act
    obs = np.zeros((3, 5), np.float32)
    obs[1, 2], obs[2, 4] = np.nan, np.inf
    actions, flags = c_rows(call, [obs], policy.action)
    assert flags.tolist() == [0, 1, 1]
    assert actions[1].tolist() == actions[2].tolist() == [[0.0, 0.0], [5.0, -0.25]]
    with pytest.raises(ValueError, match="the policy answered with flag 1"):
        open_policy(paths[0], trust=True).batch([obs])
    assert (np.abs(actions[0] - model.predict(obs[0], deterministic=True)[0]) < 1e-5).all()


def test_the_hyperbolic_tangent_is_right_to_a_few_units_in_the_last_place(tmp_path: Path) -> None:
    library = to_c._library()
    text = "#include <stdint.h>\n" + library["exponential"] + library["hyperbolic_tangent"]
    text += "\nvoid tanhs(const float *x, int n, float *y) { hyperbolic_tangent(x, n, y); }\n"
    text += "\nfloat exps(float x) { return exponential(x); }\n"
    (tmp_path / "tanh.c").write_text(text)
    built = compile_c(tmp_path / "tanh.c")
    x = np.concatenate([np.linspace(-12, 12, 200_001), np.logspace(-40, 38, 1_000)]).astype(np.float32)
    y = np.empty_like(x)
    built.tanhs.argtypes = None
    from ctypes import c_float, c_int, c_void_p

    built.tanhs(c_void_p(x.ctypes.data), c_int(len(x)), c_void_p(y.ctypes.data))
    exact = np.tanh(x.astype(np.float64))
    assert np.abs(y - exact).max() < 2e-7
    assert np.abs(y).max() <= 1.0
    small = np.abs(x) < 0.6
    assert (np.abs(y - exact)[small] <= 3e-7 * np.abs(exact[small]) + 1e-45).all()
    built.exps.argtypes, built.exps.restype = [c_float], c_float
    for value in np.linspace(-86, 87, 501).astype(np.float32):
        assert built.exps(float(value)) == pytest.approx(np.exp(float(value)), rel=1e-6)


def test_the_controller_of_the_guide_compiles_and_stops_at_a_broken_sensor(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide/export.md").read_text(encoding="utf-8")
    (controller,) = (code for code in re.findall(r"```cpp\n(.*?)```", guide, re.S) if "policy.h" in code)
    source = written(SAC("Pendulum-v1", net_arch=(16, 16), device="cpu"), tmp_path)
    use = "int main() { Joint j{1, 2, 9}; Joint broken{NAN, 2, 9}; bool a = update(j), b = update(broken);"
    use += " return !(a && !b && j.torque >= -2 && j.torque <= 2 && broken.torque == 0); }\n"
    (tmp_path / "controller.cpp").write_text(controller + use)
    compiled("-c", *STRICT, source, "-o", tmp_path / "policy.o")
    words = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "controller.cpp", "policy.o", "-o", "controller"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([tmp_path / "controller"], check=False).returncode == 0
