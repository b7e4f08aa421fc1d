"""Settings for all tests."""

import pytest
import torch

# One thread: sums are then added in one order, so results repeat, and parallel test workers do not
# compete for cores.
torch.set_num_threads(1)


@pytest.fixture
def float64():
    """Everything PyTorch makes inside the test is in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
