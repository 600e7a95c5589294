"""Classical models: k nearest neighbours, random forest, XGBoost.

As in the second paper: classes are balanced by drawing (up and down) for the first two, XGBoost
weighs them instead. The paper gives no other setting, so KNN and the forest have the library's
usual ones and XGBoost chooses among a few.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from xgboost import XGBClassifier

from eval.models.classifier import TrainingInput, WindowClassifier, split_inner
from eval.models.features import FEATURES, scale_counts, summarise
from prompts.window_text import text_columns
from traffic.labels import NORMAL


def balance(codes: np.ndarray, seed: int) -> np.ndarray:
    """Draw as many windows of every class: rare ones repeatedly, frequent ones in part.

    Args:
        codes: shape (n_windows,), each window's class.
        seed: of the drawing.

    Returns:
        Places of about n_windows windows, sorted: each class has the mean class's number of them.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(codes, return_counts=True)
    each = max(len(codes) // len(classes), 1)
    drawn = [
        rng.choice(np.flatnonzero(codes == one), each, replace=count < each)
        for one, count in zip(classes, counts, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


class Neighbours(WindowClassifier):
    """The five nearest windows vote, nearer ones more; counts on a log scale, every feature with
    deviation 1."""

    @property
    def size_bytes(self) -> int:
        """The windows it keeps."""
        return int(self.votes_._fit_X.nbytes)

    def _fit(self, training: TrainingInput) -> None:
        drawn = balance(training.codes, self.seed)
        table = summarise(scale_counts(training.features))
        self.scaler_ = StandardScaler().fit(table)
        near = KNeighborsClassifier(min(5, len(drawn)), weights="distance", algorithm="brute")
        self.votes_: Any = near.fit(self.scaler_.transform(table[drawn]), training.codes[drawn])

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        table = self.scaler_.transform(summarise(scale_counts(x)))
        return _spread(self.votes_.predict_proba(table), self.votes_.classes_, len(self.classes_))


class Forest(WindowClassifier):
    """Random forest (Breiman 2001), 100 trees grown to the end."""

    @property
    def size_bytes(self) -> int:
        """The trees' nodes and their classes' shares."""
        trees = [tree.tree_.__getstate__() for tree in self.forest_.estimators_]
        return sum(int(tree["nodes"].nbytes + tree["values"].nbytes) for tree in trees)

    def _fit(self, training: TrainingInput) -> None:
        drawn = balance(training.codes, self.seed)
        trees = 20 if self.quick else 100
        forest = RandomForestClassifier(trees, random_state=self.seed, n_jobs=-1)
        table = summarise(training.features[drawn])
        self.forest_: Any = forest.fit(table, training.codes[drawn])

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        shares = self.forest_.predict_proba(summarise(x))
        return _spread(shares, self.forest_.classes_, len(self.classes_))


@dataclass(frozen=True)
class Setting:
    """A setting of XGBoost.

    Attributes:
        rounds: trees per class.
        depth: of a tree.
        rate: learning rate.
        least_weight: of the windows in a leaf.
        balance: classes weigh as if equally frequent to this power: 1 balances fully, 0 not at all.
    """

    rounds: int
    depth: int
    rate: float
    least_weight: float
    balance: float


# Full balancing raises alarms on all that is a little unusual, hence mostly the square root.
SETTINGS: tuple[Setting, ...] = (
    Setting(rounds=40, depth=6, rate=0.25, least_weight=1, balance=0.5),
    Setting(rounds=40, depth=6, rate=0.25, least_weight=10, balance=0.5),
    Setting(rounds=60, depth=4, rate=0.3, least_weight=1, balance=0.5),
    Setting(rounds=60, depth=6, rate=0.2, least_weight=3, balance=1.0),
)
_QUICK = Setting(rounds=8, depth=4, rate=0.4, least_weight=1, balance=0.5)


class Boosting(WindowClassifier):
    """XGBoost, set by a small fixed search on captures held out of its training, then trained on
    all of them.

    Attributes:
        text: learn from exactly the levels that a window's text holds: the ceiling of what a
            language model can read there.
        setting_: after `fit`, the one of SETTINGS with the best sum of macro-F1, over labels and
            over normal and anomalous, on what was held out.
    """

    def __init__(self, text: bool = False, seed: int = 0, quick: bool = False) -> None:
        super().__init__(seed, quick)
        self.text = text

    @property
    def reads_past(self) -> bool:  # type: ignore[override]
        """Texts tell of the past."""
        return self.text

    @property
    def size_bytes(self) -> int:
        """The model as XGBoost saves it."""
        return len(self.boosted_.trees.get_booster().save_raw("ubj"))

    def _fit(self, training: TrainingInput) -> None:
        table = self._table(training.features)
        self.setting_ = _QUICK if self.quick else self._search(table, training)
        self.boosted_ = _boost(self.setting_, table, training.codes, self.seed)

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        return self.boosted_.shares(self._table(x), len(self.classes_))

    def _table(self, features: np.ndarray) -> np.ndarray:
        if self.text:
            return text_columns(features, FEATURES).to_numpy(np.float32)
        return summarise(features)

    def _search(self, table: np.ndarray, training: TrainingInput) -> Setting:
        learned, held = split_inner(training, self.seed)
        codes = training.codes
        if len(np.unique(codes[learned])) < 2:
            return SETTINGS[0]
        truth = self.classes_[codes[held]]
        macro = partial(f1_score, average="macro", zero_division=0.0)

        def score(setting: Setting) -> float:
            boosted = _boost(setting, table[learned], codes[learned], self.seed)
            predicted = self.decide(boosted.shares(table[held], len(self.classes_)))
            return float(macro(truth, predicted) + macro(truth == NORMAL, predicted == NORMAL))

        return max(SETTINGS, key=score)


@dataclass(frozen=True)
class _Boosted:
    """Trees, and the classes of their columns: XGBoost counts classes from 0 without a gap."""

    trees: Any
    codes: np.ndarray

    def shares(self, table: np.ndarray, n_classes: int) -> np.ndarray:
        return _spread(self.trees.predict_proba(table), self.codes, n_classes)


def _boost(setting: Setting, table: np.ndarray, codes: np.ndarray, seed: int) -> _Boosted:
    present, dense = np.unique(codes, return_inverse=True)
    trees = XGBClassifier(
        n_estimators=setting.rounds,
        max_depth=setting.depth,
        learning_rate=setting.rate,
        min_child_weight=setting.least_weight,
        subsample=0.7,
        colsample_bytree=0.3,
        max_bin=64,
        random_state=seed,
    )
    weight = compute_sample_weight("balanced", dense) ** setting.balance
    trees.fit(table, dense, sample_weight=weight)
    return _Boosted(trees, present)


def _spread(shares: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Shares of some classes as columns of all, zeros for the others, shape (n, n_classes)."""
    spread = np.zeros((len(shares), n_classes), np.float32)
    spread[:, codes] = shares
    return spread
