"""Every target and loss against numbers worked out by hand, and its gradient in each argument."""

import math
import re

import pytest
import torch

from softac.equations.losses import (
    log_temperature_loss,
    policy_loss,
    q_loss,
    soft_q_target,
    soft_reward,
    soft_value_target,
    td_target,
    temperature_loss,
    value_loss,
)
from softac.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")


def t(*values) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, requires_grad=True)


def check(result, value, gradients) -> None:
    """`result` is `value`; its sum has the gradient given for each tensor."""
    torch.testing.assert_close(result, torch.tensor(value))
    found = torch.autograd.grad(result.sum(), list(gradients), allow_unused=True, materialize_grads=True)
    for gradient, expected in zip(found, gradients.values(), strict=True):
        torch.testing.assert_close(gradient, torch.tensor(expected))


def test_td_target():
    reward, discount, value = t(1.0, -2.0, 0.5), t(0.9, 0.0, 0.5), t(10.0, 100.0, -4.0)
    check(
        td_target(reward, discount, value),
        [1 + 0.9 * 10, -2 + 0 * 100, 0.5 + 0.5 * -4],  # 10, -2, -1.5
        {
            reward: [1.0, 1.0, 1.0],
            discount: [10.0, 100.0, -4.0],
            value: [0.9, 0.0, 0.5],  # nothing comes back through a terminal state
        },
    )


def test_soft_reward():
    reward, bonus, alpha = t(1.0, -2.0), t(0.5, 3.0), scalar(0.2)
    check(
        soft_reward(reward, bonus, alpha),
        [1 + 0.2 * 0.5, -2 + 0.2 * 3],
        {reward: [1.0, 1.0], bonus: [0.2, 0.2], alpha: 3.5},
    )


def test_soft_value_target():
    q, log_prob, alpha = t([10.0, 7.0], [8.0, 9.0]), t(-1.0, 3.0), scalar(0.5)
    check(
        soft_value_target(q, log_prob, alpha),
        [8 + 0.5, 7 - 1.5],  # the least of each column, less alpha log pi
        {q: [[0.0, 1.0], [1.0, 0.0]], log_prob: [-0.5, -0.5], alpha: -(-1.0 + 3.0)},
    )


def test_soft_q_target():
    reward, discount = t(1.0, -2.0, 3.0), t(0.9, 0.5, 0.0)
    next_q, log_prob, alpha = t([10.0, 7.0, 5.0], [8.0, 9.0, 6.0]), t(-1.0, 3.0, -9.0), scalar(0.5)
    # Soft values: 8 + 0.5 = 8.5;  7 - 1.5 = 5.5;  5 + 4.5 = 9.5, which the third row must not see.
    check(
        soft_q_target(reward, discount, next_q, log_prob, alpha),
        [1 + 0.9 * 8.5, -2 + 0.5 * 5.5, 3.0],  # 8.65, 0.75, 3
        {
            reward: [1.0, 1.0, 1.0],
            discount: [8.5, 5.5, 9.5],
            next_q: [[0.0, 0.5, 0.0], [0.9, 0.0, 0.0]],
            log_prob: [-0.9 * 0.5, -0.5 * 0.5, 0.0],
            alpha: -(0.9 * -1.0 + 0.5 * 3.0),
        },
    )


def test_soft_q_target_of_one_critic_and_of_three():
    one, log_prob = torch.tensor([[4.0, -4.0]]), torch.zeros(2)
    three = torch.tensor([[4.0, -4.0], [3.0, 5.0], [9.0, -6.0]])
    for q, least in ((one, [4.0, -4.0]), (three, [3.0, -6.0])):
        target = soft_q_target(torch.zeros(2), torch.ones(2), q, log_prob, 0.2)
        assert target.tolist() == least


def test_temperature_zero_leaves_the_hard_target():
    q, log_prob = torch.tensor([[4.0], [5.0]]), torch.tensor([-7.0])
    assert soft_value_target(q, log_prob, 0.0).tolist() == [4.0]
    assert policy_loss(log_prob, q[0], 0.0).item() == -4.0


def test_q_loss():
    q, target = t([1.0, 2.0], [3.0, 7.0]), t(2.0, 4.0)
    # First critic: 1/2 mean((1-2)^2, (2-4)^2) = 1/2 (1 + 4)/2 = 1.25.  Second: 1/2 (1 + 9)/2 = 2.5.
    check(
        q_loss(q, target),
        1.25 + 2.5,
        {
            q: [[-0.5, -1.0], [0.5, 1.5]],  # (q - y) / B
            target: [0.0, -0.5],  # -(sum over critics of q - y) / B: -(-1 + 1)/2, -(-2 + 3)/2
        },
    )


def test_q_loss_gives_each_critic_the_gradient_it_would_have_alone():
    q, target = t([1.0, 2.0], [3.0, 6.0], [-5.0, 0.0]), torch.tensor([2.0, 4.0])
    (together,) = torch.autograd.grad(q_loss(q, target), q)
    for i in range(3):
        alone = q[i : i + 1]
        torch.testing.assert_close(torch.autograd.grad(q_loss(alone, target), alone)[0], together[i : i + 1])


def test_value_loss():
    v, target = t(1.0, 2.0, 3.0), t(2.0, 2.0, -1.0)
    # 1/2 mean(1, 0, 16) = 17/6
    check(
        value_loss(v, target),
        17.0 / 6.0,
        {v: [-1.0 / 3.0, 0.0, 4.0 / 3.0], target: [1.0 / 3.0, 0.0, -4.0 / 3.0]},
    )


def test_policy_loss():
    log_prob, q, alpha = t(-1.0, 2.0), t(3.0, -5.0), scalar(0.5)
    # mean(-0.5 - 3, 1 + 5) = 1.25
    check(
        policy_loss(log_prob, q, alpha),
        1.25,
        {log_prob: [0.25, 0.25], q: [-0.5, -0.5], alpha: 0.5},  # alpha/B, -1/B, mean log pi
    )


def test_temperature_loss():
    log_alpha, log_prob = scalar(math.log(0.5)), t(-1.0, -3.0)
    # The entropy here is 2, one asks for -1:  -0.5 (-2 + -1) = 1.5, and alpha must fall.
    check(
        temperature_loss(log_alpha, log_prob, -1.0),
        1.5,
        {log_alpha: 0.5 * (2.0 - -1.0), log_prob: [-0.25, -0.25]},
    )


def test_log_temperature_loss():
    log_alpha, log_prob = scalar(math.log(0.5)), t(-1.0, -3.0)
    check(
        log_temperature_loss(log_alpha, log_prob, -1.0),
        3.0 * math.log(0.5),
        {log_alpha: 2.0 - -1.0, log_prob: [-0.5 * math.log(0.5)] * 2},
    )


@pytest.mark.parametrize("loss", [temperature_loss, log_temperature_loss])
def test_the_temperature_falls_above_the_target_entropy_and_rises_below_it(loss):
    log_alpha = scalar(-1.0)
    for entropy, sign in ((1.5, 1.0), (0.5, -1.0), (1.0, 0.0)):
        (slope,) = torch.autograd.grad(loss(log_alpha, torch.full((4,), -entropy), 1.0), log_alpha)
        assert slope.sign().item() == sign  # descending: a positive slope lowers log alpha


ARGUMENTS = {
    td_target: ((5,), (5,), (5,)),
    soft_reward: ((5,), (5,), ()),
    soft_value_target: ((3, 5), (5,), ()),
    soft_q_target: ((5,), (5,), (3, 5), (5,), ()),
    q_loss: ((3, 5), (5,)),
    value_loss: ((5,), (5,)),
    policy_loss: ((5,), (5,), ()),
}


@pytest.mark.parametrize("function", ARGUMENTS, ids=lambda f: f.__name__)
def test_gradients_against_finite_differences(function):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in ARGUMENTS[function]]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("function", [temperature_loss, log_temperature_loss])
def test_temperature_gradients_against_finite_differences(function):
    assert torch.autograd.gradcheck(lambda a, p: function(a, p, -2.0), (scalar(-0.3), t(-1.0, 0.5, 2.0)))


B, B1, NB = torch.zeros(4), torch.zeros(4, 1), torch.zeros(2, 4)
MISTAKES = {
    "td_target, reward [B, 1]": (lambda: td_target(B1, B, B), "(4, 1), (4,), (4,)"),
    "td_target, discount [B, 1]": (lambda: td_target(B, B1, B), "(4,), (4, 1), (4,)"),
    "td_target, value [N, B]": (lambda: td_target(B, B, NB), "(4,), (4,), (2, 4)"),
    "soft_reward, bonus [B, 1]": (lambda: soft_reward(B, B1, 0.1), "(4,), (4, 1)"),
    "soft_value_target, log_prob [B, 1]": (lambda: soft_value_target(NB, B1, 0.1), "(4,), (4, 1)"),
    "soft_value_target, one critic [B]": (lambda: soft_value_target(B, B, 0.1), "(), (4,)"),
    "soft_q_target, reward [B, 1]": (lambda: soft_q_target(B1, B, NB, B, 0.1), "(4, 1), (4,), (4,)"),
    "soft_q_target, log_prob [B, 1]": (lambda: soft_q_target(B, B, NB, B1, 0.1), "(4,), (4, 1)"),
    "q_loss, target [B, 1]": (lambda: q_loss(NB, B1), "(4,), (4, 1)"),
    "q_loss, one critic [B]": (lambda: q_loss(B, B), "(), (4,)"),
    "value_loss, target [B, 1]": (lambda: value_loss(B, B1), "(4,), (4, 1)"),
    "policy_loss, q [N, B]": (lambda: policy_loss(B, NB, 0.1), "(4,), (2, 4)"),
    "policy_loss, log_prob [B, 1]": (lambda: policy_loss(B1, B, 0.1), "(4, 1), (4,)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_shapes_that_would_broadcast_are_refused(mistake):
    call, shapes = MISTAKES[mistake]
    with pytest.raises(ConfigError) as error:
        call()
    assert re.findall(r"\([\d, ]*\)", error.value.given) == re.findall(r"\([\d, ]*\)", shapes)
    assert error.value.given.startswith("shapes differ: ")
    assert error.value.expected == "expected one shape, [B]"
    assert error.value.remedy == "squeeze or index them until they agree"
