"""The learning curves of a report, and their legend."""

from collections.abc import Sequence
from itertools import groupby

from softac.report import charts
from softac.report.published import Published
from softac.report.rows import Row, interval, of
from softac.report.tables import Group, curve
from softac.words import counted, number


def panels(
    groups: Sequence[Group],
    styles: dict[str, int],
    keys: dict[str, str],
    places: dict[str, int],
    drawn: Sequence[tuple[str, Published]],
) -> list[Row]:
    """A picture for each environment."""
    panels = []
    for i, (env, members) in enumerate(groupby(groups, lambda group: group.env), 1):
        here = list(members)
        lines = [_line(group, styles[group.name], keys[group.name], places[env]) for group in here]
        of_algorithm = {group.algorithm: group for group in reversed(here)}
        right = max(max(result.returns) for group in here for result in group.evaluated)
        references = [
            _reference(p, styles[of_algorithm[p.algorithm].name], places[env], right)
            for where, p in drawn
            if where == env
        ]
        title = f"Learning curves on {env}"
        panels.append({"env": env, "svg": charts.panel(title, f"panel-{i}", lines, references)})
    return panels


def _line(group: Group, style: int, key: str, places: int) -> charts.Line:
    points = curve(group)
    runs = [(sorted(result.returns.items()), result.state == "failed") for result in group.evaluated]
    said = f"{group.name}: {counted(len(group.evaluated), 'run')} without a common step"
    if points:
        step, last = points[-1]
        sure = f", 95 % interval {interval(last, places)}" if last.interval else ""
        said = f"{group.name}: {number(last.mean, places)} at {step:,} steps{sure}, {of(last.n, group)} runs"
    return charts.Line(
        key,
        style,
        [(step, estimate.mean) for step, estimate in points],
        [(step, *estimate.interval) for step, estimate in points if estimate.interval is not None],
        runs,
        all(estimate.n == 2 for _, estimate in points if estimate.interval is not None),
        said,
    )


def _reference(p: Published, style: int, places: int, right: int) -> charts.Reference:
    """What has been published up to the step at which the curves end."""
    points = [(step, mean, std) for step, (mean, std) in sorted(p.at.items()) if step <= right]
    values = [f"{number(mean, places)} at {step:,} steps" for step, mean, _ in points]
    said = f"published for {p.algorithm} ({p.source.name}, {p.source.version}): {', '.join(values)}"
    return charts.Reference(f"{p.algorithm}, {p.source.version}", style, points, said)


def legend(
    groups: Sequence[Group],
    styles: dict[str, int],
    keys: dict[str, str],
    drawn: Sequence[tuple[str, Published]],
) -> list[Row]:
    """Each curve with its number of seeds, and the signs that stand beside curves."""
    legend: list[Row] = []
    for name, style in styles.items():
        counts = [len(group.evaluated) for group in groups if group.name == name]
        fewest, most = min(counts), max(counts)
        seeds = counted(most, "seed") if fewest == most else f"{fewest} to {counted(most, 'seed')}"
        if fewest == 0:
            seeds = f"up to {counted(most, 'seed')}" if most else "none has been evaluated"
        legend.append(
            {
                "sign": charts.swatch(style),
                "key": keys[name] if keys[name] != name else "",
                "name": name,
                "note": seeds + (", no interval" if most == 1 else ""),
            }
        )
    legend += [
        {
            "sign": charts.sign("diamond"),
            "key": "",
            "name": f"published: {source.name}",
            "note": f"{source.version}, {source.seeds} seeds, mean ± standard deviation",
        }
        for source in dict.fromkeys(p.source for _, p in drawn)
    ]
    if any(result.state == "failed" and result.returns for group in groups for result in group.results):
        legend.append(
            {"sign": charts.sign("cross"), "key": "", "name": "a run that failed", "note": "its last evaluation"}
        )
    return legend
