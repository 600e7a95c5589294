"""The evidence that packets would have given, drawn from what the flows carried in each slot."""

from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, SAMPLE_S
from traffic.simulated_neighbours import make_questions
from traffic.simulation.scenario import Lossy, Scene

__all__ = ["PROTOCOL_KINDS", "draw_losses", "make_evidence", "story_of"]

_READS, _WRITES = (1, 2, 3, 4, 20, 24), (5, 6, 15, 16, 21, 22, 23)
# Most cables lose nothing at all.
_CLEAN = (0.85, 0.09, 0.04, 0.02)
# What Zeek's protocol logs hold; the rest only packets tell.
PROTOCOL_KINDS = (
    *("dns_query", "dns_failed", "modbus_read", "modbus_write", "modbus_other", "modbus_exception"),
    *("mqtt_connect", "mqtt_refused", "mqtt_publish", "mqtt_malformed"),
)


def make_evidence(scene: Scene, flows: pd.DataFrame, activity: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """Draw the evidence that packets would give of all flows.

    Args:
        scene: loose notes and lossy stretches.
        flows: shape (n_flows, ...), the ledger's form, in the order that ``activity`` counts them.
        activity: the slots of each flow.
        lost: segments that were sent again, as ``draw_losses`` gave them.

    Returns:
        Evidence as a capture holds it, sorted by slot.
    """
    rows = _active(flows, activity)
    noted = scene.notes.assign(slot=np.floor(scene.notes["ts"].astype(float) / SAMPLE_S))
    parts = [noted, _dns(rows), _modbus(scene, rows), _mqtt(scene, rows), _resets(rows)]
    parts += [_rows(lost, "retransmission", -1, lost["sent"]), _rows(_turned(lost), "retransmission", -1, lost["back"])]
    parts += [_windows(scene, rows), _rows(make_questions(scene, rows), "arp_request", -1, 1)]
    return _summed([part[EVIDENCE_COLUMNS] for part in parts if len(part)], scene)


def _active(flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    columns = ["id.orig_h", "id.resp_h", "proto", "app", "code", "asks", "tells", "distinct"]
    columns += ["conn_state", "history", "exchanges"]
    return activity.join(flows[columns], on="flow").rename(columns={"id.orig_h": "src", "id.resp_h": "dst"})


def _summed(parts: list[pd.DataFrame], scene: Scene) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=EVIDENCE_COLUMNS)
    table = pd.concat(parts, ignore_index=True)
    numbers = {name: table[name].astype(np.int64) for name in ("slot", "code", "count", "distinct")}
    words = {name: table[name].astype("str") for name in ("src", "dst", "kind")}
    table = table.assign(**numbers, **words)
    first, last = scene.stage.start_s // SAMPLE_S, scene.stage.end_s // SAMPLE_S
    table = table[(table["count"] > 0) & (table["slot"] >= first) & (table["slot"] < last)]
    keys = ["slot", "src", "dst", "kind", "code"]
    return table.groupby(keys, as_index=False).agg({"count": "sum", "distinct": "max"})[EVIDENCE_COLUMNS]


def _rows(table: pd.DataFrame, kind: Any, code: Any, count: Any, distinct: Any = 0) -> pd.DataFrame:
    return table.assign(kind=kind, code=code, count=count, distinct=distinct)[EVIDENCE_COLUMNS]


def _dns(rows: pd.DataFrame) -> pd.DataFrame:
    dns = rows[rows["app"] == "dns"]
    failed, silent = dns[dns["code"] >= 0], dns[(dns["conn_state"] == "S0") & (dns["orig_pkts"] > 0)]
    asked = _rows(dns, "dns_query", -1, dns["orig_pkts"])
    return pd.concat(
        [asked, _rows(failed, "dns_failed", failed["code"], failed["resp_pkts"]), _rows(silent, "dns_failed", -1, 1)]
    )


def _asked(scene: Scene, rows: pd.DataFrame, share: str = "asks") -> np.ndarray:
    """How many requests (``asks``) or messages of the other side (``tells``) the exchanges of a slot held."""
    return np.floor(rows["spoken"] * rows[share].astype(float) + scene.stage.rng.random(len(rows))).astype(np.int64)


def _modbus(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    modbus = rows[rows["app"] == "modbus"]
    count, code = _asked(scene, modbus), modbus["code"]
    kind = np.where(code.isin(_READS), "modbus_read", np.where(code.isin(_WRITES), "modbus_write", "modbus_other"))
    return _rows(modbus, kind, code, count, np.minimum(count, modbus["distinct"]))


def _mqtt(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    mqtt = rows[rows["app"] == "mqtt"]
    opened = mqtt[(mqtt["orig_syns"] > 0) & mqtt["history"].str.contains("D")]
    count = _asked(scene, mqtt)
    told = _rows(mqtt, "mqtt_publish", -1, count, np.minimum(count, mqtt["distinct"]))
    back = _asked(scene, mqtt, "tells")
    passed = _rows(_turned(mqtt), "mqtt_publish", -1, back, np.minimum(back, mqtt["distinct"]))
    return pd.concat([_rows(opened, "mqtt_connect", -1, 1), told, passed])


def _resets(rows: pd.DataFrame) -> pd.DataFrame:
    last = rows[(rows["proto"] == "tcp") & ~rows["flow"].duplicated(keep="last")]
    mine, theirs = last[last["history"].str.contains("R")], last[last["history"].str.contains("r")]
    return pd.concat([_rows(mine, "reset", -1, 1), _rows(_turned(theirs), "reset", -1, 1)])


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(src=rows["dst"], dst=rows["src"])


def draw_losses(scene: Scene, flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    """Segments sent again: a few everywhere, many in lossy stretches, whose truth follows from them.

    Returns:
        One row per flow and slot with losses: ``flow slot src dst``, and how many were sent again by the originator
        (``sent``) and the responder (``back``).
    """
    rng, rows = scene.stage.rng, _active(flows, activity)
    tcp = rows[(rows["proto"] == "tcp") & (rows["conn_state"] != "S0")]
    devices = pd.unique(pd.concat([tcp["src"], tcp["dst"]]))
    usual = rng.choice([0, 1e-4, 1e-3, 4e-3], size=len(devices), p=_CLEAN) * rng.random(len(devices))
    share = dict(zip(devices, usual, strict=True))
    rate = np.maximum(tcp["src"].map(share), tcp["dst"].map(share)).to_numpy(float)
    cause = np.full(len(tcp), -1)
    for i, stretch in enumerate(scene.losses):
        hit = _within(tcp, stretch)
        cause[hit & (stretch.loss_share > rate)] = i
        rate = np.where(hit, np.maximum(rate, stretch.loss_share), rate)
    sent = rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.6))
    back = rng.binomial(tcp["resp_pkts"], np.minimum(rate, 0.6))
    for i, stretch in enumerate(scene.losses):
        _tell_loss(scene, tcp[(cause == i) & (sent + back > 0)], stretch)
    lost = tcp[["flow", "slot", "src", "dst"]].assign(sent=sent, back=back)
    return lost[sent + back > 0]


def _within(rows: pd.DataFrame, stretch: Lossy) -> np.ndarray:
    """Which rows lie in a lossy stretch of one of their ends."""
    middle = (rows["slot"].to_numpy() + 0.5) * SAMPLE_S
    theirs = ((rows["src"] == stretch.device) | (rows["dst"] == stretch.device)).to_numpy()
    return theirs & (middle >= stretch.start_s) & (middle < stretch.end_s)


def story_of(history: pd.Series, lost: pd.DataFrame) -> pd.Series:
    """Zeek's history with a ``T`` for the first segment sent again, and for the tenth, and the hundredth."""
    totals = lost.groupby("flow")[["sent", "back"]].sum().reindex(range(len(history)), fill_value=0)
    for name, letter in (("sent", "T"), ("back", "t")):
        count = totals[name].to_numpy()
        many = np.where(count > 0, np.floor(np.log10(np.maximum(count, 1))) + 1, 0).astype(np.int64)
        history = history + pd.Series([letter * n for n in many], index=history.index, dtype=object)
    return history


def _tell_loss(scene: Scene, felt: pd.DataFrame, stretch: Lossy) -> None:
    when, device = felt["slot"] * SAMPLE_S, stretch.device
    mine = pd.Series(np.full(len(felt), device, object))
    scene.tell_touched(mine, when, stretch.label, stretch.direction, stretch.cause)
    if stretch.label == "packet_loss":
        peer = felt["src"].where(felt["src"] != device, felt["dst"])
        near = peer.str.startswith(scene.stage.network)
        scene.tell_touched(peer[near], when[near], stretch.label, "target", stretch.cause, least=3)


def _windows(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Receivers that ran full: in congestion, and rarely elsewhere."""
    tcp = rows[(rows["proto"] == "tcp") & (rows["resp_pkts"] > 0)]
    rate = np.full(len(tcp), 1e-5)
    for stretch in scene.losses:
        rate = np.where(_within(tcp, stretch), np.maximum(rate, stretch.full_share), rate)
    return _rows(tcp, "zero_window", -1, scene.stage.rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.5)))
