"""Whether workers or overlap would pay: pinned for times that are given, and said by the command."""

import json
from pathlib import Path

import pytest

from softac.cli.main import main
from softac.examine.learning import action_delay
from softac.examine.pays import update_seconds, worth
from softac.types import EnvSpec


def test_a_step_of_microseconds_pays_for_nothing() -> None:
    (finding,) = worth(6e-5, 6e-3, 2)
    assert finding.level == "ok"
    assert finding.what == (
        "beside the learner: a step takes 0.06 ms, an update of soft actor-critic 6 ms here; neither "
        "--env-workers nor --overlap would pay"
    )


def test_a_step_as_long_as_an_update_pays_for_both() -> None:
    (finding,) = worth(5e-3, 5e-3, 2)
    assert finding.what == (
        "beside the learner: a step takes 5 ms, an update of soft actor-critic 5 ms here; --overlap (with "
        "--env-workers 1 if it computes) makes a run up to 2.0 times as fast; --n-envs 8 --env-workers 2 steps "
        "the environments of an on-policy run 2.0 times as fast"
    )


def test_a_step_much_longer_than_an_update_pays_for_workers_only() -> None:
    (finding,) = worth(0.1, 5e-3, 4)
    assert "--overlap" not in finding.what
    assert finding.what.endswith("--env-workers 4 steps the environments of an on-policy run 4.0 times as fast")


@pytest.mark.parametrize("spec", [EnvSpec(3, 1), EnvSpec(4, 1, 2), EnvSpec(4, 1, 1)])
def test_an_update_takes_some_time(spec: EnvSpec) -> None:
    assert 1e-5 < update_seconds(spec) < 5.0


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "Pendulum-v1", "--steps", "50"]) == 0
    assert "beside the learner: a step takes " in " ".join(capsys.readouterr().out.split())


def test_the_doctor_judges_how_late_actions_are() -> None:
    rows = [{"step": 1, "time/action_delay": 0.001, "time/action_delay_max": 0.02, "time/fps": 20.0}]
    (finding,) = action_delay(rows, 1)
    assert (finding.level, finding.what) == (
        "ok",
        "actions: observations wait 1.0 ms for their action (20 ms at most), of 50 ms from one to the next",
    )
    rows[0]["time/action_delay"] = 0.012
    (finding,) = action_delay(rows, 1)
    assert (finding.level, finding.what) == (
        "note",
        "actions come late: observations wait 12.0 ms for their action (20 ms at most), of 50 ms from one action "
        "to the next",
    )
    assert list(action_delay([{"step": 1, "time/fps": 20.0}], 1)) == []


def test_the_doctor_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train sac Pendulum-v1 -n 60 --overlap --net-arch 8 --batch-size 8 --learning-starts 10"
    assert main([*words.split(), "--n-eval-episodes", "0", "--run-dir", str(tmp_path / "run")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert "time/action_delay" in rows[-1]
    main(["doctor", str(tmp_path / "run")])
    assert "observations wait" in " ".join(capsys.readouterr().out.split())
