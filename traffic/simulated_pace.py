"""When within their flows packets pass, as a capture of packets shows it and no log does.

steady    | | | | | | | | | | | |      polled every second: spread evenly, as for a log
beats     |||       |||       |||      polled every ten seconds: each exchange together
loose     ||||        |         |      a page fetched: at its start, now and then, at its end
"""

import numpy as np
import pandas as pd

from traffic.capture import ACTIVITY_COLUMNS, SAMPLE_S, spread

__all__ = ["gathered"]

_PACED = {
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_bytes": "orig_ip_bytes",
    "resp_bytes": "resp_ip_bytes",
}
_SLOW_S = 1.5  # exchanges further apart than this are placed one by one


def gathered(flows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Activity as packets show it; sums per flow are those of ``traffic.capture.spread``, which spreads them evenly."""
    duration, exchanges = (flows[name].fillna(0.0).to_numpy(float) for name in ("duration", "exchanges"))
    pkts, steady = flows["orig_pkts"].to_numpy(float), flows["steady"].to_numpy(bool)
    slow = (exchanges >= 2) & (duration > _SLOW_S * exchanges) & (pkts >= exchanges)
    beating = np.flatnonzero((duration > SAMPLE_S) & steady & slow)
    loose = np.flatnonzero((duration > SAMPLE_S) & ~steady & (pkts > 3))
    rest = np.setdiff1d(np.arange(len(flows)), np.concatenate([beating, loose]))
    parts = [_placed(flows, rest), _placed(*_loosened(flows, loose, rng)), _beating(flows, beating, rng)]
    pieces = pd.concat(parts, ignore_index=True).groupby(["flow", "slot"], as_index=False)[ACTIVITY_COLUMNS[2:]].sum()
    spoke = (pieces["orig_pkts"] + pieces["resp_pkts"] > 0) | ~pieces["flow"].duplicated()
    return pieces[spoke].reset_index(drop=True)


def _placed(pieces: pd.DataFrame, owner: np.ndarray) -> pd.DataFrame:
    """Activity of rows spread evenly; ``owner`` is the flow of each of the last rows, or which rows are meant."""
    chosen = pieces if len(pieces) == len(owner) else pieces.iloc[owner]
    active = spread(chosen.reset_index(drop=True))
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
    row = np.repeat(np.arange(len(chosen)), many)
    place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    pace = (chosen["duration"].to_numpy(float) / np.maximum(many - 1, 1))[row]  # the last one ends the flow
    late = np.where((place == 0) | (place == many[row] - 1), 0.0, rng.uniform(0, 0.04, len(row)) * pace)
    slot = np.floor((chosen["ts"].to_numpy(float)[row] + place * pace + late) / SAMPLE_S).astype(np.int64)
    pieces = pd.DataFrame({"flow": beating[row], "slot": slot})
    for name, total in _PACED.items():
        whole = np.rint(chosen[total].to_numpy(float)).astype(np.int64)[row]
        pieces[name] = -(-(place + 1) * whole // many[row]) + (-place * whole // many[row])
    opened = chosen["history"].str.contains("S", regex=False).to_numpy(bool)[row]
    return pieces.assign(orig_syns=((place == 0) & opened).astype(np.int64))
