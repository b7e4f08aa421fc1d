"""What must not happen while a stranger's file is read, and what would make it happen."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Alarm:
    """Writes down what Python does that loading data must not do.

    An audit hook cannot be removed again; this one listens only where it is told to.
    """

    EVENTS = (
        "exec",
        "compile",
        "import",
        "pickle.find_class",
        "marshal.",
        "code.__new__",
        "ctypes.dlopen",
        "subprocess.",
        "os.exec",
        "os.fork",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.system",
        "pty.spawn",
        "socket.",
        "urllib.",
        "webbrowser.",
    )

    def __init__(self) -> None:
        self.heard: list[str] | None = None
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.heard is not None and event.startswith(self.EVENTS):
            self.heard.append(f"{event} {str(arguments)[:200]}")

    def listen(self, action: Callable[[], Any]) -> list[str]:
        """What is heard while `action` runs."""
        heard = self.heard = []
        try:
            action()
        finally:
            self.heard = None
        return heard


class Payload:
    """What a pickle of this does when it is loaded: it makes the file `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)
