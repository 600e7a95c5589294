"""Claims held against what a capture shows, and the windows that may be learned from them.

    claims ─▶ capture ─▶ analysis ─▶ contradicted by packets? ─▶ set aside, named
                            └─▶ windows of the claim ─▶ the same window both ways? ─▶ at most some of
                                                                             a device and cause

Ten windows of a live bot that somebody calls normal teach a model to overlook it. So normal stands
against evidence: no window of a device is learned as normal while an incident of it is proved
(`assistant.diagnosis.standing`), whatever the incident is called, nor any window that reads like
one that is. A device that is taken over is so all the time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis, analyse
from assistant.diagnosis.standing import judge
from assistant.facts.exclusion import FORBIDDEN_BY
from assistant.facts.fact import plural
from assistant.facts.moments import UTC_CLOCK
from assistant.facts.profiles import PROFILES
from assistant.llm.adapters import AdapterCard
from assistant.llm.remembered import Scorer
from finetune.align.claims import Claims
from prompts.window_text import render_windows
from traffic.capture import SAMPLE_S
from traffic.datasets import name_capture
from traffic.datasets.labelling import label_windows
from traffic.errors import UserError
from traffic.labels import NORMAL
from traffic.plant import Plant, load_plant

COLUMNS = ("text", "said", "shown", "capture", "device", "start_s", "incident", "at_s")
_HALF = 0.5  # of a window, within what a claim is about
_NAMED = 8  # claims that a note names


@dataclass(frozen=True)
class Windows:
    """Windows of claims that withstood the evidence.

    Attributes:
        table: ``COLUMNS``, a row a window: ``said`` is "" where the claim leaves it open, ``device``
            a number in its capture.
        proved: ``text label capture device start_s`` of windows whose incident is proved: no
            adapter may be silent about them.
        set_aside: claims against the evidence, by incident, with the reason.
        notes: everything else that was left out or decided, a sentence each.
    """

    table: pd.DataFrame
    proved: pd.DataFrame
    set_aside: dict[str, str]
    notes: tuple[str, ...]


def check_claims(
    claims: Claims,
    captures: Sequence[Path],
    llm: Scorer,
    card: AdapterCard,
    plant: Plant | None = None,
    most: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Windows:
    """Find the windows of claims in captures and check them against what packets prove.

    Args:
        claims: from `finetune.align.claims.read_claims`.
        captures: in which they were made: pcaps, logs or folders.
        llm: scores the labels, with the adapter in use.
        card: of that adapter.
        plant: the inventory; by default a plant.yaml in or beside a capture.
        most: windows of different texts of one device and cause, each for normal and for anomalous.
        progress: called with the numbers of captures that were read and that there are.

    Raises:
        UserError: two captures have one name, none is about a claim, or nothing withstood.
    """
    names = [_name(path) for path in captures]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"two captures are called {twice[0]}; expected a name of its own for each; rename one"
        )
    found, proved = [], []
    set_aside: dict[str, str] = {}
    for done, (name, path) in enumerate(zip(names, captures, strict=True), start=1):
        analysis = analyse(path, llm, card, plant or _plant_of(path))
        here = _locate(claims.table, analysis)
        certain = _find_proved(analysis)
        contradicted = _find_contradicted(here, certain, analysis)
        set_aside |= contradicted
        kept = here[~here["incident"].isin(list(contradicted))]
        found.append(_take_windows(kept, analysis).assign(capture=name))
        proved.append(_take_proved(certain, analysis).assign(capture=name))
        if progress is not None:
            progress(done, len(captures))
    table, sure = pd.concat(found, ignore_index=True), pd.concat(proved, ignore_index=True)
    notes = [*claims.notes, *_name_gone(claims.table, table, set_aside)]
    for step in (_choose_place, _choose_last, _drop_like_proved):
        table, said = step(table, sure)
        notes += said
    table, said = _cap(table, most)
    notes += said
    if table.empty:
        aside = "; ".join(f"{one}: {why}" for one, why in list(set_aside.items())[:3])
        raise UserError(
            f"none of {len(claims.table)} claims can be learned from"
            f"{f' ({len(set_aside)} against the evidence: {aside})' if set_aside else ''}"
            f"{f' ({notes[-1]})' if notes else ''}; expected some that the captures bear out; "
            "give the captures that the feedback is about with --capture"
        )
    return Windows(table[list(COLUMNS)].reset_index(drop=True), sure, set_aside, tuple(notes))


def _name(path: Path) -> str:
    return path.name if path.is_dir() else name_capture(path)


def _plant_of(path: Path) -> Plant | None:
    file = path / "plant.yaml" if path.is_dir() else path.with_name("plant.yaml")
    return load_plant(file) if file.is_file() else None


def _locate(claims: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """The claims that are about a capture: its incident, or a device of it at that time; ``sure``
    tells the first."""
    sure = claims["incident"].isin([one.id for one in analysis.incidents])
    spans = analysis.windows.table.groupby("device").agg(
        first=("start_s", "min"), last=("end_s", "max")
    )
    first = claims["device"].map(spans["first"]).to_numpy(float)
    last = claims["device"].map(spans["last"]).to_numpy(float)
    there = (claims["start_s"] < last) & (claims["end_s"] > first)
    return claims.assign(sure=sure)[there]


# ---- What packets prove ----


def _find_proved(analysis: Analysis) -> list[Incident]:
    return [
        one for one in analysis.incidents if judge(one, analysis.verdicts, one.facts) == "confirmed"
    ]


def _find_contradicted(
    claims: pd.DataFrame, proved: Sequence[Incident], analysis: Analysis
) -> dict[str, str]:
    """Claims of normal at a device and a time of which something else is proved, with what."""
    contradicted = {}
    for claim in claims[claims["said"] == NORMAL].itertuples():
        for one in proved:
            concerned = claim.device in (one.device, *one.related, *one.peers)
            meanwhile = claim.start_s < one.end_s and claim.end_s > one.start_s
            taken = PROFILES[one.label].compromises and claim.device == one.device
            if concerned and (meanwhile or taken):
                fact = one.facts[0].text if one.facts else one.id
                contradicted[claim.incident] = (
                    f"{claim.who or 'somebody'} calls {analysis.view.name_of(claim.device)} normal "
                    f"at {UTC_CLOCK.show(claim.start_s)}, but {one.label} is proved: {fact}"
                )
                break
    return contradicted


def _take_proved(proved: Sequence[Incident], analysis: Analysis) -> pd.DataFrame:
    """The windows of proved incidents, as their devices showed them."""
    table = analysis.windows.table
    which = np.zeros(len(table), bool)
    label = np.full(len(table), "", object)
    for one in proved:
        mine = ((table["device"] == one.device) & table["start_s"].isin(one.windows)).to_numpy()
        which |= mine
        label[mine] = one.label
    return _texts(analysis, np.flatnonzero(which)).assign(label=label[which])


# ---- Windows of claims ----


def _take_windows(claims: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """A row for each window of each claim; none where the window does not show what is claimed."""
    windows = analysis.windows
    start_s, end_s = (windows.table[name].to_numpy(float) for name in ("start_s", "end_s"))
    device = windows.table["device"].to_numpy(object)
    shows = {
        label: _find_shown(rows, analysis)
        for label, rows in claims[~claims["said"].isin(["", NORMAL])].groupby("said")
    }
    parts = []
    for claim in claims.itertuples():
        overlap = np.minimum(end_s, claim.end_s) - np.maximum(start_s, claim.start_s)
        mine = (device == claim.device) & (overlap > 0)
        if claim.said in ("", NORMAL):
            shortest = min(claim.end_s - claim.start_s, (end_s - start_s).min(initial=0.0))
            mine &= overlap >= _HALF * shortest
        else:
            mine &= shows[claim.said]
        rows = _texts(analysis, np.flatnonzero(mine))
        parts.append(
            rows.assign(
                said=claim.said, shown=claim.shown, incident=claim.incident, at_s=claim.at_s,
                sure=claim.sure,
            )
        )  # fmt: skip
    empty = pd.DataFrame(columns=[*COLUMNS, "sure"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def _find_shown(claims: pd.DataFrame, analysis: Analysis) -> np.ndarray:
    """The windows that show what claims of one label say, and whose numbers do not forbid it, shape
    (n_windows,), bool; read as any truth of intervals is: a fault shows only where it exceeds the
    device's own calm."""
    label, windows = str(claims["said"].iloc[0]), analysis.windows
    intervals = claims.rename(columns={"said": "label"}).assign(
        direction="source",
        # An incident's ends are exact, and a scan of seconds would cover no sample half.
        start_s=np.floor(claims["start_s"] / SAMPLE_S) * SAMPLE_S,
        end_s=np.ceil((claims["end_s"] + 1e-3) / SAMPLE_S) * SAMPLE_S,
    )
    flows = pd.Series(NORMAL, index=analysis.capture.flows.index, dtype="str")
    labelled = label_windows(windows, analysis.capture, flows, intervals).table["label"]
    shown = (labelled == label).to_numpy()
    impossible = PROFILES[label].impossible
    if impossible is None:
        return shown
    values = windows.values(list(FORBIDDEN_BY))
    columns = {name: values[:, :, at] for at, name in enumerate(FORBIDDEN_BY)}
    return np.asarray(shown & ~impossible(columns))


def _texts(analysis: Analysis, rows: np.ndarray) -> pd.DataFrame:
    """``text device start_s`` of some windows."""
    table = analysis.windows.table
    return pd.DataFrame(
        {
            "text": pd.Series(render_windows(analysis.windows.take(rows)), dtype="str"),
            "device": table["device"].factorize()[0][rows].astype(np.int64),
            "start_s": table["start_s"].to_numpy(float)[rows],
        }
    )


# ---- What contradicts itself, and how much one device may say ----


def _choose_place(table: pd.DataFrame, _: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A claim that fits several captures belongs to the one that shows its incident, else nowhere."""
    places = table.groupby("incident")["capture"].nunique()
    several = table["incident"].isin(places.index[places > 1])
    kept = table[~several | table["sure"].astype(bool)]
    places = kept.groupby("incident")["capture"].nunique()
    kept = kept[~kept["incident"].isin(places.index[places > 1])]
    open_ = sorted({*table["incident"]} - {*kept["incident"]})
    return kept, [f"{one} left out: several captures fit it, and none tells which" for one in open_]


def _choose_last(table: pd.DataFrame, _: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One claim a window: a label before normal, since who denies one alarm does not deny others,
    and then the later word."""
    rank = table["said"].map({NORMAL: 1, "": 0}).fillna(2)
    order = table.assign(rank=rank).sort_values(["rank", "at_s"], kind="stable")
    keys = ["capture", "device", "start_s"]
    both = int((table.groupby(keys)["said"].nunique() > 1).sum())
    last = order.drop_duplicates(keys, keep="last").sort_index().drop(columns="rank")
    if not both:
        return last, []
    return last, [
        f"{both} {plural(both, 'window')} of several remarks: a cause counts before normal, and then "
        "the later word"
    ]


def _drop_like_proved(table: pd.DataFrame, proved: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Normal windows that read as some that are proved, or claimed, to be anomalous."""
    odd = {*proved["text"], *table.loc[~table["said"].isin(["", NORMAL]), "text"]}
    alike = (table["said"] == NORMAL) & table["text"].isin(odd)
    count = int(alike.sum())
    notes = [
        f"{count} {plural(count, 'window')} called normal left out: a proved or confirmed anomaly "
        "reads the same"
    ]
    return table[~alike], notes if count else []


def _cap(table: pd.DataFrame, most: int) -> tuple[pd.DataFrame, list[str]]:
    """At most so many different texts of a device and cause, evenly over their time: whoever says
    the same a hundred times does not weigh a hundred times as much."""
    table = table.drop_duplicates(["capture", "device", "text", "said", "shown"])
    parts = []
    for _, rows in table.groupby(["capture", "device", "shown", "said"], sort=False):
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
        parts.append(rows.sort_values("start_s", kind="stable").iloc[places])
    kept = pd.concat(parts) if parts else table
    if (cut := len(table) - len(kept)) == 0:
        return kept, []
    return kept, [
        f"{cut} {plural(cut, 'window')} left out: at most {most} of a device and cause count"
    ]


def _name_gone(claims: pd.DataFrame, found: pd.DataFrame, aside: dict[str, str]) -> list[str]:
    """Claims of which nothing was found: their capture is not there, or shows nothing of them."""
    gone = claims[~claims["incident"].isin({*found["incident"], *aside})]
    if gone.empty:
        return []
    named = [
        f"{row.incident or 'a remark'} ({row.device}, {UTC_CLOCK.show(row.start_s)})"
        for row in gone.head(_NAMED).itertuples()
    ]
    more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
    return [
        f"{len(gone)} {plural(len(gone), 'claim')} left out, of which no capture that was given shows "
        f"a window: {', '.join(named)}{more}"
    ]
