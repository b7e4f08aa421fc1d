"""Environments stepped in a thread, so that the caller can compute meanwhile."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from softac.envs.vector import EnvFault, Step, VectorEnv
from softac.types import FloatArray


class BesideVectorEnv:
    """A `VectorEnv` whose environments are stepped by a thread of their own, one after the other.

    `step` returns at once; the iterator waits.

    Args:
        envs: the environments; closed with it.
        prepare: called in the thread before anything else.
    """

    def __init__(self, envs: VectorEnv, prepare: Callable[[], object] = lambda: None) -> None:
        self.inner, self.num_envs, self.spaces, self.repeats = envs, envs.num_envs, envs.spaces, envs.repeats
        self._thread = ThreadPoolExecutor(1, "softac-envs", prepare)
        self._going: Future[None] | None = None
        self._ready: dict[int, tuple[bytes, Step]] = {}  # answers by environment, with the action they answer
        self._faults: dict[int, EnvFault] = {}

    def reset(self, index: int, seed: int) -> FloatArray:
        """Begin an episode in one environment; its first observation `[O]`."""
        self._settle()
        obs = self._thread.submit(self.inner.reset, index, seed).result()
        self._ready.pop(index, None)
        self._faults.pop(index, None)
        return obs

    def step(self, first: int, actions: FloatArray) -> Iterator[Step]:
        """Advance environments first, first + 1, ... by one action `[A]` in [-1, 1] each."""
        self._settle()
        self._going = self._thread.submit(self._step, first, actions.copy())
        return self._answers(range(first, first + len(actions)))

    def restart(self, index: int) -> None:
        """Put a new instance in the place of one; its next call must be `reset`."""
        self._settle()
        self._ready.pop(index, None)
        self._faults.pop(index, None)
        self._thread.submit(self.inner.restart, index).result()

    def close(self) -> None:
        """Close the environments and end the thread."""
        self._thread.shutdown()
        self.inner.close()

    def _step(self, first: int, actions: FloatArray) -> None:
        asked = [action.tobytes() for action in actions]
        kept = 0
        while kept < len(asked) and self._ready.get(first + kept, (b"",))[0] == asked[kept]:
            kept += 1
        i = first + kept
        if i in self._faults or kept == len(asked):
            return
        try:
            for step in self.inner.step(i, actions[kept:]):
                self._ready[i] = asked[i - first], step
                i += 1
        except EnvFault as fault:
            self._faults[i] = fault  # as without a thread: those behind it have not been stepped

    def _answers(self, indices: range) -> Iterator[Step]:
        self._settle()
        for i in indices:
            if i in self._faults:
                raise self._faults.pop(i)
            step = self._ready[i][1]
            if not (
                step.terminated or step.truncated
            ):  # an end is kept until the reset that follows has succeeded
                del self._ready[i]
            yield step

    def _settle(self) -> None:
        going, self._going = self._going, None
        if going is not None:
            going.result()
