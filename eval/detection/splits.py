"""Protocols and their folds: what is trained on, what is tested, and what is varied.

A protocol is a small versioned YAML file in ``protocols/``; what it leaves out has the value that
stands here. To add one, write a file of its name with the knobs of `Protocol`. Where it parts
training and testing in a new way, add that to ``Split``, and to ``_SPLITS`` a function that makes
its folds and a phrase of what captures it needs.

Whatever order matters comes from the captures' content; no name of a file or device changes a fold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from eval.detection.corpus import Corpus
from eval.models.features import FEATURES
from eval.results import Labelling
from traffic.capture import SAMPLE_S
from traffic.errors import UserError
from traffic.files import Strict, read_yaml
from traffic.labels import ATTACKS, LABELS, NORMAL, UNKNOWN
from traffic.windows import WINDOW_SAMPLES

_FOLDER = Path(__file__).with_name("protocols")
PROTOCOLS: tuple[str, ...] = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

Split = Literal[
    "windows", "time", "captures", "networks", "shots", "label", "device", "dead-service", "drift",
    "transfer", "site",
]  # fmt: skip


class Protocol(Strict):
    """One protocol. Knobs that are lists become settings: each value is fitted and scored apart."""

    version: Literal[1]
    name: str
    asks: str = Field(description="the question it answers, in a sentence")
    warning: str = Field("", description="what its numbers must not be taken for")
    split: Split = Field(description="how training and testing are parted")
    folds: int = Field(
        0, ge=0, description="captures are dealt to so many folds; 0: each capture alone"
    )
    seeds: int = Field(3, ge=1, description="fits of each model on each fold")
    labellings: tuple[Labelling, ...] = ("published", "corrected")
    normal_windows: int = Field(ge=2, description="most normal windows of a training set")
    label_windows: int = Field(ge=1, description="most windows of any other label")
    test_share: float = Field(
        0.3, gt=0, lt=1, description="of the windows (random) or of the time (temporal)"
    )
    alarm: Literal["anomaly", "attack"] = Field(
        "anomaly", description="what the binary measures look for"
    )
    zeroed: tuple[bool, ...] = Field((False,), description="whether the service classes are hidden")
    noise: tuple[float, ...] = Field(
        (0.0,), description="share of the training stretches with a wrong label"
    )
    shots: tuple[int, ...] = Field(
        (0,), description="labelled windows of the new site, or confirmed ones of a device"
    )
    shot_share: float = Field(
        0.2, gt=0, lt=1, description="of the training set, by repeating shots"
    )
    most_repeats: int = Field(20, ge=1, description="of one shot")
    methods: tuple[str, ...] = Field(
        (), description="of eval.models.transfer: each is a setting; none elsewhere"
    )
    share: float = Field(
        0.05, gt=0, lt=1, description="of each label's windows of the new network, those labelled"
    )
    shuffled: bool = Field(
        False, description="training labels change places: every model must fall to chance"
    )
    models: tuple[str, ...] = Field((), description="which models by default; all where empty")
    against: tuple[str, ...] = Field(
        (), description="models that every other is tested against, in pairs"
    )
    incident_seeds: int = Field(1, ge=0, description="seeds whose verdicts are made into incidents")
    resamples: int = Field(1000, ge=100, description="of the bootstrap")


class _ProtocolFile(Protocol):
    quick: dict[str, Any] = Field({}, description="what small budgets change")


def read_protocol(name: str, quick: bool = False) -> Protocol:
    """Read a protocol that ships.

    Args:
        name: one of PROTOCOLS.
        quick: apply what its section ``quick`` changes.

    Raises:
        UserError: there is none of this name, or its file is no protocol.
    """
    if name not in PROTOCOLS:
        raise UserError(
            f"no protocol is called {name}; expected one of {', '.join(PROTOCOLS)}; "
            "correct --protocol"
        )
    path = _FOLDER / f"{name}.yaml"
    file = read_yaml(path, _ProtocolFile, "the knobs of eval.detection.splits.Protocol")
    changes = file.quick if quick else {}
    return Protocol.model_validate(file.model_dump(exclude={"quick"}) | changes)


# ---- Folds ----

_WINDOW_S = WINDOW_SAMPLES * SAMPLE_S
# With as many captures of a new network, whole ones are tested; with fewer, each one's later part.
_MANY_CAPTURES = 8
_EARLY_SHARE = 0.3
# An attempt of the device's own that nobody answered, in any of a window's samples.
_UNANSWERED = ("unanswered_out", "refused_out", "udp_unanswered_out")


@dataclass(frozen=True)
class Fold:
    """One fit of each model and seed. Rows are places in the corpus, ascending.

    Attributes:
        name: what is tested.
        train: rows that the training set is drawn from.
        predicted: rows that the model predicts; whole captures where incidents are wanted.
        test: those of ``predicted`` that are scored.
        setting: what is varied, in words; "" where nothing is.
        amount: the same as a number.
        zeroed: service classes are hidden.
        noise: share of training stretches with a wrong label.
        shots: rows that are added to the training set and repeated; ``n_shots`` of them are drawn,
            all where None. Where a method moves models, rows of the new network that may be
            labelled, or read without labels.
        method: of `eval.models.transfer`, by which a model is moved; "" where none is.
    """

    name: str
    train: np.ndarray
    predicted: np.ndarray
    test: np.ndarray
    setting: str = ""
    amount: float | None = None
    zeroed: bool = False
    noise: float = 0.0
    shots: np.ndarray | None = None
    n_shots: int | None = None
    method: str = ""


def make_folds(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> tuple[Fold, ...]:
    """Every fold of a protocol on these captures.

    Raises:
        UserError: the captures do not give what the protocol needs.
    """
    labels = corpus.labels[labelling]
    known = labels != UNKNOWN
    split, needs = _SPLITS[protocol.split]
    folds = [
        replace(fold, train=fold.train[known[fold.train]], test=test)
        for fold in split(corpus, protocol, labelling)
        if len(test := fold.test[known[fold.test]])
    ]
    if not folds:
        raise UserError(
            f"protocol {protocol.name} finds nothing to test in these {len(corpus.captures)} "
            f"captures; expected {needs}; give other captures or another --protocol"
        )
    for fold in folds:
        taught = set(labels[fold.train])
        if NORMAL not in taught or len(taught) < 2:
            raise UserError(
                f"protocol {protocol.name}: to test {fold.name}, only "
                f"{', '.join(sorted(taught)) or 'nothing'} is left to learn from ({labelling} "
                "labels); expected normal windows and an anomaly; add captures"
            )
    return tuple(varied for fold in folds for varied in _vary(fold, protocol))


def _vary(fold: Fold, protocol: Protocol) -> list[Fold]:
    """One fold for each value of the knobs that are lists."""
    if len(protocol.zeroed) > 1:
        words = {False: "with ports", True: "no ports"}
        return [
            replace(fold, zeroed=hidden, setting=words[hidden], amount=float(hidden))
            for hidden in protocol.zeroed
        ]
    if len(protocol.noise) > 1:
        return [
            replace(fold, noise=x, amount=x, setting=f"{x:.0%} of labels wrong")
            for x in protocol.noise
        ]
    return [replace(fold, zeroed=protocol.zeroed[0], noise=protocol.noise[0])]


def _by_window(corpus: Corpus, protocol: Protocol, _labelling: Labelling) -> list[Fold]:
    drawn = np.random.default_rng(0).random(len(corpus)) < protocol.test_share
    return [_part("windows drawn at random", drawn)]


def _part(name: str, test: np.ndarray) -> Fold:
    """The fold that tests some windows, by a mask, and trains on all others."""
    rows = np.flatnonzero(test)
    return Fold(name, np.flatnonzero(~test), rows, rows)


def _by_time(corpus: Corpus, protocol: Protocol, _labelling: Labelling) -> list[Fold]:
    age = _age(corpus)
    late, early = age >= 1 - protocol.test_share, _age(corpus, _WINDOW_S) < 1 - protocol.test_share
    test = np.flatnonzero(late)
    return [Fold("the last part of every capture", np.flatnonzero(early), test, test)]


def _age(corpus: Corpus, later_s: float = 0.0) -> np.ndarray:
    """Each window's start as a share of its capture's time, shape (n,), were it so much later."""
    age = np.zeros(len(corpus))
    for place in range(len(corpus.captures)):
        mine = corpus.capture == place
        start_s = corpus.start_s[mine]
        if len(start_s):
            length_s = np.ptp(start_s) + SAMPLE_S
            age[mine] = (start_s + later_s - start_s.min()) / length_s
    return age


def _by_capture(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> list[Fold]:
    return [_part(name, mine) for name, mine in _deal(corpus, protocol.folds, labelling).items()]


def _deal(corpus: Corpus, folds: int, labelling: Labelling) -> Mapping[str, np.ndarray]:
    """Deal captures to folds: masks of the windows, by the fold's name.

    Captures of the rarest labels are dealt first, each to the fold that has least of what it holds,
    so that few labels lie in one fold alone.
    """
    n = len(corpus.captures)
    if n < 2:
        raise UserError(
            f"{n} labelled capture; expected at least 2 to learn from one and test another; "
            "add captures"
        )
    if folds == 0 or folds >= n:
        return {corpus.captures[place].name: corpus.capture == place for place in range(n)}
    labels = corpus.labels[labelling]
    masks = [corpus.capture == place for place in range(n)]
    held = np.array([[(mine & (labels == one)).any() for one in LABELS] for mine in masks], float)
    rarity = np.where(held > 0, 1 / np.maximum(held.sum(axis=0), 1), 0)  # (captures, labels)
    dealt, load = np.full(n, -1), np.zeros((folds, len(LABELS)))
    for place in np.argsort(-rarity.max(axis=1), kind="stable"):
        captures = np.bincount(dealt[dealt >= 0], minlength=folds)
        fold = int(np.lexsort((captures, load @ rarity[place]))[0])
        dealt[place] = fold
        load[fold] += held[place]
    return {f"captures {fold + 1} of {folds}": np.isin(corpus.capture, np.flatnonzero(dealt == fold))
            for fold in range(folds)}  # fmt: skip


def _by_network(corpus: Corpus, _protocol: Protocol, labelling: Labelling) -> list[Fold]:
    networks, labels = corpus.networks, corpus.labels[labelling]
    names = sorted(set(networks))
    able = [one for one in names if {NORMAL} < set(labels[(networks == one) & (labels != UNKNOWN)])]
    places = {name: np.flatnonzero(networks == name) for name in names}
    return [
        Fold(f"{source} to {target}", places[source], places[target], places[target])
        for source in able
        for target in names
        if target != source
    ]


def _by_shots(corpus: Corpus, protocol: Protocol, _labelling: Labelling) -> list[Fold]:
    """A network is the new site: every other of its captures gives the shots."""
    networks, folds = corpus.networks, []
    for site in sorted(set(networks)):
        places = np.unique(corpus.capture[networks == site])
        if len(places) < 2 or len(set(networks)) < 2:
            continue
        test = np.flatnonzero(np.isin(corpus.capture, places[1::2]))
        shots = np.flatnonzero(np.isin(corpus.capture, places[::2]))
        train = np.flatnonzero(networks != site)
        folds += [
            Fold(site, train, test, test, f"{n} windows", float(n), shots=shots, n_shots=n)
            for n in protocol.shots
        ]
    return folds


def _by_label(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> list[Fold]:
    labels, dealt = corpus.labels[labelling], _deal(corpus, protocol.folds, labelling)
    folds = []
    for label in LABELS[1:]:
        counts = {name: int(((labels == label) & mine).sum()) for name, mine in dealt.items()}
        most = max(counts, key=counts.__getitem__)
        if counts[most]:
            mine = dealt[most]
            test = np.flatnonzero(mine & np.isin(labels, (NORMAL, label)))
            train = np.flatnonzero(~mine & (labels != label))
            folds.append(Fold(f"{label} in {most}", train, test, test, f"{label} never shown"))
    return folds


def _by_device(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> list[Fold]:
    """Test devices with normal windows alone, but for windows that an operator confirmed and those
    that share samples with them."""
    labels = corpus.labels[labelling]
    bad = np.bincount(corpus.device, labels != NORMAL) > 0  # one unknown window is reason enough
    healthy = ~bad[corpus.device]
    first = np.append(True, corpus.device[1:] != corpus.device[:-1])
    place = np.arange(len(corpus))
    rank = place - np.maximum.accumulate(np.where(first, place, 0))  # among the device's windows
    late = rank >= max(protocol.shots) + WINDOW_SAMPLES - 1
    folds = []
    for name, mine in _deal(corpus, protocol.folds, labelling).items():
        fold = replace(_part(name, mine), test=np.flatnonzero(mine & healthy & late))
        for n in protocol.shots:
            shots = np.flatnonzero(mine & healthy & (rank < n))
            setting = f"{n} confirmed windows a device"
            folds.append(replace(fold, setting=setting, amount=float(n), shots=shots))
    return folds


def _by_dead_service(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> list[Fold]:
    labels, columns = corpus.labels[labelling], [FEATURES.index(name) for name in _UNANSWERED]
    unanswered = (corpus.features[:, :, columns] > 0).any(axis=(1, 2))
    dead = unanswered & ~np.isin(labels, (*ATTACKS, UNKNOWN))
    if not dead.any() or not (labels == "c2").any():
        return []
    folds = []
    for name, mine in _deal(corpus, protocol.folds, labelling).items():
        test = np.flatnonzero(mine & (dead | (labels == "c2")))
        folds.append(Fold(name, np.flatnonzero(~mine), test, test))
    return folds


def _by_age(corpus: Corpus, _protocol: Protocol, _labelling: Labelling) -> list[Fold]:
    quarter, before = np.floor(_age(corpus) * 4), np.ceil(_age(corpus, _WINDOW_S) * 4)
    folds = []
    for later in (1, 2, 3):
        test = np.flatnonzero(quarter == later)
        name = f"quarter {later + 1}"
        for known in dict.fromkeys((1, later)):
            learned = "on the first" if known == 1 else "again up to it"
            train = np.flatnonzero(before <= known)
            folds.append(Fold(name, train, test, test, f"{name}, learned {learned}", later + 1.0))
    return folds


def _by_method(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> list[Fold]:
    """Every ordered pair of networks that show an anomaly, and every way of moving models."""
    networks, labels = corpus.networks, corpus.labels[labelling]
    names = sorted(set(networks))
    able = [one for one in names if {NORMAL} < set(labels[(networks == one) & (labels != UNKNOWN)])]
    folds = []
    for target in able:
        pool, test = _part_site(corpus, np.flatnonzero(networks == target), labels)
        folds += [
            Fold(f"{source} to {target}", np.flatnonzero(networks == source), test, test,
                 setting=method, shots=pool, method=method)
            for source in able if source != target for method in protocol.methods
        ]  # fmt: skip
    return folds


def _by_site(corpus: Corpus, protocol: Protocol, labelling: Labelling) -> list[Fold]:
    """Every capture that shows an anomaly as a plant of its own, new to models of all others."""
    labels, folds = corpus.labels[labelling], []
    for place, capture in enumerate(corpus.captures):
        mine = corpus.capture == place
        if {NORMAL} < set(labels[mine & (labels != UNKNOWN)]) and not mine.all():
            pool, test = _part_site(corpus, np.flatnonzero(mine), labels)
            folds += [
                Fold(capture.name, np.flatnonzero(~mine), test, test,
                     setting=method, shots=pool, method=method)
                for method in protocol.methods
            ]  # fmt: skip
    return folds


def _part_site(
    corpus: Corpus, rows: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a new network that may be labelled, and those that are tested.

    Of many captures every other one; of few, the first part of each label's windows in each
    capture, and what shares no second with them.

    Args:
        corpus: all windows.
        rows: the network's, ascending.
        labels: of all windows.
    """
    captures = np.unique(corpus.capture[rows])
    if len(captures) >= _MANY_CAPTURES:
        pooled = np.isin(corpus.capture[rows], captures[::2])
        return rows[pooled], rows[~pooled]
    table = pd.DataFrame(
        {"capture": corpus.capture[rows], "label": labels[rows], "device": corpus.device[rows],
         "start_s": corpus.start_s[rows]}
    )  # fmt: skip
    kinds = table.groupby(["capture", "label"])["start_s"]
    early = kinds.rank(method="first") <= np.ceil(_EARLY_SHARE * kinds.transform("size"))
    early &= (table["label"] != UNKNOWN).to_numpy()
    by_time = table[["device", "start_s"]].sort_values("start_s", kind="stable")
    near = pd.merge_asof(
        by_time, by_time[early.loc[by_time.index]].assign(pooled_s=lambda t: t["start_s"]),
        on="start_s", by="device", direction="nearest", tolerance=_WINDOW_S - SAMPLE_S / 2,
    )["pooled_s"].set_axis(by_time.index)  # fmt: skip
    apart = near.sort_index().isna().to_numpy()
    return rows[early.to_numpy()], rows[apart]


# How training and testing are parted, and what captures that needs.
_SPLITS: Mapping[Split, tuple[Callable[[Corpus, Protocol, Labelling], list[Fold]], str]] = {
    "windows": (_by_window, "labelled windows"),
    "time": (_by_time, "labelled windows"),
    "captures": (_by_capture, "at least two captures"),
    "networks": (_by_network, "captures of two networks, one with normal windows and an anomaly"),
    "shots": (_by_shots, "two networks, one of them with two captures"),
    "label": (_by_label, "an anomaly in a capture that can be left out"),
    "device": (_by_device, "devices without an anomaly that are seen for some minutes"),
    "dead-service": (
        _by_dead_service,
        "C&C windows, and others in which a device's attempts stay unanswered",
    ),
    "drift": (_by_age, "captures of some minutes"),
    "transfer": (_by_method, "captures of two networks, both with normal windows and an anomaly"),
    "site": (_by_site, "two captures, one of them with normal windows and an anomaly"),
}
