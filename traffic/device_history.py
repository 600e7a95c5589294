"""What a device's past says about a sample: sixty seconds are too short to tell beacon from retry.

Everything here looks back only: a sample's history is the same whether the capture goes on or not.

    attempts to one endpoint     x     x     x     x        repeats 4, period_s the median spacing
    answered                     -     -     -     -        streak 4: as many in a row stayed unanswered
"""

import numpy as np
import pandas as pd
from pandas.api.indexers import BaseIndexer

from traffic.arrays import best_rows, number_groups, number_values
from traffic.capture import SAMPLE_S
from traffic.device_view import ICMP, SLOT_BITS, Sides, active_share, number_cells

HISTORY = (
    "known_min",  # minutes since the device was first seen; the first are "learning"
    "top_peer_age_min",  # minutes since first contact with the peer of most packets in this slot
    "new_peers",  # peers met for the first time
    "new_peers_no_dns",  # of these, external ones contacted without a DNS question shortly before
    "repeats",  # attempts within the last half hour to the endpoint (peer and port) tried most in this slot
    "streak",  # most attempts in a row to one endpoint without an answer
    "period_s",  # median spacing of the attempts that `repeats` counts
    "jitter",  # median deviation of that spacing, as a share of it
    "literal_peers",  # external peers in touch now that were first contacted without a DNS question: by literal address
    "literal_repeats",  # the same four among attempts at such peers only
    "literal_streak",
    "literal_period_s",
    "literal_jitter",
    "never_answered",  # endpoints tried in vain whose peer never answered this device
    "answered_before",  # endpoints tried in vain whose peer did
    "rate_ratio",  # packets against the device's own running median, log2
    "bytes_ratio",  # bytes likewise
    "quiet_slots",  # slots since the device last sent something
    "active_share",  # share of slots in which it sent, over the five minutes before it was last heard
)

_LOOKBACK = 180  # slots, half an hour
ATTEMPT_S = 120.0  # a 5-tuple seen again after this long is a new attempt, no retry
_CONFIGURED = (53, 123)  # ports of servers that devices commonly know by address
_GAPS = 8  # spacings looked back at
_MEDIAN = 60  # active slots


def make_history(samples: pd.DataFrame, sides: Sides, ts: np.ndarray) -> pd.DataFrame:
    """What each device's past says about its samples.

    Args:
        samples: one row per cell of ``sides``: ``device`` (code), ``slot`` and the counted columns.
        sides: the capture from its devices' sides.
        ts: start of every flow in seconds, shape (n_flows,).

    Returns:
        Shape (n_samples, len(HISTORY)), float32.
    """
    contacts = _contacts(samples, sides)
    attempts = _attempts(sides, ts, contacts)
    literal = _repeats(attempts[attempts["literal"]], len(samples))
    columns = {
        **_presence(samples),
        **_peers(contacts, len(samples)),
        **_repeats(attempts, len(samples)),
        **{f"literal_{name}": column for name, column in literal.items()},
        **_unanswered(attempts, sides, len(samples)),
        **_ratios(samples),
    }
    return pd.DataFrame({name: columns[name].astype(np.float32) for name in HISTORY}, copy=False)


def _presence(samples: pd.DataFrame) -> dict[str, np.ndarray]:
    device, slot = samples["device"].to_numpy(), samples["slot"].to_numpy()
    row = np.arange(len(slot))
    sent = samples["out_pkts"].to_numpy() > 0
    first = slot[np.searchsorted(device, device, side="left")]
    heard = np.maximum.accumulate(np.where(sent, row, -1))
    ever = (heard >= 0) & (device[heard] == device)
    shares = np.zeros(len(slot))
    shares[sent] = active_share(device[sent], slot[sent])
    return {
        "known_min": (slot - first) * SAMPLE_S / 60,
        "quiet_slots": np.minimum(np.where(ever, slot - slot[heard], slot - first), _LOOKBACK),
        "active_share": np.where(ever, shares[heard], 0.0),
    }


def _contacts(samples: pd.DataFrame, sides: Sides) -> pd.DataFrame:
    """One row per device, peer and slot: ``cell pair pkts bare literal``, ``age`` in slots since
    first contact.

    A peer is literal if it is external, the device opened the first flow, to no port that is
    commonly reached by a configured address (DNS, NTP), and asked for no name in that slot or the
    one before: the first contact is bare.
    """
    met = sides.table[["cell", "slot", "device", "peer", "out_pkts", "in_pkts", "orig", "port"]]
    met = met[~sides.table["group"].to_numpy()]
    pair = _pair(met, sides)
    group, first = number_groups(met["cell"].to_numpy(), pair)
    direct = met["orig"].to_numpy() & sides.external[met["peer"].to_numpy()]
    direct &= ~met["port"].isin(_CONFIGURED).to_numpy()
    pkts = np.bincount(group, met["out_pkts"] + met["in_pkts"], len(first))
    direct = np.bincount(group, direct, len(first)) > 0
    cell, slot, pair = met["cell"].to_numpy()[first], met["slot"].to_numpy()[first], pair[first]
    number, head = number_groups(pair)
    since = slot[head]
    np.minimum.at(since, number, slot)
    age = slot - since[number]

    asking = (samples["dns_queries"].to_numpy() > 0) | (samples["pkts_dns"].to_numpy() > 0)
    key = number_cells(samples)
    just_asked = np.append(False, asking[:-1] & (np.diff(key) == 1))[: len(key)]
    bare = (age == 0) & direct & ~asking[cell] & ~just_asked[cell]
    literal = (np.bincount(number, bare, len(head)) > 0)[number]
    columns = {"cell": cell, "pair": pair, "pkts": pkts, "age": age, "bare": bare}
    return pd.DataFrame(columns | {"literal": literal})


def _pair(rows: pd.DataFrame, sides: Sides) -> np.ndarray:
    return rows["device"].to_numpy(np.int64) * len(sides.addresses) + rows["peer"].to_numpy()


def _peers(contacts: pd.DataFrame, n: int) -> dict[str, np.ndarray]:
    cell, age = contacts["cell"].to_numpy(), contacts["age"].to_numpy()
    top = best_rows(cell, contacts["pkts"].to_numpy())
    top_age_min = np.zeros(n)
    top_age_min[cell[top]] = age[top] * SAMPLE_S / 60
    return {
        "new_peers": np.bincount(cell, age == 0, n),
        "new_peers_no_dns": np.bincount(cell, contacts["bare"], n),
        "literal_peers": np.bincount(cell, contacts["literal"], n),
        "top_peer_age_min": top_age_min,
    }


def _attempts(sides: Sides, ts: np.ndarray, contacts: pd.DataFrame) -> pd.DataFrame:
    """One row per attempt a device made: the first sight of a 5-tuple, sorted by endpoint and time.

    Zeek cuts the retries of one SYN into several rows; here they are one attempt again.
    """
    names = ["slot", "flow", "cell", "device", "peer", "port", "proto"]
    column = {name: sides.table[name].to_numpy() for name in (*names, "tuple", "answered")}
    opened = sides.table["orig"].to_numpy() & ~sides.table["group"].to_numpy()
    row = np.flatnonzero(opened & (column["proto"] < ICMP))
    # Only one device opens a 5-tuple.
    row = row[np.lexsort([column[name][row] for name in ("flow", "slot", "tuple")])]
    again = np.diff(column["tuple"][row], prepend=-1) == 0
    again &= np.diff(column["slot"][row], prepend=0) <= ATTEMPT_S / SAMPLE_S
    new = np.flatnonzero(~again)
    answered = np.maximum.reduceat(column["answered"][row], new) if len(new) else new > 0
    made = sides.table[names].iloc[row[new]]
    # Where a flow wakes up after a long pause, the attempt is of then, and not of its start.
    begun = np.maximum(ts[made["flow"].to_numpy()], made["slot"].to_numpy() * SAMPLE_S)
    made = made.assign(answered=answered, ts=begun, pair=_pair(made, sides))
    literal = np.isin(made["pair"], contacts["pair"].to_numpy()[contacts["literal"].to_numpy()])
    made["literal"] = literal & ~made["port"].isin(_CONFIGURED).to_numpy()
    endpoint = (made[name].to_numpy() for name in ("pair", "port", "proto"))
    made["endpoint"] = number_groups(*endpoint)[0]
    return made.take(np.lexsort((made["ts"], made["endpoint"])))


def _repeats(attempts: pd.DataFrame, n: int) -> dict[str, np.ndarray]:
    """Repetition of each attempt's endpoint up to it; per cell that of the endpoint tried most."""
    endpoint, ts, cell = (attempts[name].to_numpy() for name in ("endpoint", "ts", "cell"))
    row = np.arange(len(attempts))
    key = (endpoint << SLOT_BITS) + attempts["slot"].to_numpy()
    repeats = row + 1 - np.searchsorted(key, key - _LOOKBACK, side="left")
    first = np.searchsorted(endpoint, endpoint, side="left")
    last_answer = np.maximum.accumulate(np.where(attempts["answered"], row, -1))
    streak = row - np.maximum(last_answer, first - 1)

    top = best_rows(cell, repeats)
    columns = {name: np.zeros(n) for name in ("repeats", "streak", "period_s", "jitter")}
    columns["repeats"][cell[top]] = repeats[top]
    np.maximum.at(columns["streak"], cell, streak.astype(float))
    top = top[repeats[top] >= 3]
    back = np.arange(_GAPS)  # spacings back
    here = np.maximum(top[:, None] - back - 1, -1)  # (attempts, spacings)
    inside = (here >= first[top, None]) & (back + 1 < repeats[top, None])
    gaps = np.where(inside, (ts[here + 1] - ts[here]).astype(np.float32), np.float32(np.nan))
    period = _medians(gaps)
    deviation = _medians(np.abs(gaps - period[:, None].astype(float)))
    columns["period_s"][cell[top]] = period
    jitter = deviation / np.maximum(period.astype(float), 1e-3)
    columns["jitter"][cell[top]] = np.minimum(jitter, 2.0)
    return columns


def _medians(values: np.ndarray) -> np.ndarray:
    """The median of each row, NaN left out; each row has a number."""
    values, row = np.sort(values, axis=1), np.arange(len(values))
    known = np.sum(~np.isnan(values), axis=1)
    return (values[row, (known - 1) // 2] + values[row, known // 2]) / 2


def _unanswered(attempts: pd.DataFrame, sides: Sides, n: int) -> dict[str, np.ndarray]:
    """Endpoints tried in vain, by whether their peer had answered this device before."""
    heard = sides.table[["device", "peer", "slot"]][sides.table["in_pkts"].to_numpy() > 0]
    failed = attempts[~attempts["answered"].to_numpy(bool)]
    failed = failed.iloc[number_groups(failed["cell"].to_numpy(), failed["endpoint"].to_numpy())[1]]
    pair, place = number_values(np.append(_pair(heard, sides), failed["pair"]))
    since = np.full(len(pair), np.iinfo(np.int64).max)
    np.minimum.at(since, place[: len(heard)], heard["slot"].to_numpy())
    before = since[place[len(heard) :]] < failed["slot"].to_numpy()
    return {
        "never_answered": np.bincount(failed["cell"], ~before, n),
        "answered_before": np.bincount(failed["cell"], before, n),
    }


class _Before(BaseIndexer):
    """Windows of the rows before each row, not itself, from ``start`` on."""

    start: np.ndarray

    # pandas compares this signature with its own, word for word.
    def get_window_bounds(
        self, num_values=0, min_periods=None, center=None, closed=None, step=None
    ):
        del min_periods, center, closed, step
        return self.start, np.arange(num_values)


def _ratios(samples: pd.DataFrame) -> dict[str, np.ndarray]:
    """Packets and bytes against the running median of the device's earlier active slots, log2."""
    ratios = {}
    for name, unit in (("rate_ratio", "pkts"), ("bytes_ratio", "bytes")):
        volume = samples[f"out_{unit}"].to_numpy() + samples[f"in_{unit}"].to_numpy()
        active = np.flatnonzero(volume > 0)
        device, volume = samples["device"].to_numpy()[active], volume[active]
        first = np.searchsorted(device, device, side="left")
        start = np.maximum(np.arange(len(active)) - _MEDIAN, first)
        usual = pd.Series(volume).rolling(_Before(start=start), min_periods=6).median().to_numpy()
        ratios[name] = np.zeros(len(samples))
        ratios[name][active] = np.nan_to_num(np.log2((volume + 1) / (usual + 1)))
    return ratios
