"""How unlike recorded plants the simulated ones are, on normal windows and in what a model reads of
them.

    recorded runs   ─▶ normal windows ─┐
                                       ├─▶ a classifier is told to tell them apart, on plants it
                                       never saw: AUC
    plants drawn    ─▶ normal windows ─┘   and feature by feature: how far the two distributions lie apart

An AUC of 0.5 is a simulation that cannot be told from a recording; at 1.0 one glance is enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from prompts.window_text import PAST, TEXT_COLUMNS, TOP_LEVEL, text_columns
from traffic.datasets import Labelled, find_labelled, load_labelled, simulate_labelled
from traffic.errors import UserError
from traffic.labels import NORMAL
from traffic.windows import WINDOW_SAMPLES

FIRST_SEED = 7000  # plants measured here are none of those that finetune/recipes/pocket.yaml names
_PER_RUN = 1500
_SHOWN = 40
_HEAD = """# How unlike recorded plants the simulated ones are

A classifier (XGBoost) reads what a model reads of a window (`prompts.window_text.text_columns`) and is told to tell
normal windows of simulated plants from normal windows of recorded runs. It is cross-validated by plant: no window of a
plant that it is asked about, simulated or recorded, was among those it learned from. 0.5 is a simulation that cannot be
told from a recording, 1.0 one that is told at a glance. Simulated plants are industrial ones, seen as packets, of the
size and length of the runs; homes, offices and plants known from logs alone, which models learn from too, differ by
design. Ranges of the simulation are wider than those of the recorded plants on purpose: what is drawn from beyond them
can be told, and shall be.
"""
_ROLES = """The same classifier's AUC among windows of one role. `other` are link-local addresses and strangers.
"""
_FEATURES = """Levels as in the text (a step of 2 is twice as much); `ks` is the largest difference between the
cumulative distributions, `levels_apart` the area between them (Wasserstein). The furthest first.
"""


@dataclass(frozen=True)
class Distance:
    """What was measured between normal windows of simulated (class 0) and recorded plants (class
    1).

    Attributes:
        aucs: area under the ROC curve, one for each fold of plants of both kinds that were not
            learned from.
        roles: per role ``simulated`` and ``recorded`` (windows) and ``auc`` among that role's
            windows.
        features: per number of the text ``levels_apart`` (Wasserstein distance), ``ks``
            (Kolmogorov-Smirnov), the two means of its level, and how often it is above 0, furthest
            first.
        plants: how many simulated plants; ``runs`` how many recorded ones.
    """

    aucs: tuple[float, ...]
    roles: pd.DataFrame
    features: pd.DataFrame
    plants: int
    runs: int

    @property
    def auc(self) -> float:
        return float(np.mean(self.aucs))

    @property
    def margin(self) -> float:
        """Half of the 95 % interval of the mean over folds, by Student's t."""
        n = len(self.aucs)
        return (
            float(t.ppf(0.975, n - 1) * np.std(self.aucs, ddof=1) / np.sqrt(n))
            if n > 1
            else float("nan")
        )


def measure_distance(
    data: Path, plants: int, seed: int = 0, progress: Callable[[str], object] = str
) -> Distance:
    """Compare recorded runs with simulated plants of the same size and length, seen as packets as
    they were.

    Args:
        data: a folder of recorded runs (``capture.pcap`` beside ``truth.json``).
        plants: how many industrial plants are drawn.
        seed: of the sampling and of the trees.
        progress: is told what is being read.

    Raises:
        UserError: there are fewer than two runs.
    """
    recorded = [one for one in _read(data, progress) if len(one)]
    if len(recorded) < 2:
        raise UserError(
            f"{data} holds {len(recorded)} recorded runs with normal windows; expected at least 2, as plants that were "
            "not learned from are told apart; record more with faultwise testbed record"
        )
    simulated = []
    for number, like in enumerate(islice(cycle(recorded), plants)):
        progress(f"plant {number + 1} of {plants}")
        simulated.append(normal_windows(_draw(FIRST_SEED + number, like), _PER_RUN, seed))
    return tell_apart(simulated, recorded, seed)


def _read(data: Path, progress: Callable[[str], object]) -> Iterator[pd.DataFrame]:
    for path in find_labelled(data):
        if path.name == "capture.pcap":
            progress(str(path.parent.name))
            yield normal_windows(load_labelled(path), _PER_RUN)


def _draw(seed: int, like: pd.DataFrame) -> Labelled:
    devices, hours = like.attrs["devices"], like.attrs["hours"]
    return simulate_labelled(seed, devices, hours, flavour="industrial", view="packets")


def normal_windows(labelled: Labelled, most: int, seed: int = 0) -> pd.DataFrame:
    """The numbers that the texts of a capture's normal windows hold, and ``role``; at most so many,
    drawn evenly.

    Its ``attrs`` say how many ``devices`` the inventory has and how many ``hours`` the capture
    lasts.
    """
    table = labelled.windows.table
    rows = np.flatnonzero((table["label"] == NORMAL).to_numpy())
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    chosen = labelled.windows.take(rows)
    known = (
        {device.address: device.role for device in labelled.plant.devices} if labelled.plant else {}
    )
    numbers = text_columns(chosen).assign(
        role=chosen.table["device"].map(known).fillna("other").to_numpy()
    )
    hours = (table["end_s"].max() - table["start_s"].min()) / 3600
    numbers.attrs = {"devices": len(known), "hours": float(hours)}
    return numbers


def tell_apart(
    simulated: Sequence[pd.DataFrame], recorded: Sequence[pd.DataFrame], seed: int = 0
) -> Distance:
    """Cross-validate a classifier by plant: it scores windows of plants, simulated and recorded,
    that it never saw.

    Args:
        simulated: a table of ``normal_windows`` for each plant; ``recorded`` for each run, in the
            order in which plants were drawn like them. As many windows of both kinds are used as
            the smaller has, evenly from its plants.
        seed: of the sampling and of the trees.
    """
    kinds = _evened(simulated, recorded, seed)
    table = pd.concat([*kinds[0], *kinds[1]], ignore_index=True)
    kind = np.repeat([0, 1], [sum(map(len, tables)) for tables in kinds])
    folds = min(6, len(recorded), len(simulated))
    # A plant that was drawn like a run is in that run's fold: neither size nor length tells the two
    # apart.
    fold = np.concatenate(
        [
            np.repeat(np.arange(len(t)) % len(recorded) % folds, [len(one) for one in t])
            for t in kinds
        ]
    )
    numbers = table.drop(columns="role").to_numpy()
    score, aucs = np.zeros(len(table)), []
    for held in range(folds):
        model = XGBClassifier(
            n_estimators=80,
            max_depth=5,
            learning_rate=0.15,
            subsample=0.7,
            colsample_bytree=0.3,
            random_state=seed,
        )
        model.fit(numbers[fold != held], kind[fold != held])
        score[fold == held] = model.predict_proba(numbers[fold == held])[:, 1]
        aucs.append(float(roc_auc_score(kind[fold == held], score[fold == held])))
    return Distance(
        tuple(aucs),
        _by_role(table["role"], kind, score),
        _by_feature(table, kind),
        *map(len, kinds),
    )


def _evened(
    simulated: Sequence[pd.DataFrame], recorded: Sequence[pd.DataFrame], seed: int
) -> list[list[pd.DataFrame]]:
    """As many windows of both kinds, drawn evenly from each plant."""
    room = min(sum(map(len, simulated)), sum(map(len, recorded)))
    return [
        [
            one.sample(min(len(one), max(round(room / len(tables)), 1)), random_state=seed)
            for one in tables
        ]
        for tables in (list(simulated), list(recorded))
    ]


def _by_role(role: pd.Series, kind: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    rows = []
    for name, places in role.groupby(role).indices.items():
        counts = np.bincount(kind[places], minlength=2)
        auc = roc_auc_score(kind[places], score[places]) if counts.all() else np.nan
        rows.append({"role": name, "simulated": counts[0], "recorded": counts[1], "auc": auc})
    return pd.DataFrame(rows).sort_values("auc", ascending=False, ignore_index=True)


def _by_feature(table: pd.DataFrame, kind: np.ndarray) -> pd.DataFrame:
    """Distances between the two distributions of each number's levels; those of a window's six
    samples are one."""
    rows = []
    for name in (*PAST, *TEXT_COLUMNS):
        columns = [name] if name in PAST else [f"{name}_{place}" for place in range(WINDOW_SAMPLES)]
        levels = [table.loc[kind == one, columns].to_numpy().ravel() for one in (0, 1)]
        shares = [np.bincount(one, minlength=TOP_LEVEL + 1) / max(len(one), 1) for one in levels]
        apart = np.abs(np.cumsum(shares[0]) - np.cumsum(shares[1]))
        row = {"number": name, "levels_apart": apart.sum(), "ks": apart.max()}
        for one, which, share in zip(("simulated", "recorded"), levels, shares, strict=True):
            row |= {f"{one}_mean": which.mean(), f"{one}_above_0": 1 - share[0]}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("ks", ascending=False, kind="stable", ignore_index=True)


def render_distance(distance: Distance, command: str) -> str:
    """A report in Markdown.

    Args:
        distance: what was measured.
        command: by which this was made.
    """
    auc = f"{distance.auc:.2f} ± {distance.margin:.2f}"
    folds = ", ".join(f"{auc:.2f}" for auc in distance.aucs)
    roles = distance.roles.assign(
        auc=distance.roles["auc"].map("{:.2f}".format).replace("nan", "only one has it")
    )
    features = distance.features.round(2).head(_SHOWN)
    lines = [
        _HEAD,
        f"Made by `{command}`: {distance.plants} plants drawn, {distance.runs} recorded.",
    ]
    lines += [
        f"\n**AUC {auc}** (mean over {len(distance.aucs)} folds and its 95 % interval; folds: {folds})."
    ]
    lines += [
        "\n## By the device's role\n",
        _ROLES,
        _table(roles),
        "\n## By number\n",
        _FEATURES,
        _table(features),
    ]
    return "\n".join([*lines, ""])


def _table(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * rows.shape[1], *rows.astype("str").to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
