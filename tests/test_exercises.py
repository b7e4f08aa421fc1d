"""The exercises: solutions are right, stubs say what to do, and every usual mistake gets its sentence."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "docs" / "exercises"
sys.path.insert(0, str(FOLDER))

import check  # noqa: E402 - it lies with the exercises
from tasks import EXERCISES, MISTAKES  # noqa: E402

TASKS = {task.function: task for _, tasks in EXERCISES.values() for task in tasks}
EACH_MISTAKE = [(function, name) for function, task in TASKS.items() for name in task.mistakes]


@pytest.mark.parametrize("number", EXERCISES)
def test_solutions_are_right(number, capsys):
    assert check.main([str(number), str(FOLDER / "solutions" / f"{EXERCISES[number][0]}.py")]) == 0
    assert set(capsys.readouterr().out.split()) & {"wrong", "to"} == set()


@pytest.mark.parametrize("number", EXERCISES)
def test_stubs_say_what_to_do(number, capsys):
    assert check.main([str(number)]) == 1
    shown = capsys.readouterr().out
    for task in EXERCISES[number][1]:
        assert f"{number} {task.function}: to do\n    {check.TO_DO}" in shown


@pytest.mark.parametrize(("function", "name"), EACH_MISTAKE)
def test_each_mistake_gets_its_sentence(function, name):
    task = TASKS[function]
    assert check.check(task, check.bent(task, frozenset({name}))) == [task.mistakes[name]]


def test_every_sentence_belongs_to_a_task():
    assert MISTAKES.keys() == TASKS.keys()


def value_loss_of_a_first_attempt(v, q, action_probs, alpha):
    target = torch.mean(q - action_probs.log())
    return ((v - target).pow(2) / 2).mean()


def q_loss_of_a_first_attempt(q, reward, states, next_states, terminated, v, gamma):
    target = reward + gamma * v[states + 1].mean()
    return ((q - target).pow(2) * 0.5).mean()


@pytest.mark.parametrize(
    ("attempt", "function", "mistakes"),
    [
        (value_loss_of_a_first_attempt, "soft_v_loss", {"alpha", "batch", "gradient", "unweighted"}),
        (q_loss_of_a_first_attempt, "q_loss", {"batch", "gradient", "index", "terminal"}),
        (lambda states, actions: torch.sum(states * actions), "q_function", {"batch"}),
        (lambda log_p, slopes: log_p + slopes.log().sum(-1), "question_3_transformed_log_prob", None),
        (lambda Q, alpha: Q.exp() / Q.exp().sum(), "improve", None),
    ],
)
def test_several_mistakes_at_once(attempt, function, mistakes):
    complaints = check.check(TASKS[function], attempt)
    if mistakes is None:  # told from the right answer, at least
        assert complaints
    else:
        assert set(complaints) == {TASKS[function].mistakes[name] for name in mistakes}


@pytest.mark.parametrize(
    ("attempt", "text"),
    [
        (lambda Q, alpha: (Q / alpha).softmax(-1) + 0.1, "usual mistakes"),
        (lambda Q, alpha: Q[0], r"shape (3,); (4, 3) was expected"),
        (lambda Q, alpha: None, "None was returned"),
        (lambda Q, alpha: Q @ Q, "It raised RuntimeError"),
        (lambda Q: Q, "It raised TypeError"),
    ],
)
def test_other_answers_are_told_how_they_differ(attempt, text):
    (complaint,) = check.check(TASKS["improve"], attempt)
    assert text in complaint


def test_a_number_is_not_a_function():
    (complaint,) = check.check(TASKS["question_4_q_of_state"], lambda Q, s: Q[s])
    assert "Q(s, .) is a function of the action" in complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def soft_return(:", "cannot be run: SyntaxError"),
        ("def another(): pass", "There is no function soft_return in mine.py"),
    ],
)
def test_files_that_do_not_fit(text, complaint, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(text, encoding="utf-8")
    assert check.main(["2", str(file)]) == 1
    assert complaint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["9"], "invalid choice: '9'"),
        (["all", "mine.py"], "name the exercise that the file answers"),
        (["2", "/nowhere.py"], "there is no file /nowhere.py; check the path"),
    ],
)
def test_refusals(arguments, text, capsys):
    with pytest.raises(SystemExit) as leaves:
        check.main(arguments)
    assert leaves.value.code == 2
    assert text in capsys.readouterr().err
