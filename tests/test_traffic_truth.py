"""Whose label a window gets."""

import pandas as pd
from tables import CLOUD, DEVICE, PLC, capture, flow

from traffic.datasets.truth import label_samples, label_windows
from traffic.samples import make_samples
from traffic.windows import make_windows


def labelled(*rows: tuple[dict, str], intervals: pd.DataFrame | None = None):
    made = capture(*(row for row, _ in rows))
    order = sorted(range(len(rows)), key=lambda i: rows[i][0]["ts"])
    labels = pd.Series([rows[i][1] for i in order])
    samples = make_samples(made)
    return (
        samples,
        label_samples(samples, made, labels, intervals),
        label_windows(make_windows(samples), made, labels, intervals),
    )


def quick(ts: float, peer: str = CLOUD, **more: object) -> dict:
    return flow(ts, DEVICE, peer, 443, duration=0.0, id__orig_p=int(40000 + ts % 20000), **more)


def test_source_opens_the_flow_target_is_asked():
    samples, truth, _ = labelled((quick(100.0, PLC), "recon"), (quick(110.0, PLC), "normal"))
    said = {
        (d, s): (t.label, t.direction)
        for d, s, t in zip(samples["device"], samples["start_s"], truth.itertuples(), strict=True)
    }
    assert said == {
        (DEVICE, 100.0): ("recon", "source"),
        (DEVICE, 110.0): ("normal", ""),
        (PLC, 100.0): ("recon", "target"),
        (PLC, 110.0): ("normal", ""),
    }


def test_a_window_takes_the_label_that_covers_most_of_it():
    rows = [
        (quick(100.0 + 10 * i), label)
        for i, label in enumerate(["normal", "c2", "c2", "ddos", "normal", "normal"])
    ]
    _, _, windows = labelled(*rows)
    assert windows.table[["label", "direction"]].to_numpy().tolist() == [["c2", "source"]]


def test_a_long_quiet_flow_is_known_at_its_ends_only():
    long = flow(100.0, DEVICE, CLOUD, 443, duration=100.0, orig_pkts=3.0, resp_pkts=0.0)
    rows = [(long, "c2"), *((quick(105.0 + 10 * i), "normal") for i in range(11))]
    _, truth, windows = labelled(*rows)
    assert truth["label"].tolist() == ["c2", *["unknown"] * 9, "c2"]
    assert windows.table["label"].tolist() == [
        "c2",
        "unknown",
        "unknown",
        "unknown",
        "unknown",
        "c2",
    ]


def test_a_busy_flow_is_known_throughout():
    busy = flow(100.0, DEVICE, CLOUD, 443, duration=55.0, orig_pkts=60.0, resp_pkts=60.0)
    _, truth, windows = labelled((busy, "c2"))
    assert truth["label"].tolist() == ["c2"] * 6
    assert windows.table["label"].tolist() == ["c2"]


def test_an_interval_counts_where_it_covers_half_a_sample():
    fault = pd.DataFrame(
        [
            {
                "device": DEVICE,
                "start_s": 104.0,
                "end_s": 114.0,
                "label": "packet_loss",
                "direction": "target",
            }
        ]
    )
    lost = {"conn_state": "S0", "history": "S", "resp_pkts": 0.0, "resp_ip_bytes": 0.0}
    _, truth, _ = labelled(
        *((quick(100.0 + 10 * i, **lost), "normal") for i in range(3)), intervals=fault
    )
    assert truth["label"].tolist() == ["packet_loss", "normal", "normal"]
    _, truth, _ = labelled(*((quick(100.0 + 10 * i), "normal") for i in range(3)), intervals=fault)
    assert truth["label"].tolist() == [
        "unknown",
        "normal",
        "normal",
    ]  # a fault that leaves no trace is told by nothing


def test_an_attack_s_interval_counts_where_the_device_shows_anything():
    lost = {"conn_state": "S0", "history": "S", "resp_pkts": 0.0, "resp_ip_bytes": 0.0}
    rows = [(quick(100.0), "normal"), (quick(110.0, **lost), "normal"), (quick(120.0), "normal")]
    said = {}
    for label in ("c2", "spoofing", "normal"):
        told = {
            "device": DEVICE,
            "start_s": 100.0,
            "end_s": 120.0,
            "label": label,
            "direction": "source",
        }
        _, truth, _ = labelled(*rows, intervals=pd.DataFrame([told]))
        said[label] = truth["label"].tolist()
    assert said["c2"] == ["c2", "c2", "normal"]
    assert said["spoofing"] == ["unknown", "spoofing", "normal"]  # told by trouble, as a fault is
    assert said["normal"] == ["normal"] * 3
