"""30 kinds of spaces: SAC trains on them or says what to do; flattening, rescaling, and the way through JSON."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probes import SMALL, AsymmetricEnv, DictEnv, SpaceEnv, rows, unit_box
from softac import SAC, evaluate_policy
from softac.envs import Spaces
from softac.errors import CheckpointError, ConfigError

F32, F64 = np.float32, np.float64
INF = np.inf


def box(low, high, shape=None, dtype=F32):
    return spaces.Box(low, high, shape, dtype)


def bounds(low, high, dtype=F32):
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


GOOD_ACTIONS = {
    "asymmetric": bounds([-1, 0, -3], [2, 10, -1]),
    "float64": bounds([-0.1, 5], [0.3, 7], F64),
    "low == high in one dimension": bounds([-1, 2], [1, 2]),
    "2-D": box(-2.0, 3.0, (2, 3)),
    "0-d": box(-2.0, 3.0, ()),
}

TOO_WIDE = (
    "actions are bounded by {}; expected finite bounds of at most 1e+06, since the policy explores all of them; "
    "declare useful bounds, or wrap the environment in gymnasium.wrappers.TransformAction with a bounded Box"
)
NOT_A_BOX = (
    "actions are of kind {}; expected a Box of finite bounds (continuous actions), Discrete, MultiDiscrete or "
    "MultiBinary; flatten them with a gymnasium.ActionWrapper"
)
AT_ONCE = (
    "SpaceEnv has {} discrete choices at once and sac chooses continuous ones (a Box); expected an algorithm for "
    "several discrete actions; choose reinforce, a2c or ppo"
)

BAD_ACTIONS = {
    "unbounded": (box(-INF, INF, (2,)), TOO_WIDE.format("inf")),
    "half-bounded": (box(0.0, INF, (2,)), TOO_WIDE.format("inf")),
    "bounds 1e30": (box(-1e30, 1e30, (2,)), TOO_WIDE.format("1e+30")),
    "integer Box": (
        box(0, 5, (2,), np.int64),
        "actions are a Box of int64; expected floating-point actions; declare the space with dtype=np.float32, or "
        "Discrete for a method with discrete actions",
    ),
    "empty": (
        box(-1.0, 1.0, (0,)),
        "the action space is empty; expected at least one dimension; add one",
    ),
    "Discrete": (
        spaces.Discrete(3),
        "SpaceEnv has 3 discrete actions and sac chooses continuous ones (a Box); expected an algorithm for "
        "discrete actions; choose sac_discrete, dqn, reinforce, a2c or ppo",
    ),
    "a large Discrete": (
        spaces.Discrete(1_000_001),
        "there are 1,000,001 discrete actions; expected at most 1,000,000, each with a value of its own; choose "
        "among fewer, or declare a Box",
    ),
    "MultiDiscrete": (spaces.MultiDiscrete([2, 3]), AT_ONCE.format(2)),
    "MultiBinary": (spaces.MultiBinary(3), AT_ONCE.format(3)),
    "Dict": (spaces.Dict(a=unit_box()), NOT_A_BOX.format("Dict")),
    "Tuple": (spaces.Tuple([unit_box()]), NOT_A_BOX.format("Tuple")),
}

GOOD_OBSERVATIONS = {
    "float64": (box(-5.0, 5.0, (3,), F64), 3),
    "unbounded": (box(-INF, INF, (3,)), 3),
    "2-D": (box(-1.0, 1.0, (2, 3)), 6),
    "Discrete": (spaces.Discrete(4, start=-1), 4),
    "MultiDiscrete": (spaces.MultiDiscrete([2, 3], start=[0, 5]), 5),
    "MultiBinary": (spaces.MultiBinary((2, 2)), 4),
    "Dict": (spaces.Dict(b=unit_box(2), a=spaces.Discrete(3)), 5),
    "nested Dict": (spaces.Dict(z=spaces.Dict(y=unit_box(2), x=box(0.0, 1.0, ())), a=unit_box(1)), 4),
    "Tuple": (spaces.Tuple([unit_box(2), spaces.Discrete(2), spaces.Dict(a=unit_box(1))]), 5),
    "uint8 image": (box(0, 255, (8, 7, 3), np.uint8), 168),
}

NO_VECTOR = (
    "observations are of kind {}; expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them; "
    "turn them into a Box with gymnasium.wrappers.TransformObservation"
)

BAD_OBSERVATIONS = {
    "empty": (
        box(-1.0, 1.0, (0,)),
        "observations are empty; expected at least one number; add one to the environment",
    ),
    "pixels of five dimensions": (
        box(0, 255, (2, 4, 8, 8, 3), np.uint8),
        "observations are pixels of 5 dimensions (2, 4, 8, 8, 3); expected (height, width), with channels before "
        "or behind them, and a stack of such at most; stack along one axis, or flatten them with "
        "gymnasium.wrappers.FlattenObservation",
    ),
    "Text": (spaces.Text(5), NO_VECTOR.format("Text")),
    "Sequence": (spaces.Sequence(unit_box(1)), NO_VECTOR.format("Sequence")),
    "Graph": (spaces.Graph(unit_box(1), None), NO_VECTOR.format("Graph")),
}


def test_choices_are_counted_before_they_are_listed():
    with pytest.raises(
        ConfigError, match="there are 400,000,000,000 discrete actions; expected at most 1,000,000"
    ):
        Spaces(unit_box(), spaces.MultiBinary([2 * 10**11]))


def test_there_are_31():
    assert len(GOOD_ACTIONS) + len(BAD_ACTIONS) == 16
    assert len(GOOD_OBSERVATIONS) + len(BAD_OBSERVATIONS) == 15


def check_everything(make, folder):
    """Train 64 steps, evaluate, save, load, predict; the probes refuse actions outside their space."""
    model = SAC(make, **SMALL).learn(64)
    mean, _ = evaluate_policy(model, make, n_eval_episodes=2)
    assert mean == sum(range(1, 9))
    model.save(folder)
    loaded = SAC.load(folder, env=make)
    env = make()
    obs, _ = env.reset(seed=3)
    action, _ = model.predict(obs, deterministic=True)
    assert env.action_space.contains(np.asarray(action))
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], action)
    loaded.learn(8)
    return model


@pytest.mark.parametrize("kind", GOOD_ACTIONS)
def test_actions_that_work(kind, tmp_path):
    model = check_everything(lambda: SpaceEnv(action_space=GOOD_ACTIONS[kind]), tmp_path / "model")
    stored = rows(model).action
    assert stored.shape[1] == model.spaces.spec.action_dim == int(np.prod(GOOD_ACTIONS[kind].shape))
    assert stored.abs().max() <= 1.0
    assert stored.std() > 0.3


@pytest.mark.parametrize("kind", BAD_ACTIONS)
def test_actions_that_are_refused(kind):
    space, said = BAD_ACTIONS[kind]
    with pytest.raises(ConfigError) as error:
        SAC(SpaceEnv(action_space=space))
    assert str(error.value) == said


@pytest.mark.parametrize("kind", GOOD_OBSERVATIONS)
def test_observations_that_work(kind, tmp_path):
    space, size = GOOD_OBSERVATIONS[kind]
    model = check_everything(lambda: SpaceEnv(observation_space=space), tmp_path / "model")
    assert model.spaces.spec.obs_dim == size
    assert rows(model).obs.shape == (64, size)


@pytest.mark.parametrize("kind", BAD_OBSERVATIONS)
def test_observations_that_are_refused(kind):
    space, said = BAD_OBSERVATIONS[kind]
    with pytest.raises(ConfigError) as error:
        SAC(SpaceEnv(observation_space=space))
    assert str(error.value) == said


def test_a_refusal_names_the_part():
    pixels = box(0, 255, (1, 1, 40, 40, 1), np.uint8)
    space = spaces.Dict(camera=spaces.Tuple([pixels]), speed=unit_box(1))
    with pytest.raises(ConfigError, match=r"^observations\['camera'\]\[0\] are pixels of 5 dimensions"):
        SAC(SpaceEnv(observation_space=space))


@pytest.mark.parametrize("space", [spaces.Dict(), spaces.Tuple([]), spaces.Dict(a=spaces.Dict())])
def test_observations_without_any_number_are_refused(space):
    with pytest.raises(ConfigError, match=r"^observations are empty; expected at least one number; add one"):
        SAC(SpaceEnv(observation_space=space))


def test_a_part_without_numbers_does_no_harm(tmp_path):
    space = spaces.Dict(a=spaces.Dict(), b=spaces.Tuple([]), c=unit_box(2))
    model = check_everything(lambda: SpaceEnv(observation_space=space), tmp_path / "model")
    assert model.spaces.spec.obs_dim == 2


def test_the_order_of_flattening():
    space = spaces.Dict(
        {
            "b": spaces.Tuple([unit_box(2), spaces.Discrete(3, start=5)]),
            "a": box(-9.0, 9.0, (2, 2), F64),
            "c": spaces.MultiDiscrete([2, 3], start=[0, 1]),
            "B": spaces.MultiBinary(2),
        }
    )
    obs = {
        "a": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "b": (np.array([0.5, -0.5]), 6),
        "c": np.array([1, 3]),
        "B": np.array([1, 0], np.int8),
    }
    flat = Spaces(space, unit_box()).flatten(obs)
    assert flat.dtype == F32
    assert flat.tolist() == [
        *(1.0, 0.0),  # B: keys are sorted, capitals first
        *(1.0, 2.0, 3.0, 4.0),  # a: rows one after the other
        *(0.5, -0.5), *(0.0, 1.0, 0.0),  # b: by position; 6 is the second of 5, 6, 7
        *(0.0, 1.0), *(0.0, 0.0, 1.0),  # c: one one-hot vector for each number
    ]  # fmt: skip


def test_the_order_does_not_depend_on_how_a_dict_was_written():
    forward = Spaces(spaces.Dict([("a", unit_box(1)), ("b", unit_box(1))]), unit_box())
    backward = Spaces(spaces.Dict([("b", unit_box(1)), ("a", unit_box(1))]), unit_box())
    obs = {"b": np.array([2.0], F32), "a": np.array([1.0], F32)}
    assert forward.flatten(obs).tolist() == backward.flatten(obs).tolist() == [1.0, 2.0]


def test_a_flattened_observation_is_a_copy():
    obs = np.zeros(3, F32)
    flat = Spaces(unit_box(3), unit_box()).flatten(obs)
    obs[:] = 7.0
    assert flat.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("space", "obs", "said"),
    [
        (unit_box(3), np.zeros(4), r"an observation of shape \(4,\) where the space says \(3,\)"),
        (spaces.Discrete(3, start=2), 5, "the category 3, not one of 3"),
        (spaces.MultiDiscrete([2, 2]), np.array([0, -1]), "the category -1, not one of 2"),
        (spaces.Tuple([unit_box(1), unit_box(1)]), (np.zeros(1),), "shorter than argument 1"),
    ],
)
def test_observations_that_do_not_fit(space, obs, said):
    with pytest.raises(ValueError, match=said):
        Spaces(space, unit_box()).flatten(obs)


BATCHED = {**{k: v for k, (v, _) in GOOD_OBSERVATIONS.items()}, "probe": DictEnv.observation_space}


def stack(space, observations):
    """A batch of observations in the form Gymnasium's vector environments give it."""
    match space:
        case spaces.Dict():
            return {k: stack(s, [o[k] for o in observations]) for k, s in space.spaces.items()}
        case spaces.Tuple():
            return tuple(stack(s, [o[i] for o in observations]) for i, s in enumerate(space.spaces))
        case _:
            return np.stack(observations)


@pytest.mark.parametrize("kind", BATCHED)
@pytest.mark.parametrize("size", [1, 4])
def test_batches_of_observations(kind, size):
    space = BATCHED[kind]
    space.seed(0)
    observations = [space.sample() for _ in range(size)]
    seen = Spaces(space, unit_box())
    flat, batched = seen.flatten_batch(stack(space, observations))
    assert batched
    assert np.array_equal(flat, np.stack([seen.flatten(o) for o in observations]))
    flat, batched = seen.flatten_batch(observations[0])
    assert not batched
    assert np.array_equal(flat, seen.flatten(observations[0])[None])


@pytest.mark.parametrize("kind", GOOD_ACTIONS)
def test_rescaling(kind):
    space = GOOD_ACTIONS[kind]
    to_env = Spaces(unit_box(), space).to_env
    n = int(np.prod(space.shape))
    for unit, expected in ((-1.0, space.low), (0.0, (space.low.astype(F64) + space.high) / 2), (1.0, space.high)):
        action = to_env(np.full(n, unit, F32))
        assert isinstance(action, np.ndarray)
        assert action.dtype == space.dtype
        assert action.shape == space.shape
        assert np.allclose(action, expected, rtol=1e-15, atol=0.0)
        assert space.contains(action)


def test_rescaling_is_by_dimension_and_keeps_the_order():
    to_env = Spaces(unit_box(), bounds([[0, 10], [20, 30]], [[1, 12], [24, 38]])).to_env
    assert to_env(np.array([-0.5, 0.5, -1.0, 1.0], F32)).tolist() == [[0.25, 11.5], [20.0, 38.0]]


def test_float64_actions_are_not_rounded_to_float32():
    space = bounds([0.0], [1.0], F64)
    action = Spaces(unit_box(), space).to_env(np.array([1.0 / 3.0], F32))
    assert action[0] == 0.5 * (float(F32(1.0 / 3.0)) + 1.0)
    assert action[0] != F32(action[0])


@given(
    low=hnp.arrays(F32, 3, elements=st.floats(-1e3, 1e3, width=32)),
    width=hnp.arrays(F32, 3, elements=st.floats(0, 1e3, width=32)),
    unit=hnp.arrays(F32, 3, elements=st.floats(-1, 1, width=32)),
    dtype=st.sampled_from([F32, F64]),
)
def test_a_rescaled_action_is_always_inside(low, width, unit, dtype):
    space = bounds(low, low + width, dtype)
    action = Spaces(unit_box(), space).to_env(unit)
    assert space.contains(action)
    exact = low.astype(F64) + (unit.astype(F64) + 1) / 2 * (space.high.astype(F64) - low)
    assert np.allclose(action, exact, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("kind", GOOD_ACTIONS)
@pytest.mark.parametrize("beyond", [1.0 + 1e-6, 5.0, 3e38])
def test_actions_beyond_are_cut(kind, beyond):
    space = GOOD_ACTIONS[kind]
    to_env = Spaces(unit_box(), space).to_env
    n = int(np.prod(space.shape))
    assert np.array_equal(to_env(np.full(n, beyond, F32)), space.high)
    assert np.array_equal(to_env(np.full(n, -beyond, F32)), space.low)


@pytest.mark.parametrize("start", [0, -1, 5])
def test_discrete_actions_are_counted_from_the_start(start):
    space = spaces.Discrete(3, start=start)
    seen = Spaces(unit_box(), space)
    assert (seen.spec.action_dim, seen.spec.n_actions, seen.spec.actions) == (1, 3, "discrete")
    for index in range(3):
        action = seen.to_env(np.array([index], F32))
        assert isinstance(action, np.int64)
        assert action == start + index
        assert space.contains(action)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (3.0, "actions that are not indices below 3"),
        (-1.0, "actions that are not indices below 3"),
        (0.5, "actions that are not indices below 3"),
        (INF, "actions that are not finite"),
        (np.nan, "actions that are not finite"),
    ],
)
def test_actions_that_no_agent_can_have_chosen(action, said):
    discrete, continuous = Spaces(unit_box(), spaces.Discrete(3, start=7)), Spaces(unit_box(), unit_box())
    actions = np.array([[0.0], [2.0], [action]], F32)
    with pytest.raises(ValueError, match=f"^{said}$"):
        discrete.require_actions(actions)
    discrete.require_actions(actions[:2])
    if np.isfinite(action):
        continuous.require_actions(actions)
    else:
        with pytest.raises(ValueError, match=f"^{said}$"):
            continuous.require_actions(actions)


def test_the_environment_gets_what_it_declared():
    # AsymmetricEnv raises when an action is not in its space: by shape, by dtype or by a bound.
    model = SAC(AsymmetricEnv, **SMALL).learn(40)
    assert model.num_timesteps == 40


EVERY_SPACE = {
    **{f"action {k}": (unit_box(2), v) for k, v in GOOD_ACTIONS.items()},
    **{f"observation {k}": (v, unit_box(1)) for k, v in BATCHED.items()},
    "half-bounded observations": (bounds([-INF, 0], [1, INF]), unit_box(1)),
    "uint8 vector": (box(0, 255, (4,), np.uint8), unit_box(1)),
    "discrete actions": (unit_box(2), spaces.Discrete(5, start=-2)),
}


@pytest.mark.parametrize("kind", EVERY_SPACE)
def test_the_way_through_json(kind):
    observation, action = EVERY_SPACE[kind]
    made = Spaces(observation, action)
    text = json.dumps(made.to_json(), allow_nan=False)
    again = Spaces.from_json(json.loads(text))
    assert again.observation_space == observation
    assert again.action_space == action
    assert again.spec == made.spec
    assert again.to_json() == made.to_json()


def nested(depth):
    space = {"kind": "Discrete", "n": 2, "start": 0}
    for _ in range(depth):
        space = {"kind": "Tuple", "parts": [space]}
    return space


GOOD = Spaces(unit_box(2), unit_box(1)).to_json()
BOX = GOOD["observation"]
DAMAGED = {
    "not an object": None,
    "a list": [],
    "no action": {"observation": BOX},
    "an unknown kind": {**GOOD, "observation": {"kind": "os.system", "command": "true"}},
    "no kind": {**GOOD, "observation": {}},
    "low above high": {**GOOD, "observation": {**BOX, "low": [2.0]}},
    "a missing bound": {**GOOD, "observation": {k: v for k, v in BOX.items() if k != "low"}},
    "text for a bound": {**GOOD, "observation": {**BOX, "low": ["minus one"]}},
    "too many bounds": {**GOOD, "observation": {**BOX, "low": [0.0, 0.0, 0.0]}},
    "a negative shape": {**GOOD, "observation": {**BOX, "shape": [-2]}},
    "a shape of terabytes": {**GOOD, "observation": {**BOX, "shape": [10**6, 10**6]}},
    "a dtype of objects": {**GOOD, "observation": {**BOX, "dtype": "object"}},
    "an unknown dtype": {**GOOD, "observation": {**BOX, "dtype": "float7"}},
    "a dtype that is no name": {**GOOD, "observation": {**BOX, "dtype": "(,)f4"}},
    "a dtype that is missing": {**GOOD, "observation": {**BOX, "dtype": None}},
    "many shapes that are terabytes together": {
        **GOOD,
        "observation": {"kind": "Tuple", "parts": [{**BOX, "low": [0.0], "shape": [10**7]}] * 10**5},
    },
    "parts that are a text": {**GOOD, "observation": {"kind": "Dict", "parts": "ab"}},
    "parts of a Dict without names": {**GOOD, "observation": {"kind": "Dict", "parts": [BOX]}},
    "a dtype that is not text": {**GOOD, "observation": {**BOX, "dtype": {"names": ["a"]}}},
    "no categories": {**GOOD, "observation": {"kind": "Discrete", "n": 0, "start": 0}},
    "nested without end": {**GOOD, "observation": nested(2_000)},
    "an action that cannot be learned on": {**GOOD, "action": {"kind": "Dict", "parts": {}}},
    "more actions than there can be": {**GOOD, "action": {"kind": "Discrete", "n": 10**9, "start": 0}},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_spaces_are_refused(kind):
    with pytest.raises(CheckpointError) as error:
        Spaces.from_json(DAMAGED[kind])
    assert str(error.value) == (
        "the spaces in config.json are damaged; expected what softac wrote; restore the file"
    )


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiBinary(2),
        spaces.MultiBinary((2,)),
        spaces.MultiBinary([2, 3]),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.Discrete(3, start=-1),
        spaces.Box(-1.0, 1.0, (2,), np.float64),
        spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(3))),
        spaces.Dict({"a": spaces.MultiBinary(2), "b": spaces.Dict({"c": spaces.MultiDiscrete([2, 2])})}),
    ],
    ids=str,
)
def test_spaces_that_come_from_a_file_are_the_ones_that_went_into_it(space):
    given = Spaces(space, spaces.Box(-1.0, 1.0, (2,), np.float32))
    read = Spaces.from_json(json.loads(json.dumps(given.to_json())))
    assert (given.difference(read), read.difference(given)) == ("", "")
