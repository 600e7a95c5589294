"""Large captures made of small ones: the same traffic again and again, later each time."""

from pathlib import Path

__all__ = ["repeat_log", "repeat_pcap"]

BETWEEN_S = 60.0  # between two repetitions


def repeat_pcap(source: Path, path: Path, packets: int) -> Path:
    """Write a capture again and again, later each time, until it holds ``packets``."""
    import dpkt

    with source.open("rb") as file:
        records = list(dpkt.pcap.Reader(file))
    span = records[-1][0] - records[0][0] + BETWEEN_S
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for i in range(packets):
            again, which = divmod(i, len(records))
            ts, frame = records[which]
            writer.writepkt(frame, ts + again * span)
    return path


def repeat_log(source: Path, path: Path, flows: int) -> int:
    """Write the flows of a log again and again, later each time; says how many there are."""
    import pandas as pd

    from traffic.reader import read_capture
    from traffic.zeek.conn import write_conn_log

    one = read_capture(source).flows
    span = float(one["ts"].max() - one["ts"].min()) + BETWEEN_S
    times = -(-flows // len(one))
    whole = pd.concat([one.assign(ts=one["ts"] + again * span) for again in range(times)], ignore_index=True)[:flows]
    with path.open("w", encoding="utf-8") as stream:
        write_conn_log(whole, stream)
    return len(whole)
