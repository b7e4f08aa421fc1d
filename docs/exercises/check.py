"""Check an answer to an exercise numerically, and say what is wrong with it.

    python docs/exercises/check.py 3             the file of exercise 3 in this folder
    python docs/exercises/check.py 3 mine.py     your own copy of it
    python docs/exercises/check.py all           everything in this folder

Leaves with 0 if all answers are right and with 1 if not.
"""

import argparse
import itertools
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tasks import EXERCISES, Inputs, Task
from torch import Tensor

HERE = Path(__file__).parent
MOST_MISTAKES_AT_ONCE = 4
TO_DO = "It is not filled in yet: replace the line `raise NotImplementedError`."


def check(task: Task, function: Callable[..., Any]) -> list[str]:
    """What is wrong with `function`: a list of sentences, empty if its answers are right."""
    cases = list(task.cases(torch.Generator().manual_seed(0)))
    try:
        given = [outcome(task, function, inputs) for inputs in cases]
    except NotImplementedError:
        return [TO_DO]
    except Exception as error:
        return [f"It raised {type(error).__name__}: {error}."]
    right = [outcome(task, bent(task, frozenset()), inputs) for inputs in cases]
    if agree(given, right):
        return []
    for wrong in combinations(task):
        if agree(given, [outcome(task, bent(task, wrong), inputs) for inputs in cases]):
            return [task.mistakes[name] for name in sorted(wrong)]
    return [difference(given, right)]


def bent(task: Task, wrong: frozenset[str]) -> Callable[..., Any]:
    return lambda *inputs: task.answer(*inputs, wrong)


def combinations(task: Task) -> Iterator[frozenset[str]]:
    """Every set of mistakes, single ones first."""
    for n in range(1, MOST_MISTAKES_AT_ONCE + 1):
        yield from map(frozenset, itertools.combinations(task.mistakes, n))


def outcome(task: Task, function: Callable[..., Any], inputs: Inputs) -> tuple[Tensor, ...]:
    """The function's value for fresh copies of `inputs`, then its gradients, zero where there are none."""
    fresh = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
    learn = [fresh[i].requires_grad_() for i in task.differentiate]
    result = function(*fresh)
    if result is None:
        raise TypeError("None was returned; return the result")
    value = torch.as_tensor(task.read(result, inputs)).double()
    gradients: tuple[Tensor | None, ...] = (None,) * len(learn)
    if learn and value.requires_grad:
        gradients = torch.autograd.grad(value.sum(), learn, allow_unused=True)
    zeros = (torch.zeros_like(x) if g is None else g for x, g in zip(learn, gradients, strict=True))
    return value.detach(), *zeros


def agree(given: list[tuple[Tensor, ...]], other: list[tuple[Tensor, ...]]) -> bool:
    return all(
        x.shape == y.shape and torch.allclose(x, y, rtol=1e-6, atol=1e-9, equal_nan=True)
        for one, two in zip(given, other, strict=True)
        for x, y in zip(one, two, strict=True)
    )


def difference(given: list[tuple[Tensor, ...]], right: list[tuple[Tensor, ...]]) -> str:
    """A sentence about the first place where an unrecognised answer is off."""
    for case, (one, two) in enumerate(zip(given, right, strict=True), start=1):
        if one[0].shape != two[0].shape:
            return f"The result has shape {tuple(one[0].shape)}; {tuple(two[0].shape)} was expected."
        off = ~torch.isclose(one[0], two[0], rtol=1e-6, atol=1e-9)
        if off.any():
            where = tuple(off.nonzero()[0].tolist())
            at = f" at {list(where)}" if where else ""
            return (
                f"In case {case} the result{at} is {one[0][where]:.6g}; {two[0][where]:.6g} was expected. "
                "It is none of the usual mistakes."
            )
    return "The value is right, but its gradient is not. Check what is held constant."


def check_file(number: int, file: Path) -> dict[str, list[str]]:
    """The complaints about each function that exercise `number` asks for."""
    tasks = EXERCISES[number][1]
    try:
        names = runpy.run_path(str(file))
    except Exception as error:
        return {task.function: [f"{file} cannot be run: {type(error).__name__}: {error}."] for task in tasks}
    return {
        task.function: check(task, names[task.function])
        if callable(names.get(task.function))
        else [f"There is no function {task.function} in {file.name}; keep the names of the exercise."]
        for task in tasks
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercise", choices=[*map(str, EXERCISES), "all"], help="which exercise")
    parser.add_argument("file", nargs="?", type=Path, help="your file (default: the one in this folder)")
    given = parser.parse_args(arguments)
    if given.exercise == "all" and given.file:
        parser.error(f"'all' was given with the file {given.file}; name the exercise that the file answers")
    if given.file and not given.file.is_file():
        parser.error(f"there is no file {given.file}; check the path")
    numbers = EXERCISES if given.exercise == "all" else [int(given.exercise)]
    all_right = True
    for number in numbers:
        file = given.file or HERE / f"{EXERCISES[number][0]}.py"
        for function, complaints in check_file(number, file).items():
            verdict = "to do" if complaints == [TO_DO] else "wrong" if complaints else "right"
            print(f"{number} {function}: {verdict}")
            for sentence in complaints:
                print(f"    {sentence}")
            all_right = all_right and not complaints
    return 0 if all_right else 1


if __name__ == "__main__":
    sys.exit(main())
