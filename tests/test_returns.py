"""Returns and advantages of rollouts: by hand, against plain loops, and episode by episode."""

import re

import pytest
import torch

from softac.equations.returns import explained_variance, finished, gae, normalized, reward_to_go
from softac.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).unsqueeze(1)


# One environment, gamma 1/2. Steps 0 and 1 are an episode that was truncated (its last observation is worth 8),
# step 2 is one that terminated (100 must never be seen), step 3 begins one that outlives the rollout.
REWARD = column(1.0, 2.0, 5.0, 4.0)
DISCOUNT = column(0.5, 0.5, 0.0, 0.5)
VALUE = column(1.0, 2.0, 3.0, 4.0)
NEXT_VALUE = column(2.0, 8.0, 100.0, 6.0)
CONTINUES = column(1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("gae_lambda", "expected"),
    [
        # TD errors: 1 + 1/2 2 - 1 = 1;  2 + 1/2 8 - 2 = 4;  5 + 0 - 3 = 2;  4 + 1/2 6 - 4 = 3.
        (0.0, (1.0, 4.0, 2.0, 3.0)),
        # Only step 0 has a successor in its episode: 1 + 1/2 lambda 4.
        (0.5, (2.0, 4.0, 2.0, 3.0)),
        (1.0, (3.0, 4.0, 2.0, 3.0)),
    ],
)
def test_gae(gae_lambda, expected):
    advantage = gae(REWARD, DISCOUNT, VALUE, NEXT_VALUE, CONTINUES, gae_lambda)
    assert torch.equal(advantage, column(*expected))


def test_reward_to_go():
    # Bootstrapped: 4 + 1/2 6 = 7;  5, for it terminated;  2 + 1/2 8 = 6;  1 + 1/2 6 = 4.
    returns = reward_to_go(REWARD, DISCOUNT, CONTINUES, NEXT_VALUE)
    assert torch.equal(returns, column(4.0, 6.0, 5.0, 7.0))
    # What the rollout holds: 4;  5;  2;  1 + 1/2 2 = 2.
    returns = reward_to_go(REWARD, DISCOUNT, CONTINUES, torch.zeros(4, 1))
    assert torch.equal(returns, column(2.0, 2.0, 5.0, 4.0))


def test_one_long_episode():
    # A single reward of 8 at the end of 4 steps, gamma 1/2: 8, 4, 2, 1 backwards; with lambda 1/2 quarters.
    reward, discount = column(0.0, 0.0, 0.0, 8.0), torch.full((4, 1), 0.5)
    zero, continues = torch.zeros(4, 1), torch.ones(4, 1)
    assert torch.equal(reward_to_go(reward, discount, continues, zero), column(1.0, 2.0, 4.0, 8.0))
    assert torch.equal(gae(reward, discount, zero, zero, continues, 0.5), column(0.125, 0.5, 2.0, 8.0))


def test_finished():
    assert finished(CONTINUES).tolist() == [[True], [True], [True], [False]]
    continues = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    # The first episode ends with the rollout, the second never, the third leaves one that goes on.
    assert finished(continues).tolist() == [[True, False, True], [True, False, False], [True, False, False]]
    assert finished(continues).dtype == torch.bool


def rollout(T: int, N: int, seed: int) -> dict[str, torch.Tensor]:
    """A random rollout whose episodes are short, some terminated and some truncated, with V free everywhere."""
    generator = torch.Generator().manual_seed(seed)
    reward, value, next_value = torch.randn(3, T, N, generator=generator).unbind()
    terminated, truncated = (torch.rand(2, T, N, generator=generator) < 0.15).unbind()
    return {
        "reward": reward,
        "discount": 0.9 * (~terminated).double(),
        "value": value,
        "next_value": next_value,
        "continues": (~(terminated | truncated)).double(),
    }


def consistent(data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with V(s_{t+1}) said once: next_value is the value of the next row where the episode goes on."""
    next_value = data["next_value"].clone()
    same = data["continues"][:-1] > 0.0
    next_value[:-1][same] = data["value"][1:][same]
    return data | {"next_value": next_value}


def episode_ends(continues: list[float], t: int) -> int:
    """The last step of the rollout that belongs to the episode of step t."""
    while t + 1 < len(continues) and continues[t] == 1.0:
        t += 1
    return t


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 0.95, 1.0])
def test_gae_is_the_weighted_sum_of_td_errors(gae_lambda, seed):
    # Equation 16 as it is printed, a sum forwards over each episode, instead of the recursion backwards.
    data = rollout(40, 3, seed)
    advantage = gae(**data, gae_lambda=gae_lambda)
    for n in range(3):
        r, g, v, nv, c = (data[name][:, n].tolist() for name in data)
        for t in range(40):
            total = 0.0
            for m in range(t, episode_ends(c, t) + 1):
                total += (0.9 * gae_lambda) ** (m - t) * (r[m] + g[m] * nv[m] - v[m])
            assert advantage[t, n].item() == pytest.approx(total, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_reward_to_go_is_the_discounted_sum(seed):
    data = rollout(40, 3, seed)
    returns = reward_to_go(data["reward"], data["discount"], data["continues"], data["next_value"])
    for n in range(3):
        r, g, _, nv, c = (data[name][:, n].tolist() for name in data)
        for t in range(40):
            end = episode_ends(c, t)
            total = sum(0.9 ** (m - t) * r[m] for m in range(t, end + 1))
            total += 0.9 ** (end - t) * g[end] * nv[end]
            assert returns[t, n].item() == pytest.approx(total, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_finished_where_an_end_follows(seed):
    continues = rollout(12, 20, seed)["continues"]
    complete = finished(continues).tolist()
    for n in range(20):
        c = continues[:, n].tolist()
        assert [row[n] for row in complete] == [c[episode_ends(c, t)] == 0.0 for t in range(12)]


@pytest.mark.parametrize("seed", range(3))
def test_lambda_zero_is_the_td_error(seed):
    data = rollout(30, 4, seed)
    td_error = data["reward"] + data["discount"] * data["next_value"] - data["value"]
    assert torch.equal(gae(**data, gae_lambda=0.0), td_error)


@pytest.mark.parametrize("seed", range(3))
def test_lambda_one_is_the_return_less_the_value(seed):
    data = consistent(rollout(30, 4, seed))
    returns = reward_to_go(data["reward"], data["discount"], data["continues"], data["next_value"])
    torch.testing.assert_close(gae(**data, gae_lambda=1.0), returns - data["value"], rtol=1e-12, atol=1e-12)


def test_lambda_one_is_not_that_where_the_two_values_of_one_state_differ():
    # Step 0 says that s_1 is worth 2, step 1 says 3: the advantage counts 1/2 (2 - 3) more than the return.
    value = column(1.0, 3.0, 3.0, 4.0)
    returns = reward_to_go(REWARD, DISCOUNT, CONTINUES, NEXT_VALUE)
    difference = gae(REWARD, DISCOUNT, value, NEXT_VALUE, CONTINUES, 1.0) - (returns - value)
    assert torch.equal(difference, column(-0.5, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("of", ["reward", "value", "next_value"])
def test_a_step_sees_its_own_episode_from_itself_on_and_nothing_else(of):
    data = rollout(25, 2, seed=7)

    def advantage(x):
        return gae(**(data | {of: x}), gae_lambda=0.95)

    def returns(x):
        reward, discount, _, next_value, continues = (data | {of: x}).values()
        return reward_to_go(reward, discount, continues, next_value)

    for function in (advantage,) if of == "value" else (advantage, returns):
        slopes = torch.autograd.functional.jacobian(function, data[of])  # [T, N, T, N]
        for n in range(2):
            c, g = data["continues"][:, n].tolist(), data["discount"][:, n].tolist()
            assert (slopes[:, n, :, 1 - n] == 0.0).all()
            for t in range(25):
                end = episode_ends(c, t)
                outside = [m for m in range(25) if not t <= m <= end]
                assert (slopes[t, n, outside, n] == 0.0).all()
                # What follows the last step counts exactly where that step did not terminate.
                seen = slopes[t, n, end, n].item() != 0.0
                assert seen == (of != "next_value" or g[end] > 0.0)


def test_dtype_and_shape_are_kept():
    data = {name: x.float() for name, x in rollout(6, 3, seed=0).items()}
    advantage = gae(**data, gae_lambda=0.95)
    returns = reward_to_go(data["reward"], data["discount"], data["continues"], data["next_value"])
    for result in (advantage, returns):
        assert result.dtype == torch.float32
        assert result.shape == (6, 3)


TN, T1, T_ = torch.zeros(4, 2), torch.zeros(4, 1), torch.zeros(4)
MISTAKES = {
    "gae, reward [T]": (lambda: gae(T_, TN, TN, TN, TN, 0.9), "(4,), (4, 2), (4, 2), (4, 2), (4, 2)"),
    "gae, discount [T, 1]": (lambda: gae(TN, T1, TN, TN, TN, 0.9), "(4, 2), (4, 1), (4, 2), (4, 2), (4, 2)"),
    "gae, value [T + 1, N]": (
        lambda: gae(TN, TN, torch.zeros(5, 2), TN, TN, 0.9),
        "(4, 2), (4, 2), (5, 2), (4, 2), (4, 2)",
    ),
    "gae, next_value [N]": (
        lambda: gae(TN, TN, TN, torch.zeros(2), TN, 0.9),
        "(4, 2), (4, 2), (4, 2), (2,), (4, 2)",
    ),
    "gae, continues [T, 1]": (lambda: gae(TN, TN, TN, TN, T1, 0.9), "(4, 2), (4, 2), (4, 2), (4, 2), (4, 1)"),
    "reward_to_go, reward [T, 1]": (lambda: reward_to_go(T1, TN, TN, TN), "(4, 1), (4, 2), (4, 2), (4, 2)"),
    "reward_to_go, discount [T]": (lambda: reward_to_go(TN, T_, TN, TN), "(4, 2), (4,), (4, 2), (4, 2)"),
    "reward_to_go, continues [T]": (lambda: reward_to_go(TN, TN, T_, TN), "(4, 2), (4, 2), (4,), (4, 2)"),
    "reward_to_go, last_value [N]": (
        lambda: reward_to_go(TN, TN, TN, torch.zeros(2)),
        "(4, 2), (4, 2), (4, 2), (2,)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_shapes_that_would_broadcast_are_refused(mistake):
    call, shapes = MISTAKES[mistake]
    with pytest.raises(ConfigError) as error:
        call()
    assert re.findall(r"\([\d, ]*\)", error.value.given) == re.findall(r"\([\d, ]*\)", shapes)
    assert error.value.given.startswith("shapes differ: ")
    assert error.value.expected == "expected one shape, [T, N]"
    assert error.value.remedy == "squeeze or index them until they agree"


@pytest.mark.parametrize("value", [0.1, 0.3, 1.7, -12.3, 12345.678])
@pytest.mark.parametrize("n", [1, 7, 64, 2048])
def test_advantages_that_are_all_equal_are_0(n: int, value: float) -> None:
    for dtype in (torch.float32, torch.float64):
        assert normalized(torch.full((n,), value, dtype=dtype)).tolist() == [0.0] * n


def test_targets_that_do_not_vary_explain_nothing() -> None:
    targets = torch.full((64,), 12345.678, dtype=torch.float32)
    assert explained_variance(torch.arange(64.0, dtype=torch.float32), targets) == 0.0


def test_normalized_advantages() -> None:
    torch.testing.assert_close(normalized([1.0, 2.0, 3.0]), torch.tensor([-1.5, 0.0, 1.5]) / 1.5**0.5)
