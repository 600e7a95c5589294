"""The README's table of results: every run that lies in ``results/``, won or lost, written by nobody's hand."""

import re
from collections.abc import Sequence

from eval.differences import is_better, orient, paired_difference, turned
from eval.report_tables import Part, format_number, headline, make_parts, signed
from eval.results import Estimate, Pooled, Run

__all__ = ["BEGINNING", "END", "OURS", "render_results", "with_results"]

BEGINNING = "<!-- results: written by `python tests/test_house.py` from results/*.json -->"
END = "<!-- end of results -->"
OURS, RULE, OPPONENT = "pocket", "one-line-rule", "xgboost"
_HEADS = (
    "protocol",
    "labels",
    "measure",
    "`pocket` (the LLM)",
    "`xgboost`",
    "`one-line-rule`",
    "best of all",
    "LLM − best other",
    "so the LLM",
)


def render_results(runs: Sequence[Run]) -> str:
    """A row for each run, setting and kind of labels, and how each run was made."""
    if not runs:
        return "\nNo run lies in `results/` yet: `faultwise eval detection` makes one.\n"
    rows = [_row(run, part) for run in runs for part in make_parts(run)]
    made = [_made(run) for run in runs]
    lines = [_HEADS, ["---"] * 3 + ["---:"] * 5 + ["---"], *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"\n{table}\n\n{_FOOT}\n\n" + "\n".join(made) + "\n"


_FOOT = (
    '[ ] are 95 % intervals over devices. "LLM − best other" is the paired difference on the same windows where the '
    'run tested that pair, otherwise the plain one (~). "wins" and "loses" only where the interval leaves out 0. '
    "\\* the adapter was made with captures that are tested: no test of it. False alarms: less is better."
)


def _row(run: Run, part: Part) -> list[str]:
    name = headline(part.pooled)
    by_model = {one.model: one for one in part.pooled}
    best = next((one for one in part.pooled if one.compared), None)
    protocol = f"{run.protocol.get('name', run.name)}{f': {part.setting}' if part.setting else ''}"
    cells = [_cell(name, by_model.get(model)) for model in (OURS, OPPONENT, RULE)]
    other = next((one for one in part.pooled if one.compared and one.model != OURS), None)
    top = f"`{best.model}` {format_number(name, best.scores[name].value)}" if best else "–"
    return [protocol, part.labelling, _words(name), *cells, top, *_against(run, part, name, by_model.get(OURS), other)]


def _words(name: str) -> str:
    return {"f1": "macro-F1", "false_share": "false alarms"}[name]


def _cell(name: str, one: Pooled | None) -> str:
    if one is None:
        return "not run"
    estimate = one.scores[name]
    text = format_number(name, estimate.value)
    if estimate.low is not None and estimate.high is not None:
        text += f" [{format_number(name, estimate.low)}, {format_number(name, estimate.high)}]"
    return text if one.compared else f"{text} \\*"


def _against(run: Run, part: Part, name: str, ours: Pooled | None, other: Pooled | None) -> list[str]:
    if ours is None or other is None:
        return ["–", "was not run" if ours is None else "is alone"]
    if not ours.compared:
        return ["–", "is not tested \\*"]
    paired = paired_difference(run.comparisons, (part.base, part.labelling, name), ours.model, other.model)
    a, b = ours.scores[name].value, other.scores[name].value
    if paired is None and (a is None or b is None):
        return ["–", "cannot be measured"]
    if paired is None:
        return [f"~ {signed(name, Estimate(value=float(a or 0) - float(b or 0)))}", "is not tested in pairs"]
    return [signed(name, paired), verdict(name, paired)]


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
