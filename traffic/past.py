"""What a device's past says about a sample. Sixty seconds are too short to tell a beacon from a retry.

Everything here looks back only: a sample's history is the same whether the capture goes on after it or not.

    attempts to one endpoint     x     x     x     x        repeats 4, period_s the median spacing
    answered                     -     -     -     -        streak 4: as many in a row stayed unanswered
"""

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S

__all__ = ["HISTORY", "add_history", "fill_silence"]

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

_SLOT_BITS = 40  # of a number that holds a code and, below it, a slot
_LOOKBACK = 180  # slots, half an hour
_RHYTHM = 30  # slots
_RHYTHM_SHARE = 0.5
_SILENCE = 60  # slots of zeros kept for a device that is not in the inventory
_FORGET = 12  # slots after which a 5-tuple seen again is a new attempt
_CONFIGURED = (53, 123)  # ports of servers that devices commonly know by address
_GAPS = 8  # spacings looked back at
_MEDIAN = 60  # active slots


def fill_silence(samples: pd.DataFrame, inventory: np.ndarray) -> pd.DataFrame:
    """Add rows of zeros where a device with a rhythm is quiet, so that silence is seen.

    Args:
        samples: one row per ``device`` (code) and ``slot``, sorted; ``out_pkts`` tells when it sent something.
        inventory: codes of the devices of plant.yaml, whose silence is kept to the end of the capture; another's for
            ten minutes (a guest may leave).

    Returns:
        The same with the missing slots, sorted by device and slot.
    """
    if samples.empty:
        return samples
    heard = samples.loc[samples["out_pkts"] > 0, ["device", "slot"]]
    device, slot = heard["device"].to_numpy(), heard["slot"].to_numpy()
    end = samples["slot"].max() + 1
    following = np.append(slot[1:], end)
    following[np.append(device[1:] != device[:-1], True)] = end
    known = np.isin(device, inventory)
    length = np.where(known, following - slot - 1, np.minimum(following - slot - 1, _SILENCE))
    length[_active_share(device, slot) < _RHYTHM_SHARE] = 0
    start = np.repeat(slot + 1 - (np.cumsum(length) - length), length)
    quiet = pd.DataFrame({"device": np.repeat(device, length), "slot": start + np.arange(length.sum())})
    keys = np.union1d(_key(samples), _key(quiet))  # a device that only receives is quiet in slots it has a sample of
    counted = samples.columns.drop(["device", "slot"])
    values = np.zeros((len(counted), len(keys)), np.float32)
    values[:, np.searchsorted(keys, _key(samples))] = samples[counted].to_numpy(np.float32).T
    filled = pd.DataFrame(values.T, columns=counted, copy=False)
    filled.insert(0, "slot", keys & (1 << _SLOT_BITS) - 1)
    filled.insert(0, "device", keys >> _SLOT_BITS)
    return filled


def _key(cells: pd.DataFrame) -> np.ndarray:
    """Device and slot in one number that sorts like the two, shape (n,)."""
    return (cells["device"].to_numpy(np.int64) << _SLOT_BITS) + cells["slot"].to_numpy(np.int64)


def _active_share(device: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Share of the last ``_RHYTHM`` slots up to and with each row in which the device sent, shape (n,)."""
    if not len(slot):
        return np.zeros(0)
    key = (device.astype(np.int64) << _SLOT_BITS) + slot
    count = np.arange(len(key)) + 1 - np.searchsorted(key, key - _RHYTHM, side="right")
    first = slot[np.searchsorted(device, device, side="left")]
    known = np.minimum(_RHYTHM, slot - first + 1)
    # Fewer than a dozen slots are no rhythm yet.
    return np.where(known >= 12, count / known, 0.0)


def add_history(samples: pd.DataFrame, table: pd.DataFrame, ts: np.ndarray, external: np.ndarray) -> pd.DataFrame:
    """Join what each device's past says to its samples.

    Args:
        samples: one row per ``device`` (code) and ``slot``, sorted, with the counted columns.
        table: the capture from its devices' sides (``traffic.samples.Sides.table``).
        ts: start of every flow in seconds, shape (n_flows,).
        external: per address code, whether it lies outside the plant.

    Returns:
        ``samples`` with the columns of ``HISTORY``, float32.
    """
    contacts = _contacts(samples, table, external)
    attempts = _attempts(table, ts, contacts)
    parts = [
        _presence(samples),
        _on(samples, _peers(contacts)),
        _on(samples, _repeats(attempts)),
        _on(samples, _repeats(attempts[attempts["literal"]]).add_prefix("literal_")),
        _on(samples, _vain(attempts, table)),
        _ratios(samples),
    ]
    history = pd.concat(parts, axis=1)[list(HISTORY)]
    return pd.concat([samples.reset_index(drop=True), history.fillna(0.0).astype(np.float32)], axis=1)


def _on(samples: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """Align a table indexed by (device, slot) to the samples' rows."""
    aligned = np.zeros((len(samples), len(part.columns)))
    rows = np.searchsorted(_key(samples), _key(part.index.to_frame()))  # every cell of the history is a sample
    aligned[rows] = part.to_numpy(float)
    return pd.DataFrame(aligned, columns=part.columns)


def _presence(samples: pd.DataFrame) -> pd.DataFrame:
    device, slot = samples["device"].to_numpy(), samples["slot"].to_numpy()
    sent = (samples["out_pkts"] > 0).to_numpy()
    first = slot[np.searchsorted(device, device, side="left")] if len(slot) else slot
    heard = np.maximum.accumulate(np.where(sent, np.arange(len(slot)), -1)) if len(slot) else slot
    ever = (heard >= 0) & (device[np.maximum(heard, 0)] == device)
    heard = np.maximum(heard, 0)
    shares = np.zeros(len(slot))
    shares[sent] = _active_share(device[sent], slot[sent])
    return pd.DataFrame(
        {
            "known_min": (slot - first) * SAMPLE_S / 60,
            "quiet_slots": np.minimum(np.where(ever, slot - slot[heard], slot - first), _LOOKBACK)
            if len(slot)
            else slot,
            "active_share": np.where(ever, shares[heard], 0.0) if len(slot) else slot,
        }
    )


def _contacts(samples: pd.DataFrame, table: pd.DataFrame, external: np.ndarray) -> pd.DataFrame:
    """One row per device, peer and slot: ``pkts``, ``age`` in slots since first contact, ``literal``.

    A peer is literal if it is external, the device opened the first flow, to no port that is commonly reached by a
    configured address (DNS, NTP), and asked for no name in that slot or the one before.
    """
    met = table.loc[~table["group"], ["device", "peer", "slot", "out_pkts", "in_pkts", "orig", "port"]]
    met = met.assign(
        pkts=met["out_pkts"] + met["in_pkts"],
        direct=met["orig"] & external[met["peer"]] & ~met["port"].isin(_CONFIGURED),
    )
    met = met.groupby(["device", "peer", "slot"], sort=False, as_index=False)[["pkts", "direct"]].agg(
        {"pkts": "sum", "direct": "max"}
    )
    met["age"] = met["slot"] - met.groupby(["device", "peer"], sort=False)["slot"].transform("min")
    asking = samples.loc[(samples["dns_queries"] > 0) | (samples["pkts_dns"] > 0), ["device", "slot"]]
    key, asked = _key(met), _key(asking)
    met["bare"] = (met["age"] == 0) & met["direct"] & ~np.isin(key, asked) & ~np.isin(key - 1, asked)
    met["literal"] = met.groupby(["device", "peer"], sort=False)["bare"].transform("max")
    return met


def _peers(contacts: pd.DataFrame) -> pd.DataFrame:
    cells = contacts.assign(new=contacts["age"] == 0).groupby(["device", "slot"], sort=False)
    top = contacts.sort_values("pkts", kind="stable").drop_duplicates(["device", "slot"], keep="last")
    return pd.DataFrame(
        {
            "new_peers": cells["new"].sum(),
            "new_peers_no_dns": cells["bare"].sum(),
            "literal_peers": cells["literal"].sum(),
            "top_peer_age_min": top.set_index(["device", "slot"])["age"] * SAMPLE_S / 60,
        }
    )


def _attempts(table: pd.DataFrame, ts: np.ndarray, contacts: pd.DataFrame) -> pd.DataFrame:
    """One row per attempt a device made: the first sight of a 5-tuple, sorted by endpoint and time.

    Zeek cuts the retries of one SYN into several rows; here they are one attempt again.
    """
    made = table.loc[table["orig"] & ~table["group"] & (table["proto"] < 2)]
    made = made[["device", "peer", "port", "proto", "tuple", "slot", "flow", "answered"]]
    made = made.sort_values(["device", "tuple", "slot", "flow"], kind="stable")
    same = (made["tuple"] == made["tuple"].shift()) & (made["device"] == made["device"].shift())
    made["new"] = ~(same & (made["slot"] - made["slot"].shift() <= _FORGET))
    made["ts"] = ts[made["flow"].to_numpy()]
    made["attempt"] = made["new"].cumsum()
    made["answered"] = made.groupby("attempt", sort=False)["answered"].transform("max")
    made = made[made["new"]]
    literal = contacts.loc[contacts["literal"], ["device", "peer"]].drop_duplicates().assign(literal=True)
    made = made.merge(literal, on=["device", "peer"], how="left")
    made["literal"] = made["literal"].notna() & ~made["port"].isin(_CONFIGURED)
    made["endpoint"] = made.groupby(["device", "peer", "port", "proto"], sort=False).ngroup()
    return made.sort_values(["endpoint", "ts"], kind="stable", ignore_index=True)


def _repeats(attempts: pd.DataFrame) -> pd.DataFrame:
    """Repetition of each attempt's endpoint up to it; per device and slot that of the endpoint tried most."""
    endpoint, ts = attempts["endpoint"].to_numpy(np.int64), attempts["ts"].to_numpy()
    row = np.arange(len(attempts))
    key = (endpoint << _SLOT_BITS) + attempts["slot"].to_numpy(np.int64)
    repeats = row + 1 - np.searchsorted(key, key - _LOOKBACK, side="left") if len(row) else row
    first = np.searchsorted(endpoint, endpoint, side="left")
    last_answer = np.maximum.accumulate(np.where(attempts["answered"], row, -1)) if len(row) else row
    streak = row - np.maximum(last_answer, first - 1)

    gaps = np.full((len(row), _GAPS), np.nan, np.float32)  # (attempts, spacings back)
    for back in range(_GAPS):
        here = row - back - 1
        inside = (here >= first) & (back + 1 < repeats)
        gaps[inside, back] = (ts[row[inside] - back] - ts[here[inside]]).astype(np.float32)
    several = repeats >= 3
    period, jitter = np.zeros(len(row)), np.zeros(len(row))
    if several.any():
        period[several] = np.nanmedian(gaps[several], axis=1)
        deviation = np.nanmedian(np.abs(gaps[several] - period[several, None]), axis=1)
        jitter[several] = np.minimum(deviation / np.maximum(period[several], 1e-3), 2.0)
    seen = attempts[["device", "slot"]].assign(repeats=repeats, streak=streak, period_s=period, jitter=jitter)
    top = seen.sort_values("repeats", kind="stable").drop_duplicates(["device", "slot"], keep="last")
    top = top.set_index(["device", "slot"])
    top["streak"] = seen.groupby(["device", "slot"], sort=False)["streak"].max()
    return top


def _vain(attempts: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Endpoints tried in vain, by whether their peer had answered this device before."""
    answers = table.loc[table["in_pkts"] > 0].groupby(["device", "peer"], sort=False)["slot"].min().rename("since")
    vain = attempts.loc[~attempts["answered"].astype(bool), ["device", "peer", "slot", "endpoint"]].drop_duplicates()
    vain = vain.join(answers, on=["device", "peer"])
    before = (vain["since"] < vain["slot"]).to_numpy()
    cells = [vain["device"], vain["slot"]]
    return pd.DataFrame(
        {
            "never_answered": pd.Series(~before, vain.index).groupby(cells).sum(),
            "answered_before": pd.Series(before, vain.index).groupby(cells).sum(),
        }
    )


def _ratios(samples: pd.DataFrame) -> pd.DataFrame:
    """Packets and bytes against the running median of the device's own active slots before this one, log2."""
    ratios = {}
    for name, ways in (("rate_ratio", ("out_pkts", "in_pkts")), ("bytes_ratio", ("out_bytes", "in_bytes"))):
        volume = samples[ways[0]] + samples[ways[1]]
        active = volume[volume > 0]
        by_device = active.groupby(samples["device"], sort=False)
        median = by_device.rolling(_MEDIAN, min_periods=6).median().droplevel(0).sort_index()
        usual = median.groupby(samples["device"], sort=False).shift().reindex(volume.index)
        ratios[name] = np.where(usual.notna() & (volume > 0), np.log2((volume + 1) / (usual + 1)), 0.0)
    return pd.DataFrame(ratios)
