"""One environment, one algorithm, in the throwaway environment of a package: check, learn, save, load, evaluate.

    PYTHON trial.py ENTRY ALGORITHM

`run.py` starts it. ENTRY is a JSON object: the entry of packages.toml with the `import` of its package. The last
line printed is JSON: how far it came, and why no further.
"""

import importlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

STEPS, MORE = 300, 40
OFF_POLICY = {"learning_starts": 50, "buffer_size": 1_000, "batch_size": 32, "net_arch": [32, 32]}
SETTINGS: dict[str, dict[str, Any]] = {"ppo": {"n_steps": 64, "batch_size": 32, "net_arch": [32, 32]}}


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def main() -> None:
    entry, algorithm = json.loads(sys.argv[1]), sys.argv[2]
    answer: dict[str, Any] = {"stage": "import"}
    warnings.simplefilter("ignore")  # of the packages
    try:
        trial(entry, algorithm, answer)
    except BaseException as error:
        answer["error"], answer["text"] = type(error).__name__, one_line(error)
    print(f"\n{json.dumps(answer)}", flush=True)


def trial(entry: dict[str, Any], algorithm: str, answer: dict[str, Any]) -> None:
    """Fill `answer` with the stage that is reached and what is found on the way."""
    import gymnasium

    from softac.agents.registry import find_agent
    from softac.examine.environment import check_env
    from softac.model import Model, evaluate_policy

    names: dict[str, Any] = {"gymnasium": gymnasium}
    for module in entry["import"]:
        importlib.import_module(module)
        root = module.partition(".")[0]
        names[root] = sys.modules[root]

    def make() -> Any:
        if "code" in entry:
            return eval(entry["code"], names)  # noqa: S307 - from packages.toml
        return gymnasium.make(entry["id"], disable_env_checker=True, **entry.get("kwargs", {}))

    def begin(stage: str) -> None:
        answer["stage"], answer["began"] = stage, time.perf_counter()

    begin("make")
    probe = make()
    answer["observations"] = str(getattr(probe, "observation_space", "?"))
    answer["actions"] = str(getattr(probe, "action_space", "?"))
    probe.close()
    begin("check")
    findings = check_env(make, steps=100)
    answer["check"] = [f"{finding.level}: {finding.what}" for finding in findings if finding.level != "ok"]
    begin("construct")
    model = Model(find_agent(algorithm), make, **SETTINGS.get(algorithm, OFF_POLICY))
    begin("learn")
    model.learn(STEPS)
    answer["steps_per_second"] = round(STEPS / (time.perf_counter() - answer["began"]), 1)
    begin("save")
    model.save(Path("model"))
    begin("load")
    model = Model.load(Path("model"), make)
    begin("go on")
    model.learn(MORE)
    begin("evaluate")
    answer["mean"], _ = evaluate_policy(model, make, n_eval_episodes=1)
    answer["stage"] = "done"


if __name__ == "__main__":
    main()
