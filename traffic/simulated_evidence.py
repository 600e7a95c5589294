"""The evidence that packets would have given, drawn from what the flows carried in each slot."""

import numpy as np
import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, SAMPLE_S
from traffic.simulated_outages import Scene

__all__ = ["PROTOCOL_KINDS", "make_evidence"]

_READS, _WRITES = (1, 2, 3, 4, 20, 24), (5, 6, 15, 16, 21, 22, 23)
# What Zeek's protocol logs hold; the rest only packets tell.
PROTOCOL_KINDS = (
    *("dns_query", "dns_failed", "modbus_read", "modbus_write", "modbus_other", "modbus_exception"),
    *("mqtt_connect", "mqtt_refused", "mqtt_publish", "mqtt_malformed"),
)


def make_evidence(scene: Scene, flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    """Draw the evidence of all flows, and tell the truth of lossy stretches by what was drawn.

    Args:
        scene: loose notes and lossy stretches; its truth grows by those that suffered.
        flows: shape (n_flows, ...), the ledger's form, in the order that ``activity`` counts them.
        activity: the slots of each flow.

    Returns:
        Evidence as a capture holds it, sorted by slot.
    """
    rows = activity.join(
        flows[["id.orig_h", "id.resp_h", "proto", "app", "code", "asks", "distinct", "conn_state", "history"]],
        on="flow",
    )
    rows = rows.rename(columns={"id.orig_h": "src", "id.resp_h": "dst"})
    noted = scene.notes.assign(slot=np.floor(scene.notes["ts"].astype(float) / SAMPLE_S))
    parts = [noted, _dns(rows), _modbus(scene, rows), _mqtt(scene, rows), _resets(rows)]
    parts += [_losses(scene, rows), _windows(scene, rows), _neighbours(scene, rows)]
    return _summed([part[EVIDENCE_COLUMNS] for part in parts if len(part)], scene)


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


def _rows(table: pd.DataFrame, kind: object, code: object, count: object, distinct: object = 0) -> pd.DataFrame:
    return table.assign(kind=kind, code=code, count=count, distinct=distinct)[EVIDENCE_COLUMNS]


def _dns(rows: pd.DataFrame) -> pd.DataFrame:
    dns = rows[rows["app"] == "dns"]
    failed, silent = dns[dns["code"] >= 0], dns[(dns["conn_state"] == "S0") & (dns["orig_pkts"] > 0)]
    asked = _rows(dns, "dns_query", -1, dns["orig_pkts"])
    return pd.concat(
        [asked, _rows(failed, "dns_failed", failed["code"], failed["resp_pkts"]), _rows(silent, "dns_failed", -1, 1)]
    )


def _asked(scene: Scene, rows: pd.DataFrame) -> np.ndarray:
    """How many requests the originator's packets of a slot held."""
    return np.floor(rows["orig_pkts"] * rows["asks"].astype(float) + scene.stage.rng.random(len(rows))).astype(np.int64)


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
    return pd.concat([_rows(opened, "mqtt_connect", -1, 1), told])


def _resets(rows: pd.DataFrame) -> pd.DataFrame:
    last = rows[(rows["proto"] == "tcp") & ~rows["flow"].duplicated(keep="last")]
    mine, theirs = last[last["history"].str.contains("R")], last[last["history"].str.contains("r")]
    return pd.concat([_rows(mine, "reset", -1, 1), _rows(_turned(theirs), "reset", -1, 1)])


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(src=rows["dst"], dst=rows["src"])


def _losses(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Segments sent again: a few everywhere, many in lossy stretches, whose truth follows from them."""
    rng = scene.stage.rng
    tcp = rows[(rows["proto"] == "tcp") & (rows["conn_state"] != "S0")]
    devices = pd.unique(pd.concat([tcp["src"], tcp["dst"]]))
    usual = dict(
        zip(devices, rng.choice([0, 1e-4, 1e-3, 4e-3], size=len(devices)) * rng.random(len(devices)), strict=True)
    )
    rate = np.maximum(tcp["src"].map(usual), tcp["dst"].map(usual)).to_numpy(float)
    cause = np.full(len(tcp), -1)
    middle = (tcp["slot"].to_numpy() + 0.5) * SAMPLE_S
    for i, (address, start_s, end_s, share, *_) in enumerate(scene.losses):
        hit = ((tcp["src"] == address) | (tcp["dst"] == address)).to_numpy() & (middle >= start_s) & (middle < end_s)
        cause[hit & (share > rate)] = i
        rate = np.where(hit, np.maximum(rate, share), rate)
    sent = rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.6))
    back = rng.binomial(tcp["resp_pkts"], np.minimum(rate, 0.6))
    for i, (address, _, _, _, _, label, reason) in enumerate(scene.losses):
        felt = tcp[(cause == i) & (sent + back > 0)]
        _tell_loss(scene, felt, address, label, reason)
    return pd.concat([_rows(tcp, "retransmission", -1, sent), _rows(_turned(tcp), "retransmission", -1, back)])


def _tell_loss(scene: Scene, felt: pd.DataFrame, address: str, label: str, reason: str) -> None:
    when = felt["slot"] * SAMPLE_S
    mine = pd.Series(np.full(len(felt), address, object))
    scene.tell_touched(mine, when, label, "target" if label == "congestion" else "source", reason)
    if label == "packet_loss":
        peer = felt["src"].where(felt["src"] != address, felt["dst"])
        near = peer.str.startswith(scene.stage.network)
        scene.tell_touched(peer[near], when[near], label, "target", reason, least=3)


def _windows(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Receivers that ran full: in congestion, and rarely elsewhere."""
    rng = scene.stage.rng
    tcp = rows[(rows["proto"] == "tcp") & (rows["resp_pkts"] > 0)]
    rate = np.full(len(tcp), 1e-5)
    middle = (tcp["slot"].to_numpy() + 0.5) * SAMPLE_S
    for address, start_s, end_s, _, zero, *_ in scene.losses:
        hit = ((tcp["src"] == address) | (tcp["dst"] == address)).to_numpy() & (middle >= start_s) & (middle < end_s)
        rate = np.where(hit, np.maximum(rate, zero * 0.2), rate)
    return _rows(tcp, "zero_window", -1, rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.5)))


def _neighbours(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Questions by ARP that were answered: every pair on the wire asks anew when its entry has aged."""
    network, rng = scene.stage.network, scene.stage.rng
    pairs = rows.loc[rows["src"].str.startswith(network) & (rows["orig_pkts"] > 0), ["slot", "src", "dst"]]
    near = pairs["dst"].str.startswith(network)
    pairs = pairs.assign(dst=pairs["dst"].where(near, network + "1")).drop_duplicates()
    pairs = pairs[(pairs["src"] != pairs["dst"]) & ~pairs["dst"].str.endswith(".255")]
    devices = pairs["src"].unique()
    age = dict(zip(devices, np.exp(rng.uniform(np.log(20), np.log(1200), len(devices))), strict=True))
    due = rng.random(len(pairs)) < SAMPLE_S / pairs["src"].map(age).to_numpy(float)
    return _rows(pairs[due], "arp_request", -1, 1)
