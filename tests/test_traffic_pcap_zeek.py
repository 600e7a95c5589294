"""Flows agree with Zeek's own logs of the same captures, in their ends, state and history; and who
talks to whom, inside tunnels too, with tshark.

Zeek's baselines have no times: what is compared is how often each outcome of a 5-tuple occurs.
"""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.packets import read_packets
from traffic.reader import read_capture

_ENDS = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"]


_OURS = {*_ENDS, "conn_state", "history"}


def _logged(path: Path) -> pd.DataFrame:
    """The rows of a baseline; one without a header has zeek-cut's choice, the ends and a service."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line.split("\t")[1:] for line in lines if line.startswith("#fields")]
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return pd.DataFrame(rows, columns=header[0] if header else [*_ENDS, "service"])


def _outcomes(flows: pd.DataFrame) -> Counter[tuple[str, ...]]:
    """Flows by ends, state and history, without Zeek's letters for checksums, which are not
    verified here."""
    columns = [name for name in (*_ENDS, "conn_state", "history") if name in flows]
    texts = flows[columns].fillna("-").astype(str)
    if "history" in texts:
        texts["history"] = texts["history"].str.replace("[Cc]", "", regex=True)
    return Counter(texts.itertuples(index=False, name=None))


def _baselines(shared: Path) -> list[Path]:
    return sorted((shared / "data" / "protocols").glob("*/zeek/conn.log"))


def test_nearly_all_flows_of_the_baselines_are_zeeks(shared):
    logs = _baselines(shared)
    assert len(logs) >= 6
    same, total, differing = 0, 0, []
    for log in logs:
        theirs = _logged(log)
        (pcap,) = log.parent.parent.glob("*.pcap*")
        ours = read_capture(pcap).flows[[name for name in theirs if name in _OURS]]
        expected, found = _outcomes(theirs), _outcomes(ours)
        same, total = same + (expected & found).total(), total + expected.total()
        differing += [(log.parent.parent.name, *one) for one in (expected - found).elements()]
    assert total > 300
    assert same / total >= 0.97, differing


def _pairs(path: Path) -> set[tuple[object, ...]]:
    packets = read_packets([path])
    table = packets.table[packets.table["proto"].isin([TCP, UDP])]
    rows = table[["src", "sport", "dst", "dport"]].drop_duplicates().itertuples(index=False)
    ends = (((packets.addresses[a], ap), (packets.addresses[b], bp)) for a, ap, b, bp in rows)
    return {tuple(sorted(pair)) for pair in ends}


def _pairs_of_tshark(path: Path) -> set[tuple[object, ...]]:
    words = ["-q", "-z", "conv,tcp", "-z", "conv,udp"]
    command = [shutil.which("tshark"), "-n", "-r", str(path), *words]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pairs = re.findall(r"^(\S+):(\d+)\s+<->\s+(\S+):(\d+)", told, re.MULTILINE)
    return {tuple(sorted(((a, int(ap)), (b, int(bp))))) for a, ap, b, bp in pairs}


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
def test_endpoints_are_those_of_tshark(shared):
    names = ("erspan-ii", "pppoe-plant", "vxlan-http", "ppp", "mirror-copies-real")
    paths = [shared / "data" / "field" / f"{name}.pcap" for name in names]
    paths += sorted((shared / "data" / "protocols").glob("*/*.pcap*"))
    assert len(paths) >= 20
    for path in paths:
        assert _pairs(path) == _pairs_of_tshark(path), path


@pytest.mark.parametrize("name", ["erspan-plant.pcap", "pppoe-plant.pcap", "packed.pcap.gz"])
def test_a_plant_in_an_envelope_is_the_plant(shared, name):
    """ERSPAN of the first type with sequence numbers, which tshark does not open."""
    field = shared / "data" / "field"
    plain, inside = read_capture(field / "modbus-refused.pcap"), read_capture(field / name)
    same = [column for column in plain.flows if column not in ("orig_l2_addr", "resp_l2_addr")]
    pd.testing.assert_frame_equal(inside.flows[same], plain.flows[same], rtol=0, atol=2e-6)
    pd.testing.assert_frame_equal(inside.activity, plain.activity)
