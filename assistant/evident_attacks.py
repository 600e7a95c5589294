"""Attacks that are evident: an address with two owners, a flood that nothing answers, a sweep of registers."""

import numpy as np
import pandas as pd

from assistant.detection.rules import Evident, slots_of
from assistant.facts.fact import Value, make_fact
from assistant.facts.traffic_view import Scene, is_group
from traffic.capture import SAMPLE_S

__all__ = ["find_doubled_addresses", "find_one_way_floods", "find_register_sweeps"]

_MIN_CLAIMS = 3
_SWEPT_REGISTERS, _SWEPT_REFUSED_SHARE = 50, 0.5  # different ones in a sample; exceptions among the answers
# In one sample to one port, nothing coming back: a stream may go one way over UDP (video, syslog), never so fast.
_FLOOD_PKTS = {"tcp": 1_000, "udp": 20_000}

_SAYS = {
    "duplicate": "{address} is claimed by {machines:machine} at the same time ({claims:claim} seen).",
    "one_way": "{source} sent {target} at least {peak_pkts:packet} in {sample_s}, and nothing came back.",
    "sweep": "{client} asked {server} over Modbus for up to {registers:different register address} in {sample_s}, and "
    "{refused_share} of its {requests:request} got an exception: it sweeps.",
}


def find_doubled_addresses(scene: Scene) -> list[Evident]:
    """Addresses that two machines claim by turns; the address is the target, the liar may have any other."""
    claims = scene.evidence[scene.evidence["kind"] == "arp_conflict"]
    found = []
    for address, rows in claims.groupby("dst"):
        # One change of hardware is a replaced device or a failover; a claim that comes back is two machines.
        if rows["count"].sum() < _MIN_CLAIMS and rows["slot"].nunique() < 2:
            continue
        values: dict[str, Value] = {
            "address": scene.name(str(address)),
            "machines": int(rows["distinct"].max()),
            "claims": int(rows["count"].sum()),
        }
        fact = make_fact("duplicate", _SAYS["duplicate"], values)
        found.append(Evident(str(address), "spoofing", "target", fact, (), slots_of(rows)))
    return found


def find_one_way_floods(scene: Scene) -> list[Evident]:
    """Floods of one port by one address, to which nothing ever came back."""
    ends = ["src", "dst", "port", "proto"]
    moves = scene.moves[~scene.moves["answered"] & scene.moves["proto"].isin(list(_FLOOD_PKTS))]
    busy = moves["src_pkts"].clip(lower=1).groupby(moves["slot"]).sum()
    moves = moves[moves["slot"].isin(busy.index[busy >= min(_FLOOD_PKTS.values())])]
    pkts = moves["src_pkts"].clip(lower=1).groupby([moves[name] for name in [*ends, "slot"]]).sum().reset_index()
    peaks = pkts[pkts["src_pkts"] >= pkts["proto"].map(_FLOOD_PKTS).astype(float)]
    local = set(scene.samples["device"])
    found = []
    for ends_of, peak in peaks.groupby(ends):
        source, target, port = str(ends_of[0]), str(ends_of[1]), int(peak["port"].iloc[0])
        if is_group(target):
            continue
        values: dict[str, Value] = {
            "source": scene.name(source),
            "target": scene.port_at(target, port),
            "peak_pkts": int(peak["src_pkts"].max()),
            "sample_s": SAMPLE_S,
        }
        same = scene.moves[(scene.moves["src"] == source) & (scene.moves["dst"] == target)]
        near = _beside(same[same["port"] == port], peak)
        # A plant's device that floods somebody outside takes part in what others do too.
        label = "dos" if target in local else "ddos"
        device, other = (source, target) if source in local else (target, source)
        fact = make_fact("one_way", _SAYS["one_way"], values)
        role = "source" if source in local else "target"
        found.append(Evident(device, label, role, fact, (other,), slots_of(near)))
    return found


def find_register_sweeps(scene: Scene) -> list[Evident]:
    """Modbus clients that walk through a server's addresses and are refused most of them."""
    pair = ["src", "dst"]
    asked = scene.evidence[scene.evidence["kind"].isin(["modbus_read", "modbus_write", "modbus_other"])]
    refused = scene.evidence[scene.evidence["kind"] == "modbus_exception"]
    wide = asked[asked["distinct"] >= _SWEPT_REGISTERS]
    found = []
    for client, server in wide.groupby(pair)["count"].sum().index:
        peaks = wide[(wide["src"] == client) & (wide["dst"] == server)]
        rows = _beside(asked[(asked["src"] == client) & (asked["dst"] == server)], peaks)
        rows = rows[rows["code"].isin(peaks["code"])]
        answers = refused[(refused["src"] == client) & (refused["dst"] == server) & refused["slot"].isin(rows["slot"])]
        requests = int(rows["count"].sum())
        # A master with a wrong register map is refused too, but asks for the same few again and again.
        share = min(float(answers["count"].sum()) / requests, 1.0)
        if share < _SWEPT_REFUSED_SHARE:
            continue
        values: dict[str, Value] = {
            "client": scene.name(str(client)),
            "server": scene.name(str(server)),
            "registers": int(rows["distinct"].max()),
            "requests": requests,
            "refused_share": share,
            "sample_s": SAMPLE_S,
        }
        fact = make_fact("sweep", _SAYS["sweep"], values)
        found.append(Evident(str(client), "recon", "source", fact, (str(server),), slots_of(rows)))
    return found


def _beside(rows: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """Rows in the slots of peaks and next to them: what peaks begins and ends inside a slot."""
    return rows[np.isin(rows["slot"], np.unique(peaks["slot"].to_numpy()[:, None] + np.arange(-1, 2)))]
