"""The forms in which captures and their truth lie in a folder, and how each is read."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S, Capture
from traffic.datasets.labelling import SHOWN_BY_TROUBLE
from traffic.datasets.truth import INTERVAL_COLUMNS, make_intervals, read_intervals, read_truth
from traffic.errors import UserError
from traffic.labels import CIC_IOMT, IOT23, LABELS, MODBUS_SANDBOX, NORMAL, UNKNOWN
from traffic.pcap.headers import read_ip, read_transport
from traffic.pcap.links import read_links
from traffic.pcap.records import read_records
from traffic.plant import Plant, load_plant
from traffic.reader import read_capture

# ---- Published labels of public captures, read as ours and corrected where they are wrong ----
#
# Corrections are data: a row of ``corrections/*.csv`` names the flows by addresses, port, protocol
# and time, what was published, what is true, and why. A capture is known by these, never by its
# file's name, and a flow is corrected only if its published label is the one that the row disputes.

_FOLDER = Path(__file__).parents[1] / "corrections"


def label_flows(flows: pd.DataFrame, corrected: bool = True) -> pd.Series:
    """Our label of every flow: ``normal``, ``c2``, … or ``unknown``.

    Args:
        flows: Zeek's names with ``label`` and ``detailed-label``; without either every flow is
            unknown.
        corrected: apply the corrections; otherwise the labels count as published.

    Returns:
        Shape (n_flows,), text, with the index of ``flows``.
    """
    labels = read_labels(flows)
    if not corrected:
        return labels
    published = _published(flows)
    for row in read_corrections().itertuples(index=False):
        disputed = _match(flows, row) & (published == row.published).to_numpy()
        labels = labels.mask(disputed, row.corrected)
    return labels


def read_labels(flows: pd.DataFrame) -> pd.Series:
    """Published labels as ours: IoT-23's in any case and compound, or those of ``simulate``."""
    published = _published(flows)
    meaning = {name: _meaning(name) for name in published.unique()}
    return published.map(meaning).astype("str")


def read_corrections() -> pd.DataFrame:
    """Every correction that ships with the package; shape (n, 12).

    ``capture orig resp port proto from_s until_s flows published corrected why source``.
    """
    files = sorted(_FOLDER.glob("*.csv"))
    types = dict.fromkeys(("orig", "resp", "proto"), "str") | {"port": "int64"}
    types |= dict.fromkeys(("from_s", "until_s"), "float64")
    # "-" is IoT-23's word for benign, not a missing value.
    tables = [pd.read_csv(file, dtype=types, keep_default_na=False) for file in files]
    return pd.concat(tables, ignore_index=True)  # the package has some


def _published(flows: pd.DataFrame) -> pd.Series:
    """The detailed label in lower case, or else the plain one; ``-`` is benign, empty unknown."""
    texts = flows.reindex(columns=["label", "detailed-label"]).astype("str")
    plain, detail = (texts[column].str.lower().str.strip() for column in texts)
    # "Benign" with no detail is what IoT-23 writes as "-"; our own names and a bare "Malicious"
    # stay.
    return detail.fillna(plain.replace("benign", "-")).fillna("")


def _meaning(name: str) -> str:
    if name in IOT23:
        return IOT23[name]
    if name in LABELS:
        return name
    known = [key for key in IOT23 if IOT23[key] != NORMAL and name.startswith(f"{key}-")]
    return IOT23[max(known, key=len)] if known else UNKNOWN


def _match(flows: pd.DataFrame, row: Any) -> np.ndarray:
    same = {"id.orig_h": row.orig, "id.resp_h": row.resp, "id.resp_p": row.port, "proto": row.proto}
    found = flows["ts"].between(row.from_s, row.until_s, inclusive="left").to_numpy().copy()
    for column, value in same.items():
        found &= (flows[column] == value).to_numpy(bool)
    return found


# ---- Forms of captures with their truth ----

# A user's capture and its CSV of intervals have one name.
_OWN = (".pcap", ".pcapng", ".cap", ".log")
_ENDS = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"]


@dataclass(frozen=True)
class Marked:
    """A capture and what is known to be true of it.

    Attributes:
        capture: what was seen.
        labels: our label of every flow; None where they are published with the flows themselves.
        intervals: what ``traffic.datasets.labelling.label_windows`` takes.
        plant: the inventory, where there is one.
    """

    capture: Capture
    labels: pd.Series | None = None
    intervals: pd.DataFrame | None = None
    plant: Plant | None = None


@dataclass(frozen=True)
class Form:
    """One form of labelled captures.

    Attributes:
        name: what users call it.
        files: what it looks like, in words.
        fits: whether a file is a capture of this form; its first matching row in ``FORMS`` counts.
        load: reads the capture and its truth.
    """

    name: str
    files: str
    fits: Callable[[Path], bool]
    load: Callable[[Path], Marked]


def _is_run(path: Path) -> bool:
    return path.name == "capture.pcap" and path.with_name("truth.json").is_file()


def _load_run(path: Path) -> Marked:
    capture = read_capture(path)
    truth = read_truth(path.with_name("truth.json"), capture.start_s, capture.end_s)
    return Marked(
        capture, _all_flows(capture, NORMAL), make_intervals(truth.intervals), _plant_beside(path)
    )


def _is_simulated(path: Path) -> bool:
    return path.name == "conn.log" and path.with_name("truth.csv").is_file()


def _load_simulated(path: Path) -> Marked:
    """Flows carry the labels of attacks; the interval counts only for what opens no flow."""
    capture = read_capture(path)
    truth = read_intervals(path.with_name("truth.csv"), capture.start_s, capture.end_s)
    return Marked(capture, None, truth[truth["label"].isin(SHOWN_BY_TROUBLE)])


def _is_published(path: Path) -> bool:
    return path.name == "conn.log.labeled"


def _load_published(path: Path) -> Marked:
    capture = read_capture(path)
    if "detailed-label" not in capture.flows:
        raise UserError(
            f"{path} has no column detailed-label; expected a labelled Zeek log as in IoT-23; name another file"
        )
    return Marked(capture)


def _is_sandbox(path: Path) -> bool:
    named = path.suffix == ".pcap" and path.name.startswith(tuple(MODBUS_SANDBOX))
    return named and _packet_list(path).is_file()


def _packet_list(path: Path) -> Path:
    return path.with_name(f"{path.stem}_labeled.csv")


def _load_sandbox(path: Path) -> Marked:
    """A malicious packet marks the slot of both its devices, that of who opened the connection as
    source."""
    capture = read_capture(path)
    (label,) = (word for start, word in MODBUS_SANDBOX.items() if path.name.startswith(start))
    packets = _malicious_packets(path)
    either = pd.concat([packets, packets.set_axis([*_ENDS[2:], *_ENDS[:2], "slot"], axis=1)])
    active = capture.flows.iloc[capture.activity["flow"]][_ENDS]
    active = active.assign(slot=capture.activity["slot"].to_numpy())
    cells = active.merge(either, on=[*_ENDS, "slot"])
    ends = [
        cells.assign(device=cells[column], direction=direction)
        for column, direction in (("id.resp_h", "target"), ("id.orig_h", "source"))
    ]
    marked = pd.concat(ends).drop_duplicates(["device", "slot"], keep="last")
    marked["start_s"], marked["end_s"] = marked["slot"] * SAMPLE_S, (marked["slot"] + 1) * SAMPLE_S
    intervals = marked.assign(label=label, cause="")[INTERVAL_COLUMNS]
    return Marked(capture, _all_flows(capture, NORMAL), intervals)


def _malicious_packets(path: Path) -> pd.DataFrame:
    """Ends, the sender's first, and slot of every IPv4 packet that the list beside a pcap marks."""
    records = read_records(path)
    try:
        marks = pd.read_csv(_packet_list(path), sep=";", header=None, names=["packet", "malicious"])
    except ValueError:
        marks = pd.DataFrame(columns=["packet", "malicious"])
    if len(marks) != len(records.ts) or not marks["malicious"].isin([0, 1]).all():
        raise UserError(
            f"{_packet_list(path)} marks {len(marks)} packets; expected 0 or 1 for each of the {len(records.ts)} of "
            f"{path.name}; get both files again"
        )
    chosen = records.take(np.flatnonzero(marks["malicious"].to_numpy() == 1))
    ip = read_ip(chosen, read_links(chosen))
    ports = read_transport(chosen, ip)
    slot = np.floor(chosen.ts[ip.row] / SAMPLE_S).astype(np.int64)
    columns = [
        _texts(ip.src_low),
        ports.sport.astype(np.int64),
        _texts(ip.dst_low),
        ports.dport.astype(np.int64),
    ]
    return pd.DataFrame(dict(zip(_ENDS, columns, strict=True))).assign(slot=slot).drop_duplicates()


def _texts(low: np.ndarray) -> pd.Series:
    codes, values = pd.factorize(low)
    texts = [str(ipaddress.IPv4Address(int(value) & 0xFFFFFFFF)) for value in values]
    return pd.Series(texts, dtype="str").take(codes).reset_index(drop=True)


def _cic_class(path: Path) -> str:
    """The class in ``TCP_IP-DDoS-SYN1_train.pcap``: without part number and split."""
    return re.sub(r"\d*(?:_(?:train|test))?$", "", path.stem)


def _is_cic(path: Path) -> bool:
    return path.suffix == ".pcap" and _cic_class(path) in CIC_IOMT


def _load_cic(path: Path) -> Marked:
    """A file holds one class: all of its flows are of it, as the set's own tables count them."""
    capture = read_capture(path)
    return Marked(capture, _all_flows(capture, CIC_IOMT[_cic_class(path)]))


def _is_own(path: Path) -> bool:
    return path.suffix in _OWN and path.with_suffix(".csv").is_file()


def _load_own(path: Path) -> Marked:
    capture = read_capture(path)
    intervals = read_intervals(path.with_suffix(".csv"), capture.start_s, capture.end_s)
    return Marked(capture, _all_flows(capture, NORMAL), intervals, _plant_beside(path))


def _all_flows(capture: Capture, label: str) -> pd.Series:
    return pd.Series(label, index=capture.flows.index, dtype="str")


def _plant_beside(path: Path) -> Plant | None:
    file = path.with_name("plant.yaml")
    return load_plant(file) if file.is_file() else None


FORMS = (
    Form("testbed run", "capture.pcap beside truth.json", _is_run, _load_run),
    Form("simulated run", "conn.log beside truth.csv", _is_simulated, _load_simulated),
    Form("IoT-23", "conn.log.labeled", _is_published, _load_published),
    Form("Modbus sandbox", "NAME.pcap beside NAME_labeled.csv", _is_sandbox, _load_sandbox),
    Form("CIC IoMT 2024", "pcaps named by attack, as Benign_train.pcap", _is_cic, _load_cic),
    Form("your own", "NAME.pcap or NAME.log beside NAME.csv of intervals", _is_own, _load_own),
)
