from pathlib import Path


def draw_all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
