"""Processors are told apart, also where they have one name."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from reliability_envs import tiny
from softac import SAC
from softac.envs import machine

AMD = (
    "processor\t: {}\nvendor_id\t: AuthenticAMD\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: AMD EPYC\n"
    "stepping\t: 1\n\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd40\n"


@pytest.fixture(autouse=True)
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("softac.envs.machine.CPUINFO", tmp_path / "cpuinfo")
    machine.processor.cache_clear()
    yield tmp_path / "cpuinfo"
    machine.processor.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (AMD.format(0, 26, 2) + AMD.format(1, 26, 2), "AMD EPYC (cpu family 26, model 2)"),
        (ARM, "{} (CPU implementer 0x41, CPU part 0xd40)"),
        ("model name\t: Virtual CPU\n", "Virtual CPU"),
        ("\n", "{}"),
        (None, "{}"),
    ],
)
def test_what_is_said_of_a_processor(text: str | None, expected: str, cpuinfo: Path) -> None:
    if text is not None:
        cpuinfo.write_text(text)
    assert machine.processor() == expected.format(platform.machine())


def test_a_run_that_goes_on_on_another_generation_says_so(
    tmp_path: Path, cpuinfo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rented machines call Zen 4 and 5 "AMD EPYC"; models of tests/golden end in other bits on the second."""
    cpuinfo.write_text(AMD.format(0, 25, 17))
    tiny(env="Pendulum-v1").learn(30, run_dir=tmp_path / "run", n_eval_episodes=0)
    SAC.load(tmp_path / "run").learn(30, run_dir=tmp_path / "run", n_eval_episodes=0)
    assert caplog.messages == []
    cpuinfo.write_text(AMD.format(0, 26, 2))
    machine.processor.cache_clear()
    SAC.load(tmp_path / "run").learn(30, run_dir=tmp_path / "run", n_eval_episodes=0)
    assert caplog.messages == [
        "continuing, not bit for bit: processor was AMD EPYC (cpu family 25, model 17) and is AMD EPYC "
        "(cpu family 26, model 2)"
    ]
