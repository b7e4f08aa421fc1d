"""From an environment id, object or callable to a Gymnasium environment, quietly and carefully."""

import copy
import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled, UnregisteredEnv

from softac.envs.batched import BatchEnv
from softac.envs.foreign import home_of, refusal
from softac.envs.masks import observe_mask
from softac.envs.rendering import EGL_PACKAGES, has_display, has_egl
from softac.envs.vector import InProcessVectorEnv
from softac.errors import RAISED, ConfigError, EnvironmentFailed, missing_extra, nearest
from softac.words import clean, described

Env = gym.Env[Any, Any]
EnvLike = str | Env | BatchEnv | Callable[..., Env]

# Registered ids whose arguments name what is imported.
IMPORTERS = ("GymV21Environment-v0", "GymV26Environment-v0")

# A vector environment can be called, as any object of a class with __call__.
FOREIGN = (gym.vector.VectorEnv, list, tuple, EnvSpec)

log = logging.getLogger("softac.mujoco")


def make_env(
    env: EnvLike,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    render_mode: str | None = None,
    trust_module: bool = False,
) -> Env:
    """Make one environment.

    Args:
        env: a registered id such as "Pendulum-v1", a function that returns an environment, or an
            environment. Where it says which actions are allowed, its observations have that as a part
            (`softac.envs.masks`); otherwise an environment is returned as it is.
        env_kwargs: keyword arguments for the environment.
        render_mode: Gymnasium's render mode, e.g. "rgb_array".
        trust_module: accept "module:Env-v0", which imports the module. Pass True only for an id
            that the user typed, never for one read from a file.

    Raises:
        ConfigError: no such environment, or something it needs is not installed.
        EnvironmentFailed: its constructor raised.
    """
    kwargs = dict(env_kwargs or {})
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    if not isinstance(env, str | gym.Env) and (isinstance(env, FOREIGN) or not callable(env)):
        raise refusal(env, "was given")
    if isinstance(env, gym.Env):
        if kwargs:
            raise ConfigError(
                f"env_kwargs {sorted(kwargs)} were given with an environment that exists already",
                "expected an id or a function",
                "pass one, or make the environment with these arguments",
            )
        return observe_mask(env)
    if isinstance(env, str):
        _require_registered(env, trust_module)
    return observe_mask(_made(env, kwargs))


def _made(env: Any, kwargs: dict[str, Any]) -> Env:
    try:
        made = gym.make(env, disable_env_checker=True, **kwargs) if isinstance(env, str) else env(**kwargs)
    except (DependencyNotInstalled, ModuleNotFoundError) as error:
        if "mujoco" in str(error).lower():
            raise missing_extra(_name(env), "MuJoCo", "mujoco") from None
        raise ConfigError(
            f"{_name(env)} needs a package that is not installed ({clean(error)})",
            "expected it beside softac",
            "install it with pip",
        ) from None
    except RAISED as error:
        raise EnvironmentFailed(
            f"{_name(env)} could not be made with {kwargs or 'no arguments'}: {described(error)}",
            "expected a Gymnasium environment",
            "check --env-kwargs and the environment",
        ) from error
    if not isinstance(made, gym.Env):
        raise refusal(made, f"was returned by {_name(env)}")
    return made


@dataclass(frozen=True)
class EnvSource:
    """Where environments come from: an id, a function, or one environment that exists.

    Args:
        env: as for `make_env`.
        kwargs: keyword arguments of the environment; plain data, since they go into config.json.
        trust_module: as for `make_env`.
    """

    env: EnvLike
    kwargs: dict[str, Any]
    trust_module: bool = False

    @property
    def name(self) -> str:
        """The id, or the name of the function or class."""
        return _name(self.env)

    @property
    def registered(self) -> bool:
        """Whether the name alone is enough to make it again."""
        return isinstance(self.env, str)

    @property
    def repeatable(self) -> bool:
        """Whether a second environment can be made."""
        return isinstance(self.env, str) or (callable(self.env) and not isinstance(self.env, gym.Env))

    @property
    def time_limit(self) -> int | None:
        """The most steps of an episode, as far as Gymnasium has been told; None: it has not."""
        if isinstance(self.env, str):
            spec = gym.registry.get(self.env.rpartition(":")[2])
            given = self.kwargs.get("max_episode_steps", getattr(spec, "max_episode_steps", None))
        else:
            given = getattr(_spec(self.env), "max_episode_steps", None)
        return given if isinstance(given, int) and given > 0 else None

    def second(self) -> "EnvSource | None":
        """What makes a second environment like this one; None where that is not known."""
        if self.repeatable:
            return self
        spec = _spec(self.env)
        if spec is None:
            return None

        spec = copy.deepcopy(spec)
        spec.kwargs.pop("render_mode", None)  # nobody is to see it

        def again() -> Env:
            return gym.make(spec, disable_env_checker=True)

        return EnvSource(again, {})

    def make(self, render_mode: str | None = None) -> Env:
        """One environment; raises as `make_env`."""
        return make_env(self.env, self.kwargs, render_mode=render_mode, trust_module=self.trust_module)

    def vector(self, num_envs: int) -> InProcessVectorEnv:
        """Several, ready to be stepped.

        Raises:
            ConfigError: more than one of an environment that exists, or a space that cannot be
                learned on.
            EnvironmentFailed: the environment could not be made.
        """
        if num_envs > 1 and not self.repeatable:
            raise ConfigError(
                f"n_envs={num_envs} was given with one environment object",
                "expected an id or a function, which can be called for each",
                "pass one",
            )
        return InProcessVectorEnv(self.make, num_envs, renewable=self.repeatable)


def id_of(env: Any) -> str:
    """The id an environment is registered with; the name of its function or class where it has none."""
    return env if isinstance(env, str) else getattr(_spec(env), "id", _name(env))


def _spec(env: Any) -> Any:
    try:
        return getattr(env, "spec", None)
    except Exception:  # of a wrapper that cannot be described
        return None


def _require_registered(env_id: str, trust_module: bool) -> None:
    module, _, name = env_id.rpartition(":")
    if module:
        if not trust_module:
            raise ConfigError(
                f"{env_id!r} would import the module {module!r}",
                "expected an id without a module, or the word of whoever typed it, which a file cannot give",
                f"name it yourself if you trust it: {env_id!r} with trust_module=True, or --env {env_id}",
            )
        # A module in the folder one stands in, which an installed command would not find.
        sys.path.append(str(Path.cwd()))
        try:
            importlib.import_module(module)
        except RAISED as error:
            raise ConfigError(
                f"the module {module!r} of {env_id!r} cannot be imported ({clean(error) or described(error)})",
                "expected an installed module that registers the environment",
                "install it or correct its name",
            ) from None
        finally:
            sys.path.pop()
    if name in IMPORTERS and not trust_module:
        raise ConfigError(
            f"{name!r} would import an environment of another library",
            "expected an id that Gymnasium runs itself, or the word of whoever typed it, which a file cannot give",
            f"name it yourself if you trust it: {name!r} with trust_module=True, or --env {name}",
        )
    try:
        spec = gym.spec(name)
    except (UnregisteredEnv, gym.error.Error) as error:
        if home := home_of(name):
            raise ConfigError(
                f"the environment {env_id!r} is not registered",
                f"expected its package to be imported, which registers it: {home}",
                f"write {home}:{name}, and in Python trust_module=True, or import {home} before",
            ) from None
        raise ConfigError(
            f"unknown environment {env_id!r}{nearest(name, gym.registry) or f' ({clean(error)})'}",
            "expected a Gymnasium id such as Pendulum-v1, or module:Env-v0 for one of your own",
            "correct the id; where a package registers it when it is imported, write package:Env-v0",
        ) from None
    if "mujoco" in str(spec.entry_point):
        _quiet_mujoco()


def _quiet_mujoco() -> None:
    """Render without a display, and send the engine's warnings to `logging` instead of a file here."""
    if not has_display() and has_egl():  # without its library, mujoco could not even be imported
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ImportError:
        return  # gym.make says what is missing
    except AttributeError as error:
        chosen = os.environ.get("MUJOCO_GL")
        raise ConfigError(
            f"MuJoCo cannot be imported with MUJOCO_GL={chosen} ({clean(error)})",
            "expected the libraries to draw with",
            f"install them with `{EGL_PACKAGES}`, or unset MUJOCO_GL",
        ) from None
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_on_mujoco_warning)


def _on_mujoco_warning(message: str) -> None:
    # About half_cheetah.xml, which comes with Gymnasium: nothing its users can act on.
    if "settotalmass" not in message:
        log.warning("MuJoCo: %s", message)


def _name(env: Any) -> str:
    return env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
