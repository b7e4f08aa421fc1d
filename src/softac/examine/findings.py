"""What an examination found: one fact, how it is judged, why it matters and what to do."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One result of `softac check`, `softac doctor` or `softac.check_agent`.

    Attributes:
        level: "ok", "note" (works, but know it) or "problem".
        what: the fact, with its numbers.
        remedy: what to do; empty where nothing need be done.
        why: why it matters; empty where that is plain.
        exit_code: what a command that found this returns, 0 to 6.
    """

    level: Level
    what: str
    remedy: str = ""
    why: str = ""
    exit_code: int = 0
