"""Settings for all tests."""

import pytest
import torch
from hypothesis import settings

# One thread: sums are then added in one order, so results repeat, and parallel test workers do not
# compete for cores.
torch.set_num_threads(1)

# The same examples in every run, however slow the machine is at the moment.
settings.register_profile("softac", deadline=None, derandomize=True)
settings.load_profile("softac")


@pytest.fixture
def float64():
    """Everything PyTorch makes inside the test is in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
