"""What changed: two periods of one capture, or two captures, side by side.

Only what was seen is compared: who is there, who talks to whom, who writes, what is refused, how
long answers take, how much is sent. A shorter period sees less, so that what is missing in it is
said only where it would have come up by its own rhythm.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, find_incidents, say, tell_incident
from assistant.answers.plant.past import find_failures
from assistant.answers.traffic.partners import answer_who
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.devices import name_service
from assistant.facts.fact import Fact, Value, listed
from assistant.facts.requests import OUTCOMES
from assistant.facts.traffic_view import TrafficView
from assistant.questions.plain import DEVICE
from traffic.pcap.protocols import spoken_name
from traffic.plant import is_group

_MOST = 8
_FACTOR = 2.0  # a rate or a delay that is so many times what it was has changed
_LEAST_PKTS, _LEAST_REQUESTS = 20, 10
_LEAST_SHARE = 0.1  # of a capture: less of it shows no rhythm
_SHARE = 0.1  # of requests that fail, more or less than before
_LEAST_BEFORE_S = 30.0  # of recording that a later time can be compared with
_ENDS = ["src", "dst", "proto", "port"]
_ASKS = ["client", "server", "protocol"]


@dataclass(frozen=True)
class Period:
    """What was seen in some time.

    Attributes:
        span_s: how long.
        devices: own addresses that sent something.
        talks: by ``src dst proto port``: ``pkts both_bytes`` and of connections ``tried failed``.
        requests: by ``client server protocol``: ``asked failed delay_s``.
        writers: pairs of client and server.
    """

    span_s: float
    devices: frozenset[str]
    talks: pd.DataFrame
    requests: pd.DataFrame
    writers: frozenset[tuple[str, str]]


def summarise_period(view: TrafficView, start_s: float, end_s: float) -> Period:
    """What a capture shows between two moments."""
    rows = view.flow_slots
    rows = rows[(rows["since_s"] < end_s) & (rows["until_s"] >= start_s)]
    tried = rows["syns"] > 0
    rows = rows.assign(
        pkts=rows["src_pkts"] + rows["dst_pkts"],
        both_bytes=rows["src_bytes"] + rows["dst_bytes"],
        tried=tried,
        failed=tried & (~rows["answered"] | rows["refused"]),
    )
    sent = {*rows.loc[rows["src_pkts"] > 0, "src"], *rows.loc[rows["dst_pkts"] > 0, "dst"]}
    asked = view.exchanges
    asked = asked[(asked["ts"] >= start_s) & (asked["ts"] < end_s)]
    judged = asked[asked["outcome"].isin(OUTCOMES)]
    judged = judged.assign(failed=judged["outcome"] != "answered")
    requests = judged.groupby(_ASKS, observed=True).agg(
        asked=("ts", "size"), failed=("failed", "sum"), delay_s=("delay_s", "median")
    )
    writes = asked[asked["kind"].isin(["write", "control"])]
    return Period(
        end_s - start_s,
        frozenset(str(one) for one in sent if one in view.own and not is_group(str(one))),
        rows.groupby(_ENDS)[["pkts", "both_bytes", "tried", "failed"]].sum(),
        requests,
        frozenset(zip(writes["client"].astype("str"), writes["server"].astype("str"), strict=True)),
    )


def compare_periods(before: Period, after: Period, view: TrafficView) -> list[Fact]:
    """What is different after, the gravest first; empty where nothing is.

    Args:
        before, after: what was seen.
        view: names addresses.
    """
    return [
        *_compare_writers(before, after, view),
        *_compare_requests(before, after, view),
        *_compare_devices(before, after, view),
        *_compare_talks(before, after, view),
    ]


def _compare_writers(before: Period, after: Period, view: TrafficView) -> list[Fact]:
    new = sorted(after.writers - before.writers)[:_MOST]
    return [say("changed_writer", client=view.name_of(a), server=view.name_of(b)) for a, b in new]


def _compare_devices(before: Period, after: Period, view: TrafficView) -> list[Fact]:
    facts = []
    for kind, devices in (
        ("changed_new", after.devices - before.devices),
        ("changed_gone", before.devices - after.devices),
    ):
        if devices:
            names = listed(map(view.name_of, sorted(devices)), _MOST)
            facts.append(say(kind, n=len(devices), names=names))
    return facts


def _compare_requests(before: Period, after: Period, view: TrafficView) -> list[Fact]:
    both = before.requests.add_suffix("_before").join(
        after.requests.add_suffix("_after"), how="inner"
    )
    both = both[
        (both["asked_before"] >= _LEAST_REQUESTS) & (both["asked_after"] >= _LEAST_REQUESTS)
    ]
    facts = []
    for (client, server, protocol), row in both.iterrows():
        ends = {"client": view.name_of(str(client)), "server": view.name_of(str(server))}
        was, now = (row[f"failed_{one}"] / row[f"asked_{one}"] for one in ("before", "after"))
        if abs(now - was) >= _SHARE:
            facts.append(
                say(
                    "changed_failures",
                    **ends,
                    protocol=spoken_name(str(protocol)),
                    was_share=was,
                    now_share=now,
                )
            )
        was, now = row["delay_s_before"], row["delay_s_after"]
        if min(was, now) > 0 and max(was, now) >= _FACTOR * min(was, now) and max(was, now) > 0.01:
            facts.append(say("changed_delay", **ends, was_s=float(was), now_s=float(now)))
    return facts[:_MOST]


def _compare_talks(before: Period, after: Period, view: TrafficView) -> list[Fact]:
    facts = []
    new = after.talks[~after.talks.index.isin(before.talks.index)]
    for (src, dst, proto, port), row in _busiest(new):
        service = name_service(str(proto), int(port))
        ends = {"source": view.name_of(str(src)), "target": view.name_of(str(dst))}
        tried, failed = int(row["tried"]), int(row["failed"])
        kind = "changed_talk_fails" if failed else "changed_talk"
        values = {"pkts": int(row["pkts"]), "tried": tried, "failed": failed}
        facts.append(say(kind, **ends, service=service, **values))
    gone = before.talks[~before.talks.index.isin(after.talks.index)]
    # By its own rhythm it would have come again.
    gone = gone[gone["pkts"] * after.span_s / max(before.span_s, 1.0) >= _LEAST_PKTS]
    for (src, dst, proto, port), row in _busiest(gone):
        service = name_service(str(proto), int(port))
        ends = {"source": view.name_of(str(src)), "target": view.name_of(str(dst))}
        facts.append(say("changed_talk_gone", **ends, service=service, pkts=int(row["pkts"])))
    both = before.talks.add_suffix("_before").join(after.talks.add_suffix("_after"), how="inner")
    both = both[(both["pkts_before"] >= _LEAST_PKTS) | (both["pkts_after"] >= _LEAST_PKTS)]
    facts += _compare_failures(both, view)
    was = both["both_bytes_before"] / max(before.span_s, 1.0)
    now = both["both_bytes_after"] / max(after.span_s, 1.0)
    factor = (now / was.clip(lower=1e-9)).where(now >= was, was / now.clip(lower=1e-9))
    for key in factor[factor >= _FACTOR].sort_values(ascending=False).index[:_MOST]:
        src, dst, proto, port = key
        facts.append(
            say(
                "changed_volume",
                source=view.name_of(str(src)),
                target=view.name_of(str(dst)),
                service=name_service(str(proto), int(port)),
                was_bytes=float(was[key]),
                now_bytes=float(now[key]),
            )
        )
    return facts


def _compare_failures(both: pd.DataFrame, view: TrafficView) -> list[Fact]:
    """Connections that fail now and did not before, or the other way round."""
    before, after = (
        both[f"failed_{one}"] / both[f"tried_{one}"].clip(lower=1) for one in ("before", "after")
    )
    many = both["tried_after"] >= 3
    facts = []
    for key in both.index[many & ((after - before).abs() >= 0.5)][:_MOST]:
        src, dst, proto, port = key
        service = name_service(str(proto), int(port))
        ends = {"source": view.name_of(str(src)), "target": view.name_of(str(dst))}
        shares = {"now_share": float(after[key]), "was_share": float(before[key])}
        facts.append(say("changed_refused", "", None, **ends, service=service, **shares))
    return facts


def _busiest(talks: pd.DataFrame) -> Sequence[tuple[tuple, pd.Series]]:
    order = talks.sort_values("pkts", ascending=False, kind="stable").head(_MOST)
    return list(order.iterrows())  # type: ignore[arg-type]


def answer_changed(asked: Asked) -> Answer:
    """What is different since the incident began, else in the second half of the capture."""
    view, incident = asked.view, asked.incident
    if asks_for_trend(asked):
        return answer_trend(asked)
    if asked.device and _IS_NEW.search(asked.query.plain) and (seen := say_first(asked)):
        return seen
    if asked.device and _CHANGES.search(asked.query.plain):  # "did ws-1 change anything?"
        query = replace(asked.query, relation="write", active=True)
        return answer_who(replace(asked, query=query))
    between = find_incidents(asked, ("spoofing",))
    if between and asked.polar and _ON_THE_WAY.search(asked.query.plain):
        line = say("attack_reach", "unclear", n=len(between))
        return Answer(line, between[0].facts, standing="inconclusive")
    split_s = find_start(incident)[0] if incident else (view.start_s + view.end_s) / 2
    end_s, least_s = view.end_s, _LEAST_SHARE * view.seen_s
    if asked.span is not None:  # "what changed at 14:05?", "… between 14:05 and 14:10?"
        split_s = asked.span.at_s or asked.span.start_s
        end_s = view.end_s if asked.span.at_s else min(asked.span.end_s, view.end_s)
    elif not view.start_s + least_s < split_s < view.end_s - least_s:
        split_s = (view.start_s + view.end_s) / 2
    if split_s - view.start_s < _LEAST_BEFORE_S and asked.span is not None:
        line = say(
            "changed_too_early",
            "unclear",
            split_time_s=split_s,
            before_s=max(split_s - view.start_s, 0.0),
        )
        return Answer(line, asked.known, standing="inconclusive")
    before = summarise_period(view, view.start_s, split_s)
    after = summarise_period(view, split_s, end_s)
    facts = compare_periods(before, after, view)
    if asked.device:
        facts = [fact for fact in facts if asked.name in fact.values.values()]
    values = {"split_time_s": split_s, "before_s": before.span_s, "after_s": after.span_s}
    if not facts and incident is not None and incident.facts:
        return tell_incident(incident)  # too small for a table, not for a rule
    kind = "changed" if facts else "changed_nothing"
    # That it goes otherwise than before is no sign that somebody changed something.
    reply = "" if _BY_SOMEBODY.search(asked.query.plain) else asked.reply(bool(facts))
    line = say(kind, reply, name=asked.name, n=len(facts), **values)
    return Answer(line, tuple(facts))


# Whether who stands between two altered what passes, no copy of it at one place tells.
_ON_THE_WAY = re.compile(
    r"\b(?:chang|alter|modif|manipulat|tamper|forg|fals)\w* .*\b(?:values?|data|messages?|packets?|traffic"
    r"|anything|something|on the way)\b"
)
_BY_SOMEBODY = re.compile(r"\b(?:some|any)(?:body|one)\b|\b(?:who|we|they|jemand|alguien)\b")
_IS_NEW = re.compile(rf"^(?:and )?(?:is|was|are) {DEVICE} (?:\w+ )?(?:new|there before)\b")
_CHANGES = re.compile(
    rf"\bby {DEVICE}\b|^(?:and |what )?(?:did|has|does|is) {DEVICE} (?:\w+ )?(?:chang|alter|modif|reconfigur)\w*"
)
_LEARNS_S = 60.0  # who sends within the first minute may have been there before


def say_first(asked: Asked) -> Answer | None:
    """When a device was first seen; that it is new only where the capture began well before."""
    sent = asked.view.sent_by(asked.device)
    if sent.empty:
        return None
    first_s = float(sent["since_s"].min())
    after_s = first_s - asked.view.start_s
    late = after_s >= _LEARNS_S
    values: dict[str, Value] = {"name": asked.name, "first_time_s": first_s, "after_s": after_s}
    line = say("new_late" if late else "new_unknown", "yes" if late else "unclear", **values)
    return Answer(line, asked.known)


_TREND = re.compile(
    r"\b(wors\w*|better|increas\w*|decreas\w*|grow\w*|more often|less often|improv\w*|trend|schlimmer|besser"
    r"|mehr werden|nimmt (zu|ab)|peor|mejor\w*|empeora\w*)\b"
)
_BETTER = re.compile(r"\b(better|decreas\w*|less often|improv\w*|besser|nimmt ab|mejor\w*)\b")
_MORE = 1.5  # so many times as many is more
_FEWEST = 6  # failures that show a trend


def asks_for_trend(asked: Asked) -> bool:
    """Whether it is asked how something grows: "does it get worse?"."""
    return bool(_TREND.search(asked.query.plain))


def answer_trend(asked: Asked) -> Answer:
    """Whether what fails fails more often: the second half of the incident against the first."""
    incident = asked.incident
    if incident is None:
        line = say("trend_nothing", asked.reply(False), name=asked.name)
        return Answer(line, asked.found.facts)
    start_s, end_s = find_start(incident)[0], max(find_end(incident), incident.end_s)
    name = asked.view.name_of(incident.device)
    ts = find_failures(asked, incident)
    if len(ts) < _FEWEST or end_s <= start_s:
        return Answer(say("trend_unknown", "unclear", name=name), incident.facts)
    middle_s = (start_s + end_s) / 2
    before, after = int((ts < middle_s).sum()), int((ts >= middle_s).sum())
    worse, better = after >= _MORE * before, before >= _MORE * after
    kind = "trend_more" if worse else "trend_less" if better else "trend_same"
    kind += "_lost" if incident.label == "packet_loss" else ""
    asked_for = better if _BETTER.search(asked.query.plain) else worse
    line = say(
        kind, asked.reply(asked_for), name=name, before=before, after=after, start_time_s=start_s,
        middle_time_s=middle_s, end_time_s=end_s,
    )  # fmt: skip
    return Answer(line, incident.facts)


def compare_captures(before: TrafficView, after: TrafficView) -> tuple[Fact, ...]:
    """One line on how two captures differ, then each difference."""
    was, now = (summarise_period(one, one.start_s, one.end_s) for one in (before, after))
    facts = compare_periods(was, now, after)
    kind = "compared" if facts else "compared_same"
    line = say(kind, n=len(facts), before_s=was.span_s, after_s=now.span_s)
    return (line, *facts)
