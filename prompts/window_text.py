"""Render windows as short texts: words of the field and small whole numbers, from a closed
vocabulary.

    past known 10 since 10 repeats 9 every 7 streak 9 vain 2 rhythm 10 held 7
    sent 4 13 peers 2 2 tcp 2 unanswered 2 other 4
    quiet
    ...

Each number is a level on a log scale, ``round(2 * log2(1 + x))``: 1 -> 2, 3 -> 4, 10 -> 7, 1000 ->
20. Steady traffic gives equal text. Two numbers after a word are out and in (what the device did,
what was done to it), or packets and bytes. What is zero is not said, nor a second number that is
zero: every token costs time. No addresses, names or
ports: a text says what a device does, never who it is.
"""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.samples import CLASSES
from traffic.windows import WINDOW_SAMPLES, Windows

TOP_LEVEL = 60
QUIET = "quiet"


@dataclass(frozen=True)
class Field:
    """A word and the one or two columns whose levels follow it."""

    word: str
    columns: tuple[str, ...]


SAMPLE_FIELDS = (
    Field("sent", ("out_pkts", "out_bytes")),
    Field("got", ("in_pkts", "in_bytes")),
    Field("peers", ("peers", "external_peers")),
    Field("new", ("new_peers", "new_peers_no_dns")),
    Field("tcp", ("tcp_out", "tcp_in")),
    Field("udp", ("udp_out", "udp_in")),
    Field("icmp", ("icmp_out", "icmp_in")),
    Field("hosts", ("hosts_out", "hosts_in")),
    Field("ports", ("ports_out", "ports_in")),
    Field("unanswered", ("unanswered_out", "unanswered_in")),
    Field("refused", ("refused_out", "refused_in")),
    Field("lost", ("udp_unanswered_out", "udp_unanswered_in")),
    Field("resets", ("resets",)),
    Field("resent", ("retransmissions",)),
    Field("stalled", ("zero_windows",)),
    Field("unreachable", ("unreachable",)),
    Field("arp", ("arp_requests", "arp_unanswered_out")),
    Field("sought", ("arp_unanswered_in",)),
    Field("claimed", ("arp_conflicts",)),
    Field("names", ("dns_queries", "dns_failed")),
    Field("reads", ("modbus_reads_out", "modbus_reads_in")),
    Field("writes", ("modbus_writes_out", "modbus_writes_in")),
    Field("registers", ("modbus_codes", "modbus_registers")),
    Field("exceptions", ("modbus_exceptions",)),
    Field("logins", ("mqtt_connects", "mqtt_refused")),
    Field("publishes", ("mqtt_publishes",)),
    Field("malformed", ("mqtt_malformed",)),
    *(Field(name, (f"pkts_{name}",)) for name in CLASSES),
    Field("faster", ("faster",)),
    Field("slower", ("slower",)),
    Field("heavier", ("heavier",)),
    Field("lighter", ("lighter",)),
)
PAST_FIELDS = (
    Field("known", ("known_min",)),
    Field("since", ("top_peer_age_min",)),
    Field("repeats", ("repeats",)),
    Field("every", ("period_s",)),
    Field("jitter", ("jitter",)),
    Field("streak", ("streak",)),
    Field("nameless", ("literal_repeats", "literal_streak")),
    Field("spaced", ("literal_period_s", "literal_jitter")),
    Field("vain", ("never_answered", "answered_before")),
    Field("rhythm", ("active_share",)),
    Field("silent", ("quiet_slots",)),
    Field("literal", ("literal_peers",)),
    Field("held", ("flow_age_s",)),
)
PAST = tuple(name for field in PAST_FIELDS for name in field.columns)
TEXT_COLUMNS = tuple(name for field in SAMPLE_FIELDS for name in field.columns)

# One host or one port is what any flow touches: said from two on.
_ABOVE_ONE = ("hosts_out", "hosts_in", "ports_out", "ports_in")
# Beyond half an hour more says nothing more: a long capture must not read unlike a short one.
_MOST = {
    "known_min": 30.0, "top_peer_age_min": 30.0, "flow_age_s": 1800.0, "quiet_slots": 180.0,
    "repeats": 180.0, "streak": 180.0, "literal_repeats": 180.0, "literal_streak": 180.0,
}  # fmt: skip
# Written even when zero: a line needs a start.
_ALWAYS = {"sent", "known"}
_TENTHS = ("jitter", "literal_jitter", "active_share")
_RATIOS = {
    "faster": ("rate_ratio", 1),
    "slower": ("rate_ratio", -1),
    "heavier": ("bytes_ratio", 1),
    "lighter": ("bytes_ratio", -1),
}
_LEVELS = np.array([f" {level}" for level in range(TOP_LEVEL + 1)], dtype=object)

VOCABULARY: tuple[str, ...] = (
    *dict.fromkeys(["past", QUIET, *(field.word for field in (*PAST_FIELDS, *SAMPLE_FIELDS))]),
    *(str(level) for level in range(TOP_LEVEL + 1)),
)


def fingerprint() -> str:
    """A hash of everything that shapes a text; a model is good only for the texts it was trained
    on."""
    shape = [
        [(field.word, field.columns) for field in fields] for fields in (PAST_FIELDS, SAMPLE_FIELDS)
    ]
    return hashlib.sha256(
        json.dumps([shape, TOP_LEVEL, _MOST, WINDOW_SAMPLES, "round(2*log2(1+x))"]).encode()
    ).hexdigest()[:16]


def quantise(samples: pd.DataFrame) -> pd.DataFrame:
    """Levels of every column a text may show, shape (n_samples, len(TEXT_COLUMNS) + len(PAST)),
    int8.

    A count x becomes ``round(2 * log2(1 + x))``; shares become tenths; a ratio to the device's own
    median is written as whole octaves above (``faster``, ``heavier``) or below it (``slower``,
    ``lighter``), and 0 within one octave.
    """
    levels = {}
    for name in (*TEXT_COLUMNS, *PAST):
        if name in _RATIOS:
            source, sign = _RATIOS[name]
            octaves = samples[source].to_numpy(float) * sign
            level = np.where(octaves >= 1, np.rint(octaves), 0)
        elif name in _TENTHS:
            level = np.rint(samples[name].to_numpy(float) * 10)
        else:
            level = np.rint(
                2 * np.log2(1 + np.minimum(samples[name].to_numpy(float), _MOST.get(name, np.inf)))
            )
        if name in _ABOVE_ONE:
            level = np.where(samples[name].to_numpy() > 1, level, 0)
        levels[name] = np.clip(level, 0, TOP_LEVEL).astype(np.int8)
    return pd.DataFrame(levels, index=samples.index)


def text_columns(windows: Windows) -> pd.DataFrame:
    """Exactly the numbers that the windows' texts hold, for classical models: shape (n_windows, 6 *
    61 + 14), int8."""
    levels = quantise(windows.samples)
    by_sample = _padded(levels[list(TEXT_COLUMNS)])[windows.rows]  # (windows, 6, columns)
    names = [f"{name}_{place}" for place in range(by_sample.shape[1]) for name in TEXT_COLUMNS]
    flat = pd.DataFrame(by_sample.reshape(len(windows), -1), columns=names)
    return pd.concat([_past(levels, windows), flat], axis=1)


def render_windows(windows: Windows) -> list[str]:
    """The text of every window: one line of the device's past, then a line for each of its six
    samples."""
    levels = quantise(windows.samples)
    lines = np.append(_lines(levels, SAMPLE_FIELDS), f"\n{QUIET}")
    lines[:-1][(levels[list(TEXT_COLUMNS)].to_numpy() == 0).all(axis=1)] = f"\n{QUIET}"
    texts = "past" + _lines(_past(levels, windows), PAST_FIELDS, start="")
    for place in range(windows.rows.shape[1]):
        texts = texts + lines[windows.rows[:, place]]
    return texts.tolist()


def _past(levels: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    """One line of history for a window: that of the sample whose endpoint was tried most, the rest
    as of its end."""
    past = _padded(levels[list(PAST)])[windows.rows]  # (windows, 6, columns)
    place = {name: column for column, name in enumerate(PAST)}
    chosen = past.max(axis=1)
    for kind in ("", "literal_"):
        most = past[:, :, place[f"{kind}repeats"]].argmax(axis=1)
        for name in (f"{kind}period_s", f"{kind}jitter"):
            chosen[:, place[name]] = past[np.arange(len(past)), most, place[name]]
    for name in ("active_share", "quiet_slots"):
        chosen[:, place[name]] = past[:, -1, place[name]]
    return pd.DataFrame(chosen, columns=list(PAST))


def _padded(levels: pd.DataFrame) -> np.ndarray:
    """The levels and, at -1, a row of zeros for slots without a sample."""
    return np.vstack([levels.to_numpy(), np.zeros((1, levels.shape[1]), np.int8)])


def _lines(levels: pd.DataFrame, fields: tuple[Field, ...], start: str = "\n") -> np.ndarray:
    """Each row's fields as one string, shape (n,), objects."""
    lines = np.full(len(levels), start, dtype=object)
    for position, field in enumerate(fields):
        values = levels[list(field.columns)].to_numpy()
        space = "" if position == 0 and start else " "
        said = np.full(len(levels), space + field.word, dtype=object)
        for column in range(values.shape[1]):
            level = values[:, column]
            said = said + np.where((level > 0) | (column == 0), _LEVELS[level], "")
        lines = lines + (
            said if field.word in _ALWAYS else np.where((values > 0).any(axis=1), said, "")
        )
    return lines
