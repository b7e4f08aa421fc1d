"""What students type: lists, arrays, whole numbers and floats are taken by every function, or get a sentence."""

import inspect
import math
from types import FunctionType

import numpy as np
import pytest
import torch

from softac import tabular
from softac.equations import distributions, entropy, gradients, losses, returns
from softac.errors import ConfigError
from softac.tabular import FiniteMDP, gridworld

P, Q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
B, NB = [1.0, 2.0, 3.0], [[1, 2, 3], [3, 2, 1]]
BA, NBA = [[-1.0, -2.0], [-0.5, -3.0]], [[[1, 2], [3, 4]], [[4, 3], [2, 1]]]
TN = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
NOISE = [[0.5, -1.0], [0.25, 1.5], [-2.0, 0.0]]


def square(a):
    return -(a**2).sum(-1)


# The arguments of each function as lists; they are tried as lists, as arrays and as tensors.
TYPED = {
    entropy.information: ([0.5, 0.25],),
    entropy.entropy: (P,),
    entropy.cross_entropy: (P, Q),
    entropy.kl: (P, Q),
    entropy.expected_code_length: (P,),
    entropy.gaussian_entropy: ([1.0, 2.0],),
    entropy.squashed_gaussian_entropy: ([0.0, 1.0], [1.0, 2.0]),
    entropy.mixture_entropy: ([[0.0, 1.0], [2.0, 3.0]], 1),
    losses.td_target: (B, [1, 0, 1], B),
    losses.soft_reward: (B, B, 0.5),
    losses.soft_q_target: (B, [1, 0, 1], NB, B, 1),
    losses.soft_value_target: (NB, B, 0.5),
    losses.q_loss: (NB, B),
    losses.huber_loss: (NB, B),
    losses.categorical_soft_q_target: ([1, 2], [1, 0], NBA, [-1.0, -2.0], 0.5, [0, 4]),
    losses.categorical_q_loss: (NBA, [[0.5, 0.5], [1, 0]]),
    losses.value_loss: (B, [0, 0, 0]),
    losses.policy_loss: (B, B, 0.5),
    losses.deterministic_policy_loss: (B,),
    losses.behaviour_penalty: (BA, BA),
    losses.normalized_policy_loss: (B, B),
    losses.score_function_policy_loss: (B, B, [0, 0, 1], 0.5),
    losses.discrete_soft_value: (NBA, BA, 0.5),
    losses.discrete_policy_loss: (BA, BA, 0.5),
    losses.mixture_policy_loss: (BA, BA, BA, 0.5),
    losses.policy_gradient_loss: (B, B),
    losses.clipped_surrogate_loss: (B, B, B, 0.2),
    losses.approximate_kl: (B, [1, 1, 1]),
    losses.temperature_loss: (0.5, B, -1),
    losses.log_temperature_loss: (0.5, B, -1),
    returns.gae: (TN, TN, TN, TN, TN, 0.9),
    returns.reward_to_go: (TN, TN, TN, TN),
    returns.finished: (TN,),
    returns.normalized: (B,),
    returns.explained_variance: (B, [1, 2, 4]),
    gradients.pathwise_gradient: (square, [0.0, 1.0], [1.0, 2.0], NOISE),
    gradients.score_function_gradient: (square, [0.0, 1.0], [1.0, 2.0], NOISE, 1),
    gradients.mean_baseline: (square, [0.0, 1.0], [1.0, 2.0], NOISE),
    gradients.optimal_baseline: (square, [0.0, 1.0], [1.0, 2.0], NOISE),
    gradients.quadratic_pathwise_variance: (2, [0.0, 1.0], [1.0, 2.0]),
    gradients.quadratic_score_function_variance: (2, [0.0, 1.0], [1.0, 2.0]),
    gradients.sine_pathwise_variance: (2, [0.0, 1.0], [1.0, 2.0]),
    gradients.sine_score_function_variance: (2, [0.0, 1.0], [1.0, 2.0]),
    distributions.log_one_minus_tanh_squared: ([0.5, -1.0],),
    distributions.change_of_variables: (torch.tanh, [0.5, -1.0], 0.25),
}

MDP = ([[[0, 1], [1, 0]], [[0, 1], [0, 1]]], [[0, 1], [0, 2]], 0.5)
TABLE, PI = [[1, 2], [3, 4]], [[0.5, 0.5], [1, 0]]

TABULAR = {
    "FiniteMDP": MDP,
    "gridworld": (["S.G"], 0.5),
    "grid_cells": (["S.G"],),
    "random_mdp": (2, 2, 0.5, np.random.default_rng(0)),
    "information_projection": (TABLE, 1, [[0.5, 0.5], [1, 0]]),
    "log_partition_function": (TABLE, 1),
    "partition_function": (TABLE, 1),
    "policy_kl": (PI, TABLE, 1),
    "policy_value": (TABLE, PI, 1),
    "soft_bellman_backup": (FiniteMDP(*MDP), TABLE, PI, 1),
    "soft_optimality_backup": (FiniteMDP(*MDP), TABLE, 1),
    "soft_policy_improvement": (TABLE, 1),
    "soft_value": (TABLE, 1),
    "stationarity_residual": (TABLE, [[0.5, 0.5], [0.25, 0.75]], 1),
    "simulate": (FiniteMDP(*MDP), PI, 3, 2, np.random.default_rng(0)),
    "soft_returns": (
        FiniteMDP(*MDP),
        tabular.simulate(FiniteMDP(*MDP), [[1, 0], [1, 0]], 3, 2, np.random.default_rng(0)),
        [[1, 0], [1, 0]],
        1,
    ),
    "soft_policy_evaluation": (FiniteMDP(*MDP), PI, 1),
    "soft_policy_evaluation_linear": (FiniteMDP(*MDP), PI, 1),
    "soft_policy_iteration": (FiniteMDP(*MDP), 1),
    "soft_value_iteration": (FiniteMDP(*MDP), 1),
}


def as_kind(kind, value):
    numbers = isinstance(value, list | int | float) and not (isinstance(value, list) and isinstance(value[0], str))
    return kind(value) if numbers else value


def flat(result):
    """The numbers of a tensor, an array, a tuple of them or an object that holds some."""
    if isinstance(result, tuple):
        return np.concatenate([flat(part) for part in result])
    if isinstance(result, torch.Tensor):
        return result.detach().double().numpy().ravel()
    if isinstance(result, np.ndarray):
        return np.asarray(result, np.float64).ravel()
    return np.concatenate([flat(np.asarray(v)) for v in vars(result).values() if isinstance(v, np.ndarray | int)])


def functions_of(*modules):
    found = [vars(module).items() for module in modules]
    return {
        f
        for module, items in zip(modules, found, strict=True)
        for name, f in items
        if isinstance(f, FunctionType) and f.__module__ == module.__name__ and name[0] != "_"
    }


def test_every_function_is_tried():
    assert functions_of(entropy, losses, returns, gradients, distributions) == set(TYPED)
    made = {name for name in tabular.__all__ if callable(getattr(tabular, name))}
    assert made - {"Episodes", "Evaluation", "Solution"} == set(TABULAR)


@pytest.mark.parametrize("function", TYPED, ids=lambda f: f.__name__)
def test_equations_take_lists_arrays_and_numbers(function):
    wanted, *others = [
        flat(function(*(as_kind(kind, value) for value in TYPED[function])))
        for kind in (lambda v: torch.tensor(v, dtype=torch.float64), lambda v: v, np.asarray, np.float64)
    ]
    assert np.isfinite(wanted).all()
    for other in others:
        np.testing.assert_allclose(other, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", TABULAR)
def test_tables_take_lists_arrays_tensors_and_numbers(name):
    function = getattr(tabular, name)
    arguments = TABULAR[name]

    def call(kind):
        fresh = [np.random.default_rng(0) if isinstance(v, np.random.Generator) else v for v in arguments]
        return flat(function(*(as_kind(kind, value) for value in fresh)))

    wanted = call(lambda v: np.asarray(v, np.float64))
    for kind in (lambda v: v, np.asarray, torch.tensor):
        np.testing.assert_array_equal(call(kind), wanted)


NONSENSE = {
    "words": "many",
    "nothing": None,
    "rows of different lengths": [[1.0, 2.0], [3.0]],
    "an object": object(),
}


def with_each_replaced(arguments, value):
    for i, argument in enumerate(arguments):
        if not callable(argument):
            yield i, [*arguments[:i], value, *arguments[i + 1 :]]


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("function", TYPED, ids=lambda f: f.__name__)
def test_what_is_no_number_gets_a_sentence_from_equations(function, nonsense):
    names = list(inspect.signature(function).parameters)
    for i, arguments in with_each_replaced(TYPED[function], NONSENSE[nonsense]):
        with pytest.raises(ConfigError) as caught:
            function(*arguments)
        assert caught.value.given.startswith(f"{names[i]} is ")
        assert "expected" in caught.value.expected


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("name", TABULAR)
def test_what_is_no_number_gets_a_sentence_from_tables(name, nonsense):
    for i, arguments in with_each_replaced(TABULAR[name], NONSENSE[nonsense]):
        if not (name == "simulate" and i == 5):
            with pytest.raises(ConfigError):
                getattr(tabular, name)(*arguments)


def test_three_equal_answers():
    assert float(entropy.entropy([1 / 3, 1 / 3, 1 / 3])) == pytest.approx(math.log2(3), abs=1e-15)
    assert float(entropy.entropy([0, 1])) == 0.0
    assert float(entropy.entropy(torch.tensor([0, 1]))) == 0.0
    assert entropy.entropy(np.array([0.5, 0.5], np.float32)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: entropy.entropy([2, 1, 1]),
            "p[0] is 2; a probability must be in [0, 1]; pass probabilities, not logits or counts",
        ),
        (
            lambda: entropy.entropy(0.3),
            "p has shape (); expected a probability for each answer, [..., K]; write p and 1 - p where there are "
            "two answers",
        ),
        (
            lambda: entropy.kl([0.5, 0.5], [0.5, 0.25, 0.25]),
            "p has 2 answers and q has 3; expected as many in both; give those that one of them lacks the "
            "probability 0",
        ),
        (
            lambda: entropy.kl(torch.full((3, 2), 0.5), torch.full((4, 2), 0.5)),
            "shapes do not fit together: p (3, 2), q (4, 2); expected one shape, or 1 wherever they differ; index "
            "or unsqueeze them until they fit",
        ),
        (
            lambda: entropy.entropy([[0.5, 0.5], [1.0]]),
            "p is [[0.5, 0.5], [1.0]]; expected a tensor, an array or a list of numbers, with rows of one length; "
            "convert it, or put several tensors together with torch.stack",
        ),
        (
            lambda: losses.policy_loss(B, B, [0.1, 0.2]),
            "alpha has shape (2,); expected one number; call once for each",
        ),
        (
            lambda: losses.q_loss(1.0, 1.0),
            "q is one number; expected [N, B], a row for each of N critics; put it into two lists",
        ),
        (
            lambda: losses.categorical_soft_q_target(B, B, NB, B, 0.5, [0, 1]),
            "next_logits has shape (2, 3) and atoms (2,); expected [N, B, K] and [K]; give N critics, B samples "
            "and K atoms",
        ),
        (
            lambda: entropy.mixture_entropy([0.0, 1.0], 1.0),
            "means has shape (2,); expected [..., K, D]: K components of D coordinates; write the mean of each "
            "component as a row",
        ),
        (
            lambda: gradients.mean_baseline(square, [0.0], [1.0], [0.5]),
            "noise has shape (1,); expected [B, D], a row for each sample; write one sample as a list in a list",
        ),
        (
            lambda: gradients.pathwise_gradient(square, [0.0], [0.0], [[0.5]]),
            "std has the entry 0; standard deviations must be > 0; a deterministic variable has no score, and no "
            "path either",
        ),
        (
            lambda: distributions.Categorical([0.0, 0.0]).log_prob(2),
            "action is 2; expected whole numbers from 0 to 1; count actions from 0",
        ),
        (
            lambda: distributions.MultiCategorical([0.0] * 5, (2, 3)).log_prob([1, 7]),
            "action is array(7.); expected whole numbers from 0 to 2; count actions from 0",
        ),
        (
            lambda: distributions.MultiCategorical([0.0] * 5, (2, 3)).log_prob([0.9, 2.7]),
            "action is array(0.9); expected whole numbers from 0 to 1; count actions from 0",
        ),
        (
            lambda: distributions.MultiCategorical([0.0] * 5, (2, 3)).log_prob([1, 2, 0]),
            "action has shape (3,); expected [..., 2], one index for each choice; write each action as a list",
        ),
        (
            lambda: distributions.IndexedCategorical([[0.0, 0.0]]).log_prob([[5]]),
            "action is array([5.]); expected whole numbers from 0 to 1; count actions from 0",
        ),
        (
            lambda: losses.soft_reward(torch.zeros(3), torch.ones(3), torch.ones(3, 1)),
            "alpha has shape (3, 1); expected one number; call once for each",
        ),
        (
            lambda: tabular.information_projection([1.0, 2.0], 1.0, [[0.5, 0.5]]),
            "Q has shape (2,); a class of policies is for states and actions; use [states, actions]",
        ),
        (
            lambda: tabular.random_mdp(2, 2, 0.9, 0),
            "generator is 0; expected a generator of NumPy, so that the same seed draws the same; write "
            "numpy.random.default_rng(0)",
        ),
        (
            lambda: tabular.random_mdp(2.5, 2, 0.9, np.random.default_rng(0)),
            "n_states is 2.5; expected a whole number, at least 1; give 1, say",
        ),
        (
            lambda: tabular.soft_value(TABLE, [1.0, 2.0]),
            "alpha has shape (2,); expected one number; call once for each",
        ),
        (
            lambda: tabular.soft_value(TABLE, "hot"),
            "alpha is 'hot'; expected numbers: an array, or lists whose rows have one length; convert it with "
            "numpy.asarray(..., dtype=float)",
        ),
        (
            lambda: tabular.soft_value_iteration(TABLE, 1.0),
            "mdp is [[1, 2], [3, 4]]; expected a softac.tabular.FiniteMDP; make one of P, r and gamma, or with "
            "softac.tabular.gridworld",
        ),
        (
            lambda: gridworld([[0, 1]], 0.9),
            'the layout is [[0, 1]]; expected rows of the letters .#SGX; write a list of texts like "S..G", or '
            "one text of several lines",
        ),
        (
            lambda: FiniteMDP(*MDP).expected_next([1.0]),
            "V has shape (1,); expected one value for each of the 2 states; give a list of them",
        ),
        (
            lambda: FiniteMDP(*MDP).successors(2, 0),
            "state is 2; expected 0 to 1; name one of them",
        ),
    ],
)
def test_what_is_said(call, text):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "made",
    [
        lambda x: distributions.Gaussian(x([0.0, 1.0]), x([0.0, -1.0])),
        lambda x: distributions.SquashedGaussian(x([0.0, 1.0]), x([0.0, -1.0])),
        lambda x: distributions.SquashedMixture(x([0.0, 1.0]), x([[0.0, 1.0], [1.0, 2.0]]), x([[0.0, 0], [0, 0]])),
        lambda x: distributions.Deterministic(x([0.0, 1.0])),
        lambda x: distributions.Categorical(x([0.0, 1.0])),
        lambda x: distributions.IndexedCategorical(x([0.0, 1.0])),
    ],
)
def test_distributions_take_lists_and_arrays(made):
    def numbers(x):
        of = made(x)
        noise = [[0.5, -1.0], [2.0, 0.25]] if isinstance(of, distributions.SquashedMixture) else [0.25, 0.75]
        found = [of.mode()]
        if hasattr(of, "rsample"):
            found += of.rsample(x(noise))
        if isinstance(of, distributions.SquashedMixture):
            found += of.sample(x([0.5, 1.0]), x([0.5, 0.25]))
        elif hasattr(of, "sample"):
            found += of.sample(x(noise))
        action = [0] if isinstance(of, distributions.IndexedCategorical) else [0.5, 0.25]
        found.append(of.log_prob(0 if isinstance(of, distributions.Categorical) else x(action)))
        if hasattr(of, "entropy"):
            found.append(of.entropy())
        return np.concatenate([flat(part) for part in found])

    wanted = numbers(lambda v: torch.tensor(v, dtype=torch.float64))
    np.testing.assert_array_equal(numbers(lambda v: v), wanted)
    np.testing.assert_array_equal(numbers(np.asarray), wanted)
    with pytest.raises(ConfigError, match=r"expected a tensor, an array or a list of numbers"):
        made(lambda _: "words")


def test_a_grid_may_be_one_text():
    one, rows = gridworld("\nS.#\n..G\n", 0.9), gridworld(["S.#", "..G"], 0.9)
    assert (one.P != rows.P).nnz == 0
    np.testing.assert_array_equal(one.r, rows.r)


def test_terminal_states_may_be_zeros_and_ones():
    P, r, gamma = [[[0, 1], [0, 1]], [[0, 0], [0, 0]]], [[0, 1], [0, 0]], 0.5
    assert FiniteMDP(P, r, gamma, [0, 1]).terminal.tolist() == [False, True]
    with pytest.raises(
        ConfigError, match=r"^terminal is \[0, 2\]; it must be one boolean for each of the 2 states"
    ):
        FiniteMDP(P, r, gamma, [0, 2])


def test_what_a_policy_never_does_without_a_temperature_and_with_one():
    mdp, never = FiniteMDP(*MDP), [[0, 1], [0, 1]]
    episodes = tabular.simulate(mdp, [[1, 0], [1, 0]], 3, 2, np.random.default_rng(0))
    plain = tabular.soft_returns(mdp, episodes, [[1, 0], [1, 0]], 0.0)
    assert np.array_equal(tabular.soft_returns(mdp, episodes, never, 0.0), plain)
    assert np.isinf(tabular.soft_returns(mdp, episodes, never, 1.0)).any()


def test_a_temperature_with_axes_adds_none():
    assert losses.soft_reward(torch.zeros(3), torch.ones(3), torch.ones(1, 1)).shape == (3,)
