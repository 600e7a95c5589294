"""Whose label a window gets."""

import pandas as pd
from tables import CLOUD, DEVICE, PLC, capture, flow

from traffic.datasets.labelling import label_samples, label_windows
from traffic.datasets.truth import INTERVAL_COLUMNS
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


LOST = {"conn_state": "S0", "history": "S", "resp_pkts": 0.0, "resp_ip_bytes": 0.0}


def interval(start_s: float, end_s: float, label: str, direction: str) -> pd.DataFrame:
    return pd.DataFrame(
        [dict(zip(INTERVAL_COLUMNS, [DEVICE, start_s, end_s, label, direction, ""], strict=True))]
    )


def quick(ts: float, peer: str = CLOUD, **more: object) -> dict:
    return flow(ts, DEVICE, peer, 443, duration=0.0, id__orig_p=int(40000 + ts % 20000), **more)


def test_source_opens_the_flow_target_is_asked():
    samples, truth, _ = labelled((quick(100.0, PLC), "recon"), (quick(110.0, PLC), "normal"))
    found = pd.concat([samples[["device", "start_s"]], truth], axis=1)
    assert found.to_numpy().tolist() == [
        [DEVICE, 100.0, "recon", "source"],
        [DEVICE, 110.0, "normal", ""],
        [PLC, 100.0, "recon", "target"],
        [PLC, 110.0, "normal", ""],
    ]


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
    assert windows.table["label"].tolist() == ["c2", *["unknown"] * 4, "c2"]


def test_a_busy_flow_is_known_throughout():
    busy = flow(100.0, DEVICE, CLOUD, 443, duration=55.0, orig_pkts=60.0, resp_pkts=60.0)
    _, truth, windows = labelled((busy, "c2"))
    assert truth["label"].tolist() == ["c2"] * 6
    assert windows.table["label"].tolist() == ["c2"]


def test_an_interval_counts_where_it_covers_half_a_sample():
    fault = interval(104.0, 114.0, "packet_loss", "target")
    tries = [(quick(100.0 + 10 * i, **LOST), "normal") for i in range(3)]
    _, truth, _ = labelled(*tries, intervals=fault)
    assert truth["label"].tolist() == ["packet_loss", "normal", "normal"]
    _, truth, _ = labelled(*((quick(100.0 + 10 * i), "normal") for i in range(3)), intervals=fault)
    # A fault that leaves no trace is told by nothing.
    assert truth["label"].tolist() == ["unknown", "normal", "normal"]


def test_an_attack_s_interval_counts_where_the_device_shows_anything():
    rows = [(quick(100.0), "normal"), (quick(110.0, **LOST), "normal"), (quick(120.0), "normal")]
    wanted = {
        "c2": ["c2", "c2", "normal"],
        "spoofing": ["unknown", "spoofing", "normal"],  # shown by trouble, as a fault is
        "normal": ["normal"] * 3,
    }
    for label, labels in wanted.items():
        _, truth, _ = labelled(*rows, intervals=interval(100.0, 120.0, label, "source"))
        assert truth["label"].tolist() == labels
