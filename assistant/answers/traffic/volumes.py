"""How much traffic: who moves the most, what left the plant, and when it was busiest."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.plant.descriptions import describe_talks
from assistant.facts.devices import name_service
from assistant.facts.fact import Value, listed
from traffic.capture import SAMPLE_S
from traffic.plant import is_group

_MOST_TALKERS = 5
_RANKED = re.compile(r"\b(?:most|busiest|largest|highest|meiste\w*|haeufigsten|mas)\b")
_SUFFERED = re.compile(
    r"\b(?:is|are|was|were|gets?|got|being|been|receives?|received) (?:the )?(?:most |being )?"
    r"(?:\w+ed|read|written|the most|most|requests|polls|questions)\b"
)
PEAK = re.compile(
    r"\b(busiest|most (?:active|busy|in)|peak\w*|maxim\w*|highest|spikes?|spitze\w*|hoechst\w*|pico\w*)\b"
)


def answer_talkers(asked: Asked) -> Answer:
    """Who moves the most bytes, the largest first; of one device, with whom."""
    view = asked.view
    if TO_ALL.search(asked.query.plain):
        return _rank_broadcasts(asked)
    if asked.device in view.local and not asked.second:
        return _busiest_partners(asked)
    rows = pd.concat([view.flows_of(one) for one in sorted(view.local)], keys=sorted(view.local))
    each = rows.groupby(level=0)[["sent_bytes", "got_bytes"]].sum()
    each["both"] = each.sum(axis=1)
    each = each[each.index.isin(asked.alike)] if asked.alike else each
    each = each.sort_values("both", ascending=False).head(_MOST_TALKERS)
    facts = tuple(
        say(
            "talker", name=view.name_of(str(one)), both_bytes=int(row["both"]),
            sent_bytes=int(row["sent_bytes"]), got_bytes=int(row["got_bytes"]),
        )
        for one, row in each.iterrows()
    )  # fmt: skip
    line = say(
        "talkers", names=view.name_of(str(each.index[0])), both_bytes=int(each["both"].iloc[0]),
        all_bytes=int(asked.talks["both_bytes"].sum()), span_s=view.span_s,
    )  # fmt: skip
    return Answer(line, facts)


TO_ALL = re.compile(r"\b(?:broad|multi|rund)(?:cast|send)\w*|\brundruf\w*|\bdifusion\b")


def _rank_broadcasts(asked: Asked) -> Answer:
    """Who sends most to addresses of groups, and over what."""
    rows = asked.talks
    rows = rows[rows["dst"].map(is_group).astype(bool)]
    if rows.empty:
        return Answer(say("broadcasts_none"), asked.sensor)
    services = [
        name_service(str(proto), int(port))
        for proto, port in zip(rows["proto"], rows["port"], strict=True)
    ]
    rows = rows.assign(service=services)
    each = rows.groupby("src").agg(pkts=("pkts", "sum"), services=("service", "unique"))
    each = each.sort_values("pkts", ascending=False, kind="stable")
    facts = tuple(
        say("broadcast_one", name=asked.view.name_of(str(one)), pkts=int(row["pkts"]),
            services=listed(row["services"], 4))
        for one, row in each.head(_MOST_TALKERS).iterrows()
    )  # fmt: skip
    line = say(
        "broadcasts", names=asked.view.name_of(str(each.index[0])), n=int(each["pkts"].iloc[0]),
        all=int(each["pkts"].sum()), span_s=asked.view.span_s,
    )  # fmt: skip
    return Answer(line, facts)


def rank_requests(asked: Asked, rows: pd.DataFrame, measure: str) -> Answer | None:
    """Who asks most, or is asked most; None where that is not asked.

    Args:
        asked: the question.
        rows: the requests that count: refused ones, where refusals are asked about.
        measure: what they are, "requests" or another key of ``rank_…`` in the sentences.
    """
    plain = asked.query.plain
    ranked = plain.startswith(("who", "which", "what")) and _RANKED.search(plain)
    if not ranked or rows.empty or asked.device:
        return None
    suffers = bool(_SUFFERED.search(plain))
    # Who is refused most is a client, who is asked most a server.
    served = suffers == (measure in ("requests", "writes"))
    order = rows["server" if served else "client"].astype("str").value_counts()
    order = order[[one in asked.alike for one in order.index]] if asked.alike else order
    if order.empty:
        return None
    names = asked.view.name_of(str(order.index[0]))
    kind = f"rank_{measure}_{'server' if served else 'client'}"
    line = say(kind, name=names, n=int(order.iloc[0]), asked=len(rows))
    facts = tuple(
        say("rank_one", name=asked.view.name_of(str(one)), n=int(n))
        for one, n in order.head(_MOST_TALKERS).items()
    )
    return Answer(line, facts)


def _busiest_partners(asked: Asked) -> Answer:
    """With whom a device exchanges the most bytes, and how much of it in its busiest ten seconds."""
    view = asked.view
    rows = view.flows_of(asked.device)
    both = rows["sent_bytes"] + rows["got_bytes"]
    if not both.sum() > 0:
        return Answer(say("nobody_talk", name=asked.name, seen_s=view.span_s, read=0))
    each = both.groupby(rows["other"]).sum().sort_values(ascending=False)
    per_slot = both.groupby(rows["slot"]).sum()
    at_peak = rows["slot"] == per_slot.idxmax()
    then = both[at_peak].groupby(rows.loc[at_peak, "other"]).sum()
    line = say(
        "partner_most", name=asked.name, peer=view.name_of(str(each.index[0])),
        both_bytes=int(each.iloc[0]), part_share=float(each.iloc[0] / each.sum()), span_s=view.span_s,
    )  # fmt: skip
    peak = say(
        "partner_peak", peer=view.name_of(str(then.idxmax())), **_name_peak(per_slot),
        part_share=float(then.max() / then.sum()),
    )  # fmt: skip
    others = (
        say("partner", peer=view.name_of(str(one)), both_bytes=int(n), part_share=float(n / each.sum()))
        for one, n in each.iloc[1:_MOST_TALKERS].items()
    )  # fmt: skip
    return Answer(line, (peak, *others))


def answer_left(asked: Asked) -> Answer:
    """What went to addresses outside, and to which the most."""
    view = asked.view
    named = [one for one in (asked.device, asked.second) if one]
    mine = [one for one in named if one in view.local] or sorted(view.local)
    if not mine:
        return Answer(say("devices_none"), asked.known)
    rows = pd.concat([view.flows_of(one) for one in mine], keys=mine, names=["device"])
    rows = rows[~rows["other"].isin(view.own | view.local)].reset_index("device")
    rows = rows[~rows["other"].map(is_group).astype(bool)]
    outside = [one for one in named if one not in view.local]
    if outside:
        rows = rows[rows["other"].isin(outside)]
    if rows.empty:
        name = view.names_of(outside) if outside else "an address outside the plant"
        return Answer(say("left_nothing", name=name), asked.sensor)
    each = rows.groupby(["device", "other"])[["sent_bytes", "got_bytes"]].sum()
    each = each.sort_values("sent_bytes", ascending=False)
    facts = tuple(
        say(
            "left_by", name=view.name_of(str(one)), peer=view.name_of(str(other)),
            sent_bytes=int(row["sent_bytes"]), got_bytes=int(row["got_bytes"]),
        )
        for (one, other), row in each.head(_MOST_TALKERS).iterrows()
    )  # fmt: skip
    line = say(
        "left_plant", sent_bytes=int(each["sent_bytes"].sum()), got_bytes=int(each["got_bytes"].sum()),
        n=int(rows["other"].nunique()), span_s=view.span_s,
    )  # fmt: skip
    return Answer(line, (*facts, *asked.sensor))


def _name_peak(per_slot: pd.Series) -> dict[str, Value]:
    """The ten seconds with the most bytes."""
    return {
        "sample_s": SAMPLE_S,
        "peak_mbit_per_s": float(per_slot.max()) * 8e-7,
        "at_time_s": float(per_slot.idxmax()) * SAMPLE_S,
    }


_PER = re.compile(r"\b(?:per|a|each|every|pro|por) (second|minute|hour|day)\b")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


def answer_volume(asked: Asked) -> Answer:
    """How much a device or the plant exchanges, in all, at the peak or per time."""
    per = _PER.search(asked.query.plain)
    if per and len(asked.talks):
        span_s, unit = max(asked.view.span_s, 1.0), per[1]
        all_bytes = int(asked.talks["both_bytes"].sum())
        mean_bytes = all_bytes * _SECONDS[unit] / span_s
        return Answer(say("traffic_per", name=asked.name, mean_bytes=mean_bytes, unit=unit,
                          all_bytes=all_bytes, span_s=span_s))  # fmt: skip
    view = asked.view
    if asked.device and not asked.second:
        rows = view.flows_of(asked.device)
        if rows.empty:
            return Answer(say("nobody_talk", name=asked.name, seen_s=view.span_s, read=0))
        got_pkts = int((rows["src_pkts"] + rows["dst_pkts"] - rows["sent_pkts"]).sum())
        sent_pkts, sent, got = (
            int(rows[one].sum()) for one in ("sent_pkts", "sent_bytes", "got_bytes")
        )
        span_s = max(float(rows["until_s"].max() - rows["since_s"].min()), 1.0)
        line = say(
            "traffic_of", name=asked.name, sent_pkts=sent_pkts, got_pkts=got_pkts, sent_bytes=sent, got_bytes=got,
            pkts_per_s=(sent_pkts + got_pkts) / span_s, mean_bytes=(sent + got) / span_s, span_s=span_s,
        )  # fmt: skip
        per_slot = (rows["sent_bytes"] + rows["got_bytes"]).groupby(rows["slot"]).sum()
        peak = say("traffic_peak", **_name_peak(per_slot))
        if PEAK.search(asked.query.plain):
            return Answer(peak, (line,))
        return Answer(line, (peak,))
    talks = asked.talks
    if asked.second and asked.device in view.local and len(talks):
        return _between(asked)
    if PEAK.search(asked.query.plain) and len(view.flow_slots):
        rows = view.flow_slots
        per_slot = (rows["src_bytes"] + rows["dst_bytes"]).groupby(rows["slot"]).sum()
        middle = float(per_slot.median()) * 8e-7
        return Answer(
            say("traffic_peak_all", **_name_peak(per_slot), median_mbit_per_s=middle), asked.sensor
        )
    line = say(
        "traffic_all", pkts=int(talks["pkts"].sum()), both_bytes=int(talks["both_bytes"].sum()),
        span_s=view.span_s, n=len(talks), name=asked.name,
    )  # fmt: skip
    return Answer(line)


def _between(asked: Asked) -> Answer:
    """What one device sent another, and received from it."""
    rows = asked.view.flows_of(asked.device)
    rows = rows[rows["other"] == asked.second]
    both = rows["src_pkts"] + rows["dst_pkts"]
    line = say(
        "traffic_between", name=asked.name, peer=asked.view.name_of(asked.second), span_s=asked.view.span_s,
        sent_bytes=int(rows["sent_bytes"].sum()), got_bytes=int(rows["got_bytes"].sum()),
        sent_pkts=int(rows["sent_pkts"].sum()), got_pkts=int((both - rows["sent_pkts"]).sum()),
    )  # fmt: skip
    return Answer(line, tuple(describe_talks(asked.talks, asked.view)))
