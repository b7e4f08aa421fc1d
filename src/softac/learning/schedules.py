"""Numbers of an agent that the run moves along their schedules."""

from softac.config.schedules import schedule_of, value_at


class Scheduled:
    """A number that follows its schedule.

    Args:
        value: the number, or a schedule as in `softac.config.schedules`.

    Attributes:
        value: the number now.
        schedule: what it follows; None: it stays.
    """

    def __init__(self, value: float | str) -> None:
        self.value, self.schedule = value_at(value, 0), schedule_of(value)

    def follow(self, step: int) -> None:
        """Take the value it has when `step` environment steps have been made."""
        if self.schedule is not None:
            self.value = self.schedule(step)
