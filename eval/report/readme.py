"""The README's table of results: every run that lies in ``results/``, won or lost, written by
nobody's hand."""

import re
from collections.abc import Sequence

from eval.detection.aggregate import Part, headline, make_parts, order_models
from eval.detection.bootstrap import is_better, orient, paired_difference, turned
from eval.report.tables import format_difference, format_estimate, format_number
from eval.results import Estimate, Pooled, Run

BEGINNING = "<!-- results: written by `python tests/test_house.py` from results/*.json -->"
END = "<!-- end of results -->"
OURS, RULE, OPPONENT = "pocket", "one-line-rule", "xgboost"
_HEADS = (
    *("protocol", "measure", "`pocket` (the LLM)", "`xgboost`", "`one-line-rule`", "best of all"),
    *("LLM − best other", "so the LLM", "labels as published"),
)
_WORDS = {
    "binary_macro_f1": "normal or not, macro-F1",
    "f1": "which label, macro-F1",
    "binary_recall": "anomalous called so",
    "false_share": "normal called anomalous",
}
_FINDING = ["binary_macro_f1", "f1", "binary_recall", "false_share"]
_MOST_SETTINGS = 5  # with more, only whether a window is normal is shown


def render_results(runs: Sequence[Run]) -> str:
    """Rows for each run and setting with corrected labels, published ones beside, and how each run
    was made."""
    if not runs:
        return "\nNo run lies in `results/` yet: `faultwise eval detection` makes one.\n"
    rows = [row for run in runs for row in _rows(run)]
    lines = [_HEADS, ["---"] * 2 + ["---:"] * 5 + ["---"] * 2, *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"\n{table}\n\n{_FOOT}\n\n" + "\n".join(map(_made, runs)) + "\n"


_FOOT = (
    '[ ] are 95 % intervals over devices. "LLM − best other" is the paired difference on the same windows where the '
    'run tested that pair, otherwise the plain one (~); "wins" and "loses" only where the interval leaves out 0. Of '
    "normal windows called anomalous, fewer are better. The last column is the LLM and `xgboost` judged by labels as "
    "published. \\* the adapter was made with captures that are tested: no test of it."
)


def _rows(run: Run) -> list[list[str]]:
    parts = make_parts(run)
    shown = [
        part for part in parts if part.labelling == "corrected" and not _is_retold(part, parts)
    ]
    few = len({part.base for part in shown}) <= _MOST_SETTINGS
    rows = []
    for part in shown:
        published = next(
            (p for p in parts if (p.setting, p.labelling) == (part.setting, "published")), None
        )
        finds = headline(part.pooled) == "f1"
        names = (_FINDING if few else _FINDING[:1]) if finds else ["false_share"]
        rows += [_row(run, part, published, name) for name in names]
    return rows


def _is_retold(part: Part, parts: Sequence[Part]) -> bool:
    """Whether the same setting stands again with only the captures that no model had seen."""
    return not part.unseen and any(
        p.unseen and (p.base, p.labelling) == (part.base, part.labelling) for p in parts
    )


def _row(run: Run, part: Part, published: Part | None, name: str) -> list[str]:
    by_model = {one.model: one for one in part.pooled}
    ordered = order_models(part.pooled, name)
    best = next((one for one in ordered if one.compared), None)
    other = next((one for one in ordered if one.compared and one.model != OURS), None)
    protocol = f"{run.protocol.get('name', run.name)}{f': {part.setting}' if part.setting else ''}"
    cells = [_cell(name, by_model.get(model)) for model in (OURS, OPPONENT, RULE)]
    top = f"`{best.model}` {format_number(name, best.scores[name].value)}" if best else "–"
    against = _against(run, part, name, by_model.get(OURS), other)
    return [protocol, _WORDS[name], *cells, top, *against, _published(published, name)]


def _published(part: Part | None, name: str) -> str:
    """The same numbers by labels as published, where they differ from none."""
    if part is None:
        return "–"
    scores = {one.model: format_number(name, one.scores[name].value) for one in part.pooled}
    return f"{scores.get(OURS, 'not run')}; {scores.get(OPPONENT, 'not run')}"


def _cell(name: str, one: Pooled | None) -> str:
    if one is None:
        return "not run"
    text = format_estimate(name, one.scores[name])
    return text if one.compared else f"{text} \\*"


def _against(
    run: Run, part: Part, name: str, ours: Pooled | None, other: Pooled | None
) -> list[str]:
    if ours is None or other is None:
        return ["–", "was not run" if ours is None else "is alone"]
    if not ours.compared:
        return ["–", "is not tested \\*"]
    place = (part.base, part.labelling, name)
    paired = paired_difference(run.comparisons, place, ours.model, other.model)
    if paired is not None and paired.value is not None:
        return [format_difference(name, paired), verdict(name, paired)]
    a, b = ours.scores[name].value, other.scores[name].value
    if a is None or b is None:
        return ["–", "cannot be measured"]
    return [f"~ {format_difference(name, Estimate(value=a - b))}", "is not tested in pairs"]


def verdict(measure: str, difference: Estimate) -> str:
    """What a difference of ours and another's measure means.

    >>> verdict("f1", Estimate(value=-0.2, low=-0.3, high=-0.1)), verdict("f1", Estimate(value=0.1, low=-0.1, high=0.3))
    ('loses', 'is level')
    """
    better = orient(measure, difference)
    if better.low is None:
        return "cannot be told"
    if is_better(better) == "holds":
        return "wins"
    return "loses" if is_better(turned(better)) == "holds" else "is level"


def _made(run: Run) -> str:
    captures = f"{len(run.data)} captures of {', '.join(sorted({one.network for one in run.data}))}"
    return (
        f"- {run.protocol.get('name', run.name)}: `{run.command}`, {run.created[:10]}, commit "
        f"{run.commit[:10] + ('+' if run.commit.endswith('+') else '') if run.commit else 'unknown'}, {captures}, "
        f"{len(run.models)} models, seeds {', '.join(map(str, run.seeds))}: `results/{run.name}.json`"
    )


def with_results(readme: str, runs: Sequence[Run]) -> str:
    """The README with its table of results made anew; unchanged where it has no place for one."""
    if BEGINNING not in readme:
        return readme
    between = re.compile(f"{re.escape(BEGINNING)}.*?{re.escape(END)}", flags=re.DOTALL)
    return between.sub(lambda _: f"{BEGINNING}\n{render_results(runs)}\n{END}", readme, count=1)
