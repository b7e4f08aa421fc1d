"""What softac says to people who bring something else than it expects: what it is, and the way from there."""

import sys
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import softac
from softac import DQN, SAC
from softac.envs import EnvFault, InProcessVectorEnv
from softac.envs.images import is_image
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.examine.environment import check_env
from softac.run import habits

SMALL = {"net_arch": (8,), "learning_starts": 5, "batch_size": 4, "buffer_size": 100}
ACTIONS = spaces.Box(-1.0, 1.0, (1,), np.float32)
ONE = "expected an id such as 'Pendulum-v1', a function that makes a gymnasium.Env, or one"
SEVERAL = (
    "expected an id, a function or a single environment, which softac steps itself so that every episode has its "
    "own seed and ends exactly where it ends"
)


class Said(gym.Env):
    """Returns what it is told to."""

    action_space = ACTIONS

    def __init__(self, space=None, obs=None, reset=None, step=None):
        self.observation_space = space or spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.obs = np.zeros(3, np.float32) if obs is None else obs
        self.answers = reset, step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (self.obs, {}) if self.answers[0] is None else self.answers[0]

    def step(self, action):
        return (self.obs, 0.0, False, True, {}) if self.answers[1] is None else self.answers[1]


def of_module(name, kind="Thing", **members):
    """A class as another package has it."""
    return type(kind, (), {"__module__": name, **members})


def refused(call, error=ConfigError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# --------------------------------------------------------------------------- no Gymnasium environment

OLD = of_module("gym.wrappers.time_limit", "TimeLimit", reset=None, step=None)
GIVEN = {
    "an environment of gym": (
        OLD(),
        "an environment of the old package gym (TimeLimit) {}; expected one of gymnasium, which has taken its "
        "place; make it with `import gymnasium as gym`, or wrap it: shimmy.GymV26CompatibilityV0(env=env) of "
        "`pip install shimmy[gym-v26]`",
    ),
    "a VecEnv": (
        of_module("stable_baselines3.common.vec_env.base_vec_env", "VecEnv")(),
        "a vector environment (VecEnv) {}; " + SEVERAL + "; pass the single environment's id and n_envs",
    ),
    "a vector environment of gymnasium": (
        gym.make_vec("Pendulum-v1", 2, vectorization_mode="sync"),
        "a vector environment (SyncVectorEnv) {}; " + SEVERAL + "; pass the single environment's id and n_envs",
    ),
    "a list of functions": (
        [Said, Said],
        "a list of 2 {}; " + SEVERAL + "; pass one function that makes it, and n_envs",
    ),
    "an environment of PettingZoo": (
        of_module("pettingzoo.utils.env", "ParallelEnv")(),
        "an environment for several agents (ParallelEnv, as in PettingZoo) {}; expected one for a single agent; "
        "control one of them in a gymnasium.Env of your own, whose step moves the others",
    ),
    "several agents": (
        of_module("mine", "Soccer", possible_agents=["a", "b"])(),
        "an environment for several agents (Soccer, as in PettingZoo) {}; expected one for a single agent; "
        "control one of them in a gymnasium.Env of your own, whose step moves the others",
    ),
    "an environment of DeepMind": (
        of_module("dm_env._environment", "Environment")(),
        "an environment of dm_env (Environment) {}; expected one of gymnasium; wrap it: "
        "shimmy.DmControlCompatibilityV0(env) of `pip install shimmy[dm-control]`",
    ),
    "a specification": (
        gym.spec("Pendulum-v1"),
        "a specification (Pendulum-v1) {}; " + ONE + "; pass its id, 'Pendulum-v1'",
    ),
    "a module": (
        ModuleType("my_envs"),
        "the module my_envs {}; " + ONE + "; write my_envs:Env-v0 with the id of its environment",
    ),
    "a path": (
        Path("runs/a"),
        "the path runs/a {}; " + ONE + "; pass the id, or load a saved model with SAC.load(path)",
    ),
    "nothing": (None, "None {}; " + ONE + "; name the environment; a function must return it"),
    "a number": (
        3,
        "3 (of type int) {}; " + ONE + "; let it inherit from gymnasium.Env, if it is one of your own",
    ),
}


@pytest.mark.parametrize("what", GIVEN)
def test_what_is_no_environment(what):
    thing, text = GIVEN[what]
    assert refused(lambda: SAC(thing, **SMALL)) == text.format("was given")
    assert refused(lambda: SAC(lambda: thing, **SMALL)) == text.format("was returned by <lambda>")
    assert refused(lambda: check_env(thing)) == text.format("was given")


@pytest.mark.parametrize(
    ("env_id", "text"),
    [
        (
            "FetchReach-v4",
            "the environment 'FetchReach-v4' is not registered; expected its package to be imported, which "
            "registers it: gymnasium_robotics; write gymnasium_robotics:FetchReach-v4, and in Python "
            "trust_module=True, or import gymnasium_robotics before",
        ),
        (
            "ALE/Pong-v5",
            "the environment 'ALE/Pong-v5' is not registered; expected its package to be imported, which "
            "registers it: ale_py; write ale_py:ALE/Pong-v5, and in Python trust_module=True, or import ale_py "
            "before",
        ),
        (
            "Qqqqq-v0",
            "unknown environment 'Qqqqq-v0' (Environment `Qqqqq` doesn't exist.); expected a Gymnasium id such as "
            "Pendulum-v1, or module:Env-v0 for one of your own; correct the id; where a package registers it "
            "when it is imported, write package:Env-v0",
        ),
        (
            "my_envs:Thing-v0",
            "'my_envs:Thing-v0' would import the module 'my_envs'; expected an id without a module, or the word "
            "of whoever typed it, which a file cannot give; name it yourself if you trust it: 'my_envs:Thing-v0' "
            "with trust_module=True, or --env my_envs:Thing-v0",
        ),
    ],
)
def test_ids_that_are_not_registered(env_id, text):
    assert refused(lambda: SAC(env_id)) == text


def test_an_assertion_without_a_text_is_found():
    def make():
        raise AssertionError

    line = make.__code__.co_firstlineno + 1
    assert refused(lambda: SAC(make), EnvironmentFailed) == (
        f"make could not be made with no arguments: AssertionError: {__file__}, line {line}: raise "
        "AssertionError; expected a Gymnasium environment; check --env-kwargs and the environment"
    )


def test_an_assertion_without_a_text_in_a_step():
    class Strict(Said):
        def step(self, action):
            raise AssertionError

    with pytest.raises(
        EnvironmentFailed, match=r"raised AssertionError: .*test_messages\.py, line \d+: raise Ass"
    ):
        SAC(Strict, **SMALL).learn(3)


def test_a_second_instance_that_cannot_be_made(tmp_path):
    made = []

    def make():
        if made:
            raise OSError("the port is in use")
        made.append(Said())
        return made[0]

    model = SAC(make, **SMALL)
    assert refused(lambda: model.learn(10, run_dir=tmp_path / "run"), EnvironmentFailed) == (
        "a second environment, to evaluate in, is needed: make could not be made with no arguments: OSError: the "
        "port is in use; expected a Gymnasium environment; check --env-kwargs and the environment, or train "
        "without evaluations: n_eval_episodes=0 (--n-eval-episodes 0)"
    )
    model.learn(10, run_dir=tmp_path / "run", n_eval_episodes=0)


# --------------------------------------------------------------------------- spaces

BYTES = {"low": 0, "high": 255, "dtype": np.uint8}
PICTURES = {
    "a colour picture": spaces.Box(shape=(96, 96, 3), **BYTES),
    "an Atari screen": spaces.Box(shape=(210, 160, 3), **BYTES),
    "a grey picture": spaces.Box(shape=(84, 84), **BYTES),
    "a grey picture with its channel": spaces.Box(shape=(84, 84, 1), **BYTES),
    "channels first": spaces.Box(shape=(3, 64, 64), **BYTES),
    "a stack of grey pictures": spaces.Box(shape=(4, 84, 84), **BYTES),
    "a stack of colour pictures, as channels": spaces.Box(shape=(64, 64, 12), **BYTES),
    "a stack of colour pictures": spaces.Box(shape=(4, 96, 96, 3), **BYTES),
    "codes of a grid": spaces.Box(shape=(7, 7, 3), **BYTES),
    "planes of booleans": spaces.Box(0, 1, (10, 10, 4), bool),
}
VECTORS = {
    "the memory of a console": spaces.Box(shape=(128,), **BYTES),
    "a stack of them": spaces.Box(shape=(4, 128), **BYTES),
    "a board": spaces.Box(0, 2, (3, 3), np.uint8),
    "a larger board": spaces.Box(0, 2, (19, 19), np.uint8),
    "a board of planes": spaces.Box(0, 1, (6, 7, 1), np.uint8),
    "a large board": spaces.Box(0, 2, (64, 64), np.uint8),
    "a grid of floats": spaces.Box(0.0, 1.0, (2, 12, 12), np.float32),
    "a picture of floats": spaces.Box(0.0, 1.0, (32, 32, 3), np.float32),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_encoded(kind):
    space = PICTURES[kind]
    assert is_image(space)
    space.seed(0)
    obs = space.sample()
    model = SAC(Said(space, obs), **SMALL).learn(10)
    (image,) = model.spaces.spec.images
    assert (image.start, image.stop) == (0, obs.size)
    assert model.predict(obs)[0].shape == (1,)


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_of_any_shape_are_learned_on(kind):
    space = VECTORS[kind]
    space.seed(0)
    obs = space.sample()
    model = SAC(Said(space, obs), **SMALL).learn(10)
    assert model.spaces.spec.obs_dim == obs.size
    assert not model.spaces.spec.images
    assert model.predict(obs)[0].shape == (1,)


@pytest.mark.parametrize("key", [0, ("a", 1)])
def test_keys_that_are_no_text(key):
    space = spaces.Dict({"goal": ACTIONS, "inner": spaces.Dict({key: ACTIONS})})
    assert refused(lambda: SAC(Said(space))) == (
        f"observations['inner'] have the key {key!r}; expected texts as keys, which have an order and can be "
        "written into files; rename it with gymnasium.wrappers.TransformObservation"
    )


def test_clip_action():
    env = gym.wrappers.TimeLimit(gym.wrappers.ClipAction(gym.make("Pendulum-v1")), 5)
    text = (
        "the environment is wrapped in ClipAction, which declares actions without bounds; expected the bounds of "
        "the environment itself: softac maps actions onto them and cuts them there; leave "
        "gymnasium.wrappers.ClipAction away"
    )
    assert refused(lambda: SAC(env)) == text
    (finding,) = check_env(env)
    assert f"{finding.what}; {finding.why}; {finding.remedy}" == text


# --------------------------------------------------------------------------- what environments answer

PARTS = spaces.Dict(
    mode=spaces.Discrete(2),
    arm=spaces.Dict(left=spaces.Box(-1.0, 1.0, (3,), np.float32)),
    pair=spaces.Tuple([ACTIONS, ACTIONS]),
)


def parts(**other):
    good = {"mode": 1, "arm": {"left": np.zeros(3)}, "pair": (np.zeros(1), np.zeros(1))}
    return {name: part for name, part in (good | other).items() if part is not Ellipsis}


UNFIT = "an observation that does not fit was given"
MISFITS = {
    "an array for a number": (
        parts(mode=np.array([1])),
        "part 'mode': an array of shape (1,) where the space has one whole number, Discrete(2)",
    ),
    "a category that is none": (parts(mode=2), "part 'mode': ValueError: the category 2, not one of 2"),
    "a wrong shape": (
        parts(arm={"left": np.zeros(2)}),
        "part 'arm.left': ValueError: an observation of shape (2,) where the space says (3,)",
    ),
    "a part too few": (parts(pair=(np.zeros(1),)), "part 'pair': a tuple of 1 where the space is a Tuple of 2"),
    "a wrong part of a tuple": (
        parts(pair=(np.zeros(1), np.zeros(2))),
        "part 'pair[1]': ValueError: an observation of shape (2,) where the space says (1,)",
    ),
    "a missing part": (parts(mode=...), "no part 'mode'"),
    "nothing in a part": (
        parts(arm={"left": None}),
        "part 'arm.left': None where the space says Box(-1.0, 1.0, (3,), float32)",
    ),
    "an array for a dict": (np.zeros(3), "a ndarray where the space is a Dict of mode, arm, pair"),
    "an array for a dict in a part": (
        parts(arm=np.zeros(3)),
        "part 'arm': a ndarray where the space is a Dict of left",
    ),
    "nothing": (None, "None where the space is a Dict of mode, arm, pair"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_a_wrong_part_is_named(what):
    obs, text = MISFITS[what]
    envs = InProcessVectorEnv(lambda: Said(PARTS, reset=(obs, {})), 1)
    with pytest.raises(EnvFault) as caught:
        envs.reset(0, 0)
    assert str(caught.value) == f"returned an observation that does not fit its space: {text}"
    model = SAC(lambda: Said(PARTS, parts()), **SMALL)
    assert refused(lambda: model.predict(obs)).startswith(f"{UNFIT} ({text}); ")


@pytest.mark.parametrize(
    ("space", "obs", "where"),
    [
        (None, np.array([0.0, np.nan, np.nan], np.float32), "nan in it, at index 1"),
        (PARTS, parts(arm={"left": np.array([0.0, 0.0, np.inf])}), "inf in it, at arm.left[2]"),
        (PARTS, parts(pair=(np.zeros(1), np.array([-np.inf]))), "-inf in it, at pair[1][0]"),
    ],
)
def test_a_number_that_is_not_finite_has_its_place(space, obs, where):
    envs = InProcessVectorEnv(lambda: Said(space, reset=(obs, {})), 1)
    with pytest.raises(EnvFault) as caught:
        envs.reset(0, 0)
    assert str(caught.value) == f"returned an observation with {where}"
    model = SAC(lambda: Said(space, None if space is None else parts()), **SMALL)
    assert refused(lambda: model.predict(obs)).startswith(
        f"an observation that does not fit was given ({where}); "
    )


FIVE = (
    "expected five values: observation, reward, terminated, truncated, info, as in Gymnasium, and in gym since "
    "0.26"
)
ANSWERS = {
    "four values": ((np.zeros(3), 0.0, False, {}), "returned 4 values from step, not 5", FIVE),
    "info before truncated": (
        (np.zeros(3), 0.0, False, {}, False),
        "returned terminated=False, truncated={}, not booleans",
        FIVE,
    ),
    "a text for a reward": (
        (np.zeros(3), "0.5", False, False, {}),
        "returned the reward '0.5', not a number",
        "expected a finite answer of the declared shape",
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_answers_of_other_interfaces(what):
    answer, given, expected = ANSWERS[what]
    text = refused(lambda: SAC(lambda: Said(step=answer), **SMALL).learn(3), EnvironmentFailed)
    assert text.startswith(f"environment 0 {given} at step 1 of episode 0 ")
    assert text.endswith(f"; {expected}; correct the environment, then resume")


def test_a_reset_without_info():
    text = refused(lambda: SAC(lambda: Said(reset=np.zeros(3)), **SMALL).learn(3), EnvironmentFailed)
    assert text.startswith("environment 0 returned a ndarray from reset, not 2 values at ")
    assert "; expected two values, observation and info, as in Gymnasium, and in gym since 0.26; " in text


@pytest.mark.parametrize("reward", [0.5, np.float32(0.5), np.array(0.5), np.array([0.5]), torch.tensor([0.5])])
def test_what_holds_one_number_is_a_reward(reward):
    (step,) = InProcessVectorEnv(lambda: Said(step=(np.zeros(3), reward, False, False, {})), 1).step(
        0, np.zeros((1, 1))
    )
    assert step.reward == 0.5


# --------------------------------------------------------------------------- predicting


def test_predicting_on_all_that_reset_and_step_return():
    env = gym.make("Pendulum-v1")
    model = SAC("Pendulum-v1", **SMALL)
    rest = f"; expected {env.observation_space} or a batch of such; pass it as the environment returns it"
    assert refused(lambda: model.predict(env.reset(seed=0))) == (
        "an observation that does not fit was given (observation and info, as reset returns them; write obs, "
        f"info = env.reset() and pass obs){rest}"
    )
    assert refused(lambda: model.predict(env.step(np.zeros(1, np.float32)))) == (
        "an observation that does not fit was given (all that step returns; write obs, reward, terminated, "
        f"truncated, info = env.step(...) and pass obs){rest}"
    )


def test_predicting_on_nothing_and_on_none():
    model = SAC("Pendulum-v1", **SMALL)
    assert "(None where the space says Box(" in refused(lambda: model.predict(None))
    assert "(a batch of none)" in refused(lambda: model.predict(np.zeros((0, 3))))
    assert "(nan in it, at index 2)" in refused(lambda: model.predict([[0.0, 0.0, 0.0], [0.0, 0.0, np.nan]]))


# --------------------------------------------------------------------------- loading into another environment


def test_spaces_that_differ(tmp_path):
    SAC(lambda: Said(spaces.Dict(a=ACTIONS, b=ACTIONS), {"a": np.zeros(1), "b": np.zeros(1)}), **SMALL).learn(
        10
    ).save(tmp_path)
    other = spaces.Dict(a=ACTIONS, b=spaces.Box(-1.0, 1.0, (2,), np.float32))
    assert refused(lambda: SAC.load(tmp_path, env=lambda: Said(other))) == (
        "<lambda> has other spaces than the environment of this model: b is 2 numbers (2,) and was 1 number (1,); "
        "expected what it was trained with; pass one that has the same"
    )
    without = spaces.Dict(a=ACTIONS)
    assert ": b is missing and was 1 number (1,); " in refused(
        lambda: SAC.load(tmp_path, env=lambda: Said(without))
    )


class Wide(Said):
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)


def test_bounds_and_precision_of_observations_do_not_count(tmp_path):
    model = SAC(lambda: Said(spaces.Box(-1.0, 1.0, (3,), np.float32)), **SMALL).learn(10)
    model.save(tmp_path)
    other = spaces.Box(-10.0, 10.0, (3,), np.float64)
    SAC.load(tmp_path, env=lambda: Said(other, np.zeros(3))).learn(5)
    assert softac.evaluate_policy(model, lambda: Said(other, np.zeros(3)), n_eval_episodes=1) == (0.0, 0.0)
    assert ": actions are 1 number (1,) in [-2, 2] and were 1 number (1,) in [-1, 1]; " in refused(
        lambda: SAC.load(tmp_path, env=Wide)
    )


def test_check_env_is_at_the_front_door():
    assert softac.check_env is check_env
    assert any(f.what.startswith("deterministic") for f in softac.check_env("Pendulum-v1", steps=50))
    assert "softac" in sys.modules
    assert DQN is softac.DQN


# --------------------------------------------------------------------------- paths that are no run


def test_paths_that_lead_to_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = "; expected the folder of a run or of a saved model; "
    run = Path("runs/a")
    SAC("Pendulum-v1", **SMALL).learn(20, run_dir=run, n_eval_episodes=0)
    SAC("Pendulum-v1", **SMALL).save("runs/b")
    Path("sb3.zip").write_bytes(b"PK")
    Path("notes.txt").write_text("none")
    Path("empty").mkdir()
    (checkpoint,) = (run / "checkpoints").iterdir()
    for path, text in {
        "nowhere": f"nowhere does not exist{expected}look for it under runs/, or correct the path",
        "sb3.zip": f"sb3.zip is a file, as Stable-Baselines3 saves models{expected}write `softac import sb3.zip "
        "--env ENV` to make one of it",
        "notes.txt": f"notes.txt is a file{expected}give .",
        "runs/a/config.json": f"runs/a/config.json is a file{expected}give runs/a",
        "runs": f"runs holds 2 runs or models{expected}give one of them, for instance runs/a",
        str(checkpoint): f"{checkpoint} is a part of a run{expected}give runs/a",
        "runs/a/replay": f"runs/a/replay is a part of a run{expected}give runs/a",
        "empty": f"empty has no config.json in it{expected}look for it under runs/, or correct the path",
    }.items():
        assert refused(lambda path=path: SAC.load(path), CheckpointError) == text


def test_trust_is_in_what_the_caller_names_and_not_in_what_the_file_names(tmp_path, monkeypatch):
    (tmp_path / "room_of_mine.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:PendulumEnv', max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    SAC("room_of_mine:Mine-v0", trust_module=True, **SMALL).learn(10).save(tmp_path / "saved")
    del sys.modules["room_of_mine"]
    model = SAC.load(tmp_path / "saved", trust_module=True)
    assert "room_of_mine" not in sys.modules
    assert "name it yourself if you trust it: 'room_of_mine:Mine-v0' with trust_module=True" in refused(
        lambda: model.learn(5)
    )
    with pytest.warns(UserWarning, match="Overriding environment Mine-v0"):
        SAC.load(tmp_path / "saved", env="room_of_mine:Mine-v0", trust_module=True).learn(5)


# --------------------------------------------------------------------------- the habits of Stable-Baselines3

BY_POSITION = (
    "expected the environment first and everything else by name: there is no policy to choose, as in "
    "Stable-Baselines3; "
)
HABITS = {
    "a policy first": (
        lambda: SAC("MlpPolicy", "Pendulum-v1"),
        f"SAC('MlpPolicy', 'Pendulum-v1') was written; {BY_POSITION}write SAC('Pendulum-v1')",
    ),
    "a policy first, and an environment": (
        lambda: DQN("CnnPolicy", Said(), verbose=1),
        f"DQN('CnnPolicy', Said) was written; {BY_POSITION}write DQN(env)",
    ),
    "a policy alone": (
        lambda: SAC("MlpPolicy", env_kwargs={}),
        f"SAC('MlpPolicy') was written; {BY_POSITION}write SAC(env)",
    ),
    "a policy by name": (
        lambda: SAC(policy="MlpPolicy", env="Pendulum-v1"),
        "sac was given policy=, as in Stable-Baselines3; expected softac's arguments; leave it out: the "
        "algorithm and the spaces say which networks there are",
    ),
    "verbose": (
        lambda: SAC("Pendulum-v1", verbose=1),
        "sac was given verbose=, as in Stable-Baselines3; expected softac's arguments; leave it out: `softac "
        "train` shows progress, and in Python callback=fn is called every 1,000 steps",
    ),
    "policy_kwargs": (
        lambda: SAC("Pendulum-v1", policy_kwargs={"net_arch": [8]}),
        "sac was given policy_kwargs=, as in Stable-Baselines3; expected softac's arguments; write "
        "net_arch=[256, 256] as an argument of its own",
    ),
    "tensorboard_log": (
        lambda: SAC("Pendulum-v1", tensorboard_log="logs"),
        "sac was given tensorboard_log=, as in Stable-Baselines3; expected softac's arguments; write "
        "model.learn(..., "
        'run_dir="runs/mine"): that folder gets the events for TensorBoard',
    ),
    "progress_bar": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(5, progress_bar=True),
        "learn was given progress_bar=, as in Stable-Baselines3; expected softac's arguments; leave it out: "
        "`softac train` shows progress, and in Python callback=fn is called every 1,000 steps",
    ),
    "reset_num_timesteps": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(5, reset_num_timesteps=False),
        "learn was given reset_num_timesteps=, as in Stable-Baselines3; expected softac's arguments; leave it "
        "out: learn always goes on counting, and a new model begins at 0",
    ),
    "a misspelt argument of learn": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(5, rundir="a"),
        "learn was given rundir=; did you mean 'run_dir'?; expected total_timesteps, callback, run_dir, "
        "eval_freq, n_eval_episodes, save_freq; correct it",
    ),
    "a list of callbacks": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(5, callback=[print, print]),
        "callback=a list of 2 was given; expected one function of the model and a dict of metrics, which may "
        "return False to stop; write def callback(model, metrics): ..., which calls the others; evaluations and "
        "checkpoints are made by learn itself (run_dir=, eval_freq=, save_freq=)",
    ),
    "a callback of one argument": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(5, callback=lambda model: None),
        "callback=<lambda> cannot be called with two arguments (too many positional arguments); expected one "
        "function of the model and a dict of metrics, which may return False to stop; write def callback(model, "
        "metrics): ...",
    ),
    "True for a number of steps": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(True),
        "total_timesteps=True was given; expected a whole number of environment steps, at least 1; give 100_000, "
        "say",
    ),
    "half a step": (
        lambda: SAC("Pendulum-v1", **SMALL).learn(0.5),
        "total_timesteps=0.5 was given; expected a whole number of environment steps, at least 1; give 100_000, "
        "say",
    ),
    "the name of a model": (
        lambda: softac.evaluate_policy("runs/a", "Pendulum-v1"),
        "'runs/a' (of type str) was given as the model; expected a softac.Model, such as softac.SAC; load it "
        "first: SAC.load(folder)",
    ),
}


@pytest.mark.parametrize("what", HABITS)
def test_habits_of_another_library(what):
    call, text = HABITS[what]
    assert refused(call) == text


def test_every_habit_has_its_line():
    for name, line in habits.MADE.items():
        text = refused(lambda name=name: SAC("Pendulum-v1", **{name: None}))
        assert text == f"sac was given {name}=, as in Stable-Baselines3; expected softac's arguments; {line}"
    model = SAC("Pendulum-v1", **SMALL)
    for name, line in habits.LEARNT.items():
        text = refused(lambda name=name: model.learn(5, **{name: None}))
        assert text == f"learn was given {name}=, as in Stable-Baselines3; expected softac's arguments; {line}"
    for name, line in habits.MEMBERS.items():
        with pytest.raises(AttributeError) as caught:
            getattr(model, name)
        assert str(caught.value) == f"'SAC' has no attribute {name!r}; {line}"
    assert not hasattr(model, "anything")
    assert model.num_timesteps == 0


def test_an_argument_that_the_algorithm_has_is_its_own():
    assert softac.DDPG("Pendulum-v1", action_noise="ou", **SMALL).agent.config.action_noise == "ou"


def test_what_counts_as_steps_and_as_a_callback():
    seen = []

    class Counting:
        def __call__(self, *arguments):
            seen.append(arguments)

    model = SAC("Pendulum-v1", **SMALL).learn(1e1, callback=Counting())
    assert model.learn(np.int64(5), callback=lambda model, metrics, extra=None: None).num_timesteps == 15
    assert len(seen) == 1


def test_a_model_says_what_it_is():
    model = SAC("Pendulum-v1", seed=3, **SMALL)
    assert repr(model) == "SAC on Pendulum-v1, seed 3: 0 steps"
    assert str(model.learn(1_000)) == "SAC on Pendulum-v1, seed 3: 1,000 steps"
