"""Synchrophasors: commands to phasor measurement units, what these are configured to send, and the
data that they send, with the errors that they mark in it (IEEE C37.118.2).

    client  ... send configuration 2 | data transmission on               | data transmission off
    unit                             configuration 2    data data data data
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from traffic.arrays import starts_run
from traffic.pcap.headers import TCP, UDP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    IDENTIFY,
    PUBLISH,
    SESSION,
    SKIP,
    TELL,
    Heads,
    Identity,
    Protocol,
    make_rows,
    select_distinct,
    select_kinds,
)

_SYNC = 0xAA
_HEADER = 14  # up to the fraction of the second
_SHORTEST = 16  # with the checksum
_DATA, _HEAD, _CONFIG_1, _CONFIG_2, _COMMAND, _CONFIG_3 = range(6)  # types of frames (6.2, table 2)
OFF, ON, SEND_HEADER, SEND_1, SEND_2, SEND_3, EXTENDED = 1, 2, 3, 4, 5, 6, 8
DATA = 256  # ``function`` of a frame of data
FUNCTIONS = {
    OFF: "data transmission off", ON: "data transmission on", SEND_HEADER: "send header",
    SEND_1: "send configuration 1", SEND_2: "send configuration 2", SEND_3: "send configuration 3",
    EXTENDED: "extended command", DATA: "data",
}  # fmt: skip
_KINDS = {
    SESSION: (OFF, ON), IDENTIFY: (SEND_HEADER, SEND_1, SEND_2, SEND_3), PUBLISH: (DATA,),
}  # fmt: skip
# The command that each frame answers.
_ANSWERS = {_HEAD: SEND_HEADER, _CONFIG_1: SEND_1, _CONFIG_2: SEND_2, _CONFIG_3: SEND_3}
INVALID, PMU_ERROR, TEST, UNSYNCHRONISED, MISSED = 1, 2, 3, 4, 5
PROBLEMS = {
    INVALID: "data invalid", PMU_ERROR: "PMU error", TEST: "PMU in test mode, or no data",
    UNSYNCHRONISED: "not synchronised with a source of time", MISSED: "frames before it are missing",
}  # fmt: skip
_STEP = 1.5  # of the time between frames: then one is missing
_SET_S = 1.0  # by which a clock that is set departs from when frames come
_STATION_BYTES, _CHANNEL_BYTES = 16, 16
_MOST_UNITS = 64  # of one configuration
_LONGEST = 8192


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Sync byte, a type and version 1 to 3, and the frame's size, checksum and all (6.2)."""
    size, version = head[:, 2] << 8 | head[:, 3], head[:, 1] & 15
    good = (head[:, 0] == _SYNC) & (head[:, 1] < 0x60) & (version >= 1) & (version <= 3)
    return np.where(good & (size >= _SHORTEST) & (known >= 4), size, 0)


def _fits(heads: Heads) -> np.ndarray:
    """The first payload of each side that spoke is such a frame, or begins with one."""
    good = heads.payload >= _SHORTEST
    for head, payload in ((heads.orig, heads.orig_payload), (heads.resp, heads.resp_payload)):
        size = _message_bytes(head.astype(np.int64), np.minimum(payload, head.shape[1]))
        good &= ((size > 0) & (size <= payload)) | (payload == 0)
    return good


def _read(messages: Messages) -> pd.DataFrame:
    """A row per frame: ``unit`` is the identification code where one address has several, ``value``
    of a configuration how many frames it promises in a second, ``code`` what data mark as wrong."""
    frame, command = messages.u8(1) >> 4, messages.u16(_HEADER)
    good = (messages.u8(0) == _SYNC) & (messages.held >= _SHORTEST) & (frame <= _CONFIG_3)
    answers, data = good & np.isin(frame, list(_ANSWERS)), good & (frame == _DATA)
    commands = good & (frame == _COMMAND)
    function = np.where(data, DATA, command)
    for answer, ask in _ANSWERS.items():
        function[answers & (frame == answer)] = ask
    asks = commands & np.isin(command, list(_ANSWERS.values()))
    role = np.select([answers, asks, commands | data], [ANSWER, ASK, TELL], SKIP)
    station = messages.u16(4)
    rate = _read_rates(messages, answers & (frame != _HEAD))
    code = np.where(data, _find_errors(messages), 0)
    if len(messages):
        missed = _find_missed(messages, station, data, commands & (command <= ON), rate)
        code = np.where(missed & (code == 0), MISSED, code)
    return make_rows(
        messages,
        role,
        key=function << 16 | np.maximum(station, 0),
        kind=select_kinds(function, _KINDS),
        function=function,
        unit=np.where(_has_several(messages, station, data), station, -1),
        code=np.where(asks, -1, code),
        value=np.where(rate > 0, rate, -1),
    )


def _read_rates(messages: Messages, configures: np.ndarray) -> np.ndarray:
    """Frames a second that a configuration promises; below 0 the seconds between two (6.4, table 9);
    0 for what is none."""
    at = messages.length - 4
    rate = np.where(configures & (at > _HEADER), messages.number(np.maximum(at, 0), 2), 0)
    return np.where(rate >= 0x8000, rate - 0x10000, np.maximum(rate, 0))


def _find_errors(messages: Messages) -> np.ndarray:
    """What the first unit's STAT word marks as wrong (6.3, table 6); 0 for nothing."""
    status = np.maximum(messages.u16(_HEADER), 0)
    first = messages.u8(1) & 15 == 1  # where the two bits are apart: invalid, error
    pair = status >> 14
    return np.select(
        [pair == 3, (pair == 2) & first, pair == 2, pair == 1, status & 0x2000 > 0],
        [INVALID, INVALID, TEST, PMU_ERROR, UNSYNCHRONISED],
        0,
    )


def _has_several(messages: Messages, station: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Whether the sender of data, or the receiver of a command, has several identification codes."""
    by = messages.of_packet("src")
    sent = pd.DataFrame({"by": by, "station": station})[data].drop_duplicates()
    counts = sent["by"].value_counts()
    several = counts.index[counts > 1].to_numpy()
    return np.isin(by, several) | np.isin(messages.of_packet("dst"), several)


def _find_missed(
    messages: Messages,
    station: np.ndarray,
    data: np.ndarray,
    switches: np.ndarray,
    rate: np.ndarray,
) -> np.ndarray:
    """Which data come later by the unit's own clock than their configuration allows, shape (n,)."""
    ts, by = messages.of_packet("ts"), messages.of_packet("src")
    configured = pd.DataFrame(
        {"by": by, "station": station, "rate": rate, "ticks": messages.u32(_HEADER) & 0xFFFFFF}
    )[rate != 0].drop_duplicates(["by", "station"])
    rows = pd.DataFrame(
        {
            "row": np.arange(len(messages)), "by": by, "station": station, "ts": ts,
            "flow": messages.flow, "second": messages.u32(6), "part": messages.u32(10) & 0xFFFFFF,
        }
    )[data].merge(configured, on=["by", "station"])  # fmt: skip
    rows = rows[rows["ticks"] > 0].sort_values(["by", "station", "flow", "ts"], kind="stable")
    if rows.empty:
        return np.zeros(len(messages), bool)
    # Between two frames nobody switched: who stops a unit and starts it again misses none.
    switched = np.sort(ts[switches])
    turns = np.searchsorted(switched, rows["ts"].to_numpy())
    columns = (rows[name].to_numpy() for name in ("by", "station", "flow"))
    goes_on = ~starts_run(*columns, turns)
    clock_s = (rows["second"] + rows["part"] / rows["ticks"]).to_numpy()
    step_s, came_s = np.diff(clock_s, prepend=0), np.diff(rows["ts"].to_numpy(), prepend=0)
    usual = rows["rate"].to_numpy().astype(float)
    usual_s = np.where(usual > 0, 1 / np.maximum(usual, 1), -usual)
    late = goes_on & (step_s > _STEP * usual_s) & (step_s < came_s + _SET_S)
    missed = np.zeros(len(messages), bool)
    missed[rows["row"].to_numpy()[late]] = True
    return missed


def _identify(messages: Messages) -> list[Identity]:
    """Names of the stations in a configuration."""
    frame = messages.u8(1) >> 4
    configures = (messages.u8(0) == _SYNC) & np.isin(frame, (_CONFIG_1, _CONFIG_2))
    found = []
    for message, body in select_distinct(messages, configures, _HEADER, _LONGEST):
        stations = list(_read_stations(body))
        for name, code in stations:
            unit = code if len(stations) > 1 else -1
            found.append(Identity(message, "name", name.strip(), "C37.118", unit=unit))
    return found


def _read_stations(body: bytes) -> Iterator[tuple[bytes, int]]:
    """Name and identification code of each unit of configuration 1 or 2, from the time base on
    (6.4, table 8)."""
    at, count = 6, min(int.from_bytes(body[4:6]), _MOST_UNITS)
    for _ in range(count):
        if at + 26 > len(body):
            return
        code_at = at + _STATION_BYTES
        yield body[at:code_at], int.from_bytes(body[code_at : code_at + 2])
        phasors, analogs, digitals = (
            int.from_bytes(body[at + place : at + place + 2]) for place in (20, 22, 24)
        )
        names = phasors + analogs + 16 * digitals
        at += 26 + _CHANNEL_BYTES * names + 4 * (phasors + analogs + digitals) + 4


SYNCHROPHASOR = Protocol(
    name="synchrophasor",
    title="C37.118",
    layer="synphasor",
    transports=(TCP, UDP),
    ports=(4712, 4713),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=4,
    read=_read,
    functions=FUNCTIONS,
    kinds=_KINDS,
    refusals=PROBLEMS,
    starts=frozenset({ON}),
    stops=frozenset({OFF}),
    promises=frozenset({SEND_1, SEND_2, SEND_3}),
    remarks=frozenset(PROBLEMS),
    troubles=frozenset({INVALID, PMU_ERROR}),
    say_code=lambda _, word: word,
    wait_s=5.0,
    identify=_identify,
)
