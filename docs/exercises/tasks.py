"""What each exercise asks: inputs, the right answer, and the wrong answers that are recognised.

The right answer and all wrong ones are one function: `answer(*inputs, wrong)` follows the theory, except that each
name in `wrong` bends it at one place. So combinations of mistakes are recognised as well.
"""

import math
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from softac.equations.distributions import Gaussian, log_one_minus_tanh_squared
from softac.tabular import (
    FiniteMDP,
    log_partition_function,
    policy_kl,
    soft_bellman_backup,
    soft_policy_improvement,
    soft_value,
)

MISTAKES: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("mistakes.toml").read_text("utf-8"))

Inputs = tuple[Any, ...]
Wrong = frozenset[str]


@dataclass(frozen=True)
class Task:
    """One function to write.

    Attributes:
        function: its name in the exercise's file.
        cases: makes the inputs it is tried on.
        answer: `answer(*inputs, wrong)`; right for an empty `wrong`.
        differentiate: positions of inputs whose gradient is compared too.
        read: turns what the function returns into a tensor, if it returns something else.
    """

    function: str
    cases: Callable[[torch.Generator], Iterator[Inputs]]
    answer: Callable[..., Any]
    differentiate: tuple[int, ...] = ()
    read: Callable[[Any, Inputs], Any] = lambda result, _: result

    @property
    def mistakes(self) -> dict[str, str]:
        """For each name that `wrong` may contain, the sentence that says what is wrong."""
        return MISTAKES[self.function]


def normal(generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def distributions(generator: torch.Generator, *shape: int) -> Tensor:
    return normal(generator, *shape).softmax(-1)


# 1. An action and its log-probability


def gaussian_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for B, D in ((1, 1), (5, 3), (4, 4)):
        yield normal(generator, B, D), normal(generator, D), normal(generator, D, scale=0.5).exp()


def sample_action(mean: Tensor, std: Tensor, noise: Tensor, wrong: Wrong) -> Tensor:
    spread = std.square() if "square" in wrong else std.sqrt() if "variance" in wrong else std
    return spread * noise if "mean" in wrong else mean + spread * noise


def log_prob(action: Tensor, mean: Tensor, std: Tensor, wrong: Wrong) -> Tensor:
    spread = std.sqrt() if "variance" in wrong else std
    each = -0.5 * ((action - mean) / spread).square()
    if "width" not in wrong:
        each = each - spread.log()
    if "constant" not in wrong:
        each = each - 0.5 * math.log(2.0 * math.pi)
    if "coordinates" in wrong:
        result = each
    elif "average" in wrong:
        result = each.mean(-1)
    elif "batch" in wrong:
        result = each.sum()
    else:
        result = each.sum(-1) if wrong else Gaussian(mean, std.log()).log_prob(action)
    return result.exp() if "density" in wrong else result


EX1 = [
    Task("sample_action", lambda g: ((mean, std, noise) for noise, mean, std in gaussian_cases(g)), sample_action),
    Task("log_prob", gaussian_cases, log_prob),
]


# 2. The maximum-entropy objective of one episode


def objective_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield normal(generator, 6), distributions(generator, 6, 3), 0.3, 0.9
    yield normal(generator, 2), distributions(generator, 2, 5), 2.0, 0.5
    certain = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    yield normal(generator, 2), certain, 0.4, 0.95


def soft_return(rewards: Tensor, action_probs: Tensor, alpha: float, gamma: float, wrong: Wrong) -> Tensor:
    plain = action_probs * action_probs.log()
    terms = plain if "zero" in wrong else torch.special.xlogy(action_probs, action_probs)
    H = -terms.sum(-1)
    if "unweighted" in wrong:
        H = -action_probs.log().sum(-1)
    if "average" in wrong:
        H = -action_probs.log().mean(-1)
    if "bits" in wrong:
        H = H / math.log(2.0)
    if "sign" in wrong:
        H = -H
    weight = 1.0 if "alpha" in wrong else alpha
    steps = rewards + (0.0 if "entropy" in wrong else weight * H)
    powers = torch.arange(len(rewards), dtype=torch.float64) + ("shift" in wrong)
    discounts = torch.ones_like(powers) if "gamma" in wrong else gamma**powers
    return (discounts * steps).sum()


EX2 = [Task("soft_return", objective_cases, soft_return)]


# 3. Policy evaluation: the soft Bellman backup


def backup_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for S, A, gamma, alpha in ((5, 3, 0.9, 0.4), (3, 2, 0.5, 2.0)):
        P, r = distributions(generator, S, A, S), normal(generator, S, A)
        P = P / P.sum(-1, keepdim=True)
        terminal = torch.arange(S) == S - 1
        r[terminal] = 0.0
        P[terminal] = torch.eye(S, dtype=torch.float64)[S - 1]  # stays where it is
        pi = distributions(generator, S, A)
        yield P, r, gamma, normal(generator, S, A), pi / pi.sum(-1, keepdim=True), alpha, terminal


def backup(
    P: Tensor, r: Tensor, gamma: float, Q: Tensor, pi: Tensor, alpha: float, terminal: Tensor, wrong: Wrong
) -> Tensor:
    if not wrong:
        mdp = FiniteMDP(P.numpy(), r.numpy(), gamma, terminal.numpy())
        return torch.from_numpy(soft_bellman_backup(mdp, Q.numpy(), pi.numpy(), alpha))
    weight = 0.0 if "entropy" in wrong else 1.0 if "alpha" in wrong else alpha
    weight = -weight if "sign" in wrong else weight
    V = (pi * (Q - weight * pi.log())).sum(-1)
    if "log" in wrong:
        V = (pi * Q).sum(-1) - weight * pi.log().sum(-1)
    if "unweighted" in wrong:
        V = (Q - weight * pi.log()).mean(-1)
    if "greedy" in wrong:
        V = Q.max(-1).values
    if "terminal" not in wrong:
        V = torch.where(terminal, 0.0, V)
    following = V.mean().expand(r.shape) if "mean" in wrong else V[:, None].expand(r.shape)
    if "mean" not in wrong and "here" not in wrong:
        following = torch.einsum("sat,t->sa", P, V)
    if "gamma" in wrong:
        return r + following
    now = alpha * -(pi * pi.log()).sum(-1, keepdim=True) if "twice" in wrong else 0.0
    return r + now + gamma * following


EX3 = [Task("soft_bellman_backup", backup_cases, backup)]


# 4. The questions about the improvement step


def table_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for S, A, alpha in ((4, 3, 0.5), (3, 6, 2.0)):
        pi = distributions(generator, S, A)
        yield pi / pi.sum(-1, keepdim=True), normal(generator, S, A), alpha


def log_target(Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    scaled = Q * alpha if "multiply" in wrong else Q if "alpha" in wrong else Q / alpha
    return scaled if "normaliser" in wrong else scaled.log_softmax(-1)


def divergence(pi: Tensor, Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    if not wrong:
        return torch.from_numpy(policy_kl(pi.numpy(), Q.numpy(), alpha))
    ratio = pi.log() - log_target(Q, alpha, wrong)
    if "reversed" in wrong:
        return (-log_target(Q, alpha, wrong).exp() * ratio).sum(-1)
    if "unweighted" in wrong:
        return ratio.mean(-1)
    return (pi * ratio).sum() if "batch" in wrong else (pi * ratio).sum(-1)


def projection_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for S, A, K in ((30, 3, 4), (30, 5, 6)):
        yield distributions(generator, K, A), normal(generator, S, A), 0.7


def nearest(candidates: Tensor, Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    pi, target = candidates[:, None, :], log_target(Q, alpha, wrong)
    if "reversed" in wrong:
        distance = (target.exp() * (target - pi.log())).sum(-1)
    elif "greedy" in wrong:
        distance = -(pi * Q).sum(-1)
    else:
        distance = (pi * (pi.log() - target)).sum(-1)
    if "together" in wrong:
        return distance.mean(-1).argmin().expand(len(Q))
    return distance.argmin(0)


def partition_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield normal(generator, 4, 3), 0.5
    yield normal(generator, 2, 5), 3.0
    yield 1000.0 + normal(generator, 2, 3), 0.5


def log_partition(Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    if not wrong:
        return torch.from_numpy(log_partition_function(Q.numpy(), alpha))
    scaled = Q * alpha if "multiply" in wrong else Q if "alpha" in wrong else Q / alpha
    log_Z = scaled.exp().sum(-1).log() if "overflow" in wrong else scaled.logsumexp(-1)
    if "states" in wrong:
        log_Z = scaled.flatten().logsumexp(0).expand(len(Q))
    if "average" in wrong:
        log_Z = log_Z - math.log(Q.shape[-1])
    return log_Z.exp() if "log" in wrong else log_Z


def state_cases(generator: torch.Generator) -> Iterator[Inputs]:
    Q = normal(generator, 4, 3)
    yield Q, 0
    yield Q, 2


def as_function(result: Any, inputs: Inputs) -> Tensor:
    if not callable(result):
        raise TypeError(
            f"a {type(result).__name__} was returned; Q(s, .) is a function of the action: return something "
            "that can be called with an action"
        )
    return torch.stack([torch.as_tensor(result(a), dtype=torch.float64) for a in range(inputs[0].shape[1])])


def q_of_state(Q: Tensor, s: int, wrong: Wrong) -> Callable[[int], Tensor]:
    if "transposed" in wrong:
        return lambda a: Q[a, min(s, Q.shape[1] - 1)]
    if "value" in wrong:
        return lambda _: Q[s].max()
    return lambda a: Q[s, a]


def dot_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for a in (0, 2):
        row = normal(generator, 4)
        yield row.__getitem__, distributions(generator, 4), a


def fill_the_dot(q: Callable[[int], Tensor], pi: Tensor, a: int, wrong: Wrong) -> Tensor:
    values = torch.stack([q(b) for b in range(len(pi))])
    mean = values.mean() if "unweighted" in wrong else (pi * values).sum()
    best = values.argmax().double() if "argmax" in wrong else values.max()
    return torch.stack([values[a], mean, best])


def as_numbers(result: Any, _: Inputs) -> Tensor:
    return torch.stack([torch.as_tensor(x, dtype=torch.float64) for x in result])


def gap(pi: Tensor, Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    best = torch.from_numpy(soft_value(Q.numpy(), alpha))
    if "hard" in wrong:
        best = Q.max(-1).values
    if "boltzmann" in wrong:
        best = ((Q / alpha).softmax(-1) * Q).sum(-1)
    if "log" in wrong:
        best = best / alpha
    own = (pi * Q).sum(-1)
    if "entropy" not in wrong:
        own = own - (1.0 if "alpha" in wrong else alpha) * (pi * pi.log()).sum(-1)
    difference = own - best if "sign" in wrong else best - own
    return difference / alpha if "divide" in wrong else difference


def weights(Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    if "other" in wrong:
        return softplus(Q)
    if "shifted" in wrong:
        return Q - Q.min(-1, keepdim=True).values
    if "square" in wrong:
        return Q.square()
    if "absolute" in wrong:
        return Q.abs()
    scaled = Q * alpha if "multiply" in wrong else Q if "alpha" in wrong else Q / alpha
    return scaled.exp()


def weight_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield normal(generator, 4, 3), 0.5
    yield normal(generator, 3, 5, scale=2.0), 3.0


EX4 = [
    Task("question_1_divergence", table_cases, divergence),
    Task("question_2_project", projection_cases, nearest),
    Task("question_3_log_partition", partition_cases, log_partition),
    Task("question_4_q_of_state", state_cases, q_of_state, read=as_function),
    Task("question_5_fill_the_dot", dot_cases, fill_the_dot, read=as_numbers),
    Task("question_6_gap", table_cases, gap),
    Task("question_7_weights", weight_cases, weights, read=lambda w, _: w / w.sum(-1, keepdim=True)),
]


# 5. The improvement step


def improvement_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield normal(generator, 4, 3), 0.5
    yield normal(generator, 3, 3), 2.0
    yield 500.0 * normal(generator, 3, 4), 0.1


def improve(Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    if not wrong:
        return torch.from_numpy(soft_policy_improvement(Q.numpy(), alpha))
    if "greedy" in wrong:
        return torch.nn.functional.one_hot(Q.argmax(-1), Q.shape[-1]).double()
    scaled = Q * alpha if "multiply" in wrong else Q if "alpha" in wrong else Q / alpha
    if "overflow" in wrong:
        return scaled.exp() / scaled.exp().sum(-1, keepdim=True)
    if "states" in wrong:
        return scaled.softmax(0)
    return scaled.flatten().softmax(0).reshape(Q.shape) if "table" in wrong else scaled.softmax(-1)


def improved_value(Q: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    if not wrong:
        return torch.from_numpy(soft_value(Q.numpy(), alpha))
    if "boltzmann" in wrong:
        return ((Q / alpha).softmax(-1) * Q).sum(-1)
    if "greedy" in wrong:
        return Q.max(-1).values
    scale = 1.0 if "alpha" in wrong else alpha
    log_Z = (Q / scale).exp().sum(-1).log() if "overflow" in wrong else (Q / scale).logsumexp(-1)
    if "average" in wrong:
        log_Z = log_Z - math.log(Q.shape[-1])
    return log_Z if "factor" in wrong else scale * log_Z


EX5 = [Task("improve", improvement_cases, improve), Task("improved_value", improvement_cases, improved_value)]


# 6. Action bounds


def squash_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield (normal(generator, 5, 2, scale=2.0),)


def squash(u: Tensor, wrong: Wrong) -> Tensor:
    return u.clamp(-1.0, 1.0) if "clip" in wrong else u.sigmoid() if "sigmoid" in wrong else u.tanh()


def log_det_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield (normal(generator, 6, 3),)
    yield (torch.tensor([[30.0, -0.5], [-25.0, 8.0]], dtype=torch.float64),)


def log_det(u: Tensor, wrong: Wrong) -> Tensor:
    slope = 1.0 - u.tanh().square()
    each = log_one_minus_tanh_squared(u)
    if "overflow" in wrong:
        each = slope.log()
    if "epsilon" in wrong:
        each = (slope + 1e-6).log()
    if "tanh" in wrong:
        each = u.tanh().square().log()
    if "log" in wrong:
        each = slope
    if "coordinates" in wrong:
        return each
    if "average" in wrong:
        return each.mean(-1)
    if "product" in wrong:
        return each.prod(-1)
    return -each.sum(-1) if "sign" in wrong else each.sum(-1)


def density_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield normal(generator, 5), normal(generator, 5, 3, scale=2.0)
    yield normal(generator, 4), -normal(generator, 4, 2).abs()


def transformed_log_prob(log_prob_u: Tensor, slopes: Tensor, wrong: Wrong) -> Tensor:
    if "absolute" in wrong:
        total = slopes.prod(-1).log()
    elif "log" in wrong:
        total = slopes.prod(-1).abs()
    elif "average" in wrong:
        total = slopes.abs().log().mean(-1)
    else:
        total = slopes.abs().log().sum(-1)
    if "nothing" in wrong:
        return log_prob_u
    return log_prob_u + total if "sign" in wrong else log_prob_u - total


EX6 = [
    Task("question_1_squash", squash_cases, squash),
    Task("question_2_log_det", log_det_cases, log_det),
    Task("question_3_transformed_log_prob", density_cases, transformed_log_prob),
]


# 7. The loss of the soft value function


def bilinear_cases(generator: torch.Generator) -> Iterator[Inputs]:
    yield normal(generator, 10, 5), normal(generator, 10, 5)


def q_function(states: Tensor, actions: Tensor, wrong: Wrong) -> Tensor:
    each = states * actions
    if "batch" in wrong:
        return each.sum()
    if "average" in wrong:
        return each.mean(-1)
    return states @ actions.T if "pairs" in wrong else each.sum(-1)


def v_loss_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for B, A, alpha in ((10, 6, 0.2), (4, 4, 1.7), (1, 3, 0.5)):
        yield normal(generator, B), normal(generator, B, A), distributions(generator, B, A), alpha


def v_loss(v: Tensor, q: Tensor, action_probs: Tensor, alpha: float, wrong: Wrong) -> Tensor:
    weight = 1.0 if "alpha" in wrong else alpha
    weight = -weight if "sign" in wrong else weight
    log_pi = action_probs.log()
    if "unweighted" in wrong:
        target = (q - weight * log_pi).mean(-1)
    elif "log" in wrong:
        target = (action_probs * q).sum(-1) - weight * log_pi.sum(-1)
    elif "entropy" in wrong:
        target = (action_probs * q).sum(-1)
    else:
        target = (action_probs * (q - weight * log_pi)).sum(-1)
    if "batch" in wrong:
        target = target.mean()
    if "gradient" not in wrong:
        target = target.detach()
    square = (v[:, None] - target).square() if "broadcast" in wrong else (v - target).square()
    square = square if "half" in wrong else 0.5 * square
    return square.sum() if "sum" in wrong else square.mean()


EX7 = [
    Task("q_function", bilinear_cases, q_function),
    Task("soft_v_loss", v_loss_cases, v_loss, differentiate=(0, 1, 2)),
]


# 8. The loss of the Q function


def q_loss_cases(generator: torch.Generator) -> Iterator[Inputs]:
    for B, S in ((8, 6), (5, 9)):
        states = torch.randint(S - 1, (B,), generator=generator)
        next_states = torch.randint(S, (B,), generator=generator)
        terminated = torch.arange(B) % 3 == 0
        reward, v = normal(generator, B), normal(generator, S)
        yield normal(generator, B), reward, states, next_states, terminated, v, 0.9


def q_loss(
    q: Tensor,
    reward: Tensor,
    states: Tensor,
    next_states: Tensor,
    terminated: Tensor,
    v: Tensor,
    gamma: float,
    wrong: Wrong,
) -> Tensor:
    next_v = v[states + 1] if "index" in wrong else v[states] if "here" in wrong else v[next_states]
    if "batch" in wrong:
        next_v = next_v.mean()
    if "terminal" not in wrong:
        next_v = next_v * (~terminated)
    target = reward + (1.0 if "gamma" in wrong else gamma) * next_v
    if "gradient" not in wrong:
        target = target.detach()
    square = (q[:, None] - target).square() if "broadcast" in wrong else (q - target).square()
    square = square if "half" in wrong else 0.5 * square
    return square.sum() if "sum" in wrong else square.mean()


EX8 = [Task("q_loss", q_loss_cases, q_loss, differentiate=(0, 5))]

EXERCISES: dict[int, tuple[str, list[Task]]] = {
    1: ("ex1_log_prob", EX1),
    2: ("ex2_objective", EX2),
    3: ("ex3_policy_evaluation", EX3),
    4: ("ex4_improvement_questions", EX4),
    5: ("ex5_improvement_step", EX5),
    6: ("ex6_action_bounds", EX6),
    7: ("ex7_soft_v_loss", EX7),
    8: ("ex8_q_loss", EX8),
}
