"""Learning from data alone: the part of the collector where no environment is stepped."""

from typing import Any

import numpy as np

from softac.run.collector import Choose, Collector
from softac.types import FloatArray


class Still(Collector):
    """Counts steps, of which each stands for one of an environment: so many updates are due."""

    def begin(self, index: int = 0) -> None:
        """There are no episodes."""

    def collect(self, choose: Choose, budget: int) -> None:
        """One step more."""
        del choose, budget
        self.steps += 1

    def state(self) -> tuple[dict[str, Any], FloatArray]:
        """The number of steps; no actions."""
        return {"steps": self.steps}, np.zeros((0, self.actions.shape[1]), np.float32)

    def load_state(self, plain: dict[str, Any], actions: FloatArray) -> list[str]:
        """Go on from there."""
        if len(actions):
            raise ValueError("actions of a run that makes none")
        self.steps = int(plain["steps"])
        return []
