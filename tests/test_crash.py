"""What is left of a run that could not go on, and environments that never end."""

from pathlib import Path
from typing import Any

import pytest
import torch

from probes import SMALL, CountingEnv, trained
from softac import SAC
from softac.errors import ConfigError, EnvironmentFailed, NumericalError

QUIET = {"n_eval_episodes": 0}


class FailingEnv(CountingEnv):
    def step(self, action: Any) -> Any:
        if self.steps == 12:
            raise RuntimeError("the motor came off")
        return super().step(action)


def test_a_failing_environment_leaves_a_report_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed) as error:
        SAC(FailingEnv, **SMALL).learn(40, run_dir=tmp_path / "run", **QUIET)
    (report,) = (tmp_path / "run" / "crash").iterdir()
    assert report.name == "step-000000012.txt"
    text = report.read_text()
    assert text.startswith(str(error.value))
    assert "in step\n" in text
    assert "RuntimeError: the motor came off" in text
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000012"]


def test_a_numerical_failure_leaves_a_report_and_no_checkpoint(tmp_path: Path) -> None:
    model = SAC(CountingEnv, **SMALL)
    with torch.no_grad():
        model.agent.critic.parameters[0].fill_(torch.nan)
    with pytest.raises(NumericalError, match=r"^the policy's action is not a number; expected finite networks"):
        model.learn(40, run_dir=tmp_path / "run", **QUIET)
    (report,) = (tmp_path / "run" / "crash").iterdir()
    assert "expected finite" in report.read_text()
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))


def test_an_evaluation_that_does_not_end_is_mentioned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    returns = trained(CountingEnv, 20).evaluate(lambda: CountingEnv(10_001), 2, deterministic=True, seed=0)
    assert returns.lengths == [10_000]
    assert caplog.messages == [
        "an evaluation episode was cut off after 10000 steps, and the evaluation ends with it; if the task has no "
        "end, give it a time limit (gymnasium.wrappers.TimeLimit)"
    ]


def test_an_id_that_imports_what_its_arguments_name_needs_trust() -> None:
    with pytest.raises(
        ConfigError, match=r"^'GymV21Environment-v0' would import an environment of another library"
    ):
        SAC("GymV21Environment-v0", env_kwargs={"env_id": "os:system"})
