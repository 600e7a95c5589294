"""docs/results.md: what lies in results/ and on the adapters' cards, the losses included.

python -m eval.research.summary        writes it anew
"""

import inspect
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from assistant.llm.adapters import read_card
from eval.answers.grading import MEASURES as ANSWER_MEASURES
from eval.detection.aggregate import Part, headline, make_parts, order_models
from eval.detection.bootstrap import is_better, orient, paired_difference, turned
from eval.report.tables import (
    UNKNOWN,
    ReportTable,
    format_difference,
    format_estimate,
    format_number,
    render_table,
)
from eval.research.claims import StoredRuns, Verdict, list_former, read_runs
from eval.research.hypotheses import HYPOTHESES, MARKS
from eval.results import Estimate, Pooled, Run
from traffic.files import write_text

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "results.md"
_ADAPTERS = {
    "assistant/pocket/adapter": "",
    "docs/left-out": ", public captures left out of training",
}
_INTRODUCTION = """# Results

Written by `python -m eval.research.summary` from `results/*.json` and the adapters' cards; a test
keeps it current. `faultwise eval report RUN` makes a page of one run, `faultwise eval hypotheses`
says what the runs decide. How it was measured: [evaluation.md](evaluation.md)."""


def render_summary(runs: StoredRuns) -> str:
    """The whole document as Markdown."""
    blocks = [
        _INTRODUCTION,
        render_table(make_card_table()),
        render_table(make_verdict_table(runs)),
    ]
    if runs.detection:
        blocks.append(render_table(make_model_table(runs.detection, list_former(runs))))
    else:
        blocks.append("No run lies in `results/` yet: `faultwise eval detection` makes one.")
    if runs.answers:
        blocks.append(render_table(_make_answer_table(runs)))
    if runs.retrieval:
        blocks.append(render_table(_make_retrieval_table(runs)))
    return "\n\n".join(blocks) + "\n"


# ---- the adapters' cards ----


def make_card_table() -> ReportTable:
    """What the shipped adapter and the one that never read a public capture reach."""
    rows = []
    for folder, which in _ADAPTERS.items():
        groups: dict[str, dict[str, float]] = {}
        card = read_card(ROOT / folder)
        test = card.split["test"]
        plants, houses = (
            sum(name.startswith(kind) for name in test) for kind in ("simulated-", "house-")
        )
        together = {
            "simulated": f"{plants} simulated plants never seen",
            "houses": f"{houses} simulated houses never seen",
        }
        for name, value in card.metrics.items():
            group, _, measure = name.rpartition(".")
            if not name.startswith("calibration"):
                groups.setdefault(group, {})[measure] = value
        for group in sorted(groups, key=_numbers_in):
            of = groups[group]
            finds = "recall" in of
            name = together.get(group, group)
            macro = f"{of['macro_f1']:.2f}" if finds else "one class"
            found = f"{of['recall']:.1%}" if finds else "none to find"
            names = [
                f"{of[share]:.1%}" if share in of else "–"
                for share in ("named_share", "right_name_share")
            ]
            shares = (f"{of['false_share']:.2%}", found, *names)
            rows.append((f"{name}{which}", f"{of['windows']:,.0f}", macro, *shares))
    heads = (
        *("windows of", "windows", "macro-F1", "false alarms", "anomalies alarmed", "named"),
        "rightly named",
    )
    notes = (
        "No adapter was trained on what its rows test. An alarm is an anomalous verdict, whether it "
        "names a label or says that the cause is unclear; a false one is of a normal window. Named: "
        "of the anomalies alarmed. Rightly: of those named.",
        "Runs are emulated plants, a quarter of an hour each; those that an adapter has read are "
        "named on its card.",
    )
    return ReportTable("The pocket model", heads, tuple(rows), notes=notes)


def _numbers_in(name: str) -> list[int]:
    """Sorts run-10 behind run-9."""
    return [int(part) if part.isdigit() else 0 for part in name.split("-")]


# ---- the papers' hypotheses and questions ----


def make_verdict_table(runs: StoredRuns) -> ReportTable:
    """A row a hypothesis and question: the verdict, and what it rests on or waits for."""
    rows = []
    for name, find in HYPOTHESES.items():
        verdict = find(runs, OURS)
        asked = (inspect.getdoc(find) or "").partition("\n\n")[0].replace("\n", " ")
        rows.append((name, asked, verdict.word, _render_grounds(verdict)))
    notes = [
        "`faultwise eval hypotheses NAME` prints rule, bounds, numbers and the command of each run. "
        "+ holds, - fails, ? open: a bound lies inside the interval, or there is no run."
    ]
    if former := list_former(runs):
        notes.append(
            f"Of a former edition of the language model, which read other texts: {', '.join(former)}. "
            "What rests on these alone is said of that edition."
        )
    heads = ("", "asked", "verdict", "what it rests on")
    return ReportTable("What the runs decide", heads, tuple(rows), notes=tuple(notes))


def _render_grounds(verdict: Verdict) -> str:
    claims = [f"{MARKS[one.state]} {one.says}" for one in verdict.claims if not one.beside]
    waits = [f"waits for {verdict.waits_for}"] if verdict.waits_for else []
    pages = [f"[{page}](research/{page})" for page in verdict.pages]
    near = [f"measured near to it: {', '.join(pages)}"] if pages else []
    return "; ".join([*claims, *waits, *near])


# ---- models against each other ----

OURS, RULE, OPPONENT = "pocket", "one-line-rule", "xgboost"
_MODEL_HEADS = (
    *("protocol", "measure", "`pocket` (the LLM)", "`xgboost`", "`one-line-rule`", "best of all"),
    *("LLM − best other", "so the LLM", "labels as published"),
)
_MEANINGS = {
    "binary_macro_f1": "normal or not, macro-F1",
    "f1": "which label, macro-F1",
    "binary_recall": "anomalous called so",
    "false_share": "normal called anomalous",
}
_MOST_SETTINGS = 5  # with more, only whether a window is normal is shown
_MODEL_NOTE = (
    '[ ] are 95 % intervals over devices. "LLM − best other" is the paired difference on the same '
    'windows where the run tested that pair, otherwise the plain one (~); "wins" and "loses" only '
    "where the interval leaves out 0. Of normal windows called anomalous, fewer are better. The "
    "last column is the LLM and `xgboost` judged by labels as published. \\* the adapter was made "
    "with captures that are tested: no test of it. The LLM brings its weights along; the others learn "
    "from the run's other captures alone."
)


def make_model_table(runs: Sequence[Run], former: Collection[str] = ()) -> ReportTable:
    """Rows for each run and setting with corrected labels; notes say how each run was made.

    ``former``: names of runs whose language model is a former edition.
    """
    runs = sorted(runs, key=lambda run: run.name in former)
    rows = tuple(
        (f"{row[0]} (former edition)" if run.name in former else row[0], *row[1:])
        for run in runs
        for row in _model_rows(run)
    )
    notes = (_MODEL_NOTE, *(_render_origin(run, run.name in former) for run in runs))
    return ReportTable("How the models compare", _MODEL_HEADS, rows, notes=notes)


def _model_rows(run: Run) -> Iterator[tuple[str, ...]]:
    parts = make_parts(run)
    # Where some captures had been seen, the part of the others stands for the setting.
    retold = {(part.base, part.labelling) for part in parts if part.unseen}
    shown = [
        part
        for part in parts
        if part.labelling == "corrected"
        and (part.unseen or (part.base, part.labelling) not in retold)
    ]
    few = len({part.base for part in shown}) <= _MOST_SETTINGS
    published = {part.setting: part for part in parts if part.labelling == "published"}
    for part in shown:
        measures = list(_MEANINGS) if few else ["binary_macro_f1"]
        if headline(part.pooled) != "f1":
            measures = ["false_share"]
        for name in measures:
            yield _model_row(run, part, published.get(part.setting), name)


def _model_row(run: Run, part: Part, published: Part | None, name: str) -> tuple[str, ...]:
    by_model = {one.model: one for one in part.pooled}
    compared = [one for one in order_models(part.pooled, name) if one.compared]
    other = next((one for one in compared if one.model != OURS), None)
    top = compared[0] if compared else None
    best = f"`{top.model}` {format_number(name, top.scores[name].value)}" if top else UNKNOWN
    cells = []
    for model in (OURS, OPPONENT, RULE):
        one = by_model.get(model)
        text = format_estimate(name, one.scores[name]) if one else "not run"
        cells.append(text if one is None or one.compared else f"{text} *")
    protocol = f"{run.protocol.get('name', run.name)}{f': {part.setting}' if part.setting else ''}"
    against = _compare(run, part, name, by_model.get(OURS), other)
    return (protocol, _MEANINGS[name], *cells, best, *against, _render_published(published, name))


def _render_published(part: Part | None, name: str) -> str:
    """The LLM's and XGBoost's numbers by labels as published."""
    if part is None:
        return UNKNOWN
    scores = {one.model: format_number(name, one.scores[name].value) for one in part.pooled}
    return f"{scores.get(OURS, 'not run')}; {scores.get(OPPONENT, 'not run')}"


def _compare(
    run: Run, part: Part, name: str, ours: Pooled | None, other: Pooled | None
) -> tuple[str, str]:
    """The difference between ours and the best other, and what it means."""
    if ours is None or other is None:
        return UNKNOWN, "was not run" if ours is None else "is alone"
    if not ours.compared:
        return UNKNOWN, "is not tested *"
    place = (part.base, part.labelling, name)
    paired = paired_difference(run.comparisons, place, ours.model, other.model)
    if paired is not None and paired.value is not None:
        return format_difference(name, paired), judge_difference(name, paired)
    first, second = ours.scores[name].value, other.scores[name].value
    if first is None or second is None:
        return UNKNOWN, "cannot be measured"
    plain = Estimate(value=first - second)
    return f"~ {format_difference(name, plain)}", "is not tested in pairs"


def judge_difference(measure: str, difference: Estimate) -> str:
    """What a difference of ours and another's measure means.

    >>> judge_difference("f1", Estimate(value=-0.2, low=-0.3, high=-0.1))
    'loses'
    """
    better = orient(measure, difference)
    if better.low is None:
        return "cannot be told"
    if is_better(better) == "holds":
        return "wins"
    return "loses" if is_better(turned(better)) == "holds" else "is level"


def _render_origin(run: Run, former: bool) -> str:
    commit = run.commit[:10] + ("+" if run.commit.endswith("+") else "") or "unknown"
    captures = f"{len(run.data)} captures of {', '.join(sorted({one.network for one in run.data}))}"
    fits = f"{len(run.models)} models, seeds {', '.join(map(str, run.seeds))}"
    made = f"`{run.command}`, {run.created[:10]}, commit {commit}"
    name = run.protocol.get("name", run.name)
    old = "; the language model is a **former edition**, which read other texts" if former else ""
    return f"{name}: {made}, {captures}, {fits}: `results/{run.name}.json`{old}"


# ---- answers and the search ----


def _make_answer_table(runs: StoredRuns) -> ReportTable:
    assert runs.answers is not None
    rows = tuple(
        (one.measure, format_estimate("f1", one.share), str(one.cases), ANSWER_MEASURES[one.measure].meaning)
        for one in runs.answers.measured
        if not one.group and one.cases
    )  # fmt: skip
    origin = runs.answers.origin
    made = f"`{origin.command}`, {origin.created[:10]}, commit {origin.commit[:10]}"
    notes = (f"Shares of cases with their 95 % intervals: {made}.", *runs.answers.notes)
    heads = ("measure", "share", "cases", "meaning")
    return ReportTable("Whether answers are right", heads, rows, notes=notes)


def _make_retrieval_table(runs: StoredRuns) -> ReportTable:
    assert runs.retrieval is not None
    names = ("recall_at_1", "recall_at_5", "mrr", "refused_rightly", "refused_wrongly")
    rows = tuple(
        (one.variant, *(format_estimate("f1", getattr(one, name)) for name in names))
        for one in runs.retrieval.variants
        if not one.group
    )
    heads = ("ranking", "Recall@1", "Recall@5", "MRR", "refused rightly", "refused wrongly")
    whole, origin = runs.retrieval.variants[0], runs.retrieval.origin
    asked = (
        f"{whole.questions} questions that a document answers, {whole.unanswerable} that none does"
    )
    made = f"`{origin.command}`, {origin.created[:10]}, commit {origin.commit[:10]}"
    return ReportTable(
        "Whether the search finds what answers", heads, rows, notes=(f"{asked}: {made}.",)
    )


if __name__ == "__main__":
    write_text(DOCUMENT, render_summary(read_runs(ROOT / "results")))
