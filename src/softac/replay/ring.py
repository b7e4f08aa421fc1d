"""A preallocated ring of transitions that keeps each observation once."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softac.errors import ConfigError
from softac.files import npy_bytes, parse_npy
from softac.replay.planes import new_bytes, packed_width
from softac.types import EnvSpec, FloatArray, Row, SoftRow, SoftTransition, Transition

# A row waits so long for the one that begins with its next obs, counted in rows; in a run that one comes
# n_envs * n_steps rows later or, as other episodes end, up to twice as many.
REACH = 4_096


class Replay:
    """The last `capacity` transitions, raw: nothing is normalised or clipped on the way in.

    One float32 table holds obs | action | reward | discount in each row. The observation that
    follows is as a rule the one of a later row, so a row has a pointer to it instead. Where it is
    not, as at the end of an episode and for the youngest rows, it lies in a spare row at the
    table's end until it is needed no more. Observations are recognised by their bytes, so what is
    sampled is what was added, bit for bit, whoever adds it.

    Memory is reserved at once, for the worst case of a spare row for each row, but only touched,
    hence only used, as rows arrive.

    Args:
        capacity: rows kept; the oldest is overwritten first.
        spec: sizes of observations and actions.
        device: where batches are delivered; the table itself lives in main memory.
        bonus: whether the entropy bonuses of n steps are kept, and batches are of class SoftTransition.
    """

    def __init__(self, capacity: int, spec: EnvSpec, device: torch.device, bonus: bool = False) -> None:
        o, a = spec.obs_dim, spec.action_dim
        self.capacity, self.spec, self.device, self.bonus = capacity, spec, device, bonus
        self.added, self.bytes_a_row = 0, forecast(1, spec)
        self.rows = torch.empty(2 * capacity, o + a + 2, dtype=torch.float32)
        self._table: FloatArray = self.rows.numpy()
        self._obs, self._action = self._table[:, :o], self._table[:, o : o + a]
        self._reward, self._discount = self._table[:, o + a], self._table[:, o + a + 1]
        self._bonus = torch.zeros(capacity if bonus else 0, dtype=torch.float32).numpy()
        self._next = torch.empty(capacity, dtype=torch.int64).numpy()  # the table's row with the next obs
        self._spared = 0  # spare rows ever used; they begin at `capacity`
        self._free: list[int] = []  # those of them that hold nothing now
        # The next obs of rows that an observation to come may equal, and the numbers of those rows.
        self._waiting: dict[bytes, list[int]] = {}
        self._reach = min(capacity, REACH)
        self._make_batch(0)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    @property
    def actions(self) -> FloatArray:
        """The actions of the rows that hold something, `[len, A]`; a view."""
        return self._action[: len(self)]

    @property
    def nbytes(self) -> int:
        """Bytes of the memory touched so far: rows, spare rows and pointers."""
        return (len(self) + self._spared) * self._table.strides[0] + len(self) * self._next.itemsize

    @property
    def drawn(self) -> Tensor:
        """The numbers of the rows that `sample` gave last, `[B]`, as long as none has been overwritten."""
        return self._rows

    @property
    def lent(self) -> Tensor:
        """The memory that the batches of `sample` are views of, unless they were moved to another device."""
        return self._drawn

    def add(self, row: Row | SoftRow) -> None:
        """Append one transition."""
        slot = self.added % self.capacity
        if self.added >= self._reach:
            self._give_up(self.added - self._reach)
        if self.added >= self.capacity and self._next[slot] >= self.capacity:
            self._vacate(int(self._next[slot]))
        self._obs[slot] = row.obs
        self._action[slot] = row.action
        self._reward[slot] = row.reward
        self._discount[slot] = row.discount
        if isinstance(row, SoftRow):
            self._bonus[slot] = row.bonus
        self._link(self._obs[slot].tobytes(), slot)
        place = self._spare()
        self._obs[place] = row.next_obs
        self._next[slot] = place
        if not row.ended:
            self._waiting.setdefault(self._obs[place].tobytes(), []).append(self.added)
        self.added += 1

    def sample(self, batch_size: int, generator: torch.Generator) -> Transition | SoftTransition:
        """`batch_size` rows drawn uniformly with replacement, as one batch on the device.

        On the CPU its tensors are views of memory that the next call overwrites; clone what is to be kept.
        """
        if batch_size != len(self._rows):
            self._make_batch(batch_size)
        torch.randint(len(self), (batch_size,), generator=generator, out=self._rows)
        # "clip" since "raise" goes through a temporary; no index is out of range.
        self._next.take(self._rows.numpy(), 0, self._next_rows, "clip")
        self._table.take(self._drawn_rows, 0, self._drawn_numbers, "clip")
        if self.bonus:
            self._bonus.take(self._rows.numpy(), 0, self._drawn_bonus, "clip")
        return self._batch if self.device.type == "cpu" else self._views(self._drawn.to(self.device))

    def explicit_rows(self, first: int, stop: int) -> FloatArray:
        """Copies of the rows number `first` to `stop - 1` with their next obs at the end, `[n, 2 O + A + 2]`."""
        slots = np.arange(first, stop) % self.capacity
        return np.concatenate([self._table[slots], self._obs[self._next[slots]]], axis=1)

    def bonuses(self, first: int, stop: int) -> FloatArray:
        """Copies of the bonuses of the same rows, `[n, 1]`, or `[n, 0]` where they are not kept."""
        slots = np.arange(first, stop) % self.capacity
        return self._bonus[slots, None] if self.bonus else np.empty((len(slots), 0), np.float32)

    def as_bytes(self, first: int, stop: int) -> bytes:
        """The rows number `first` to `stop - 1`, with their bonuses, as a file."""
        return npy_bytes(np.concatenate([self.explicit_rows(first, stop), self.bonuses(first, stop)], axis=1))

    def from_bytes(self, data: bytes, path: Path) -> FloatArray:
        """The inverse of `as_bytes`, to be given to `load`.

        Raises:
            CheckpointError: these are no such rows.
        """
        return parse_npy(data, row_width(self.spec, bonus=self.bonus), path)

    def load(self, first: int, rows: FloatArray) -> None:
        """Take in what `explicit_rows(first, ...)` gave, in a replay that never had the rows from `first` on.

        Bonuses, if they are kept, stand behind them.

        `added` is left to the caller. Rows are linked to each other again, so that they take as little
        memory as before.
        """
        o = self.spec.obs_dim
        slots = np.arange(first, first + len(rows)) % self.capacity
        if self.bonus:
            self._bonus[slots], rows = rows[:, -1], rows[:, :-1]
        self._table[slots] = rows[:, :-o]
        self._next[slots] = -1
        for number, row in enumerate(rows, first):
            self._link(row[:o].tobytes(), number % self.capacity)
            self._waiting.setdefault(row[-o:].tobytes(), []).append(number)
        alone = self._next[slots] < 0
        places = [self._spare() for _ in range(alone.sum())]
        self._obs[places] = rows[alone, -o:]
        self._next[slots[alone]] = places
        oldest = first + len(rows) - self._reach
        waiting = {obs: [k for k in numbers if k >= oldest] for obs, numbers in self._waiting.items()}
        self._waiting = {obs: numbers for obs, numbers in waiting.items() if numbers}

    def _link(self, obs: bytes, slot: int) -> None:
        """Point the rows that wait for this observation at the slot that has it now."""
        for earlier in self._waiting.pop(obs, ()):
            place = self._next[earlier % self.capacity]
            if place >= self.capacity:
                self._vacate(int(place))
            self._next[earlier % self.capacity] = slot

    def _give_up(self, number: int) -> None:
        """Let row `number`, if it still waits, keep its spare row."""
        place = self._next[number % self.capacity]
        if place >= self.capacity:
            obs = self._obs[place].tobytes()
            numbers = self._waiting.get(obs, [])
            if numbers[:1] == [number]:
                del numbers[0]
                if not numbers:
                    del self._waiting[obs]

    def _vacate(self, place: int) -> None:
        """A spare row is needed no more."""
        self._free.append(place)

    def _spare(self) -> int:
        """A spare row that is free, the lowest of those never used if there is no other."""
        if self._free:
            return self._free.pop()
        self._spared += 1
        return self.capacity + self._spared - 1

    def _make_batch(self, size: int) -> None:
        # The drawn rows, then the rows of their next obs: one gather fetches both.
        drawn = torch.empty(2 * size, dtype=torch.int64)
        self._rows, self._next_rows, self._drawn_rows = drawn[:size], drawn[size:].numpy(), drawn.numpy()
        width = self.rows.shape[1]
        self._drawn = torch.empty(2 * size * width + size * self.bonus, dtype=torch.float32)
        self._drawn_numbers = self._drawn[: 2 * size * width].view(2 * size, width).numpy()
        self._drawn_bonus = self._drawn[2 * size * width :].numpy()
        self._batch = self._views(self._drawn)

    def _views(self, drawn: Tensor) -> Transition | SoftTransition:
        o, a, size, width = self.spec.obs_dim, self.spec.action_dim, len(self._rows), self.rows.shape[1]
        rows = drawn[: 2 * size * width].view(2 * size, width)
        row = rows[:size]
        batch = Transition(row[:, :o], row[:, o : o + a], row[:, o + a], row[:, o + a + 1], rows[size:, :o])
        return SoftTransition(*batch, drawn[2 * size * width :]) if self.bonus else batch


def row_width(spec: EnvSpec, *, bonus: bool = False) -> int:
    """Numbers in a row with both observations: these, an action, a reward, a discount, and a bonus if kept."""
    return 2 * spec.obs_dim + spec.action_dim + 2 + bonus


def forecast(rows: int, spec: EnvSpec) -> int:
    """The bytes that a replay of `rows` rows will fill: each observation once, and 8 for a pointer to the next.

    Of an image only what is new in it: the last of a stack of pictures. Whether planes are such a stack is a guess
    by their number: 1 and 3 are one picture, multiples of 3 pictures in colours, others grey ones.

    Where episodes end, each of the last `n_steps` rows needs a spare row besides. So episodes of a
    few steps need more, at most nearly twice as much, where each lasts one step.
    """
    return rows * (4 * (packed_width(spec) + spec.action_dim + 2) + 8 + new_bytes(spec))


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
    # A rollout is read in one piece, so it keeps both observations of each row.
    each = forecast(1, spec) if rollout_envs is None else 4 * row_width(spec)
    needed = rows * each
    free = available_memory() if available is None else available
    if needed > free:
        fitting = int(0.9 * free) // each
        what, lower = (
            ("replay", f"buffer_size to {fitting:,}")
            if rollout_envs is None
            else ("rollout", f"n_steps to {fitting // rollout_envs:,}")
        )
        raise ConfigError(
            f"the {what} needs {in_words(needed)} for {rows:,} transitions of {each} bytes",
            f"expected at most the {in_words(free)} of memory free now",
            f"lower {lower} or free memory",
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
