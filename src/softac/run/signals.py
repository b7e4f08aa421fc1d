"""Stopping in order when the system or the user asks for it."""

import logging
import os
import signal
import threading
from types import FrameType, TracebackType

log = logging.getLogger("softac")


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


class Interruption:
    """While active, Ctrl-C asks the training to finish its step, save and stop, and is raised once it has.

    A second one is raised at once.

    Used as a context manager; it does nothing outside the main thread, or where the program handles Ctrl-C itself.
    Calling it answers whether to stop now.
    """

    def __init__(self) -> None:
        self.received = False
        self._active = False

    def __call__(self) -> bool:
        """Whether Ctrl-C has been pressed."""
        return self.received

    def __enter__(self) -> "Interruption":
        in_main = threading.current_thread() is threading.main_thread()
        self._active = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._active:
            signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.received and error is None:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        log.warning("interrupted: finishing this step; press Ctrl-C again to end at once")
