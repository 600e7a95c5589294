"""Vetoes: what in the tables forbids a label, whatever a model says.

A label's profile names its veto; the model's suspicion survives only where none stands.
"""

import numpy as np
import pandas as pd

from assistant.facts.attribution import LOGIN_PORTS, Attribution
from assistant.facts.moves import find_replacement
from assistant.facts.requests import is_login, is_refused
from assistant.facts.spells import quiet_spell
from assistant.facts.traffic_view import BASELINE_S, TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import PROTOCOLS

_ONSET_S = 30.0  # a recording often begins within what is going on
_BURST_PER_S, _BURST_REGISTERS = 5.0, 20
_WATCH = ("camera", "recorder", "printer", "sensor")  # roles that command nothing
_MIN_ATTEMPTS = 5
_SHORT_S = 10.0  # a session at a login port in which somebody works lasts longer
_ASKED_FOR = 2.0  # times as much received as sent: a download
_FEW_FAILED = 0.05
_APART_S = 600.0  # one upload may pause for minutes
_AS_MUCH = 0.25
_LITTLE_BYTES = 0.1e6 / 8 * SAMPLE_S  # 0.1 Mbit/s
_FLOOD_PER_S = 100.0  # packets; a poll that is answered stays below
_ANSWERED = 0.99
_TWICE = 2.0
_STREAM_SLOTS = 6  # a minute
_MUCH_LONGER, _A_HABIT = 3.0, 2  # times a pause before, and how many of these
_INFRASTRUCTURE = (53, 67, 68, 123, 5353)
_SEVERAL = 2  # who call it


def not_a_guess(found: Attribution, view: TrafficView) -> bool:
    """No login is refused, and no login port is tried again and again for a moment."""
    asked = view.exchanges
    asked = asked[(asked["client"] == found.device) | (asked["server"] == found.device)]
    refused_logins = is_login(asked) & is_refused(asked)
    if (found.evidence["kind"] == "mqtt_refused").any() or refused_logins.any():
        return False
    logins = found.flows[found.flows["port"].isin(LOGIN_PORTS)]
    if logins.empty:
        return True
    each = logins.groupby("attempt").agg(
        first=("since_s", "min"), last=("until_s", "max"), refused=("refused", "any")
    )
    short = (each["last"] - each["first"] <= _SHORT_S) | each["refused"]
    return int(short.sum()) < _MIN_ATTEMPTS


def is_replaced(found: Attribution, view: TrafficView) -> bool:
    """Every address that is claimed was another machine's, which is not heard any more."""
    claims = found.evidence[found.evidence["kind"] == "arp_conflict"]
    return len(claims) > 0 and all(
        find_replacement(view, str(address)) for address in claims["dst"].unique()
    )


def own_infrastructure(found: Attribution, view: TrafficView) -> bool:
    """Everything goes to the plant's own resolver, clock or router, is a known protocol that another
    device of the plant answers, is refused by it, or goes to a port of it that others call too."""
    flows = found.flows
    if flows.empty or not flows["other"].isin(view.local).all():
        return False
    served = flows["port"].isin(_INFRASTRUCTURE) & flows["out"]
    known = flows["answered"] & (flows["service"].fillna("") != "")
    rows = view.flow_slots
    callers = rows[rows["dst"].isin(flows["dst"])].groupby(["dst", "port"])["src"].nunique()
    ends = pd.MultiIndex.from_frame(flows[["dst", "port"]])
    shared = (callers.reindex(ends).fillna(0) >= _SEVERAL).to_numpy()
    ours = served | known | flows["refused"] | shared
    return bool((ours | flows["other"].isin(view.routers)).all())


def was_asked_for(found: Attribution, view: TrafficView) -> bool:  # noqa: ARG001
    """The bytes come back on connections that the device opened, and it sends far less."""
    flows = found.flows
    if flows.empty or not flows["answered"].all():
        return False
    receiver = np.where(flows["src_bytes"] < flows["dst_bytes"], flows["src"], flows["dst"])
    asked = bool((receiver == flows["src"]).all())
    sent, got = float(flows["src_bytes"].sum()), float(flows["dst_bytes"].sum())
    return asked and got >= _ASKED_FOR * sent


def is_no_flood(found: Attribution, view: TrafficView) -> bool:
    """The bytes were asked for; or nearly all is answered and little, or a stream that a session
    accompanies, and there are no more packets or connections than at other times: the work of a
    device."""
    if was_asked_for(found, view):
        return True
    flows = found.flows
    rows = view.flows_of(found.device)
    rows = rows[rows["other"].isin(flows["other"].unique())]
    streamed = _is_stream(flows, rows)
    if flows.empty:
        return False
    if not streamed and flows.groupby("attempt")["answered"].any().mean() < _ANSWERED:
        return False
    each = rows.assign(pkts=rows["src_pkts"] + rows["dst_pkts"]).groupby("slot")
    each = each.agg(pkts=("pkts", "sum"), calls=("attempt", "nunique"))
    during = each[each.index.isin(flows["slot"].unique())]
    others = each.drop(during.index)
    usual = (others if len(others) else during).median()
    little = streamed or during["pkts"].max() <= _FLOOD_PER_S * SAMPLE_S
    return bool(little and (during.median() <= _TWICE * usual).all())


def _is_stream(flows: pd.DataFrame, rows: pd.DataFrame) -> bool:
    """Whether all of it is UDP in a few long flows, between pairs that hold a TCP session too: video,
    which nobody answers (RFC 3550), beside what controls it."""
    if flows.empty or not (flows["proto"] == "udp").all():
        return False
    each = flows.groupby(["other", "attempt"])["slot"].nunique()
    held = rows.loc[(rows["proto"] == "tcp") & rows["answered"], "other"]
    return bool((each >= _STREAM_SLOTS).all() and flows["other"].isin(held).all())


def names_resolve(found: Attribution, view: TrafficView) -> bool:
    """Hardly any of the questions failed: who asks for a wrong name now and then has no fault."""
    rows = view.evidence_of(found.device, ("dns_query", "dns_failed"))
    counts = rows[rows["other"].isin(found.peers)].groupby("kind")["count"].sum()
    return counts.get("dns_failed", 0) <= _FEW_FAILED * counts.get("dns_query", 0)


def needed_by_nobody(found: Attribution, view: TrafficView) -> bool:
    """All that failed is of those who flood or look around: no client missed anything."""
    return len(found.flows) > 0 and not view.by_clients(found.flows).any()


def stays_inside(found: Attribution, view: TrafficView) -> bool:
    """Everything goes to devices of the plant: a backup, not data that is carried off."""
    return len(found.flows) > 0 and bool(found.flows["other"].isin(view.local).all())


def is_habit(found: Attribution, view: TrafficView) -> bool:
    """An earlier hour saw a quarter as much leave the plant or more: a camera that stores its pictures
    at its maker does so every day. What is carried off in parts is told of the first."""
    if stays_inside(found, view):
        return True
    sent = float(found.flows["sent_bytes"].sum())
    rows = view.flows_of(found.device)
    before = rows[~rows["other"].isin(view.local) & (rows["until_s"] < found.start_s - _APART_S)]
    hourly = before.groupby(before["slot"] * SAMPLE_S // 3600)["sent_bytes"].sum()
    return sent > 0 and bool((hourly >= _AS_MUCH * sent).any())


def moves_nothing(found: Attribution, view: TrafficView) -> bool:
    """No link is full of so little, and no receiver asked to wait."""
    if (found.evidence["kind"] == "zero_window").any():
        return False
    rows = view.flows_of(found.device)
    here = rows[(rows["until_s"] >= found.start_s) & (rows["since_s"] <= found.end_s)]
    each = (here["sent_bytes"] + here["got_bytes"]).groupby(here["slot"]).sum()
    return each.empty or float(each.max()) < _LITTLE_BYTES


def is_used_to_pause(found: Attribution, view: TrafficView) -> bool:
    """Nobody asked for the device in vain, and it had been silent for about as long more than once before:
    who is used now and then is not missed."""
    spell = quiet_spell(view, found.device, found.start_s, found.end_s)
    if found.calls or spell is None:
        return False
    sent = view.sent_by(found.device)
    before = sent[sent["sent_first_s"] <= spell[0]].sort_values("sent_first_s")
    quiet_s = before["sent_first_s"].to_numpy()[1:] - np.maximum.accumulate(
        before["sent_last_s"].to_numpy()[:-1]
    )
    return int((quiet_s * _MUCH_LONGER > spell[1] - spell[0]).sum()) >= _A_HABIT


def only_busy(found: Attribution, view: TrafficView) -> bool:
    """Every refusal says "not now"."""
    asked = view.exchanges
    mine = asked[(asked["client"] == found.device) | (asked["server"] == found.device)]
    mine = mine[(mine["code"] > 0) & mine["ts"].between(found.start_s, found.end_s)]
    if mine.empty or len(found.flows):
        return False
    return bool(
        np.logical_or.reduce(
            [
                (mine["protocol"] == protocol.name) & mine["code"].isin(protocol.busy)
                for protocol in PROTOCOLS
            ]
        ).all()
    )


def wrote_before(found: Attribution, view: TrafficView) -> bool:
    """Nobody began to write: who writes did so when the recording began, or soon after and calmly.

    Without ten minutes of what came before a writer is not new; a burst that begins within the
    recording is one all the same, and so are writes of a machine that the inventory does not know, or
    knows as one that only watches.
    """
    writes = view.writes
    mine = writes[(writes["client"] == found.device) | (writes["server"] == found.device)]
    mine = mine[mine["client"].isin([found.device, *found.peers])]
    roles = {device.address: device.role.lower() for device in view.plant.devices}
    if roles and not mine["client"].isin(roles).all():
        return False
    watching = mine["client"].map(roles).isin(_WATCH)
    if len(mine) and watching.all() and (mine["since_s"] - view.start_s >= _ONSET_S).any():
        return False
    baseline_s = mine["since_s"] - view.start_s
    if (view.watched_s(mine) >= BASELINE_S).any():
        return False
    rows = view.evidence_of(found.device, ("modbus_write",))
    burst = (rows["count"] >= _BURST_PER_S * SAMPLE_S) | (rows["distinct"] >= _BURST_REGISTERS)
    return not (burst.any() and (baseline_s >= _ONSET_S).any())
