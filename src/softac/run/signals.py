"""Stopping in order when the system or the user asks for it."""

import os
import signal
from types import FrameType, TracebackType


class StopSignals:
    """While active, SIGINT and SIGTERM ask the run to save and stop; a second one ends it at once.

    Used as a context manager in the main thread. Calling it answers whether to stop now.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self) -> bool:
        """Whether a signal has arrived."""
        return self.received is not None

    def __enter__(self) -> "StopSignals":
        self._before = {s: signal.signal(s, self._on_signal) for s in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
