"""What came steadily and no longer does: a program that stops though its machine lives, and a stream that
arrives thinner than before.

    sensor-2   p p p p p p p . . . . . . . . .      p: a message; its machine still acknowledges
    camera-1   4 4 4 4 4 1 1 1 4 4 4 4 4 4 4 4      what it sends in a slot; never nothing
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit
from assistant.facts.fact import Value, make_fact
from assistant.facts.sensor import find_blindness
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S

# A rhythm: so many messages, so near to each other, most gaps of which are no longer than so many times
# the middle one.
_MIN_MESSAGES, _MOST_GAP_S, _EVEN_GAPS, _MOST_GAPS = 30, 15.0, 2.0, 0.9
_MIN_HABIT_S = 300.0  # what somebody does for a minute or two ends without a fault
# A pause: so many times the usual gap, seconds, and times the longest pause before.
_MANY_GAPS, _MIN_PAUSE_S, _MUCH_LONGER = 6.0, 30.0, 3.0
_OTHERS_GO_ON = (
    0.5  # of the other rhythms: where fewer do, the sensor is deaf or the server is gone
)
_OF_THE_MACHINE = ("dns", "ntp", "dhcp")  # asked by the system, not by the program
# A stream: slots, bytes in the middle one, and how far most of them are from it.
_MIN_SLOTS, _MIN_BYTES, _STEADY = 30, 100_000.0, 0.15
_THIN, _MIN_THIN = 0.75, 2  # of the middle slot; slots in a row
_BACK = 0.85  # of the middle slot, before and after it

_SENTENCES = {
    "stopped": "{device} sent {server} a message about every {every_s}, {n:time} until {heard_time_s}, and then none "
    "any more, for {pause_s} up to the end.",
    "stopped, over": "{device} sent {server} a message about every {every_s}, and then none between {heard_time_s} and "
    "{back_time_s}, for {pause_s}.",
    "lives": "Its machine was there meanwhile: it still sent {pkts:packet}, so it had power and a link; its program "
    "said nothing.",
    "thin_stream": "What {device} sends {peer} steadily fell from {usual_kbit_per_s} to {low_kbit_per_s} kbit/s for "
    "{lasting_s} from {since_time_s} on.",
    "thin_streams": "The streams of {peers} to {device} fell together, all in all from {usual_kbit_per_s} to "
    "{low_kbit_per_s} kbit/s for {lasting_s} from {since_time_s} on.",
}


# ---- Programs that stop ----


def find_stopped_senders(view: TrafficView) -> list[RuleHit]:
    """Clients that sent a server messages at an even interval and then none to anybody, though it was
    there and they did not hang up: their program hangs."""
    pauses = _find_pauses(view)
    hits = []
    for one in pauses.itertuples():
        start_s, end_s = float(one.last_s), float(one.next_s)
        over = end_s < view.end_s - 1e-6
        client, server = str(one.client), str(one.server)
        if _hung_up(view, client, server, start_s, end_s, float(one.gap_s)):
            continue
        values: dict[str, Value] = {
            "device": view.name_of(client),
            "server": view.name_of(server),
            "every_s": float(one.gap_s),
            "n": int(one.messages),
            "heard_time_s": start_s,
            "back_time_s": end_s,
            "pause_s": end_s - start_s,
        }
        facts = [make_fact("stopped", _SENTENCES["stopped, over" if over else "stopped"], values)]
        sent = view.sent_by(client)
        inside = sent[(sent["since_s"] > start_s + SAMPLE_S) & (sent["until_s"] < end_s - SAMPLE_S)]
        if len(inside):
            values = values | {"pkts": int(inside["sent_pkts"].sum())}
            facts.append(make_fact("lives", _SENTENCES["lives"], values))
        slots = np.arange(int(start_s // SAMPLE_S), int(np.ceil(end_s / SAMPLE_S)))
        hits.append(RuleHit(client, "device_silent", "source", tuple(facts), (server,), slots))
    return hits


def _find_pauses(view: TrafficView) -> pd.DataFrame:
    """Pauses of even rhythms: ``client server messages gap_s last_s next_s``; others went on."""
    rows = view.exchanges
    rows = rows[~rows["outcome"].isin(["unasked", "malformed"]) & rows["client"].isin(view.own)]
    columns = ["client", "server", "protocol"]
    rows = rows.assign(refused=rows["outcome"] == "refused")
    rows = rows[[*columns, "ts", "refused"]].sort_values("ts", kind="stable")
    by_client = rows.groupby(columns, observed=True)
    each = by_client["ts"]
    known = each.agg(["size", "last"])
    gaps = rows["ts"].groupby([rows[one] for one in columns], observed=True).diff()
    by_pair = gaps.groupby([rows[one] for one in columns], observed=True)
    known["gap_s"], known["most_s"] = by_pair.median(), by_pair.quantile(_MOST_GAPS)
    even = (known["size"] >= _MIN_MESSAGES) & known["gap_s"].between(1e-3, _MOST_GAP_S)
    known = known[even & (known["most_s"] <= _EVEN_GAPS * known["gap_s"])]
    if known.empty:
        return pd.DataFrame(columns=["client", "server", "messages", "gap_s", "last_s", "next_s"])
    found = []
    for key in known.index:
        ts = each.get_group(key).to_numpy()
        waits = np.diff(np.append(ts, view.end_s))
        # Who is turned away waits before it tries again: that is no pause of its program.
        refused = by_client.get_group(key)["refused"].to_numpy()
        waits[refused | np.append(refused[1:], False)] = 0.0
        at = int(waits.argmax())
        rest = np.delete(waits, at).max() if len(waits) > 1 else 0.0
        gap_s = float(known.loc[key, "gap_s"])
        least_s = max(_MANY_GAPS * gap_s, _MIN_PAUSE_S, _MUCH_LONGER * float(rest))
        back_s, pauses = ts[at] + waits[at], bool(waits[at] >= least_s)
        found.append((key[0], key[1], at + 1, gap_s, ts[0], ts[at], back_s, pauses))
    columns = ["client", "server", "messages", "gap_s", "first_s", "last_s", "next_s", "pauses"]
    table = pd.DataFrame(found, columns=columns)
    long = table["last_s"] - table["first_s"] >= _MIN_HABIT_S
    pauses = table[table["pauses"] & long & (table["messages"] >= _MIN_MESSAGES)]
    going = [_others_go_on(table, one) for one in pauses.itertuples()]
    return pauses[np.array(going, bool)] if len(pauses) else pauses


def _others_go_on(rhythms: pd.DataFrame, pause: Any) -> bool:
    """Whether most rhythms of others went on meanwhile, those with the same server among them: else it
    is the server, or the sensor."""
    others = rhythms[rhythms["client"] != pause.client]
    stops = others["pauses"] & (others["last_s"] < pause.next_s) & (others["next_s"] > pause.last_s)
    same = others["server"] == pause.server
    most = len(others) > 0 and (~stops).mean() > _OTHERS_GO_ON
    return bool(most and (not same.any() or (~stops[same]).any()))


def _hung_up(
    view: TrafficView, client: str, server: str, start_s: float, end_s: float, gap_s: float
) -> bool:
    """Whether the client ended its session when it stopped, or tried to open one or asked others
    meanwhile, so that its program ran; or whether the server was silent."""
    talks = view.sessions
    mine = talks[(talks["client"] == client) & (talks["server"] == server)]
    near = mine["end_s"].between(start_s - gap_s, start_s + 2 * gap_s)
    closed = near & (mine["ended"] == "fin") & (mine["ended_by"] == "client")
    tried = mine["start_s"].between(start_s + gap_s, end_s - gap_s)
    asks = view.exchanges
    asks = asks[(asks["client"] == client) & ~asks["protocol"].isin(_OF_THE_MACHINE)]
    goes_on = asks["ts"].between(start_s + gap_s, end_s - gap_s)
    heard = view.sent_by(server)
    alive = ((heard["since_s"] < end_s) & (heard["until_s"] > start_s + gap_s)).any()
    blind = find_blindness(view.quality, client, view.seen_s)
    return bool(closed.any() or tried.any() or goes_on.any() or not alive or blind)


# ---- Streams that become thin ----


@dataclass(frozen=True)
class _Thin:
    sender: str
    receiver: str
    usual_bytes: float  # a slot
    low_bytes: float
    first: int  # slots
    last: int


def find_thin_streams(view: TrafficView) -> list[RuleHit]:
    """Steady streams that arrive thinner for a while and are never gone: the way carries less than
    they need, or the sender has less to send."""
    thin = _find_thin(view)
    hits, told = [], set[int]()
    for i, one in enumerate(thin):
        if i in told:
            continue
        fellows = [
            j
            for j, other in enumerate(thin)
            if other.receiver == one.receiver
            and other.first <= one.last
            and other.last >= one.first
        ]
        told |= set(fellows)
        hits.append(_make_thin(view, [thin[j] for j in fellows]))
    return hits


def _find_thin(view: TrafficView) -> list[_Thin]:
    rows = view.flow_slots
    sides = [
        rows[[here, there, "slot", f"{here}_bytes"]].set_axis(
            ["sender", "receiver", "slot", "bytes"], axis=1
        )
        for here, there in (("src", "dst"), ("dst", "src"))
    ]
    sent = pd.concat(sides, ignore_index=True)
    sent = sent[sent["sender"].isin(view.local) & sent["receiver"].isin(view.local)]
    each = sent.groupby(["sender", "receiver", "slot"], observed=True)["bytes"].sum().astype(float)
    by_pair = each.groupby(level=["sender", "receiver"])
    known = by_pair.agg(["size", "median"])
    low, high = by_pair.quantile(0.25), by_pair.quantile(0.75)
    steady = (high - low) <= _STEADY * known["median"]
    known = known[(known["size"] >= _MIN_SLOTS) & (known["median"] >= _MIN_BYTES) & steady]
    found = []
    for sender, receiver in known.index:
        slots = each.loc[(sender, receiver)]
        usual = float(known.loc[(sender, receiver), "median"])
        found += _find_low(str(sender), str(receiver), slots, usual)
    return found


def _find_low(sender: str, receiver: str, slots: pd.Series, usual: float) -> list[_Thin]:
    """Runs of thin slots between full ones; what ends or begins in nothing is another thing."""
    whole = slots.reindex(np.arange(slots.index[0], slots.index[-1] + 1), fill_value=0.0)
    share = whole.to_numpy() / usual
    low = share <= _THIN
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(int)))
    runs = zip(edges[::2], edges[1::2], strict=True)
    return [
        _Thin(
            sender, receiver, usual, float(np.median(whole.to_numpy()[first:end])),
            int(whole.index[first]), int(whole.index[end - 1]),
        )
        for first, end in runs
        if end - first >= _MIN_THIN
        and first >= 1
        and end < len(share)
        and share[first:end].min() > 0
        and min(share[first - 1], share[end]) >= _BACK
    ]  # fmt: skip


def _make_thin(view: TrafficView, fellows: list[_Thin]) -> RuleHit:
    one = max(fellows, key=lambda thin: thin.usual_bytes)
    first, last = min(each.first for each in fellows), max(each.last for each in fellows)
    several = len(fellows) > 1
    to_kbit = 8e-3 / SAMPLE_S
    values: dict[str, Value] = {
        "device": view.name_of(one.receiver if several else one.sender),
        "peer": view.name_of(one.receiver),
        "peers": view.names_of([each.sender for each in fellows]),
        "usual_kbit_per_s": round(sum(each.usual_bytes for each in fellows) * to_kbit),
        "low_kbit_per_s": round(sum(each.low_bytes for each in fellows) * to_kbit),
        "since_time_s": float(first) * SAMPLE_S,
        "lasting_s": float(last - first + 1) * SAMPLE_S,
    }
    kind = "thin_streams" if several else "thin_stream"
    fact = make_fact(kind, _SENTENCES[kind], values)
    device = one.receiver if several else one.sender
    peers = tuple(each.sender for each in fellows) if several else (one.receiver,)
    return RuleHit(device, "congestion", "both", (fact,), peers, np.arange(first, last + 1))
