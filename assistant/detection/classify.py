"""Verdicts: what each window is, how sure that is, and when to say nothing.

    windows ─▶ texts ─▶ prompts ─▶ likelihood of each answer ─▶ calibrated probabilities ─▶ label |
    abstain

Two questions, two bounds of the card. Is it odd? From the card's threshold of P(anomalous) on a
window is, and its label is the likeliest anomaly. Which label? Where its share of the anomalous
probability is small, or the runner-up is one that traffic alone cannot tell from it, the verdict
abstains: anomalous, cause unclear.

Anomalies are rare in service, so normal gains by the card's shift; but windows of one device are no
independent draws. Where the last minutes of a device look odd without the shift, it is dropped.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from assistant.facts.exclusion import FORBIDDEN_BY
from assistant.facts.profiles import PROFILES
from assistant.llm.adapters import AdapterCard, Bounds, check_card
from assistant.llm.local import Progress
from assistant.llm.remembered import Scorer
from prompts.messages import ANSWERS, classification, classification_prompt
from prompts.window_text import render_windows
from traffic.capture import SAMPLE_S
from traffic.labels import LABELS, NORMAL
from traffic.plant import Plant
from traffic.windows import Windows

# A service that never answered and a dead controller of malware look the same from flows.
_INSEPARABLE = tuple((one.label, other) for one in PROFILES.values() for other in one.inseparable)
_MARGIN = 0.4
# Which of these a window shows depends on how many others do the same: incidents tell.
_FLOODS = [LABELS.index(one.label) for one in PROFILES.values() if one.flood]
_NORMAL = LABELS.index(NORMAL)
_EPISODE_SLOTS = 30  # five minutes looked back
_EPISODE_WINDOWS = 12  # at least so many of them, two minutes


def classify(
    windows: Windows,
    llm: Scorer,
    card: AdapterCard,
    progress: Progress | None = None,
    plant: Plant | None = None,
) -> pd.DataFrame:
    """Judge windows.

    Args:
        windows: from `traffic.windows.make_windows`.
        llm: the base with the card's adapter merged in.
        card: gives the temperature and the bounds.
        progress: called with the numbers of different texts that are scored and that there are.
        plant: tells the devices' roles, for which a site's card may have bounds of their own.

    Returns:
        One row per window: ``device``, ``start_s``, ``end_s``, ``label``, ``probability`` (of that
        label, calibrated), ``abstained``, ``direction`` (source, target or ""), then ``p_<label>``
        for every label, float32.

    Raises:
        UserError: the card was made for other prompts or labels.
    """
    check_card(card)
    prompts = make_prompts(render_windows(windows), llm)
    scores = llm.score(prompts, [ANSWERS[label] for label in LABELS], progress)
    return judge_scores(windows, scores, card, plant)


def judge_scores(
    windows: Windows, scores: np.ndarray, card: AdapterCard, plant: Plant | None = None
) -> pd.DataFrame:
    """Verdicts from scores, whoever gave them.

    Args:
        windows: n of them.
        scores: shape (n, len(LABELS)), log-probabilities.
        card: of the adapter that gave them; one that `check_card` passes.
        plant: tells the devices' roles.

    Returns:
        As `classify`.
    """
    place = windows.table[["device", "start_s", "end_s"]].reset_index(drop=True)
    slots = np.rint(place["start_s"].to_numpy() / SAMPLE_S).astype(np.int64)
    shift = find_shifts(scores, card.bounds, place["device"].factorize()[0], slots)
    alarms = find_alarms(card, place["device"], plant)
    probabilities = make_probabilities(scores, card.temperature, shift)
    verdicts = decide(deny_impossible(probabilities, _read_columns(windows)), card.bounds, alarms)
    verdicts.insert(3, "direction", choose_directions(windows, verdicts["label"].to_numpy()))
    return pd.concat([place, verdicts], axis=1)


def make_prompts(texts: list[str], llm: Scorer) -> list[str]:
    """The prompt of every text in the form that a model was tuned on: chat where it has a template,
    plain elsewhere."""
    if llm.chat_capable:
        return [llm.render(classification(text)) for text in texts]
    return [classification_prompt(text) for text in texts]


def find_shifts(
    scores: np.ndarray, bounds: Bounds, devices: np.ndarray, slots: np.ndarray
) -> np.ndarray:
    """The nats that normal gains in each window: the card's, none amid an episode.

    Args:
        scores: shape (n, len(LABELS)), log-probabilities, a device's windows together by time.
        bounds: of the card.
        devices: shape (n,), a number for each.
        slots: shape (n,), int64, the slot in which each window starts.

    Returns:
        Shape (n, 1), float64.
    """
    odd = 1 - make_probabilities(scores, bounds.temperature)[:, _NORMAL].astype(float)
    width = (np.ptp(slots) if len(slots) else 0) + _EPISODE_SLOTS + 1
    key = devices.astype(np.int64) * width + slots  # sorted, devices further apart than an episode
    total = np.append(0.0, np.cumsum(odd))
    last = np.arange(1, len(key) + 1)
    first = np.searchsorted(key, key - _EPISODE_SLOTS, side="right")
    count = last - first
    episode = (total[last] - total[first]) / np.maximum(count, 1) >= bounds.episode
    episode &= count >= _EPISODE_WINDOWS
    return np.where(episode, 0.0, bounds.prior_shift)[:, None]


def _read_columns(windows: Windows) -> dict[str, np.ndarray]:
    """Columns of the samples of each window, shape (n_windows, samples); 0 where there is none."""
    values = windows.samples[list(FORBIDDEN_BY)].to_numpy(float)
    padded = np.vstack([values, np.zeros((1, len(FORBIDDEN_BY)))])  # row -1: no sample
    return {name: padded[windows.rows, at] for at, name in enumerate(FORBIDDEN_BY)}


def deny_impossible(probabilities: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Take from each window the labels that its numbers forbid; the others share what they had.

    A model that never saw a device calls what is new to it something: no link is full of a few
    hundred bytes.

    Args:
        probabilities: shape (n_windows, len(LABELS)).
        columns: ``FORBIDDEN_BY`` of each window's samples, shape (n_windows, samples).
    """
    possible = probabilities.copy()
    for code, label in enumerate(LABELS):
        impossible = PROFILES[label].impossible if label != NORMAL else None
        if impossible is not None:
            possible[impossible(columns), code] = 0.0
    return possible / np.maximum(possible.sum(axis=1, keepdims=True), np.float32(1e-9))


def find_alarms(card: AdapterCard, devices: pd.Series, plant: Plant | None = None) -> np.ndarray:
    """From which P(anomalous) on each window is anomalous, by its device's role.

    Args:
        card: with the bound of all, and those of roles where a site has them.
        devices: address of each window's device, shape (n,).
        plant: tells the roles; without it the bound of unknown roles holds.

    Returns:
        Shape (n,), float64.
    """
    usual = card.role_thresholds.get("", card.threshold)
    roles = {one.address: one.role for one in plant.devices} if plant else {}
    known = {
        address: card.role_thresholds[role]
        for address, role in roles.items()
        if role in card.role_thresholds
    }
    return devices.map(known).astype(float).fillna(usual).to_numpy()


def decide(
    probabilities: np.ndarray, bounds: Bounds, alarms: np.ndarray | None = None
) -> pd.DataFrame:
    """Turn probabilities into verdicts.

    Args:
        probabilities: shape (n, len(LABELS)), in the order of ``LABELS``.
        bounds: from which probability on a window is anomalous, and its label named.
        alarms: that of each window, shape (n,); by default ``bounds.alarm`` for all.

    Returns:
        Shape (n, 3 + len(LABELS)): ``label``, ``probability``, ``abstained``, ``p_<label>`` …
    """
    odd = 1 - probabilities[:, _NORMAL]
    anomalies = probabilities.copy()
    anomalies[:, _NORMAL] = -1
    code = np.where(
        odd >= (bounds.alarm if alarms is None else alarms), anomalies.argmax(axis=1), _NORMAL
    )
    top = probabilities[np.arange(len(code)), code]
    flood = np.isin(code, _FLOODS)
    named = np.where(flood, probabilities[:, _FLOODS].sum(axis=1), top) / np.maximum(odd, 1e-9)
    verdicts = pd.DataFrame({"label": np.array(LABELS, dtype=object)[code], "probability": top})
    verdicts["abstained"] = (code != _NORMAL) & (
        (named < bounds.name) | _undecided(probabilities, code)
    )
    return pd.concat(
        [verdicts, pd.DataFrame(probabilities, columns=[f"p_{label}" for label in LABELS])], axis=1
    )


def make_probabilities(
    scores: np.ndarray, temperature: float, prior_shift: float | np.ndarray = 0.0
) -> np.ndarray:
    """Calibrated probabilities, float32, of the shape of ``scores``.

    Args:
        scores: shape (n, len(LABELS)), log-probabilities.
        temperature: divides them, above 0.
        prior_shift: nats that normal gains, one for all or shape (n, 1).
    """
    scaled = np.asarray(scores / temperature, float)
    scaled[:, _NORMAL : _NORMAL + 1] += prior_shift
    return np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)).astype(np.float32)


def _undecided(probabilities: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Whether a label's inseparable twin is nearly as likely, shape (n,)."""
    undecided = np.zeros(len(code), bool)
    for pair in _INSEPARABLE:
        one, other = (LABELS.index(label) for label in pair)
        near = np.abs(probabilities[:, one] - probabilities[:, other]) < _MARGIN
        undecided |= (
            near
            & np.isin(code, (one, other))
            & (probabilities[:, [one, other]].sum(axis=1) >= _MARGIN)
        )
    return undecided


# ---- From whom an anomaly comes ----


def choose_directions(windows: Windows, labels: np.ndarray) -> np.ndarray:
    """Source or target for every window, from its numbers once its label is settled.

    The columns that grow at the label's source and at its target are summed; the larger sum
    decides.

    Args:
        windows: n of them.
        labels: shape (n,), each window's verdict.

    Returns:
        Shape (n,), "source" or "target", and "" where the label is normal.
    """
    directions = np.full(len(windows), "", dtype=object)
    for label in LABELS:
        which = np.flatnonzero(labels == label)
        if label != NORMAL and len(which):
            one = PROFILES[label]
            source = _total(windows, which, one.source_columns)
            target = _total(windows, which, one.target_columns)
            directions[which] = np.where(source >= target, "source", "target")
    return directions


def _total(windows: Windows, which: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Sum of columns over the samples of chosen windows, shape (len(which),)."""
    return windows.take(which).values(list(columns)).sum(axis=(1, 2))
