"""Pictures: cameras that stream to a recorder, by RTP over UDP, within the RTSP connection, or over HTTP."""

from typing import Any

import numpy as np

from traffic.plant import Device
from traffic.simulation.devices import renewals
from traffic.simulation.distributions import between, setting_s, usual
from traffic.simulation.flows import exchange, session
from traffic.simulation.plant import Stage

__all__ = ["camera"]


_WAYS = ((554, "rtsp"), (8554, ""), (80, "http"), (443, "ssl"))
_OFTEN = (0.7, 0.1, 0.1, 0.1)


def camera(stage: Stage, device: Device) -> None:
    """Streams to a recorder (RTSP, RFC 2326; RTP, RFC 3550); day and night differ."""
    rng = stage.rng
    recorders = stage.having("recorder") or stage.having("historian", "server")
    recorders = recorders or stage.having("workstation", "hmi", "television", "laptop")
    if not recorders or rng.random() < 0.08:
        return
    recorder = recorders[int(rng.integers(len(recorders)))]
    bytes_per_s = usual(rng, 15e3, 120e3) * (0.6 + 0.4 * min(stage.busy, 1))
    ts = renewals(stage, float("inf") if rng.random() < 0.85 else between(rng, 120, 3600))
    length = np.diff([*ts, stage.end_s + 300]) - 0.5
    rtsp = {"orig": recorder.address, "resp": device.address, "tries": stage.tries(recorder.address)}
    if rng.random() < 0.68:
        asked = np.maximum(length / setting_s(rng, 15, 45), 4)
        keeping = {"exchanges": asked, "ask_bytes": rng.integers(60, 250), "answer_bytes": rng.integers(40, 300)}
        session(stage.ledger, ts, port=554, duration=length, service="rtsp", ending={"open": 1}, **keeping, **rtsp)
        size = float(rng.uniform(700, 1400))
        reports = np.rint(length / 5) if rng.random() < 0.2 else 0  # RTCP, where anyone cares
        media: dict[str, Any] = {
            "out_pkts": np.rint(length * bytes_per_s / size),
            "in_pkts": reports,
            "duration": length - 0.2,
        }
        media |= {"ask_bytes": size, "answer_bytes": 60}
        port = int(rng.integers(6970, 60000))
        exchange(stage.ledger, ts + 0.2, device.address, recorder.address, port, **media)
        return
    port, service = _WAYS[int(rng.choice(len(_WAYS), p=_OFTEN))]
    pictures = length * usual(rng, 5, 20)
    given = {"ask_bytes": 0, "answer_bytes": bytes_per_s * length / pictures, "ending": {"open": 1}}
    session(stage.ledger, ts, port=port, service=service, duration=length, exchanges=pictures, **given, **rtsp)
