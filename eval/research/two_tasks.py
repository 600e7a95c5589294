"""Does learning detection and class together help to name anomalies? A page from a run (H7).

    python -m eval.research.two_tasks RUN [--out docs/research/two-tasks.md]

RUN is of `faultwise eval detection` with models that `python -m finetune.pocket.single_task` laid
down; their cards say what they have read. The verdict itself is `faultwise eval hypotheses H7`.
"""

from pathlib import Path

from assistant.llm.adapters import AdapterCard, read_card
from eval.detection.aggregate import NAMING
from eval.detection.bootstrap import paired_difference
from eval.models.registry import LLM_PREFIX, pair_tasks
from eval.report.tables import ReportTable, format_difference, format_estimate, render_table
from eval.research.command import Out, publish, start
from eval.results import Pooled, Run, read_run
from traffic.errors import UserError
from traffic.labels import NORMAL

_WHOLE = ("f1", "binary_macro_f1", "binary_recall", "false_share")


def render_page(run: Run, command: str) -> str:
    """Markdown: what the models have read, naming compared in pairs, and where the two differ.

    Raises:
        UserError: the run holds no pair of both tasks and of the class alone.
    """
    pairs = pair_tasks(run.models)
    if not pairs:
        raise UserError(
            f"run {run.name} holds no model of both tasks and of the class alone; expected "
            "llm:DIR/joint and llm:DIR/class; add them by --models"
        )
    pooled = {
        one.model: one for one in run.pooled if (one.setting, one.labelling) == ("", "corrected")
    }
    rows, notes = [], []
    for joint, single in pairs.items():
        gain = paired_difference(run.comparisons, ("", "corrected", NAMING), joint, single)
        better = format_difference("f1", gain) if gain is not None else "not measured"
        for one in (joint, single):
            card = read_card(Path(one.removeprefix(LLM_PREFIX)))
            cells = [f"{card.metrics['train.steps']:,.0f}", f"{card.metrics['train.loss']:.3f}"]
            whole = [format_estimate(name, pooled[one].scores[name]) for name in _WHOLE]
            shown = whole if one == joint else ["–"] * len(_WHOLE)
            rows.append(
                (one.removeprefix(LLM_PREFIX), *cells, better if one == joint else "", *shown)
            )
        notes.append(_say_read(card))
    heads = ("model", "steps", "loss", "names better by", "which label, macro-F1",
             "normal or not", "anomalies called so", "normal called so")  # fmt: skip
    notes.append(
        "Names better by: macro-F1 over the labels of the anomalous windows, each called by its likeliest "
        "anomaly, both minus class alone, in pairs over devices. A model of classes alone cannot tell normal, "
        "so the rest is of both tasks. Loss: nats a token of what each learns."
    )
    title = "Both tasks and the class alone"
    table = render_table(ReportTable(title, heads, tuple(rows), notes=tuple(notes)))
    intro = (
        f"# Two tasks or one\n\nMade by `{command}` from `{run.command}`, {run.created[:10]}, commit "
        f"{run.commit[:10]}, {len(run.data)} captures that neither model had read, "
        f"{_count_odd(pooled[next(iter(pairs))]):,} anomalous windows. The models were tuned by "
        f"`{card.made_by}`."
    )
    return f"{intro}\n\n{table}\n"


def _say_read(card: AdapterCard) -> str:
    plants = sum(name.startswith("simulated-") for name in card.data)
    return (
        f"Read: {plants} simulated plants and {len(card.data) - plants} recorded runs, "
        f"{card.metrics['train.texts']:,.0f} texts with labels, {card.metrics['train.share_of_shipped']:.1%} "
        f"of what the shipped base reads, seed {card.seed}; the class alone leaves out the normal ones."
    )


def _count_odd(one: Pooled) -> int:
    rows = zip(one.confusion.labels, one.confusion.counts, strict=True)
    return sum(sum(counts) for label, counts in rows if label != NORMAL)


def main(run: Path, out: Out = None) -> None:
    """Print or write the page."""
    publish(render_page(read_run(run), f"python -m eval.research.two_tasks {run.name}"), out)


if __name__ == "__main__":
    start(main)
