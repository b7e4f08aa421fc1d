"""One self-contained HTML page on runs: learning curves, tables, failures, and what was run."""

from collections.abc import Sequence
from pathlib import Path

from softac.errors import ConfigError, DiskError
from softac.files import replace_text
from softac.report.page import render
from softac.report.results import read_runs


def write_report(folders: Sequence[Path], output: Path) -> int:
    """Write a page on the runs in these folders.

    The same runs give the same bytes, except for what the clock says: that stands in elements of the class
    `time`. Links to raw data are relative to the folder of the page.

    Args:
        folders: run folders, folders of run folders, and those of suites.
        output: the page; its name ends in .html.

    Returns:
        The number of runs on the page.

    Raises:
        CheckpointError: a `suite.json` is damaged.
        ConfigError: another ending; a folder without runs, none that has been evaluated, or runs that cannot be
            compared.
        DiskError: the page cannot be written.
    """
    if output.suffix != ".html":
        raise ConfigError(
            f"{output} was given for a page",
            "expected a name that ends in .html",
            "rename it",
        )
    runs = read_runs(folders)
    page = render(runs, folders, output)
    try:
        replace_text(output, page)
    except OSError as error:
        raise DiskError(
            f"{output} cannot be written ({error.strerror})",
            "expected a folder that exists, with space",
            "choose another",
        ) from None
    return len(runs.results)
