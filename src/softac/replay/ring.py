"""A preallocated ring of transitions."""

from pathlib import Path

import torch
from torch import Tensor

from softac.errors import ConfigError
from softac.types import EnvSpec, FloatArray, Row, Transition


class Replay:
    """The last `capacity` transitions, one float32 row each: obs | action | reward | discount | next obs.

    One table means one gather per batch, and a segment on disk is a slice of it. Rows are raw:
    nothing is normalised or clipped on the way in. Memory is reserved at once but only touched,
    hence only used, as rows arrive.

    Args:
        capacity: rows kept; the oldest is overwritten first.
        spec: sizes of observations and actions.
        device: where batches are delivered; the table itself lives in main memory.
    """

    def __init__(self, capacity: int, spec: EnvSpec, device: torch.device) -> None:
        o, a = spec.obs_dim, spec.action_dim
        self.capacity, self.device = capacity, device
        self.rows = torch.empty(capacity, row_width(spec), dtype=torch.float32)
        self.added = 0
        self._widths = [o, a, 1, 1, o]
        table = self.rows.numpy()
        self._obs, self._action = table[:, :o], table[:, o : o + a]
        self._reward, self._discount = table[:, o + a], table[:, o + a + 1]
        self._next_obs = table[:, o + a + 2 :]

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @property
    def actions(self) -> FloatArray:
        """The actions of the rows that hold something, `[len, A]`; a view."""
        return self._action[: len(self)]

    def add(self, row: Row) -> None:
        """Append one transition."""
        slot = self.added % self.capacity
        self._obs[slot] = row.obs
        self._action[slot] = row.action
        self._reward[slot] = row.reward
        self._discount[slot] = row.discount
        self._next_obs[slot] = row.next_obs
        self.added += 1

    def sample(self, batch_size: int, generator: torch.Generator) -> Transition:
        """`batch_size` rows drawn uniformly with replacement, as a `Transition` on the device."""
        index = torch.randint(len(self), (batch_size,), generator=generator)
        return self.unpack(self.rows[index].to(self.device))

    def unpack(self, rows: Tensor) -> Transition:
        """Views of `[B, width]` rows as a `Transition`."""
        obs, action, reward, discount, next_obs = torch.split(rows, self._widths, dim=1)
        return Transition(obs, action, reward.squeeze(1), discount.squeeze(1), next_obs)


def row_width(spec: EnvSpec) -> int:
    """Numbers in one row: two observations, an action, a reward and a discount."""
    return 2 * spec.obs_dim + spec.action_dim + 2


def forecast(rows: int, spec: EnvSpec) -> int:
    """The bytes that `rows` rows will fill."""
    return rows * row_width(spec) * 4


def require_memory(
    rows: int, spec: EnvSpec, available: int | None = None, *, rollout_envs: int | None = None
) -> None:
    """Refuse a replay, or a rollout, that will not fit.

    Args:
        rows: rows the run can reach: the lesser of the capacity and the budget.
        spec: sizes of observations and actions.
        available: free bytes; None: ask the operating system.
        rollout_envs: how many environments a rollout is made of; None: it is a replay.

    Raises:
        ConfigError: they do not fit into the memory that is free now.
    """
    needed = forecast(rows, spec)
    free = available_memory() if available is None else available
    if needed > free:
        fitting = int(0.9 * free) // (row_width(spec) * 4)
        what, lower = (
            ("replay", f"buffer_size to {fitting:,}")
            if rollout_envs is None
            else ("rollout", f"n_steps to {fitting // rollout_envs:,}")
        )
        raise ConfigError(
            f"the {what} needs {in_words(needed)} for {rows:,} transitions of {row_width(spec)} numbers; "
            f"expected at most the {in_words(free)} of memory free now; lower {lower} or free memory"
        )


def available_memory() -> int:
    """Bytes this process can still take: free memory, or less where a control group limits it."""
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) for line in meminfo if line.startswith("MemAvailable")) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text(encoding="ascii").strip()) != "max":
        available = min(available, int(text) - int(used.read_text(encoding="ascii")))
    return max(available, 0)


def in_words(n_bytes: int) -> str:
    """Bytes in words: 0.17 GB, 4.0 MB, 40 kB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= 0.1 * size:
            return f"{n_bytes / size:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
