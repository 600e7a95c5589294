"""What happens beside IP: publishers of GOOSE that fall silent, lose messages or speak twice, and
stations of PROFINET that raise alarms, break off, share a name or have other modules than expected.

What each message of GOOSE says of the one before it ``traffic.pcap.protocols.goose`` reads: each
says for how long it holds, and counts its state and its repetitions.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.conversation import describe_ends, make_hit, prove
from assistant.detection.rules.rule import RuleHit, slots_at
from assistant.facts.fact import Proof, Value, by_count, listed, make_fact
from assistant.facts.proofs import pick_frames
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols.goose import BACK, LATE, MISSED, SILENT
from traffic.pcap.protocols.profinet import ALARM, FIND, FUNCTIONS, HELLO, RTA_ERROR
from traffic.pcap.protocols.profinet_cm import CONNECT, DIFFERENCES, RELEASE, SUBSTITUTE, WRONG

_MIN_MESSAGES = 4  # by which a publisher's rhythm is known
_LONGER = 3.0  # times the longest pause before: who never keeps what it promises is not gone
_MIN_TIMES = 3
_CODES = {"goose_late": LATE, "goose_missed": MISSED, "goose_back": BACK}
_LABELS = {
    "goose_silent": "device_silent",
    "goose_late": "flapping",
    "goose_missed": "packet_loss",
    "goose_back": "flapping",
}
_DISAPPEARS = ALARM + 12
_AT_ONCE_S = 5.0  # a station that was replaced does not answer so soon after the one before it
_FAULTS = frozenset(ALARM + kind for kind in (1, 3, 10, 31))  # diagnosis, pull, wrong, pull module
_ALARM_FRAMES = "(pn_rt.frame_id == 0xfc01 || pn_rt.frame_id == 0xfe01)"

_DIFF_BLOCK = "0x8104"  # as Wireshark's filter has it

_SENTENCES = {
    "goose_silent": "{publisher} published {name} for the last time at {last_time_s} and has been silent since, for "
    "{silence_s}, which is longer than its last message holds; before that it never paused for more than {pause_s}.",
    "goose_late": "{publisher} was silent {times:time} for longer than its messages of {name} hold, up to {longest_s}, "
    "between {since_time_s} and {until_time_s}: its subscribers took it for failed.",
    "goose_missed": "Messages of {name} by {publisher} are missing by their numbers, {times:time} between "
    "{since_time_s} and {until_time_s}: lost on the way, or by the sensor.",
    "goose_back": "The numbers of {name} by {publisher} went back {times:time} between {since_time_s} and "
    "{until_time_s}: it starts again and again, or another one speaks in its name.",
    "goose_twice": "{name} is published by {n:machine} by turns: {publishers}, from {since_time_s} to {until_time_s}.",
    "alarm": "{client} reports to {server}: {what}, {times:time} since {since_time_s}.",
    "alarms_over": "It took that back {times:time}, at last at {until_time_s}.",
    "given_up": "{client} and {server} gave their PROFINET connection up {times:time} between {since_time_s} and "
    "{until_time_s}.",
    "module_diff": "When {client} connected, {server} told {times:time} that its modules are not as expected: {what}.",
    "released": "{client} released such a connection {times:time}, the soonest {after_s} after it had opened it.",
    "station_twice": 'The station name "{name}" belongs to {n:machine} at once: {stations} claim it.',
}


# ---- GOOSE ----


def find_goose_faults(view: TrafficView) -> list[RuleHit]:
    """Publishers of GOOSE that fell silent, pause for too long, or whose messages are missing or
    numbered twice."""
    hits = []
    for publisher, name, rows in _publishers(view):
        ts = rows["ts"].to_numpy()
        silence_s, pause_s = _last_moment(view) - ts[-1], float(np.diff(ts).max())
        gone = rows["code"].iloc[-1] == SILENT and silence_s > _LONGER * pause_s
        found = {kind: rows[rows["code"] == code] for kind, code in _CODES.items()}
        if gone:
            found["goose_silent"] = rows.iloc[-1:]
        before = pd.Series(np.diff(ts, prepend=ts[0]), index=rows.index)
        for kind, label in _LABELS.items():
            mine = found.get(kind)
            if mine is None or len(mine) < (1 if kind == "goose_silent" else _MIN_TIMES):
                continue
            values: dict[str, Value] = describe_ends(view, publisher, name, mine) | {
                "publisher": view.name_of(publisher),
                "name": name,
                "times": len(mine),
                "last_time_s": float(ts[-1]),
                "silence_s": float(silence_s),
                "pause_s": pause_s,
                "longest_s": float(before[mine.index].max()),
            }
            fact = make_fact(kind, _SENTENCES[kind], values, proof=prove(mine))
            hits.append(make_hit(publisher, label, [fact], str(mine["server"].iloc[0]), mine))
    return hits


def find_doubled_publishers(view: TrafficView) -> list[RuleHit]:
    """Control blocks that two machines publish by turns."""
    hits = []
    told = _goose(view)
    for name, rows in told.groupby("name", observed=True):
        macs = rows["client"].astype(str).to_numpy()
        if np.count_nonzero(macs[1:] != macs[:-1]) < _MIN_TIMES:
            continue  # one that took over from another changes once
        clients = by_count(pd.Series(macs))
        values: dict[str, Value] = describe_ends(view, clients[0], str(name), rows) | {
            "name": str(name),
            "n": len(clients),
            "publishers": view.names_of(clients),
        }
        condition = f'goose.gocbRef == "{_escape(str(name))}"'
        proof = Proof(condition, pick_frames(rows["frame"]))
        fact = make_fact("goose_twice", _SENTENCES["goose_twice"], values, proof=proof)
        others = tuple(clients[1:])
        hits.append(
            RuleHit(clients[0], "spoofing", "target", (fact,), others, slots_at(rows["ts"]))
        )
    return hits


def _goose(view: TrafficView) -> pd.DataFrame:
    asked = view.exchanges
    return asked[(asked["protocol"] == "goose") & asked["name"].notna()]


def _publishers(view: TrafficView) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for (client, _, name), rows in _goose(view).groupby(["client", "unit", "name"], observed=True):
        if len(rows) >= _MIN_MESSAGES:
            yield str(client), str(name), rows


def _last_moment(view: TrafficView) -> float:
    """When the recording saw anything for the last time, seconds since the epoch."""
    ends = [view.exchanges["ts"].max(), view.flow_slots["until_s"].max()]
    return float(np.nanmax(np.asarray(ends, float)))


# ---- PROFINET ----


def find_station_alarms(view: TrafficView) -> list[RuleHit]:
    """Stations of PROFINET that report a fault of their own, and connections that are given up."""
    asked = view.exchanges
    told = asked[(asked["protocol"] == "profinet") & (asked["function"] >= ALARM)]
    hits = []
    for (client, server), rows in told.groupby(["client", "server"], observed=True):
        ends = str(client), str(server)
        faults = rows[rows["function"].isin(_FAULTS)]
        if len(faults):
            words = (FUNCTIONS[int(kind)] for kind in faults["function"].unique())
            values = describe_ends(view, *ends, faults)
            values |= {"times": len(faults), "what": listed(words)}
            proof = prove(faults, only=_ALARM_FRAMES)
            facts = [make_fact("alarm", _SENTENCES["alarm"], values, proof=proof)]
            over = rows[rows["function"] == _DISAPPEARS]
            if len(over):
                values = describe_ends(view, *ends, over) | {"times": len(over)}
                facts.append(make_fact("alarms_over", _SENTENCES["alarms_over"], values))
            hits.append(make_hit(ends[0], "service_down", facts, ends[1], faults))
        broken = rows[rows["code"] == RTA_ERROR]
        if len(broken) >= _MIN_TIMES:
            values = describe_ends(view, *ends, broken) | {"times": len(broken)}
            proof = prove(broken, only=_ALARM_FRAMES)
            fact = make_fact("given_up", _SENTENCES["given_up"], values, proof=proof)
            hits.append(make_hit(ends[0], "flapping", [fact], ends[1], broken))
    return hits


def find_module_differences(view: TrafficView) -> list[RuleHit]:
    """IO devices that tell their controller, as it connects, of modules that are wrong, missing or
    faulty."""
    asked = view.exchanges
    asked = asked[(asked["protocol"] == "profinet_cm") & (asked["outcome"] == "answered")]
    told = asked[(asked["function"] == CONNECT) & asked["code"].isin(DIFFERENCES)]
    hits = []
    for (client, server), rows in told.groupby(["client", "server"], observed=True):
        ends = str(client), str(server)
        what = rows["name"].dropna().astype("str").unique()
        values = describe_ends(view, *ends, rows) | {"times": len(rows), "what": listed(what)}
        proof = prove(rows, only=f"pn_io.block_type == {_DIFF_BLOCK}")
        facts = [make_fact("module_diff", _SENTENCES["module_diff"], values, proof=proof)]
        pair = asked[(asked["client"] == client) & (asked["server"] == server)]
        ends_s = pair.loc[pair["function"] == RELEASE, "ts"].to_numpy()
        place = np.searchsorted(ends_s, rows["ts"].to_numpy())
        after_s = ends_s[place[place < len(ends_s)]] - rows["ts"].to_numpy()[place < len(ends_s)]
        if len(after_s):
            values = describe_ends(view, *ends, rows)
            values |= {"times": len(after_s), "after_s": float(after_s.min())}
            facts.append(make_fact("released", _SENTENCES["released"], values))
        wrong = rows["code"].isin((WRONG, SUBSTITUTE)).any()
        label = "misconfiguration" if wrong else "service_down"
        hits.append(make_hit(ends[1], label, facts, ends[0], rows))
    return hits


def find_doubled_stations(view: TrafficView) -> list[RuleHit]:
    """Names of PROFINET stations to which more than one machine answers."""
    asked = view.exchanges
    told = asked[(asked["protocol"] == "profinet") & asked["name"].notna()]
    answers = told["function"].eq(FIND) & told["outcome"].isin(["answered", "unasked"])
    hello = told["function"].eq(HELLO)
    told = told.assign(station=told["server"].astype(str).mask(hello, told["client"].astype(str)))
    hits = []
    for name, rows in told[answers | hello].groupby("name", observed=True):
        stations, macs = by_count(rows["station"]), rows["station"].to_numpy()
        soon = np.diff(rows["ts"].to_numpy()) <= _AT_ONCE_S
        if not (soon & (macs[1:] != macs[:-1])).any():
            continue
        values: dict[str, Value] = describe_ends(view, stations[0], str(name), rows) | {
            "name": str(name),
            "n": len(stations),
            "stations": view.names_of(stations),
        }
        condition = f'pn_dcp.suboption_device_nameofstation == "{_escape(str(name))}"'
        proof = Proof(condition, pick_frames(rows["answer_frame"].mask(hello, rows["frame"])))
        fact = make_fact("station_twice", _SENTENCES["station_twice"], values, proof=proof)
        others = tuple(stations[1:])
        hits.append(
            RuleHit(stations[0], "misconfiguration", "both", (fact,), others, slots_at(rows["ts"]))
        )
    return hits


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
