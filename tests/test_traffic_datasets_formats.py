"""Published labels in our words, and the corrections with their reasons."""

from pathlib import Path

import pandas as pd
import pytest

from traffic.datasets.formats import label_flows, read_corrections, read_labels
from traffic.labels import LABELS, UNKNOWN
from traffic.zeek import read_zeek


def flows_of(shared: Path, name: str) -> pd.DataFrame:
    return read_zeek(shared / "data" / "iot23" / name / "conn.log.labeled").flows


@pytest.mark.parametrize(
    ("label", "detail", "expected"),
    [
        ("Benign", None, "normal"),
        ("benign", None, "normal"),
        ("Benign", "-", "normal"),
        ("Malicious", "C&C", "c2"),
        ("malicious", "c&c-filedownload", "c2"),
        ("Malicious", "C&C-HeartBeat-Attack", "c2"),
        ("Malicious", "C&C-HeartBeat-FileDownload", "c2"),
        ("Malicious", "C&C-PartOfAHorizontalPortScan", "c2"),
        ("Malicious", "PartOfAHorizontalPortScan-Attack", "recon"),
        ("Malicious", "Okiru-Attack", "recon"),
        ("Malicious", "Attack", "brute_force"),
        ("Malicious", "DDoS", "ddos"),
        ("Malicious", None, UNKNOWN),
        ("Malicious", "Something new", UNKNOWN),
        (None, None, UNKNOWN),
        ("device_silent", None, "device_silent"),
    ],
)
def test_read_labels_means_what_was_published(label, detail, expected):
    flows = pd.DataFrame({"label": [label], "detailed-label": [detail]}, dtype="str")
    assert read_labels(flows).tolist() == [expected]


def test_read_labels_knows_nothing_of_unlabelled_flows():
    labels = read_labels(pd.DataFrame({"ts": [1.0, 2.0]}, index=[4, 2]))
    assert labels.tolist() == [UNKNOWN, UNKNOWN]
    assert labels.index.tolist() == [4, 2]


@pytest.mark.parametrize(
    ("name", "published", "corrected"),
    [
        (
            "34-1",
            {"ddos": 14394, "c2": 6706, "normal": 1923, "recon": 122},
            # 65 attempts and downloads at the C&C server; 122 + 4 + 41 floods at one host and port.
            {"ddos": 14394 + 122 + 4 + 41, "c2": 6706 + 65, "normal": 1923 - 65 - 4 - 41},
        ),
        ("44-1", {"normal": 211, "c2": 25, "ddos": 1}, {"normal": 211, "c2": 25, "ddos": 1}),
        ("20-1", {"normal": 3193, "c2": 16}, {"normal": 3171, "unknown": 22, "c2": 16}),
        ("honeypot-4-1", {"normal": 452}, {"normal": 452}),
        ("honeypot-5-1", {"normal": 1374}, {"normal": 1374}),
    ],
)
def test_label_flows_of_real_captures(shared, name, published, corrected):
    flows = flows_of(shared, name)
    assert label_flows(flows, corrected=False).value_counts().to_dict() == published
    assert label_flows(flows).value_counts().to_dict() == corrected


def test_every_correction_meets_the_flows_it_was_made_for(shared):
    rows = read_corrections()
    columns = "capture orig resp port proto from_s until_s flows published corrected why source"
    assert list(rows.columns) == columns.split()
    captures = {"CTU-IoT-Malware-Capture-34-1": "34-1", "CTU-IoT-Malware-Capture-20-1": "20-1"}
    assert set(rows["capture"]) == set(captures)
    for row in rows.itertuples(index=False):
        flows = flows_of(shared, captures[row.capture])
        same = {"id.resp_h": row.resp, "id.resp_p": row.port, "proto": row.proto}
        to = flows[(flows[list(same)] == list(same.values())).all(axis=1)]
        changed = label_flows(to) != label_flows(to, corrected=False)
        assert int(changed.sum()) == row.flows, row.resp
        assert set(label_flows(to)[changed]) == {row.corrected}


def test_corrections_say_why_and_from_where():
    rows = read_corrections()
    assert set(rows["corrected"]) <= {*LABELS, UNKNOWN}
    assert rows["why"].str.len().min() > 40
    assert (rows["source"] != "").all()
    assert (rows["from_s"] < rows["until_s"]).all()


def test_the_floods_called_benign_come_from_the_tool_of_a_labelled_flood(shared):
    flows = flows_of(shared, "34-1")
    tcp = flows[flows["proto"] == "tcp"].set_index("id.resp_h")["id.orig_p"]
    hosts = ("71.61.66.148", "66.67.61.168", "50.50.50.53", "1.1.1.1")
    order = {host: tcp[host].tolist() for host in hosts}
    labelled = order.pop("71.61.66.148")
    assert len(labelled) == 133
    assert all(ports[:4] == labelled[:4] for ports in order.values())


def test_a_capture_is_known_by_its_content_alone(shared):
    flows = flows_of(shared, "34-1")
    a_day_later = flows.assign(ts=flows["ts"] + 86400.0)
    for other in (a_day_later, flows.assign(**{"id.orig_h": "192.168.1.99"})):
        assert label_flows(other).equals(label_flows(flows, corrected=False))


def test_a_label_that_nobody_disputes_stays(shared):
    flows = flows_of(shared, "34-1").assign(**{"label": "Malicious", "detailed-label": "C&C"})
    assert set(label_flows(flows)) == {"c2"}
