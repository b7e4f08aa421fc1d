"""The machine that computes: where it is another, numbers may be added up in another order."""

import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

from softac._version import __version__, installed_version

PACKAGES = ("softac", "numpy", "gymnasium", "mujoco")  # that the answers of an environment depend on
CPUINFO = Path("/proc/cpuinfo")
KIND = ("cpu family", "model", "CPU implementer", "CPU part")  # on x86 processors, on those of Arm


@cache
def processor() -> str:
    """The processor, as Linux knows it.

    The name alone does not tell: a rented machine may call two generations "AMD EPYC", whose products of matrices
    are added up in different orders.
    """
    text = CPUINFO.read_text(errors="replace") if CPUINFO.is_file() else ""
    said = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.+?)\s*$", text, re.MULTILINE))
    name = said.get("model name", platform.machine())
    parts = [f"{part} {said[part]}" for part in KIND if part in said]
    return f"{name} ({', '.join(parts)})" if parts else name


def machine() -> dict[str, Any]:
    """What the answers of an environment depend on besides itself, and the name of the machine."""
    versions = {name: __version__ if name == "softac" else installed_version(name) for name in PACKAGES}
    return {**versions, "processor": processor(), "host": platform.node()}
