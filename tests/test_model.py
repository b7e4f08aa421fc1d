"""The model a user holds: predict, learn, callbacks, save and load, evaluation, and what it leaves untouched."""

import os
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from probes import SMALL, AsymmetricEnv, DictEnv, EarlyEndingEnv, SpaceEnv, TruncatingEnv, rows, trained, unit_box
from softac import DQN, PPO, SAC, Model, evaluate_policy
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.learning.state import state_of
from softac.run.numerics import flushes_denormals, numerics
from softac.run.seeding import Purpose, derive_seed
from tiny_agents import Remembering


def same(first: SAC, second: SAC) -> bool:
    """Whether two models have the same agent, replay and random streams, bit for bit."""
    tensors = [
        {**state_of(m.agent), **m.training.streams.state_dict(), **rows(m)._asdict()} for m in (first, second)
    ]
    return all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def recorder_of(kind, made):
    """A function that makes environments of `kind` and keeps them in `made`."""

    def make():
        made.append(kind())
        return made[-1]

    return make


# predict


def test_predict_one_and_many():
    model = trained(AsymmetricEnv, 20)
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    many, state = model.predict(obs, deterministic=True)
    assert state is None
    assert many.shape == (5, 3)
    assert many.dtype == np.float32
    for one, expected in zip(obs, many, strict=True):
        action, _ = model.predict(one, deterministic=True)
        assert action.shape == (3,)
        assert np.allclose(action, expected, atol=1e-6)
    assert (many >= AsymmetricEnv.action_space.low).all()
    assert (many <= AsymmetricEnv.action_space.high).all()
    assert np.array_equal(model.predict(obs.tolist(), deterministic=True)[0], many)


def test_predict_is_the_tanh_of_the_mean_in_the_bounds_of_the_environment():
    model = trained(AsymmetricEnv, 40)
    obs = np.array([0.3, -1.0, 2.0], np.float32)
    with torch.no_grad():
        unit = model.agent.actor(torch.from_numpy(obs)[None]).mean.tanh()[0].double().numpy()
    low, high = AsymmetricEnv.action_space.low, AsymmetricEnv.action_space.high
    expected = low + (unit + 1.0) / 2.0 * (high - low)
    assert np.allclose(model.predict(obs, deterministic=True)[0], expected, atol=1e-6)


def test_predict_samples_unless_told_otherwise():
    model = trained(AsymmetricEnv, 20)
    obs = np.zeros(3, np.float32)
    drawn = np.stack([model.predict(obs)[0] for _ in range(50)])
    assert (drawn.std(0) > 0.01).all()
    fixed = np.stack([model.predict(obs, deterministic=True)[0] for _ in range(5)])
    assert (fixed == fixed[0]).all()


def test_predict_dict_observations():
    model = trained(DictEnv, 40)
    env = DictEnv()
    observations = [env.reset(seed=k)[0] for k in range(3)]
    singles = np.stack([model.predict(obs, deterministic=True)[0] for obs in observations])
    batch = {
        "position": np.stack([o["position"] for o in observations]),
        "mode": np.stack([o["mode"] for o in observations]),
        "flags": np.stack([o["flags"] for o in observations]),
        "inner": {"speed": np.stack([o["inner"]["speed"] for o in observations])},
    }
    many, _ = model.predict(batch, deterministic=True)
    assert many.shape == (3, 2)
    assert np.allclose(many, singles, atol=1e-6)
    assert singles.std() > 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_predict_has_shape_and_dtype_of_the_action_space(dtype, shape):
    model = SAC(SpaceEnv(action_space=spaces.Box(-3.0, 5.0, shape, dtype)), **SMALL)
    for deterministic in (True, False):
        one, _ = model.predict(np.zeros(2, np.float32), deterministic=deterministic)
        assert model.spaces.action_space.contains(one)
        many, _ = model.predict(np.zeros((4, 2), np.float32), deterministic=deterministic)
        assert many.shape == (4, *shape)
        assert many.dtype == dtype


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (np.zeros(4), "an observation of shape (4,) where the space says (3,)"),
        (np.zeros((2, 4)), "an observation of shape (4,) where the space says (3,)"),
        (np.zeros((2, 2, 3)), "an observation of shape (2, 3) where the space says (3,)"),
        ("left", "an observation of shape () where the space says (3,)"),
        (None, "object of type 'NoneType' has no len()"),
    ],
)
def test_predict_refuses_what_does_not_fit(obs, said):
    model = SAC(AsymmetricEnv, **SMALL)
    with pytest.raises(ConfigError) as error:
        model.predict(obs)
    text = str(error.value)
    assert text.startswith("an observation that does not fit was given (")
    if not isinstance(obs, str | None):
        assert said in text
    assert text.endswith(
        "expected Box(-inf, inf, (3,), float32) or a batch of such; pass it as the environment returns it"
    )


def test_predicting_leaves_training_as_it_is():
    quiet, busy = SAC(EarlyEndingEnv, **SMALL), SAC(EarlyEndingEnv, **SMALL)
    for _ in range(3):
        quiet.learn(15)
        busy.learn(15)
        for _ in range(5):
            busy.predict(np.zeros(3))
    assert same(quiet, busy)


# learn


def test_learn_makes_exactly_so_many_steps_and_returns_itself():
    made = []
    model = SAC(recorder_of(EarlyEndingEnv, made), **SMALL)
    assert model.num_timesteps == 0
    assert model.learn(37) is model
    assert model.num_timesteps == made[0].steps == 37
    model.learn(5)
    assert model.num_timesteps == made[0].steps == 42


@pytest.mark.parametrize("total", [0, -5, 2.5, "10", None, float("nan")])
def test_learn_refuses_a_budget_that_is_none(total):
    with pytest.raises(ConfigError) as error:
        SAC(EarlyEndingEnv, **SMALL).learn(total)
    assert str(error.value) == (
        f"total_timesteps={total!r} was given; expected a whole number of environment steps, at least 1; "
        "give 100_000, say"
    )


def test_learn_writes_no_file_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(EarlyEndingEnv, 30)
    assert list(tmp_path.iterdir()) == []


def test_an_id_a_function_and_an_environment_learn_the_same():
    by_id = trained("Pendulum-v1", 40)
    by_function = trained(lambda: gym.make("Pendulum-v1"), 40)
    by_object = trained(gym.make("Pendulum-v1"), 40)
    assert same(by_id, by_function)
    assert same(by_id, by_object)


def test_arguments_reach_the_environment():
    made = []

    def make(length, ending="truncated"):
        made.append((length, ending))
        return TruncatingEnv(length)

    SAC(make, env_kwargs={"length": 7}, n_envs=2, **SMALL)
    assert made == [(7, "truncated")] * 2


# callbacks


def test_the_callback_is_called_every_1000_steps_and_at_the_end():
    seen = []

    def callback(model, metrics):
        seen.append((model.num_timesteps, metrics["time/total_timesteps"], metrics["train/n_updates"]))
        # No return: None goes on.

    model = SAC(EarlyEndingEnv, **SMALL | {"learning_starts": 1_900, "buffer_size": 5_000})
    assert model.learn(2_010, callback=callback) is model
    assert seen == [(1_000, 1_000, 0), (2_000, 2_000, 100), (2_010, 2_010, 110)]


def test_the_metrics_a_callback_gets():
    seen = []
    trained(TruncatingEnv, 30).learn(20, callback=lambda _, metrics: seen.append(metrics))
    (metrics,) = seen
    assert set(metrics) == {
        "rollout/ep_rew_mean", "rollout/ep_len_mean", "train/actor_loss", "train/critic_loss", "train/ent_coef",
        "train/ent_coef_loss", "train/entropy", "train/q_mean", "train/target_q_mean", "train/saturated_actions",
        "train/n_updates", "time/total_timesteps", "time/episodes", "time/fps", "time/time_elapsed",
    }  # fmt: skip
    assert metrics["rollout/ep_rew_mean"] == 1 + 2 + 3 + 4 + 5
    assert metrics["rollout/ep_len_mean"] == 5.0
    assert metrics["time/episodes"] == 10
    assert all(isinstance(value, float | int) for value in metrics.values())


def test_a_callback_that_returns_false_ends_the_training():
    model = SAC(EarlyEndingEnv, **SMALL | {"learning_starts": 5_000})
    model.learn(4_000, callback=lambda m, _: m.num_timesteps < 2_000)
    assert model.num_timesteps == 2_000
    model.learn(500)
    assert model.num_timesteps == 2_500


def test_an_error_in_a_callback_is_the_users_to_see():
    def callback(model, metrics):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        SAC(EarlyEndingEnv, **SMALL | {"learning_starts": 5_000}).learn(1_500, callback=callback)


# seeds and what is left untouched


def test_one_seed_repeats_and_two_differ():
    first = trained(EarlyEndingEnv, 40, seed=3)
    assert same(first, trained(EarlyEndingEnv, 40, seed=3))
    other = trained(EarlyEndingEnv, 40, seed=4)
    assert not torch.equal(first.agent.actor.parameters[0], other.agent.actor.parameters[0])
    assert not torch.equal(rows(first).action[:16], rows(other).action[:16])
    assert not torch.equal(rows(first).obs, rows(other).obs)
    for stream, state in first.training.streams.state_dict().items():
        assert not torch.equal(state, other.training.streams.state_dict()[stream])


def test_global_random_generators_are_neither_used_nor_moved(tmp_path):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    def work(folder):
        model = trained(EarlyEndingEnv, 40, n_envs=1).learn(20, run_dir=folder / "run", n_eval_episodes=1)
        model.predict(np.zeros(3))
        evaluate_policy(model, EarlyEndingEnv, n_eval_episodes=2, deterministic=False)
        model.save(folder / "model")
        return SAC.load(folder / "model", env=EarlyEndingEnv).learn(10)

    before = states()
    first = work(tmp_path / "a")
    assert states() == before
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert same(first, work(tmp_path / "b"))


@pytest.mark.parametrize("flushing", [False, True])
def test_processor_settings_come_back(flushing):
    torch.set_flush_denormal(flushing)
    try:
        seen = []

        def callback(model, metrics):
            # Evaluating in a callback must not end the settings of the training around it.
            evaluate_policy(model, EarlyEndingEnv, n_eval_episodes=1)
            seen.append(flushes_denormals())

        SAC(EarlyEndingEnv, **SMALL).learn(30, callback=callback)
        assert seen == [True]
        assert flushes_denormals() == flushing
        with numerics(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    finally:
        torch.set_flush_denormal(False)


def test_evaluating_logging_and_saving_leave_training_as_it_is(tmp_path):
    plain = trained(EarlyEndingEnv, 90)
    watched = SAC(EarlyEndingEnv, **SMALL)
    watched.learn(
        90,
        run_dir=tmp_path / "run",
        eval_freq=7,
        n_eval_episodes=2,
        save_freq=11,
        callback=lambda model, _: evaluate_policy(model, EarlyEndingEnv, 2, deterministic=False) and None,
    )
    assert same(plain, watched)


# evaluate_policy


def test_evaluation_begins_from_fixed_start_states():
    model, made = trained(EarlyEndingEnv, 20), []
    first = evaluate_policy(model, recorder_of(EarlyEndingEnv, made), n_eval_episodes=4, seed=5)
    assert made[0].seeds == [derive_seed(Purpose.EVALUATION_EPISODE, 5, k) for k in range(4)]
    assert evaluate_policy(model, EarlyEndingEnv, n_eval_episodes=4, seed=5) == first
    assert evaluate_policy(model, EarlyEndingEnv, n_eval_episodes=4, seed=6) != first
    other = trained(EarlyEndingEnv, 40, seed=9)  # another agent, the same start states
    evaluate_policy(other, recorder_of(EarlyEndingEnv, made), n_eval_episodes=4, seed=5)
    assert made[1].seeds == made[0].seeds
    assert not set(made[0].seeds) & set(other.life.envs.envs[0].seeds)


def test_evaluation_is_mean_and_std_of_undiscounted_returns():
    lengths = iter([2, 4, 3])

    class Lengths(TruncatingEnv):
        def reset(self, *, seed=None, options=None):
            self.length = next(lengths)
            return super().reset(seed=seed)

    model = trained(TruncatingEnv, 20, gamma=0.5)
    # returns 1 + 2 = 3, 1 + 2 + 3 + 4 = 10, 1 + 2 + 3 = 6; mean 19/3; variance (9 + 100 + 36)/3 - (19/3)^2
    mean, std = evaluate_policy(model, Lengths, n_eval_episodes=3)
    assert mean == pytest.approx(19 / 3)
    assert std == pytest.approx((145 / 3 - (19 / 3) ** 2) ** 0.5)


def test_evaluation_acts_with_the_mode_or_samples():
    model, made = trained(TruncatingEnv, 20), []
    make = recorder_of(TruncatingEnv, made)
    for deterministic in (True, True, False, False):
        evaluate_policy(model, make, n_eval_episodes=2, deterministic=deterministic)
    mode, again, sampled, repeated = (env.actions for env in made)
    assert mode == again
    assert sampled == repeated  # its noise comes from its seed
    assert mode != sampled
    env = TruncatingEnv()
    obs, _ = env.reset()
    assert mode[0] == model.predict(obs, deterministic=True)[0]


def test_environments_made_for_an_evaluation_are_closed_and_given_ones_are_not():
    model, made = trained(EarlyEndingEnv, 20), []
    evaluate_policy(model, recorder_of(EarlyEndingEnv, made), n_eval_episodes=1)
    assert made[0].closed == 1
    mine = EarlyEndingEnv()
    first = evaluate_policy(model, mine, n_eval_episodes=2)
    assert mine.closed == 0
    assert evaluate_policy(model, mine, n_eval_episodes=2) == first
    model.close()
    assert model.life.envs.envs[0].closed == 1


@pytest.mark.parametrize("wrap", [lambda env: env, gym.wrappers.RecordEpisodeStatistics])
def test_evaluating_in_the_training_environment_is_refused(wrap):
    env = EarlyEndingEnv()
    model = SAC(env, **SMALL).learn(20)
    with pytest.raises(ConfigError) as error:
        evaluate_policy(model, wrap(env))
    assert str(error.value) == (
        "the environment this model trains in was given; expected another, since evaluating would end its "
        "episode; pass its id, a function, or a second one"
    )
    assert env.resets == 1 + model.training.collector.episodes_done


def test_evaluating_in_other_spaces_is_refused():
    model = trained(EarlyEndingEnv, 20)
    with pytest.raises(ConfigError) as error:
        evaluate_policy(model, AsymmetricEnv)
    assert str(error.value) == (
        "AsymmetricEnv has other spaces than the environment of this model: actions are 3 numbers (3,) in [-1, "
        "2] x [0, 10] x [-3, -1] and were 2 numbers (2,) in [-1, 1]; expected what it was trained with; pass one "
        "that has the same"
    )


@pytest.mark.parametrize("episodes", [0, -1, 2.5])
def test_a_number_of_episodes_that_is_none(episodes):
    with pytest.raises(ConfigError) as error:
        evaluate_policy(trained(EarlyEndingEnv, 1), EarlyEndingEnv, n_eval_episodes=episodes)
    assert str(error.value) == (
        f"n_eval_episodes={episodes} was given; expected a whole number >= 1; give 10, say"
    )


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_that_cannot_be(seed):
    with pytest.raises(ConfigError) as error:
        evaluate_policy(trained(EarlyEndingEnv, 1), EarlyEndingEnv, seed=seed)
    assert str(error.value) == (
        f"seed={seed} was given; expected a whole number from 0 to 4294967295; give 0, say"
    )


def test_an_evaluation_environment_that_fails_is_located():
    class Fails(TruncatingEnv):
        def step(self, action):
            if self.resets == 2 and self.t == 1:
                raise ValueError("no such angle")
            return super().step(action)

    model = trained(TruncatingEnv, 20)
    with pytest.raises(EnvironmentFailed) as error:
        evaluate_policy(model, Fails, seed=3)
    start = derive_seed(Purpose.EVALUATION_EPISODE, 3, 1)
    assert str(error.value) == (
        f"the evaluation environment raised ValueError: no such angle in step at step 2 of the episode with seed "
        f"{start}; expected a finite answer of the declared shape; correct the environment"
    )


# save and load


def test_a_loaded_model_predicts_and_goes_on_the_same(tmp_path):
    model = trained(EarlyEndingEnv, 43, n_envs=2, n_steps=2)
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=EarlyEndingEnv)
    assert loaded.num_timesteps == 43
    obs = np.random.default_rng(0).normal(size=(8, 3))
    assert np.array_equal(model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0])
    assert loaded.description() == model.description()
    assert same(model.learn(40), loaded.learn(40))
    assert loaded.num_timesteps == 83


def test_a_model_that_has_not_learned_can_be_saved(tmp_path):
    SAC(EarlyEndingEnv, **SMALL).save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", env=EarlyEndingEnv)
    assert loaded.num_timesteps == 0
    assert same(loaded.learn(40), trained(EarlyEndingEnv, 40))


def test_saving_leaves_the_model_as_it_is_and_keeps_the_last_two(tmp_path):
    plain, saved = SAC(EarlyEndingEnv, **SMALL), SAC(EarlyEndingEnv, **SMALL)
    for _ in range(4):
        plain.learn(15)
        saved.learn(15).save(tmp_path / "model")
    assert same(plain, saved)
    assert sorted(p.name for p in (tmp_path / "model" / "checkpoints").iterdir()) == [
        "step-000000045",
        "step-000000060",
    ]


def test_a_registered_environment_is_found_again(tmp_path):
    trained("Pendulum-v1", 30).save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model")
    assert loaded.learn(5).num_timesteps == 35
    mean, _ = evaluate_policy(loaded, "Pendulum-v1", n_eval_episodes=1)
    assert -2_000.0 < mean < 0.0


def test_a_model_without_its_environment_predicts_and_says_what_it_lacks(tmp_path):
    model = trained(EarlyEndingEnv, 20)
    model.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model")
    obs = np.ones(3)
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    assert evaluate_policy(loaded, EarlyEndingEnv, n_eval_episodes=2) == evaluate_policy(
        model, EarlyEndingEnv, n_eval_episodes=2
    )
    with pytest.raises(ConfigError) as error:
        loaded.learn(5)
    text = str(error.value)
    assert text.startswith(
        "this model has no environment to learn in (it learned in EarlyEndingEnv, which has no id"
    )
    assert text.endswith("expected one; pass env= to load")


def test_loading_into_another_environment_is_refused(tmp_path):
    trained(EarlyEndingEnv, 20).save(tmp_path / "model")
    with pytest.raises(
        ConfigError, match=r"^AsymmetricEnv has other spaces than the environment of this model: act"
    ):
        SAC.load(tmp_path / "model", env=AsymmetricEnv)


def test_the_best_agent_can_only_act(tmp_path):
    trained(EarlyEndingEnv, 20).learn(20, run_dir=tmp_path / "run", n_eval_episodes=1)
    best = SAC.load(tmp_path / "run", env=EarlyEndingEnv, best=True)
    best.predict(np.zeros(3))
    with pytest.raises(ConfigError) as error:
        best.learn(5)
    assert str(error.value) == (
        "the agent of the best evaluation (step 40) was loaded, which can only act; expected a whole checkpoint "
        "to learn on from; load without best"
    )


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError) as error:
        SAC.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path} has no config.json in it; expected the folder of a run ")


def test_another_run_is_not_written_over(tmp_path):
    trained(EarlyEndingEnv, 20).learn(10, run_dir=tmp_path / "run", n_eval_episodes=0)
    with pytest.raises(ConfigError) as error:
        SAC(EarlyEndingEnv, **SMALL).learn(10, run_dir=tmp_path / "run")
    assert str(error.value) == (
        f"{tmp_path / 'run'} holds a run already; expected a new folder, or the one this model was loaded from; "
        "choose another, or continue that run with `softac resume`"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a\0b", "embedded null byte"),
        ("x" * 300, "File name too long"),
        ("~no-such-user/x", "Could not determine home directory."),
        (None, "expected str, bytes or os.PathLike object, not NoneType"),
    ],
)
def test_paths_that_can_be_none(path, reason):
    model = SAC(EarlyEndingEnv, **SMALL)
    text = f"the path {str(path)!r:.100} cannot be used ({reason}); expected that of a file or folder; correct it"
    calls = [lambda: model.save(path), lambda: SAC.load(path)]
    calls += [lambda: model.learn(10, run_dir=path)] * (path is not None)
    for call in calls:
        with pytest.raises(ConfigError) as error:
            call()
        assert str(error.value) == ConfigError(*text.split("; ")).__str__()


def test_a_run_stays_in_its_folder_wherever_the_process_goes(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    model = SAC(EarlyEndingEnv, **SMALL)

    def leave(_model, _row):
        os.chdir(other)

    model.learn(1_000, run_dir="run", n_eval_episodes=0, save_freq=500, callback=leave)
    assert list(other.iterdir()) == []
    assert SAC.load(tmp_path / "run", EarlyEndingEnv).num_timesteps == 1_000
    os.chdir(tmp_path)
    loaded = SAC.load("run", EarlyEndingEnv)
    os.chdir(other)
    assert loaded.learn(5).num_timesteps == 1_005


@pytest.mark.parametrize("between", [None, "other"])
def test_a_folder_that_lacks_steps_is_not_gone_on_with(between, tmp_path):
    model, run = SAC(EarlyEndingEnv, **SMALL), tmp_path / "run"
    model.learn(10, run_dir=run, n_eval_episodes=0).learn(10, run_dir=run, n_eval_episodes=0)
    model.learn(10, run_dir=between and tmp_path / between, n_eval_episodes=0)
    with pytest.raises(ConfigError) as error:
        model.learn(10, run_dir=run, n_eval_episodes=0)
    assert str(error.value) == (
        f"{run} holds an earlier state of this model, which has gone on without it; expected the same run_dir in "
        "every call of learn, so that the folder lacks no steps; choose a new folder, or load the model from that "
        "one and go on from there"
    )
    assert SAC.load(run, EarlyEndingEnv).learn(10, run_dir=run, n_eval_episodes=0).num_timesteps == 30


def test_a_folder_of_another_algorithm_is_refused(tmp_path):
    DQN("CartPole-v1", **SMALL).learn(20).save(tmp_path / "dqn")
    text = (
        f"{tmp_path / 'dqn'} holds a model of dqn; expected sac; load it with softac.Model.load, or with the "
        "class of its algorithm"
    )
    for env in (None, "CartPole-v1", "Pendulum-v1"):
        with pytest.raises(ConfigError) as error:
            SAC.load(tmp_path / "dqn", env=env)
        assert str(error.value) == text


def test_a_folder_of_an_agent_of_ones_own_is_refused_by_another_class(tmp_path):
    Model(Remembering, "Pendulum-v1").learn(20).save(tmp_path / "mine")
    with pytest.raises(ConfigError) as error:
        SAC.load(tmp_path / "mine", agent_class=Remembering)
    assert str(error.value) == (
        f"{tmp_path / 'mine'} holds a model of Remembering; expected sac; load it with softac.Model.load, or with "
        "the class of its algorithm"
    )
    with pytest.raises(CheckpointError) as error:
        SAC.load(tmp_path / "mine")
    assert str(error.value).startswith(
        f"{tmp_path / 'mine' / 'config.json'} cannot be used (unknown algorithm 'Remembering'"
    )


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (lambda: SAC("Pendulum-v1", **SMALL), {}),
        (lambda: DQN("CartPole-v1", **SMALL), {}),
        (lambda: PPO("CartPole-v1", n_steps=8, batch_size=8), {}),
        (lambda: Model(Remembering, "Pendulum-v1"), {"agent_class": Remembering}),
    ],
    ids=["sac", "dqn", "ppo", "my own"],
)
def test_model_loads_any_algorithm(make, arguments, tmp_path):
    model = make().learn(20)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", **arguments)
    assert type(loaded) is Model
    assert type(loaded.agent) is type(model.agent)
    assert loaded.description() == model.description()
    expected = state_of(model.learn(20).agent)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state_of(loaded.learn(20).agent).items())


def test_the_class_of_the_algorithm_loads_it(tmp_path):
    DQN("CartPole-v1", **SMALL).learn(20).save(tmp_path / "dqn")
    assert type(DQN.load(tmp_path / "dqn")) is DQN


# what a model cannot be made of


WRONG = {
    "one environment for several": (
        lambda: SAC(EarlyEndingEnv(), n_envs=2),
        "n_envs=2 was given with one environment object; expected an id or a function, which can be called for "
        "each; pass one",
    ),
    "arguments for an environment that exists": (
        lambda: SAC(EarlyEndingEnv(), env_kwargs={"length": 3}),
        "env_kwargs ['length'] were given with an environment that exists already; expected an id or a function; "
        "pass one, or make the environment with these arguments",
    ),
    "a function that makes something else": (
        lambda: SAC(lambda: 3),
        "3 (of type int) was returned by <lambda>; expected an id such as 'Pendulum-v1', a function ",
    ),
    "a misspelt environment": (
        lambda: SAC("Pendulun-v1"),
        "unknown environment 'Pendulun-v1'; did you mean 'Pendulum-v1'",
    ),
    "discrete actions": (
        lambda: SAC("CartPole-v1"),
        "CartPole-v1 has 2 discrete actions and sac chooses continuous ones (a Box); expected an algorithm for "
        "discrete actions; choose sac_discrete, dqn, reinforce, a2c or ppo",
    ),
    "continuous actions": (
        lambda: DQN("Pendulum-v1"),
        "Pendulum-v1 has continuous actions and dqn chooses discrete ones (Discrete); expected an algorithm for "
        "continuous actions; choose sac, sac_v, sac_mixture, crossq, xqc, gamid_pg, ddpg, td3, rebrac, "
        "reinforce, a2c or ppo",
    ),
    "a misspelt hyperparameter": (
        lambda: SAC("Pendulum-v1", lerning_rate=1e-3),
        "unknown hyperparameter 'lerning_rate'; did you mean 'learning_rate'",
    ),
    "a hyperparameter with another name here": (
        lambda: SAC("Pendulum-v1", alpha=0.2),
        "unknown hyperparameter 'alpha'; here it is called 'ent_coef'; `softac defaults` lists them with their "
        "meaning",
    ),
    "a batch larger than the replay": (
        lambda: SAC("Pendulum-v1", batch_size=100, buffer_size=50),
        "batch_size=100 was given with buffer_size=50; expected a batch no larger than the replay; lower "
        "batch_size or raise buffer_size",
    ),
    "a device that is none": (
        lambda: SAC("Pendulum-v1", device="tpu"),
        f"device='tpu' was given; expected auto, cpu, or a CUDA device that is present "
        f"({torch.cuda.device_count()} here); leave it out for auto",
    ),
    "a negative seed": (
        lambda: SAC("Pendulum-v1", seed=-1),
        "seed=-1 was given; expected a whole number >= 0 and < 4294967296; leave it out for the default 0",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_model_cannot_be_made_of(case):
    make, said = WRONG[case]
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(said)


def test_a_constructor_that_raises_is_named():
    def make(length):
        raise RuntimeError("no motor\nfound")

    with pytest.raises(EnvironmentFailed) as error:
        SAC(make, env_kwargs={"length": 3})
    assert str(error.value) == (
        "make could not be made with {'length': 3}: RuntimeError: no motor found; expected a Gymnasium "
        "environment; check --env-kwargs and the environment"
    )


def test_an_agent_of_ones_own():
    from softac.agents.sac import SACAgent

    class Mine(SACAgent):
        def act(self, obs, noise):
            return torch.full((len(obs), 2), 0.25)

    model = Model(Mine, EarlyEndingEnv, **SMALL).learn(30)
    assert model.predict(np.zeros(3))[0].tolist() == [0.25, 0.25]
    assert (rows(model).action[16:] == 0.25).all()
    assert model.description()["algorithm"] == "Mine"


class Incomplete:
    """Can act and nothing else."""

    actions = ("continuous",)

    def act(self, obs, noise):
        return noise


@pytest.mark.parametrize(
    ("agent_class", "missing"),
    [
        (
            Incomplete,
            "Incomplete has no Config, act_noise, on_policy, tensors, update_, update_noise",
        ),
        (
            dict,
            "dict has no Config, act, act_noise, actions, on_policy, tensors, update_, update_noise",
        ),
    ],
)
def test_a_class_that_is_no_agent_is_refused(agent_class, missing, tmp_path):
    text = f"{missing}; expected the members of softac.types.Agent; add them, then try softac.check_agent on it"
    with pytest.raises(ConfigError) as error:
        Model(agent_class, EarlyEndingEnv)
    assert str(error.value) == text
    Model(Remembering, "Pendulum-v1").save(tmp_path / "model")
    with pytest.raises(ConfigError) as error:
        Model.load(tmp_path / "model", agent_class=agent_class)
    assert str(error.value) == text


@pytest.mark.parametrize("member", ["Config", "actions", "on_policy", "act", "act_noise", "update_", "tensors"])
def test_a_class_that_lacks_one_member_is_refused(member):
    members = {name: value for cls in Remembering.__mro__[-2::-1] for name, value in vars(cls).items()}
    del members[member]
    forgetful = type("Forgetful", (), members)
    with pytest.raises(ConfigError) as error:
        Model(forgetful, EarlyEndingEnv)
    assert str(error.value) == (
        f"Forgetful has no {member}; expected the members of softac.types.Agent; add them, then try "
        "softac.check_agent on it"
    )


def test_small_worlds():
    # Batch of one, gamma at both ends, one hidden unit: nothing degenerates.
    for gamma in (0.0, 1.0):
        model = SAC(
            SpaceEnv(unit_box(1)), gamma=gamma, batch_size=1, net_arch=(1,), learning_starts=0, buffer_size=1
        )
        model.learn(30)
        assert all(p.isfinite().all() for p in model.agent.actor.parameters)
