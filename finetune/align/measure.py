"""What an adapter makes of feedback and of known truth, before and after it was aligned."""

import numpy as np
import pandas as pd

from assistant.detection.classify import decide, make_probabilities
from assistant.llm.adapters import Bounds
from assistant.llm.remembered import Scorer
from finetune.align.evidence import Windows
from finetune.align.preferences import Parts
from finetune.calibrate import judge_windows, measure_windows, score_texts
from traffic.labels import LABELS, NORMAL

_ALLOWED = 0.02  # of proved windows and of all anomalous ones, what may be alarmed less
_LABEL_ALLOWED, _LEAST_WINDOWS = 0.15, 20  # of one label's windows, where there are so many


def compare(
    before: Scorer,
    old: Bounds,
    after: Scorer,
    new: Bounds,
    parts: Parts,
    windows: Windows,
    calibrate: pd.DataFrame,
) -> dict[str, float]:
    """The same measures of both adapters, each by its own bounds."""
    metrics: dict[str, float] = {}
    for when, llm, bounds in (("before", before, old), ("after", after, new)):
        for name, table in (("held_out", parts.held_out), ("learned", parts.learned)):
            for measure, value in measure_feedback(table, llm, bounds).items():
                metrics[f"{name}.{measure}.{when}"] = value
        proved = _judge(windows.proved, llm, bounds)
        if len(proved):
            metrics[f"proved.alarmed.{when}"] = float((proved["label"] != NORMAL).mean())
        scores = score_texts(calibrate, llm)
        for measure, value in measure_windows(calibrate, scores, bounds).items():
            metrics[f"truth.{measure}.{when}"] = value
        alarmed = (judge_windows(calibrate, scores, bounds)["label"] != NORMAL).to_numpy()
        for label, rows in calibrate.reset_index(drop=True).groupby("label"):
            if label != NORMAL and len(rows) >= _LEAST_WINDOWS:
                metrics[f"truth.{label}.{when}"] = float(alarmed[rows.index].mean())
    return metrics


def measure_feedback(table: pd.DataFrame, llm: Scorer, bounds: Bounds) -> dict[str, float]:
    """What an adapter makes of windows of feedback.

    Args:
        table: ``text said shown``.
        llm: with the adapter.
        bounds: of its card.

    Returns:
        ``right``: the share whose verdict is what the person says (where that is open, not what was
        wrong); ``false_alarms``, of those called normal, and ``missed``, of the others, the shares
        alarmed and not; ``likelihood``, the mean calibrated probability of what the person says.
        Each only where there are such windows.
    """
    if table.empty:
        return {}
    scores = score_texts(table, llm)
    verdict = _verdicts(scores, bounds)["label"].to_numpy(object)
    said, shown = (table[name].to_numpy(object) for name in ("said", "shown"))
    open_, normal = said == "", said == NORMAL
    measures = {"right": float(np.where(open_, verdict != shown, verdict == said).mean())}
    if normal.any():
        measures["false_alarms"] = float((verdict[normal] != NORMAL).mean())
    if (~normal).any():
        measures["missed"] = float((verdict[~normal] == NORMAL).mean())
    if (~open_).any():
        probabilities = make_probabilities(scores, bounds.temperature)
        codes = [LABELS.index(label) for label in said[~open_]]
        measures["likelihood"] = float(probabilities[np.flatnonzero(~open_), codes].mean())
    return measures


def _judge(table: pd.DataFrame, llm: Scorer, bounds: Bounds) -> pd.DataFrame:
    if table.empty:
        return pd.DataFrame({"label": []})
    return _verdicts(score_texts(table, llm), bounds)


def _verdicts(scores: np.ndarray, bounds: Bounds) -> pd.DataFrame:
    """Verdicts on windows alone: what their device did minutes before is not known here."""
    return decide(make_probabilities(scores, bounds.temperature, bounds.prior_shift), bounds)


def find_losses(metrics: dict[str, float], windows: Windows) -> tuple[str, ...]:
    """Why the site goes on with its own adapter."""

    def lost(name: str) -> float:
        return metrics.get(f"{name}.before", 0.0) - metrics.get(f"{name}.after", 0.0)

    found = []
    if lost("proved.alarmed") > _ALLOWED:
        found.append(
            f"of {len(windows.proved)} windows whose cause is proved it alarms "
            f"{metrics['proved.alarmed.after']:.0%} instead of {metrics['proved.alarmed.before']:.0%}: "
            "feedback must not silence what packets prove"
        )
    if lost("truth.recall") > _ALLOWED:
        found.append(
            f"of anomalous windows with known truth it alarms {metrics['truth.recall.after']:.0%} "
            f"instead of {metrics['truth.recall.before']:.0%}"
        )
    silenced = [
        label for label in LABELS if label != NORMAL and lost(f"truth.{label}") > _LABEL_ALLOWED
    ]
    if silenced:
        found.append(f"it finds far less {', '.join(silenced)} than before")
    if lost("held_out.right") > 0:
        found.append("it is right less often on the feedback that was held out")
    return tuple(found)
