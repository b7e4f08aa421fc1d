"""What scripts for Stable-Baselines3 say, and the line to write here instead."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from softac.config import fields
from softac.errors import ConfigError, nearest

NET = "write net_arch=[256, 256] as an argument of its own"
FOLDER = 'write model.learn(..., run_dir="runs/mine"): that folder gets the events for TensorBoard'
TOLD = "leave it out: `softac train` shows progress, and in Python callback=fn is called every 1,000 steps"
COUNTED = "leave it out: learn always goes on counting, and a new model begins at 0"
EVALUATED = "write run_dir=..., eval_freq=5_000 and n_eval_episodes=10: learn makes an environment to evaluate in"
REPLAYED = "leave it out: transitions are stored once, truncation and all; buffer_size says how many"
RELABELLED = 'leave it out, or for HerReplayBuffer write hindsight="future" and n_sampled_goal=4'

# Arguments of a model there, and what to write.
MADE = {
    "policy": "leave it out: the algorithm and the spaces say which networks there are",
    "policy_kwargs": NET,
    "verbose": TOLD,
    "tensorboard_log": FOLDER,
    "replay_buffer_class": RELABELLED,
    "replay_buffer_kwargs": RELABELLED,
    "optimize_memory_usage": REPLAYED,
    "use_sde": "leave it out: exploration is the policy's own noise, drawn anew at each step",
    "sde_sample_freq": "leave it out: exploration is the policy's own noise, drawn anew at each step",
    "use_sde_at_warmup": "leave it out: exploration is the policy's own noise, drawn anew at each step",
    "action_noise": "write action_noise_std=0.1, where the algorithm has it; `softac defaults ALGO` tells",
    "stats_window_size": "leave it out: rollout/ep_rew_mean is over the last 100 episodes",
    "monitor_wrapper": "leave it out: returns and lengths are counted without a wrapper",
}
# Arguments of learn there.
LEARNT = {
    "progress_bar": TOLD,
    "log_interval": "leave it out: metrics are logged every 1,000 steps",
    "tb_log_name": FOLDER,
    "reset_num_timesteps": COUNTED,
    "eval_env": EVALUATED,
    "eval_log_path": EVALUATED,
}
OF_LEARN = ("total_timesteps", "callback", "run_dir", "eval_freq", "n_eval_episodes", "save_freq")
# Members of a model there.
MEMBERS = {
    "get_env": "make one: gymnasium.make(model.source.name)",
    "env": "make one: gymnasium.make(model.source.name)",
    "set_env": "save, and load with the other: SAC.load(folder, env=other)",
    "save_replay_buffer": "model.save(folder) writes the replay, too",
    "load_replay_buffer": "SAC.load(folder) reads the replay, too",
    "replay_buffer": "it is model.training.memory, once there has been training",
    "policy": "the networks are parts of model.agent, for instance model.agent.actor",
    "actor": "it is model.agent.actor",
    "critic": "it is model.agent.critic",
    "logger": 'metrics go to callback=fn and, with run_dir="runs/mine", into files',
    "set_logger": 'metrics go to callback=fn and, with run_dir="runs/mine", into files',
    "get_parameters": "they are model.agent.tensors()",
    "set_parameters": "softac.learning.state.load_state_(model.agent, state) takes them",
    "set_random_seed": "give it when the model is made: SAC(env, seed=0)",
    "observation_space": "it is model.spaces.observation_space",
    "action_space": "it is model.spaces.action_space",
    "n_envs": "it is model.run.n_envs",
    "seed": "it is model.run.seed",
    "learning_rate": "it is model.agent.config.learning_rate",
}


def refuse_made(given: Iterable[str], agent_class: type[Any], name: str) -> None:
    """Refuse arguments that a model has in the other library and this algorithm does not.

    Raises:
        ConfigError: with the line to write.
    """
    own = fields(agent_class.Config) if hasattr(agent_class, "Config") else {}
    for argument in given:
        if argument in MADE and argument not in own:
            raise _refusal(name, argument, MADE[argument])


def refuse_learnt(given: Iterable[str]) -> None:
    """Refuse arguments that `learn` does not have.

    Raises:
        ConfigError: with the line to write.
    """
    for argument in given:
        if argument in LEARNT:
            raise _refusal("learn", argument, LEARNT[argument])
        raise ConfigError(
            f"learn was given {argument}={nearest(argument, OF_LEARN)}",
            f"expected {', '.join(OF_LEARN)}",
            "correct it",
        )


def _refusal(call: str, argument: str, line: str) -> ConfigError:
    return ConfigError(
        f"{call} was given {argument}=, as in Stable-Baselines3", "expected softac's arguments", line
    )


def refuse_policy(name: str, policy: Any, others: tuple[Any, ...]) -> None:
    """Refuse `SAC("MlpPolicy", env)`.

    Raises:
        ConfigError: with the line to write.
    """
    is_policy = isinstance(policy, str) and policy.endswith("Policy")
    if not others and not is_policy:
        return
    env = repr(others[0]) if others and isinstance(others[0], str) else "env"
    given = ", ".join(repr(x) if isinstance(x, str) else type(x).__name__ for x in (policy, *others))
    raise ConfigError(
        f"{name}({given}) was written",
        "expected the environment first and everything else by name: there is no policy to choose, as in "
        "Stable-Baselines3",
        f"write {name}({env})",
    )


def require_callback(callback: Callable[..., Any] | None) -> None:
    """Refuse what cannot be called with a model and its metrics, before training and not after 1,000 steps.

    Raises:
        ConfigError: with the line to write.
    """
    expected = "expected one function of the model and a dict of metrics, which may return False to stop"
    if callback is None:
        return
    if not callable(callback):
        what = f"a {type(callback).__name__}" + (f" of {len(callback)}" if isinstance(callback, list) else "")
        raise ConfigError(
            f"callback={what} was given",
            expected,
            "write def callback(model, metrics): ..., which calls the others; evaluations and checkpoints are "
            "made by learn itself (run_dir=, eval_freq=, save_freq=)",
        )
    try:
        inspect.signature(callback).bind(None, {})
    except TypeError as error:
        raise ConfigError(
            f"callback={getattr(callback, '__name__', callback)} cannot be called with two arguments ({error})",
            expected,
            "write def callback(model, metrics): ...",
        ) from None
    except ValueError:
        return  # some functions of other languages do not say what they take


def model(given: Any) -> Any:
    """What was given, if it is a model.

    Raises:
        ConfigError: with the line to write.
    """
    if not hasattr(given, "evaluate"):
        raise ConfigError(
            f"{given!r:.60} (of type {type(given).__name__}) was given as the model",
            "expected a softac.Model, such as softac.SAC",
            "load it first: SAC.load(folder)",
        )
    return given


def missing(kind: str, name: str) -> str:
    """The text of the `AttributeError` for a member that a model does not have."""
    there = f"; {MEMBERS[name]}" if name in MEMBERS else ""
    return f"{kind!r} has no attribute {name!r}{there}"
