"""The version of softac, and those of the packages it stands on; importing it takes no time."""

from functools import cache

__version__ = "0.1.0"


@cache
def installed_version(name: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # `softac --version` need not wait for it

    try:
        return version(name)
    except PackageNotFoundError:
        return None
