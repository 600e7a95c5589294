"""When within their flows packets pass, as a capture of packets shows it and no log does.

steady    | | | | | | | | | | | |      polled every second: spread evenly, as for a log
beats     |||       |||       |||      polled every ten seconds: each exchange together
loose     ||||        |         |      a page fetched: at its start, now and then, at its end
"""

import numpy as np
import pandas as pd

from traffic.capture import ACTIVITY_COLUMNS, SAMPLE_S, spread

__all__ = ["evenly", "gathered"]

_PACED = {
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_bytes": "orig_ip_bytes",
    "resp_bytes": "resp_ip_bytes",
}
_SIGN_BYTES = 53  # a PINGREQ, its answer or an acknowledgement, with headers
_SLOW_S = 1.5  # exchanges further apart than this are placed one by one


def evenly(flows: pd.DataFrame) -> pd.DataFrame:
    """Activity as a log implies it, and how many exchanges each slot holds (``spoken``)."""
    activity = spread(flows)
    flow = activity["flow"].to_numpy()
    exchanges, pkts = (flows[name].to_numpy(float)[flow] for name in ("exchanges", "orig_pkts"))
    share = np.where(exchanges > 0, exchanges / np.maximum(pkts, 1), 1.0)
    return activity.assign(spoken=activity["orig_pkts"] * share)


def gathered(flows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Activity and exchanges as packets show them; sums per flow are those of ``evenly``."""
    flows, alive = _without_signs(flows)
    duration, exchanges = (flows[name].fillna(0.0).to_numpy(float) for name in ("duration", "exchanges"))
    pkts, steady = flows["orig_pkts"].to_numpy(float), flows["steady"].to_numpy(bool)
    slow = (exchanges >= 2) & (duration > _SLOW_S * exchanges) & (pkts >= exchanges)
    beating = np.flatnonzero((duration > SAMPLE_S) & steady & slow)
    loose = np.flatnonzero((duration > SAMPLE_S) & ~steady & (pkts > 3))
    rest = np.setdiff1d(np.arange(len(flows)), np.concatenate([beating, loose]))
    parts = [_placed(flows.iloc[rest], rest), _placed(*_loosened(flows, loose, rng)), _beating(flows, beating, rng)]
    counts = [*ACTIVITY_COLUMNS[2:], "spoken"]
    pieces = pd.concat([*parts, alive], ignore_index=True).groupby(["flow", "slot"], as_index=False)[counts].sum()
    spoke = (pieces["orig_pkts"] + pieces["resp_pkts"] > 0) | ~pieces["flow"].duplicated()
    return pieces[spoke].reset_index(drop=True)


def _without_signs(flows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The flows less their signs of life, and the activity of these."""
    alive_s = flows["alive_s"].to_numpy(float)
    signs = np.floor(flows["duration"].fillna(0.0).to_numpy(float) / np.where(alive_s > 0, alive_s, np.inf))
    most = np.minimum(flows["orig_pkts"], flows["resp_pkts"]).to_numpy(float)
    many = np.maximum(np.minimum(signs, (most - 1) // 2), 0).astype(np.int64)
    row, place = np.repeat(np.arange(len(flows)), many), _counter(many)
    slot = np.floor((flows["ts"].to_numpy(float)[row] + (place + 1) * alive_s[row]) / SAMPLE_S).astype(np.int64)
    alive = pd.DataFrame({"flow": row, "slot": slot, "orig_pkts": 2, "resp_pkts": 2, "orig_syns": 0, "spoken": 0.0})
    for side in ("orig", "resp"):
        # What a clipped flow's packets are long on average may be less than a sign of life.
        kept = (flows[f"{side}_ip_bytes"] - 2 * _SIGN_BYTES * many).clip(lower=0)
        taken = (flows[f"{side}_ip_bytes"] - kept).to_numpy(float)
        alive[f"{side}_bytes"] = _shared(taken.astype(np.int64), many, row, place)
        flows = flows.assign(**{f"{side}_ip_bytes": kept, f"{side}_pkts": flows[f"{side}_pkts"] - 2 * many})
    return flows, alive


def _counter(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … for each run, as in ``traffic.capture``."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _shared(total: np.ndarray, many: np.ndarray, row: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The ``place``-th of ``many`` whole parts of each row's total; the first is never smaller than the last."""
    return -(-(place + 1) * total[row] // many[row]) + (-place * total[row] // many[row])


def _placed(pieces: pd.DataFrame, owner: np.ndarray) -> pd.DataFrame:
    """Activity of pieces spread evenly; ``owner`` is the flow of each."""
    active = evenly(pieces.reset_index(drop=True))
    return active.assign(flow=owner[active["flow"].to_numpy()])


def _loosened(flows: pd.DataFrame, loose: np.ndarray, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Three pieces of each flow: most at its start, the rest in the middle and at its end."""
    left = flows.iloc[loose]
    wait = left["duration"].to_numpy(float)
    middle, last = rng.uniform(0.2, 0.8, len(loose)), rng.uniform(0.02, 0.2, len(loose))
    starts = [np.zeros(len(loose)), wait * middle, wait * 0.999]
    lengths = [np.minimum(rng.lognormal(0, 1, len(loose)), wait * 0.1), wait * 0.1 * middle, wait * 0.0009]
    parts = []
    for start, length, share in zip(starts, lengths, [1 - 2 * last, last, None], strict=True):
        piece = left.copy()
        for name in _PACED.values() if share is not None else ():
            piece[name] = np.floor(flows[name].to_numpy()[loose] * share)
            left = left.assign(**{name: left[name] - piece[name]})
        opening = piece["history"] if start is starts[0] else "D"
        parts.append(piece.assign(ts=piece["ts"] + start, duration=length, history=opening))
    return pd.concat(parts, ignore_index=True), np.tile(loose, 3)


def _beating(flows: pd.DataFrame, beating: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Every exchange at its time, with its share of the packets."""
    chosen = flows.iloc[beating]
    many = np.rint(chosen["exchanges"].to_numpy(float)).astype(np.int64)
    row, place = np.repeat(np.arange(len(chosen)), many), _counter(many)
    pace = (chosen["duration"].to_numpy(float) / np.maximum(many - 1, 1))[row]  # the last one ends the flow
    late = np.where((place == 0) | (place == many[row] - 1), 0.0, rng.uniform(0, 0.04, len(row)) * pace)
    slot = np.floor((chosen["ts"].to_numpy(float)[row] + place * pace + late) / SAMPLE_S).astype(np.int64)
    opened = chosen["history"].str.contains("S", regex=False).to_numpy(bool)[row]
    pieces = pd.DataFrame({"flow": beating[row], "slot": slot, "spoken": 1.0})
    pieces["orig_syns"] = ((place == 0) & opened).astype(np.int64)
    for name, total in _PACED.items():
        pieces[name] = _shared(np.rint(chosen[total].to_numpy(float)).astype(np.int64), many, row, place)
    return pieces
