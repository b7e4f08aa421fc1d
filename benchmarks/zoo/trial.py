"""One environment in the throwaway environment of its package: check; then learn, save, load, evaluate.

    PYTHON trial.py ENTRY

`run.py` starts it. ENTRY is a JSON object: the entry of packages.toml with the `import` of its package. For each
algorithm a line of JSON is printed: how far it came, and why no further.
"""

import importlib
import json
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS, MORE = 300, 40
LIMIT = 150  # seconds of processor time for each algorithm
OFF_POLICY = {"learning_starts": 50, "buffer_size": 1_000, "batch_size": 32, "net_arch": [32, 32]}
SETTINGS: dict[str, dict[str, Any]] = {"ppo": {"n_steps": 64, "batch_size": 32, "net_arch": [32, 32]}}


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def main() -> None:
    warnings.simplefilter("ignore")  # of the packages
    entry = json.loads(sys.argv[1])
    limit = LIMIT * len(entry["algorithms"])
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    common: dict[str, Any] = {"stage": "import"}
    try:
        make = maker(entry)
        look(make, common)
    except BaseException as error:
        common |= {"error": type(error).__name__, "text": one_line(error)}
    for algorithm in entry["algorithms"]:
        answer = common | {"algorithm": algorithm}
        try:
            if "error" not in common:
                trial(make, algorithm, answer)
        except BaseException as error:
            answer |= {"error": type(error).__name__, "text": one_line(error)}
        print(f"\n{json.dumps(answer)}", flush=True)


def maker(entry: dict[str, Any]) -> Callable[[], Any]:
    """The function that makes the environment."""
    import gymnasium

    names: dict[str, Any] = {"gymnasium": gymnasium}
    for module in entry["import"]:
        importlib.import_module(module)
        root = module.partition(".")[0]
        names[root] = sys.modules[root]
    if "code" in entry:
        return lambda: eval(entry["code"], names)  # noqa: S307 - from packages.toml
    return lambda: gymnasium.make(entry["id"], disable_env_checker=True, **entry.get("kwargs", {}))


def look(make: Callable[[], Any], answer: dict[str, Any]) -> None:
    """The spaces of the environment, and what `softac check` says of it."""
    from softac.examine.environment import check_env

    answer["stage"] = "make"
    probe = make()
    answer["observations"] = str(getattr(probe, "observation_space", "?"))
    answer["actions"] = str(getattr(probe, "action_space", "?"))
    probe.close()
    answer["stage"] = "check"
    findings = check_env(make, steps=100)
    answer["check"] = [f"{finding.level}: {finding.what}" for finding in findings if finding.level != "ok"]


def trial(make: Callable[[], Any], algorithm: str, answer: dict[str, Any]) -> None:
    """Train and so on; `answer` gets the stage that is reached."""
    from softac.agents.registry import find_agent
    from softac.model import Model, evaluate_policy

    folder = Path(f"model-{algorithm}")
    answer["stage"] = "construct"
    model = Model(find_agent(algorithm), make, **SETTINGS.get(algorithm, OFF_POLICY))
    answer["stage"] = "learn"
    model.learn(STEPS)
    answer["stage"] = "save"
    model.save(folder)
    answer["stage"] = "load"
    model.close()
    model = Model.load(folder, make)
    answer["stage"] = "go on"
    model.learn(MORE)
    answer["stage"] = "evaluate"
    answer["mean"], _ = evaluate_policy(model, make, n_eval_episodes=1)
    model.close()
    answer["stage"] = "done"


if __name__ == "__main__":
    main()
