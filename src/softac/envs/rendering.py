"""What drawing needs of the machine: a display, or EGL to draw without one."""

import ctypes
import os
import sys
import warnings
from typing import Any

import gymnasium as gym

from softac.errors import RAISED, ConfigError, EnvironmentFailed
from softac.words import described

EGL_PACKAGES = "apt install libegl1 libegl-mesa0 libgl1-mesa-dri"


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def has_egl() -> bool:
    """Whether the library is there with which MuJoCo draws without a display."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    return True


def draw_unseen() -> None:
    """Let pygame draw where there is no display, without a word about it."""
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def require_render_mode(name: str, env: gym.Env[Any, Any], mode: str) -> None:
    """Refuse an environment that cannot be drawn this way.

    Args:
        name: what to call it.
        env: made without a render mode.
        mode: "human" or "rgb_array"; Gymnasium opens a window itself for one that only offers the latter.

    Raises:
        ConfigError: it does not offer the mode.
    """
    modes = list(env.metadata.get("render_modes") or [])
    if "rgb_array" not in modes and mode not in modes:
        offered = ", ".join(map(str, modes)) or "none"
        raise ConfigError(
            f"{name} does not draw itself (its render modes: {offered})",
            "expected rgb_array among them",
            "add it to its metadata and its render method, or use `softac eval` for the returns alone",
        )


def draw(name: str, env: gym.Env[Any, Any]) -> Any:
    """What `env.render()` returns: a picture, if its render mode is "rgb_array".

    Raises:
        ConfigError: MuJoCo cannot draw on this machine; the message has the packages.
        EnvironmentFailed: the environment raised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GLFW's lines come before an error that says as much
            return env.render()
    except RAISED as error:
        what = described(error)
        if not has_display() and any("mujoco" in base.__module__ for base in type(env.unwrapped).__mro__):
            raise ConfigError(
                f"MuJoCo cannot draw {name} without a display here ({what})",
                "expected the EGL libraries and MUJOCO_GL=egl or unset",
                f"install them with `{EGL_PACKAGES}`",
            ) from error
        raise EnvironmentFailed(
            f"{name} raised {what} in render",
            "expected a picture",
            "correct the environment",
        ) from error


def frame_rate(env: gym.Env[Any, Any]) -> int:
    """Pictures per second as the environment states them; 30 where it does not."""
    return max(1, round(float(env.metadata.get("render_fps") or 30)))
