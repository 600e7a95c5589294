"""Compare two runs: how they were made, and by how much their models differ where folds match.

Only fits on the same captures are set against each other: a number from other data says nothing
about a model. What has no match is counted and said.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eval.detection.bootstrap import mean_difference
from eval.report.tables import UNKNOWN, ReportTable, format_difference, format_number, render_table
from eval.results import MEASURES, Estimate, Row, Run
from traffic.errors import UserError

COMPARED = ("f1", "binary_macro_f1", "pr_auc", "false_share")
_SHOWN_NAMES = 6


@dataclass(frozen=True)
class Difference:
    """One model's measure in two runs, over the folds that both have.

    Attributes:
        model: its name in both.
        setting: what the protocol varied.
        labelling: whose labels.
        measure: of MEASURES.
        folds: how many match.
        first: mean over them in the first run.
        second: the same in the second.
        change: second minus first, with its 95 % interval.
    """

    model: str
    setting: str
    labelling: str
    measure: str
    folds: int
    first: float
    second: float
    change: Estimate

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 0; where one fold alone matches there is none."""
        low, high = self.change.low, self.change.high
        return low is not None and high is not None and not low <= 0 <= high


Place = tuple[str, str, str, str]  # model, setting, labelling, fold


def compare_runs(first: Run, second: Run, measures: Iterable[str] = COMPARED) -> list[Difference]:
    """Differences of every model that both runs hold, fold by fold.

    A fold's fits of several seeds are averaged first: seeds are no independent evidence about other
    networks.

    Raises:
        UserError: a measure is unknown, or no fold of both has the same captures and labels.
    """
    measures = tuple(measures)
    if unknown := [name for name in measures if name not in MEASURES]:
        raise UserError(
            f"no measure is called {', '.join(unknown)}; "
            f"expected any of {', '.join(MEASURES)}; correct it"
        )
    ours, theirs = _by_fold(first), _by_fold(second)
    common = _find_common(first, second)
    if not common:
        why = "; ".join(differences_of(first, second)) or "no model of both"
        raise UserError(
            f"{first.name} and {second.name} have no fold in common ({why}); expected runs of one "
            "protocol on the same captures and labels; run one of them again on the other's data"
        )
    found = []
    for group in dict.fromkeys(place[:3] for place in common):
        folds = [place for place in common if place[:3] == group]
        found += [
            _difference(group, name, [(ours[p], theirs[p]) for p in folds]) for name in measures
        ]
    return [one for one in found if one is not None]


def _by_fold(run: Run) -> dict[Place, list[Row]]:
    groups: dict[Place, list[Row]] = {}
    for row in run.rows:
        groups.setdefault((row.model, row.setting, row.labelling, row.fold), []).append(row)
    return groups


def _find_common(first: Run, second: Run) -> list[Place]:
    """Folds of both runs that were trained and tested on captures of the same content."""

    def captures(rows: list[Row], run: Run) -> set[tuple[frozenset[str], frozenset[str]]]:
        content = {one.name: one.sha256 for one in run.data}

        def contents(names: Iterable[str]) -> frozenset[str]:
            return frozenset(content[name] for name in names)

        return {(contents(row.train), contents(row.test)) for row in rows}

    theirs = _by_fold(second)
    return [
        place
        for place, rows in _by_fold(first).items()
        if place in theirs and captures(rows, first) == captures(theirs[place], second)
    ]


def _difference(
    group: tuple[str, str, str], measure: str, folds: list[tuple[list[Row], list[Row]]]
) -> Difference | None:
    pairs = [(_mean(ours, measure), _mean(theirs, measure)) for ours, theirs in folds]
    known = np.array([(a, b) for a, b in pairs if a is not None and b is not None])
    if not len(known):
        return None
    before, after = known.mean(axis=0)
    change = mean_difference(known[:, 1] - known[:, 0])
    return Difference(*group, measure, len(known), float(before), float(after), change)


def _mean(rows: list[Row], measure: str) -> float | None:
    values = [value for row in rows if (value := row.scores[measure].value) is not None]
    return float(np.mean(values)) if values else None


def differences_of(first: Run, second: Run) -> list[str]:
    """How two runs differ beside their scores, in words: data first, because it forbids most."""
    old, new = ({one.name: one.sha256 for one in run.data} for run in (first, second))
    changed = [name for name in sorted(old) if name in new and old[name] != new[name]]
    lines = _compare_names("captures", old, new)
    lines += [f"captures of other content in both: {_list(changed)}"] if changed else []
    lines += _compare_names("models", first.models, second.models)
    labellings = [{row.labelling for row in run.rows} for run in (first, second)]
    if labellings[0] != labellings[1]:
        lines.append(f"labels: {_list(labellings[0])} against {_list(labellings[1])}")
    ours, theirs = first.protocol, second.protocol
    lines += [
        f"protocol, {name}: {ours.get(name)} against {theirs.get(name)}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    pairs = {
        "seeds": (first.seeds, second.seeds),
        "commit": (first.commit, second.commit),
        "prompts": (first.prompt_fingerprint, second.prompt_fingerprint),
        "quick": (first.quick, second.quick),
    }
    lines += [f"{name}: {a} against {b}" for name, (a, b) in pairs.items() if a != b]
    versions = [
        f"{name} {first.versions.get(name, 'none')} against {second.versions.get(name, 'none')}"
        for name in sorted({*first.versions, *second.versions})
        if first.versions.get(name) != second.versions.get(name)
    ]
    return lines + ([f"versions: {', '.join(versions)}"] if versions else [])


def _compare_names(what: str, ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
    ours, theirs = list(ours), list(theirs)
    only = {
        "first": [name for name in ours if name not in theirs],
        "second": [name for name in theirs if name not in ours],
    }
    return [f"{what} of the {which} only: {_list(names)}" for which, names in only.items() if names]


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


_HEADS = ("model", "setting", "labels", "measure", "folds")


def difference_table(differences: Iterable[Difference], first: Run, second: Run) -> ReportTable:
    """Which rows differ and by how much; those that surely do come first."""
    rows = []
    ordered = sorted(differences, key=lambda one: (not one.differs, -abs(one.change.value or 0.0)))
    for one in ordered:
        name = one.measure
        place = (one.model, one.setting or UNKNOWN, one.labelling, name, str(one.folds))
        means = (format_number(name, one.first), format_number(name, one.second))
        rows.append((*place, *means, format_difference(name, one.change), _judge(one)))
    heads = (*_HEADS, first.name, second.name, "second − first", "differs")
    note = (
        "Means over folds that have the same captures in both runs; "
        "[ ] is Student's 95 % interval over folds."
    )
    title = f"{first.name} against {second.name}"
    return ReportTable(title, heads, tuple(rows), notes=(note,))


def _judge(one: Difference) -> str:
    if one.change.low is None:
        return "the same" if not one.change.value else "one fold only"
    return "yes" if one.differs else "the same" if one.first == one.second else "not surely"


def render_compare(first: Run, second: Run, measures: Iterable[str]) -> str:
    """All of it as Markdown: what differs, what could not be matched, the table."""
    table = difference_table(compare_runs(first, second, measures), first, second)
    lines = differences_of(first, second) or ["nothing but their scores"]
    common = len(_find_common(first, second))
    alone = [len(_by_fold(run)) - common for run in (first, second)]
    unmatched = (
        f"{alone[0]} folds of {first.name} and {alone[1]} of {second.name} "
        "have no match in the other and are left out."
    )
    made = "\n".join(f"- {line}" for line in lines)
    blocks = ["The runs differ in:", made, unmatched if any(alone) else "", render_table(table)]
    return "\n\n".join(filter(None, blocks)) + "\n"
