"""How unlike recorded plants the simulated ones are, in the normal windows that a model reads.

    recorded runs ─▶ normal windows ─┐
                                     ├─▶ a classifier tells them apart, on plants it never saw: AUC
    plants drawn  ─▶ normal windows ─┘   and number by number: how far the distributions lie apart

An AUC of 0.5 is a simulation that cannot be told from a recording; at 1.0 one glance is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from eval.detection.bootstrap import mean_difference
from eval.report.tables import ReportTable, render_table
from prompts.window_text import LEVELS, fact_names, make_levels
from traffic.datasets import Labelled, find_labelled, load_labelled, simulate_labelled
from traffic.errors import UserError
from traffic.labels import NORMAL

FIRST_SEED = 7000  # plants measured here are none of those that finetune/recipes/pocket.yaml names
_PER_RUN = 1500  # windows
_TREES: dict[str, Any] = {
    **{"n_estimators": 80, "max_depth": 5, "learning_rate": 0.15},
    **{"subsample": 0.7, "colsample_bytree": 0.3},
}
_SHOWN = 40
_HEAD = """# How unlike recorded plants the simulated ones are

A classifier (XGBoost) reads what a model reads of a window (`prompts.window_text.make_levels`) and is told to tell
normal windows of simulated plants from normal windows of recorded runs. It is cross-validated by plant: no window of a
plant that it is asked about, simulated or recorded, was among those it learned from. 0.5 is a simulation that cannot be
told from a recording, 1.0 one that is told at a glance. Simulated plants are industrial ones, seen as packets, of the
size and length of the runs; homes, offices and plants known from logs alone, which models learn from too, differ by
design. Ranges of the simulation are wider than those of the recorded plants on purpose: what is drawn from beyond them
can be told, and shall be.
"""
_ROLES = """The same classifier's AUC among windows of one role. `other` are link-local addresses and strangers.
"""
_FEATURES = """Levels as in the text (0 is not said, 1 to 12 are quantiles); `ks` is the largest difference between the
cumulative distributions, `levels_apart` the area between them (Wasserstein). The furthest first.
"""


@dataclass(frozen=True)
class Distance:
    """Distances between normal windows of simulated (class 0) and recorded plants (class 1).

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
        high = mean_difference(np.array(self.aucs)).high
        return float("nan") if high is None else high - self.auc


def measure_distance(data: Path, plants: int) -> Distance:
    """Compare recorded runs with simulated plants of the same size and length, seen as packets as
    they were.

    Args:
        data: a folder of recorded runs (``capture.pcap`` beside ``truth.json``).
        plants: how many industrial plants are drawn.

    Raises:
        UserError: there are fewer than two runs.
    """
    recorded = []
    for path in find_labelled(data):
        if path.name == "capture.pcap":
            recorded.append(normal_windows(load_labelled(path), _PER_RUN))
    recorded = [one for one in recorded if len(one)]
    if len(recorded) < 2:
        raise UserError(
            f"{data} holds {len(recorded)} recorded runs with normal windows; expected at least 2, "
            "as plants that were not learned from are told apart; "
            "record more with faultwise testbed record"
        )
    simulated = []
    for number, like in enumerate(islice(cycle(recorded), plants)):
        size = (like.attrs["devices"], like.attrs["hours"])
        drawn = simulate_labelled(FIRST_SEED + number, *size, flavour="industrial", view="packets")
        simulated.append(normal_windows(drawn, _PER_RUN))
    return tell_apart(simulated, recorded)


def normal_windows(labelled: Labelled, most: int) -> pd.DataFrame:
    """The numbers in the texts of a capture's normal windows, and ``role``; at most so many rows.

    ``attrs`` hold how many ``devices`` the inventory has and how many ``hours`` the capture lasts.
    """
    table = labelled.windows.table
    rows = np.flatnonzero((table["label"] == NORMAL).to_numpy())
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    chosen = labelled.windows.take(rows)
    devices = labelled.plant.devices if labelled.plant else ()
    known = {device.address: device.role for device in devices}
    roles = chosen.table["device"].map(known).fillna("other").to_numpy()
    numbers = pd.DataFrame(make_levels(chosen), columns=list(fact_names())).assign(role=roles)
    hours = (table["end_s"].max() - table["start_s"].min()) / 3600
    numbers.attrs = {"devices": len(known), "hours": float(hours)}
    return numbers


def tell_apart(simulated: Sequence[pd.DataFrame], recorded: Sequence[pd.DataFrame]) -> Distance:
    """Cross-validate a classifier by plant: it scores windows of plants that it never saw.

    Args:
        simulated: a table of ``normal_windows`` for each plant; ``recorded`` for each run, in the
            order in which plants were drawn like them. As many windows of both kinds are used as
            the smaller has, evenly from its plants.
    """
    kinds = _even_out(simulated, recorded)
    table = pd.concat([*kinds[0], *kinds[1]], ignore_index=True)
    kind = np.repeat([0, 1], [sum(map(len, tables)) for tables in kinds])
    folds = min(6, len(recorded), len(simulated))
    # A plant that was drawn like a run is in that run's fold, so neither size nor length tells them.
    places = [
        np.full(len(one), i % len(recorded) % folds) for of in kinds for i, one in enumerate(of)
    ]
    fold = np.concatenate(places)
    numbers = table.drop(columns="role").to_numpy()
    score, aucs = np.zeros(len(table)), []
    for held in range(folds):
        model = XGBClassifier(**_TREES, random_state=0)
        model.fit(numbers[fold != held], kind[fold != held])
        score[fold == held] = model.predict_proba(numbers[fold == held])[:, 1]
        aucs.append(float(roc_auc_score(kind[fold == held], score[fold == held])))
    roles = _by_role(table["role"], kind, score)
    return Distance(tuple(aucs), roles, _by_feature(table, kind), len(simulated), len(recorded))


def _even_out(
    simulated: Sequence[pd.DataFrame], recorded: Sequence[pd.DataFrame]
) -> list[list[pd.DataFrame]]:
    """As many windows of both kinds, drawn evenly from each plant."""
    room = min(sum(map(len, simulated)), sum(map(len, recorded)))

    def draw(one: pd.DataFrame, plants: int) -> pd.DataFrame:
        return one.sample(min(len(one), max(round(room / plants), 1)), random_state=0)

    return [[draw(one, len(tables)) for one in tables] for tables in (simulated, recorded)]


def _by_role(role: pd.Series, kind: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    rows = []
    for name, places in role.groupby(role).indices.items():
        counts = np.bincount(kind[places], minlength=2)
        auc = roc_auc_score(kind[places], score[places]) if counts.all() else np.nan
        rows.append({"role": name, "simulated": counts[0], "recorded": counts[1], "auc": auc})
    return pd.DataFrame(rows).sort_values("auc", ascending=False, ignore_index=True)


def _by_feature(table: pd.DataFrame, kind: np.ndarray) -> pd.DataFrame:
    """Distances between two distributions of each number's levels."""
    rows = []
    for name in fact_names():
        levels = [table.loc[kind == one, name].to_numpy() for one in (0, 1)]
        shares = [np.bincount(one, minlength=LEVELS + 1) / max(len(one), 1) for one in levels]
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
    interval = f"mean over {len(distance.aucs)} folds and its 95 % interval; folds: {folds}"
    shares = distance.roles["auc"].map("{:.2f}".format).replace("nan", "only one has it")
    return "\n".join(
        [
            _HEAD,
            f"Made by `{command}`: {distance.plants} plants drawn, {distance.runs} recorded.",
            f"\n**AUC {auc}** ({interval}).",
            f"\n## By the device's role\n\n{_ROLES}",
            _render(distance.roles.assign(auc=shares)),
            f"\n## By number\n\n{_FEATURES}",
            _render(distance.features.round(2).head(_SHOWN)),
            "",
        ]
    )


def _render(rows: pd.DataFrame) -> str:
    cells = tuple(map(tuple, rows.astype("str").to_numpy().tolist()))
    return render_table(ReportTable("", tuple(rows.columns), cells))
