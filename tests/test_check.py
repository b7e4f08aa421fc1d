"""`softac check`: each finding on an environment that has just this ailment, none on a healthy one."""

import argparse
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from choosing import Lamps, Locks
from probes import AsymmetricEnv, BanditEnv, CountingEnv, DictEnv, Probe, TerminatingEnv
from softac.cli import check
from softac.cli.main import main
from softac.errors import ConfigError, EnvironmentFailed
from softac.examine.environment import check_env
from softac.replay.ring import forecast
from softac.types import EnvSpec


class WalkEnv(Probe):
    """A healthy environment: a walk that the action moves, cut off after 20 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.state = self.np_random.normal(size=2)
        return super().reset(seed=seed)

    def step(self, action):
        self.state = 0.9 * self.state + 0.2 * self.np_random.normal(size=2) + 0.1 * float(np.ravel(action)[0])
        return super().step(action)

    def observe(self):
        return self.state.copy()

    def reward(self, action):
        return float(-np.square(self.state).sum())

    def ending(self):
        return False, self.t >= 20


def sick(**methods):
    """A WalkEnv with other methods or spaces."""
    return type("SickEnv", (WalkEnv,), methods)


def findings(env, steps=200, **arguments):
    return check_env(env, steps=steps, **arguments)


def texts(env, level="note", steps=200):
    return [f.what for f in findings(env, steps) if f.level == level]


def the_note(env, steps=200):
    """The only finding that is not ok."""
    (finding,) = [f for f in findings(env, steps) if f.level != "ok"]
    assert (finding.level, finding.exit_code) == ("note", 0)
    assert finding.remedy
    assert finding.why
    return finding


def test_a_healthy_environment():
    found = findings(WalkEnv)
    assert {f.level for f in found} == {"ok"}
    whats = [f.what for f in found]
    assert whats[0] == "observations: Box (2,) float64, read as 2 numbers"
    assert whats[1] == "actions: 1 coordinate, float32, in [-1, 1]"
    assert whats[2].startswith("deterministic: 20 steps with the same seed and actions repeated exactly")
    assert whats[3] == "episodes: 10 episodes of 20 steps, ended 10 by truncation"
    assert whats[4].startswith("rewards: [-")
    assert whats[5] == "memory: a replay of 1,000,000 transitions takes 0.03 GB (28 bytes each)"
    assert whats[6].startswith("speed: ")
    assert " steps/s alone, so 1,000,000 steps take " in whats[6]


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "HalfCheetah-v5"])
def test_healthy_tasks_of_gymnasium(env_id):
    assert {f.level for f in findings(env_id, 300)} == {"ok"}


def test_the_forecast_counts_what_a_replay_row_holds():
    assert forecast(1, EnvSpec(obs_dim=2, action_dim=1)) == 28


def test_how_a_dict_is_flattened():
    first = findings(DictEnv)[0]
    assert first.what == (
        "observations: a Dict, read as 8 numbers, sorted by key: flags MultiBinary (2,) -> 2, "
        "inner.speed Box () float32 -> 1, mode Discrete(3) as one-hot -> 3, position Box (2,) float64 -> 2"
    )


# --------------------------------------------------------------------------- repetition


def test_a_reset_that_ignores_its_seed():
    def reset(self, *, seed=None, options=None):
        return WalkEnv.reset(self, seed=None)

    note = the_note(sick(reset=reset))
    assert note.what.startswith("reset(seed=...) is not honoured: the same seed gave two different first obs")
    assert "super().reset(seed=seed)" in note.remedy
    assert "not bit for bit" in note.why


def test_steps_that_do_not_repeat():
    strange = np.random.default_rng()

    def observe(self):
        return self.state + (strange.normal() if self.t >= 3 else 0.0)

    note = the_note(sick(observe=observe))
    assert note.what == "it does not repeat itself: the same seed and actions gave something else after 3 steps"
    assert "self.np_random" in note.remedy


def test_something_carried_over_from_earlier_episodes():
    def observe(self):
        return self.state + 0.001 * min(self.resets, 5)

    note = the_note(sick(observe=observe))
    assert note.what.startswith("it carries something from one episode into the next: a new environment answered")
    assert note.remedy == "set everything back in reset"


def test_an_environment_object_is_left_open():
    env = WalkEnv()
    assert {f.level for f in findings(env)} == {"ok"}
    assert env.closed == 0


def test_environments_made_here_are_closed():
    made = []

    def make():
        made.append(WalkEnv())
        return made[-1]

    findings(make)
    assert [env.closed for env in made] == [1, 1]


def test_one_start_state():
    def reset(self, *, seed=None, options=None):
        answer = WalkEnv.reset(self, seed=seed)
        self.state[:] = 0.5
        return self.state.copy(), answer[1]

    note = the_note(sick(reset=reset))
    assert note.what == "every seed gives the same first observation"


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: np.random.seed(0), "np.random"),  # noqa: NPY002
        (lambda: random.random(), "random"),  # noqa: S311
        (lambda: torch.manual_seed(0), "torch"),
    ],
)
def test_the_generators_of_the_process(draw, name):
    def reset(self, *, seed=None, options=None):
        draw()
        return WalkEnv.reset(self, seed=seed)

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    note = the_note(sick(reset=reset))
    assert note.what == f"it draws from or reseeds the process's own random generators ({name})"
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


# --------------------------------------------------------------------------- episodes


def test_episodes_that_never_end():
    note = the_note(sick(ending=lambda self: (False, False)))
    assert note.what == "no episode ended within 200 random steps, and there is no time limit"
    assert "TimeLimit" in note.remedy


def test_a_time_limit_beyond_the_steps():
    def make():
        return gym.wrappers.TimeLimit(sick(ending=lambda self: (False, False))(), 5_000)

    assert "episodes: none ended within 200 steps; the time limit is 5,000" in texts(make, "ok")
    assert not texts(make)


def test_a_time_limit_told_as_termination():
    note = the_note(sick(ending=lambda self: (self.t >= 20, False)))
    assert note.what == "every episode terminated after exactly 20 steps, which looks like a time limit"
    assert "truncated=True" in note.remedy


def test_both_ends_and_lengths():
    def ending(self):
        return bool(self.np_random.random() < 0.1), self.t >= 20

    (line,) = [t for t in texts(sick(ending=ending), "ok") if t.startswith("episodes")]
    assert " steps, ended " in line
    assert " by termination and " in line


# --------------------------------------------------------------------------- rewards


@pytest.mark.parametrize(
    ("reward", "what"),
    [
        (lambda self, action: 1.0, "the reward was 1 in all 200 random steps"),
        (lambda self, action: float(self.t == 20), "the reward was 0 in 95.0% of the random steps: it is sparse"),
        (lambda self, action: 1000.0 * self.state[0], "rewards are very large: 1 step in 100 exceeds"),
        (lambda self, action: 1e-4 * self.state[0], "rewards are tiny: 99 steps in 100 are within"),
    ],
)
def test_rewards(reward, what):
    note = the_note(sick(reward=reward))
    assert note.what.startswith(what)


# --------------------------------------------------------------------------- observations


@pytest.mark.parametrize(
    ("observe", "what"),
    [
        (lambda s: np.array([s[0], 3.0]), "1 coordinate of the observation never changed: 1"),
        (lambda s: np.array([s[0], 1e4 * s[1]]), "observation 1 reaches "),
        (lambda s: np.array([0.001 * s[0], 10.0 * s[1]]), "coordinates differ in scale: 1 reaches "),
        (lambda s: s.astype(np.float32), "the observation is float32 where the space says float64"),
    ],
)
def test_observations(observe, what):
    note = the_note(sick(observe=lambda self: observe(self.state)))
    assert note.what.startswith(what)


def test_observations_outside_their_bounds():
    space = spaces.Box(-0.1, 0.1, (2,), np.float64)
    note = the_note(sick(observation_space=space))
    assert note.what.startswith("observation 0, 1 leaves its declared bounds [-0.1, 0.1]: it was in [-")


def test_names_in_a_dict():
    class Env(DictEnv):
        def observe(self):
            obs = super().observe()
            return obs and obs | {"inner": {"speed": np.array(2.0, np.float32)}}

    assert "1 coordinate of the observation never changed: inner.speed[0]" in texts(Env)


def test_the_same_array_each_time():
    def observe(self):
        self.array = getattr(self, "array", np.zeros(2))
        self.array[:] = self.state
        return self.array

    note = the_note(sick(observe=observe))
    assert note.what == "successive observations lie in the same array, which each step overwrites"
    assert note.remedy.startswith("nothing for softac, which copies them")


def test_several_at_once():
    assert {t.split()[0] for t in texts(CountingEnv)} == {"successive", "reset(seed=...)"}
    assert any("looks like a time limit" in t for t in texts(TerminatingEnv))
    assert any("never changed" in t for t in texts(BanditEnv))


# --------------------------------------------------------------------------- actions


def test_asymmetric_actions():
    lines = texts(AsymmetricEnv, "ok")
    assert "actions: 3 coordinates, float32, in [-3, 10], each with bounds of its own" in lines
    assert any(
        line.startswith(
            "bounds of action 0, 1, 2 are not symmetric: they are mapped from [-1, 1], so an untrained"
        )
        and line.endswith("(0.5 for action 0)")
        for line in lines
    )


@pytest.mark.parametrize(
    ("low", "high", "what"),
    [
        ([-1, 0.5], [1, 0.5], "action 1 cannot move: its bounds are equal"),
        ([-1, -50], [1, 50], "action 1 reaches [-50, 50]"),
    ],
)
def test_action_bounds(low, high, what):
    space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    assert the_note(sick(action_space=space)).what == what


def test_actions_of_several_dimensions():
    space = spaces.Box(-1.0, 1.0, (2, 3), np.float64)
    assert "actions: 6 coordinates of shape (2, 3), float64, in [-1, 1]" in texts(sick(action_space=space), "ok")


def test_discrete_actions():
    env = sick(action_space=spaces.Discrete(3, start=-1))()
    found = findings(env)
    assert {f.level for f in found} == {"ok"}
    assert found[1].what == "actions: 3 discrete choices"
    assert {int(action) for action in env.actions} == {-1, 0, 1}


def test_random_actions_are_drawn_for_each_coordinate():
    env = AsymmetricEnv()
    findings(env)
    low, high = AsymmetricEnv.action_space.low, AsymmetricEnv.action_space.high
    unit = (np.array(env.actions) - low) / (high - low)
    assert abs(np.corrcoef(unit.T) - np.eye(3)).max() < 0.2
    assert abs(unit.mean(0) - 0.5).max() < 0.1


# --------------------------------------------------------------------------- what cannot be trained on


@pytest.mark.parametrize(
    ("spaces_", "what", "remedy"),
    [
        (
            {"action_space": spaces.Dict(a=spaces.Discrete(3))},
            "actions are of kind Dict",
            "flatten them with a gym",
        ),
        (
            {"action_space": spaces.Tuple([spaces.Discrete(3)])},
            "actions are of kind Tuple",
            "flatten them with a gym",
        ),
        ({"action_space": spaces.Box(-np.inf, np.inf, (1,))}, "actions are bounded by inf", "declare useful bou"),
        (
            {"observation_space": spaces.Box(0, 255, (1, 4, 64, 64, 3), np.uint8)},
            "observations are pixels of 5",
            "stack along",
        ),
        ({"observation_space": spaces.Text(5)}, "observations are of kind Text", "turn them into a Box"),
    ],
)
def test_unsupported_spaces(spaces_, what, remedy):
    (finding,) = findings(sick(**spaces_))
    assert (finding.level, finding.exit_code) == ("problem", 2)
    assert finding.what.startswith(what)
    assert finding.remedy.startswith(remedy)
    assert finding.why.startswith("expected ")


def at_step_7(value):
    def observe(self):
        return value if self.t == 7 else self.state.copy()

    return sick(observe=observe)


@pytest.mark.parametrize(
    ("env", "what"),
    [
        (
            at_step_7(np.array([0.0, np.nan])),
            "the environment returned an observation with nan in it, at index 1 at step 7 of",
        ),
        (
            at_step_7(np.zeros(3)),
            "the environment returned an observation that does not fit its space: Va",
        ),
        (
            sick(reward=lambda self, action: np.inf),
            "the environment returned the reward inf, not a finite float32",
        ),
        (
            sick(reward=lambda self, action: 1 / 0),
            "the environment raised ZeroDivisionError: division by zero in s",
        ),
        (
            sick(reset=lambda self, **_: 1 / 0),
            "the environment raised ZeroDivisionError: division by zero in reset",
        ),
        (
            sick(step=lambda self, action: (1, 2)),
            "the environment returned 2 values from step, not 5 at step 1 of 2",
        ),
    ],
)
def test_environments_that_fail(env, what):
    finding = findings(env)[-1]
    assert (finding.level, finding.exit_code) == ("problem", 4)
    assert finding.what.startswith(what)
    assert finding.remedy == "correct the environment, then check it again"


def test_constructors_that_fail():
    with pytest.raises(EnvironmentFailed, match=r"SickEnv could not be made .*; expected .*; check"):
        findings(sick(__init__=lambda self: 1 / 0))


# --------------------------------------------------------------------------- the command


def test_the_command(capsys):
    assert main(["check", "Pendulum-v1", "--steps", "50"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Pendulum-v1, 50 random steps"
    assert all(line.startswith("ok      ") for line in out[1:-1])
    assert out[-1] == "softac can learn here: softac train ALGO Pendulum-v1, with an ALGO of `softac list`"


def test_the_command_on_discrete_actions(capsys):
    assert main(["check", "CartPole-v1", "--steps", "300"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "ok      actions: 2 discrete choices"
    assert out[-1].startswith(
        "softac can learn here: softac train ALGO CartPole-v1, with an ALGO of `softac list`"
    )


@pytest.fixture
def choices():
    gym.register("Choices-v0", lambda: Locks(spaces.MultiDiscrete([2, 3])))
    gym.register("Masked-v0", Lamps)
    gym.register("Compound-v0", sick(action_space=spaces.Dict(a=spaces.Discrete(3))))
    yield
    for name in ("Choices-v0", "Masked-v0", "Compound-v0"):
        del gym.registry[name]


@pytest.mark.usefixtures("choices")
def test_the_command_on_several_choices_at_once_and_on_masks(capsys):
    assert main(["check", "Choices-v0", "--steps", "50"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "ok      actions: 2 choices at once, of 2, 3"
    assert main(["check", "Masked-v0", "--steps", "50"]) == 0  # it raises where a forbidden action comes
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "ok      actions: 5 discrete choices; which are allowed is said by its masks"


def test_the_command_on_an_environment_that_fails(capsys):
    gym.register("Failing-v0", sick(reward=lambda self, action: float("nan")))
    try:
        assert main(["check", "Failing-v0"]) == 4
    finally:
        del gym.registry["Failing-v0"]
    assert "returned the reward nan" in capsys.readouterr().out


def test_notes_are_counted(capsys):
    assert main(["check", "Pendulum-v1", "--steps", "30", "--env-kwargs", "g=9.8"]) == 0
    gym.register("Endless-v0", sick(ending=lambda self: (False, False)))
    try:
        assert main(["check", "Endless-v0"]) == 0
    finally:
        del gym.registry["Endless-v0"]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "softac can learn here: softac train ALGO Endless-v0, with an ALGO of `softac list` (1 note)"
    )


@pytest.mark.usefixtures("choices")
def test_on_a_terminal_the_reasons_have_lines_of_their_own(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    args = argparse.Namespace(env="Compound-v0", env_kwargs=[], steps="5")
    assert check.run(args) == 2
    out = capsys.readouterr().out
    assert "why: expected a Box of finite bounds" in out
    assert "to do: flatten them with a gymnasium.ActionWrapper" in out
    assert "\x1b[1;31mproblem" in out


@pytest.mark.parametrize("steps", ["0", "-1", "many", "1.5"])
def test_a_number_of_steps_that_is_none(steps, capsys):
    assert main(["check", "Pendulum-v1", f"--steps={steps}"]) == 2
    assert capsys.readouterr().err == (
        f"softac: --steps {steps} was given; expected a whole number, at least 1; give 1000, say\n"
    )
    with pytest.raises(ConfigError, match=r"steps=0 was given; expected at least 1; give 1000, say"):
        check_env("Pendulum-v1", steps=0)


def test_an_unknown_environment(capsys):
    assert main(["check", "Pendulun-v1"]) == 2
    assert "unknown environment 'Pendulun-v1'; did you mean 'Pendulum-v1' or " in capsys.readouterr().err
