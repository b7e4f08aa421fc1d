"""The means of what updates report."""

import pytest
import torch

from softac.run.metrics import MOST_WAITING, Means


def test_what_is_overwritten_later_is_counted_as_it_was() -> None:
    means, live = Means(), torch.zeros(())
    for value in (1.0, 2.0, 6.0):
        live.fill_(value)
        means.add({"train/live": live.detach(), "train/twice": 2.0 * live})
    assert means.means() == {"train/live": 3.0, "train/twice": 6.0}


@pytest.mark.parametrize("n", [3, MOST_WAITING + 3])
def test_a_mean_is_that_of_the_updates_that_report_it(n: int) -> None:
    means = Means()
    for i in range(n):
        metrics = {"train/every": torch.tensor(float(i))}
        means.add(metrics | ({"train/second": torch.tensor(10.0)} if i % 2 else {}))
    means.add({})
    assert means.means() == {"train/every": (n - 1) / 2.0, "train/second": 10.0}
    assert means.counts == {"train/every": n, "train/second": n // 2}
    means.reset()
    assert means.means() == {}
