"""Information and entropy, of probabilities in bits or nats and of densities in nats.

One definition throughout: entropy is the expected information, -sum p log p, with 0 log 0 = 0. The base is
named: 2 for bits, math.e for nats. Differential entropies are in nats, as in the agents; they depend on the
unit of the variable and can be negative. Lists and arrays of NumPy are taken as well as tensors.
"""

import heapq
import math
from typing import Any, Literal

import torch
from torch import Tensor

from softac.equations.distributions import HALF_LOG_2PI, log_one_minus_tanh_squared
from softac.equations.inputs import Numbers, broadcast, scalar, tensor
from softac.errors import ConfigError


def information(p: Numbers, base: float = 2.0) -> Tensor:
    """How much an event of probability `p` tells, log 1 / p, elementwise; infinite at p = 0.

    Args:
        p: probabilities in [0, 1], any shape.
        base: 2 for bits, math.e for nats.

    Raises:
        ConfigError: for a probability outside [0, 1] or a base that is not above 1.

    Source: Shannon 1948, section 6.
    """
    return -_probabilities(p, "p").log() / _log_base(base)


def entropy(p: Numbers, base: float = 2.0) -> Tensor:
    """H(p) = -sum_i p_i log p_i, `[..., K]` -> `[...]`, with 0 log 0 = 0.

    Between 0, all weight on one answer, and log K, all K answers equally likely.

    Raises:
        ConfigError: naming the row that is not a distribution, or the base.

    Source: Shannon 1948, section 6.
    """
    nats: Tensor = torch.special.entr(_distribution(p, "p")).sum(-1)
    return nats / _log_base(base)


def cross_entropy(p: Tensor, q: Numbers, base: float = 2.0) -> Tensor:
    """-sum_i p_i log q_i, `[..., K]` -> `[...]`: the length of messages from p in a code made for q.

    Raises:
        ConfigError: naming the entry, if q is 0 where p is positive (the length is infinite there); if a row
            is not a distribution.
    """
    p, q = _pair(p, q)
    nats: Tensor = -torch.special.xlogy(p, q).sum(-1)
    return nats / _log_base(base)


def kl(p: Tensor, q: Numbers, base: float = 2.0) -> Tensor:
    """KL(p || q) = sum_i p_i log(p_i / q_i), `[..., K]` -> `[...]`; >= 0, and 0 only for p = q.

    Raises:
        ConfigError: naming the entry, if q is 0 where p is positive (the divergence is infinite); if a row
            is not a distribution.
    """
    p, q = _pair(p, q)
    nats: Tensor = (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)
    return nats / _log_base(base)


def expected_code_length(p: Numbers) -> Tensor:
    """Expected length in bits of the best prefix code for `p [K]`, a scalar: Huffman's.

    It is the least number of yes-or-no questions, on average, that tells which of K answers is the case,
    asked one message at a time. H(p) <= length < H(p) + 1, with equality when all p are powers of 1/2: three
    equal answers have entropy 1.585 bits and need 5/3 questions. Coding long blocks of messages comes as near
    to the entropy as one likes.

    Raises:
        ConfigError: if p is not one distribution.

    Source: Huffman 1952.
    """
    p = tensor(p, "p")
    if p.ndim != 1:
        raise ConfigError(
            f"p has shape {tuple(p.shape)}",
            "a code is made for one distribution [K]",
            "call once for each row",
        )
    p = _distribution(p, "p")
    groups = [float(x) for x in p.tolist() if x > 0.0]
    heapq.heapify(groups)
    length = 0.0
    while len(groups) > 1:  # each merge puts one more bit in front of every message below it
        merged = heapq.heappop(groups) + heapq.heappop(groups)
        length += merged
        heapq.heappush(groups, merged)
    return torch.tensor(length, dtype=p.dtype)


def gaussian_entropy(std: Numbers) -> Tensor:
    """Differential entropy in nats of N(., diag(std^2)): sum_i (1/2 + log(2 pi) / 2 + log std_i).

    Args:
        std: `[..., D]`, standard deviations > 0; the last axis is the dimensions of one variable.

    Returns:
        `[...]`. It does not depend on the mean, is negative below std = 0.242 in one dimension, and falls to
        minus infinity, not to 0, as the Gaussian becomes deterministic.

    Raises:
        ConfigError: for a std that is not positive.
    """
    return (0.5 + HALF_LOG_2PI + _deviations(std).log()).sum(-1)


def squashed_gaussian_entropy(mean: Numbers, std: Numbers) -> Tensor:
    """Differential entropy in nats of tanh(u), u ~ N(mean, diag(std^2)), by quadrature.

    H(tanh u) = H(u) + sum_i E[log(1 - tanh^2 u_i)], since the entropy of an invertible map adds the expected
    log-derivative. The expectation has no closed form; the trapezoidal rule on 2,001 points within 10
    standard deviations is right to 1e-10 for std <= 20.

    Args:
        mean: `[..., D]`, of u.
        std: `[..., D]`, of u, > 0.

    Returns:
        `[...]`, at most D log 2: the uniform distribution on [-1, 1]^D has the largest entropy. Computed in
        float64 and returned in the dtype of `mean`.

    Raises:
        ConfigError: for a std that is not positive.
    """
    mean, std = broadcast(mean=mean, std=_deviations(std))
    noise = torch.linspace(-10.0, 10.0, 2001, dtype=torch.float64, device=mean.device)
    weight = torch.exp(-0.5 * noise.square() - HALF_LOG_2PI) * (noise[1] - noise[0])
    u = mean.double().unsqueeze(-1) + std.double().unsqueeze(-1) * noise
    expected_slope = (weight * log_one_minus_tanh_squared(u)).sum(-1)
    return (gaussian_entropy(std.double()) + expected_slope.sum(-1)).to(mean.dtype)


def mixture_entropy(means: Numbers, std: Numbers, divergence: Literal["kl", "bhattacharyya"] = "kl") -> Tensor:
    """Bound in nats on the differential entropy of the mixture of K equally likely N(mean_k, std^2 I).

    H_D = D/2 log(2 pi e std^2) - mean_i log (1/K sum_j exp(-D_ij)). With D_ij the KL divergence between two
    components, ||mean_i - mean_j||^2 / (2 std^2), it is an upper bound; with their Bhattacharyya distance, a
    quarter of that, a lower one. Both are the entropy of one component where all means are equal, and that
    plus log K, which is then exact, where all are far apart.

    Ascending it pushes the components apart, and no further than a few std: for "kl" its derivative in mean_k
    is 1 / (K std^2) sum_j (p_kj + p_jk) (mean_k - mean_j), p_i = softmax_j(-D_ij).

    Args:
        means: `[..., K, D]`.
        std: the standard deviation that all components and coordinates share, > 0.
        divergence: "kl" for the upper bound, "bhattacharyya" for the lower one.

    Returns:
        `[...]`.

    Raises:
        ConfigError: for a std that is not positive or another divergence.

    Source: Kolchinsky & Tracey 2017, arXiv:1706.02419.
    """
    scales = {"kl": 2.0, "bhattacharyya": 8.0}
    if divergence not in scales:
        raise ConfigError(
            f"divergence is {divergence!r}",
            "it must be 'kl' or 'bhattacharyya'",
            "pick 'kl' for the upper bound on the entropy, 'bhattacharyya' for the lower one",
        )
    means, std = _components(means), float(scalar(std, "std"))
    if not std > 0.0:
        raise ConfigError(
            f"std is {std:g}",
            "the standard deviation must be > 0",
            "a deterministic variable has no differential entropy, it tends to minus infinity",
        )
    components, dim = means.shape[-2:]
    squared_distance = (means.unsqueeze(-2) - means.unsqueeze(-3)).square().sum(-1)
    log_overlap = (-squared_distance / (scales[divergence] * std**2)).logsumexp(-1) - math.log(components)
    return dim * (0.5 + HALF_LOG_2PI + math.log(std)) - log_overlap.mean(-1)


def _components(means: Numbers) -> Tensor:
    means = tensor(means, "means")
    if means.ndim < 2:
        raise ConfigError(
            f"means has shape {tuple(means.shape)}",
            "expected [..., K, D]: K components of D coordinates",
            "write the mean of each component as a row",
        )
    return means


def _log_base(base: Any) -> float:
    base = float(scalar(base, "base"))
    if not base > 1.0:
        raise ConfigError(
            f"base is {base}",
            "it must be above 1",
            "use 2 for bits or math.e for nats",
        )
    return math.log(base)


def _deviations(std: Numbers) -> Tensor:
    """Standard deviations, all of them positive."""
    std = tensor(std, "std")
    if not bool((std > 0.0).all()):
        raise ConfigError(
            f"std has the entry {float(std.min()):g}",
            "standard deviations must be > 0",
            "a deterministic variable has no differential entropy, it tends to minus infinity",
        )
    return std


def _probabilities(p: Numbers, name: str) -> Tensor:
    """Numbers in [0, 1]; whole ones, 0 and 1, in float64."""
    p = tensor(p, name)
    if not p.is_floating_point():
        p = p.double()
    wrong = ~((p >= 0.0) & (p <= 1.0 + 8.0 * torch.finfo(p.dtype).eps))
    if bool(wrong.any()):
        where = _first(wrong)
        raise ConfigError(
            f"{name}{where or ''} is {float(p[tuple(where)]):g}",
            "a probability must be in [0, 1]",
            "pass probabilities, not logits or counts",
        )
    return p


def _distribution(p: Numbers, name: str) -> Tensor:
    """Rows of probabilities that sum to 1."""
    p = _probabilities(p, name)
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ConfigError(
            f"{name} has shape {tuple(p.shape)}",
            "expected a probability for each answer, [..., K]",
            f"write {name} and 1 - {name} where there are two answers",
        )
    sums = p.sum(-1)
    wrong = (sums - 1.0).abs() > p.shape[-1] * 8.0 * torch.finfo(p.dtype).eps
    if bool(wrong.any()):
        where = _first(wrong)
        raise ConfigError(
            f"{name}{where or ''} sums to {float(sums[tuple(where)]):.9g}",
            "a row of probabilities must sum to 1",
            "divide it by its sum",
        )
    return p


def _pair(p: Numbers, q: Numbers) -> tuple[Tensor, Tensor]:
    """Two rows of probabilities for the same answers, q positive wherever p is."""
    p, q = _distribution(p, "p"), _distribution(q, "q")
    if p.shape[-1] != q.shape[-1]:
        raise ConfigError(
            f"p has {p.shape[-1]} answers and q has {q.shape[-1]}",
            "expected as many in both",
            "give those that one of them lacks the probability 0",
        )
    p, q = broadcast(p=p, q=q)
    missing = (q == 0.0) & (p > 0.0)
    if bool(missing.any()):
        where = _first(missing)
        asked = float(p.expand(missing.shape)[tuple(where)])
        named = f" (state {where[0]}, action {where[1]})" if len(where) == 2 else ""
        raise ConfigError(
            f"q{where}{named} is 0 where p is {asked:g}",
            "the divergence is infinite when q leaves out what p can do",
            "give q some probability there, or exchange the two",
        )
    return p, q


def _first(mask: Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero()[0]]
