"""softac: maximum-entropy reinforcement learning, with its theory as running code."""

from typing import TYPE_CHECKING, Any

from softac._version import __version__

if TYPE_CHECKING:
    from softac.algorithms import SAC as SAC
    from softac.model import Model as Model
    from softac.model import evaluate_policy as evaluate_policy

ALGORITHMS = ("SAC",)
__all__ = ["SAC", "Model", "__version__", "evaluate_policy"]


def __getattr__(name: str) -> Any:
    # PyTorch takes a second or two to import; `softac --help` must not wait for it.
    if name not in __all__:
        raise AttributeError(f"module 'softac' has no attribute {name!r}")
    from softac import algorithms, model

    return getattr(algorithms if name in ALGORITHMS else model, name)
