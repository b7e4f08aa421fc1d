"""How findings look: a mark, the fact, then why it matters and what to do."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from softac.cli.screen import Screen
from softac.examine.findings import Finding

COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}


def show(findings: Sequence[Finding], title: str = "") -> None:
    """Print findings below a title: wrapped on a terminal, one plain line each elsewhere."""
    console = Screen()
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    if not console.is_terminal:
        for finding in findings:
            print(f"{finding.level:<8}{_sentence(finding)}")  # noqa: T201
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=8, no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.what)
        if finding.why:
            text.append(f"\nwhy: {finding.why}", style="dim")
        if finding.remedy:
            text.append(f"\nto do: {finding.remedy}")
        table.add_row(Text(finding.level, style=COLOURS[finding.level]), text)
    console.print(table)


def verdict(findings: Sequence[Finding], healthy: str) -> None:
    """Print the last line: `healthy`, or how many problems and notes there are."""
    counts = {level: sum(f.level == level for f in findings) for level in ("problem", "note")}
    found = [f"{n} {level}{'' if n == 1 else 's'}" for level, n in counts.items() if n]
    worst = next((level for level, n in counts.items() if n), "ok")
    text = healthy + (f" ({', '.join(found)})" if found else "") if worst != "problem" else ", ".join(found)
    Screen().print(Text(text, style=COLOURS[worst]), soft_wrap=True)


def _sentence(finding: Finding) -> str:
    return "; ".join(part for part in (finding.what, finding.why, finding.remedy) if part)
