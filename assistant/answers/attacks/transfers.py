"""What was transferred at a time, or by a device: a backup, a firmware upload, a copy; also where no incident is."""

import re
from dataclasses import dataclass

from assistant.answers.asked import Answer, Asked, Reply, begin, say
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.choosing import END, measure_part
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.devices import is_known_port, name_service
from assistant.facts.fact import Fact, Value
from assistant.questions.plain import MAX_CHARS
from assistant.questions.times import Span
from traffic.plant import is_group

_LEAST_BYTES, _SMALL_BYTES = 100_000, 10_000
_GAP_S = 30.0  # a transfer of several connections pauses for less
_MOST_SHARE = 0.5  # of the capture: what lasts longer is what always flows, a video stream
_MOST, _MOST_FLOWS = 5, 200
_MINUTE_S = 60.0

TRANSFER = re.compile(
    r"\b(?:(?:big|large|huge|long) (?:\w+ )?(?:transfers?|uploads?|downloads?|cop(?:y|ies)|files?|data|traffic)"
    r"|transfers?|uploads?|uploaded|uploading|backups?|back-?ups?|firmware(?: ?-?(?:upload|update|download))?"
    r"|cop(?:y|ied|ies)|file transfers?|uebertragung\w*|hochgeladen|sicherung\w*|transferencia\w*|copia\w*"
    r"|(?:went|goes|go|gone|going|sent) out|(?:leave|leaves|left|leaving) (?:the|our) (?:plant|network|site|house))\b"
)
_TO_IT = re.compile(r"\b(?:to|into|onto|on|auf|en) dev\b")
_IT = re.compile(r"\b(?:it|he|she|its|er|sie)\b")
# "how big was the backup?" is asked of the largest that there was.
_SIZE = re.compile(
    r"\b(?:how (?:big|large|much|many)|size|wie ?(?:gross|viele?)|cuant[oa]s?)\b.*\b(?:backup|firmware)\b"
)
_OUT = re.compile(
    r"\b(?:went|goes|go|gone|going|sent) out\b|(?<!firmware )(?<!firmware-)\bupload(?:s|ed|ing)?\b|\b(?:leave"
    r"|leaves|left|leaving) (?:the|our)\b"
)
# These ask for something else, whatever transfer they name.
_OF_OTHERS = frozenset(
    ("manual", "code", "before", "feedback", "help", "checks", "writers", "since", "consequence")
)


@dataclass(frozen=True)
class _Transfer:
    """What one machine sent another at a stretch, over one service."""

    sender: str
    receiver: str
    proto: str
    port: int
    sent_bytes: int
    both_bytes: int
    start_s: float
    end_s: float


def answer_transfer(asked: Asked) -> Answer | None:
    """The largest transfer that a question means by its time, its device or both; None where it names none,
    or an incident of that time tells more."""
    plain, query = asked.query.plain, asked.query
    words = asked.question[:MAX_CHARS].lower()  # a part, "who", does not name it again
    if not TRANSFER.search(words) or (query.kind in _OF_OTHERS and not query.guessed):
        return None
    if not query.names_device and not _IT.search(
        plain
    ):  # of the plant, whatever the talk was about
        asked = asked.about("", asked.span)
    if asked.span is None and not asked.device and not _SIZE.search(words):
        return None
    if {"why", "most"} & set(plain.split()):
        return None
    found = _find_transfers(asked, asked.span, out=bool(_OUT.search(words)))
    if (
        not found and asked.polar and query.names_device
    ):  # a small file is one too, at a port of its own
        small = _find_transfers(asked, asked.span, out=False, least_bytes=_SMALL_BYTES)
        to_it = bool(_TO_IT.search(plain))
        found = [
            one
            for one in small
            if not is_known_port(one.port) and (one.receiver == asked.device or not to_it)
        ]
    if not found:
        return _deny(asked, asked.span) if asked.span is not None else None
    first, *others = (_describe(asked, one) for one in found[:_MOST])
    known = _find_incident(asked, found[0])
    beside = known.facts if known else (say("transfer_no_incident"),)
    reply: Reply = "unclear" if asked.polar or asked.either else ""
    facts = (*beside, _tell_before(asked, found[0]), *others)
    return Answer(begin(first, reply), facts, about=_choose_about(asked, found[0]))


def _choose_about(asked: Asked, first: _Transfer) -> str:
    ends = (first.sender, first.receiver)
    return asked.device if asked.device in ends else first.sender


def _find_transfers(
    asked: Asked, span: Span | None, *, out: bool, least_bytes: int = _LEAST_BYTES
) -> list[_Transfer]:
    """Transfers, or only those that left the plant, the largest first; those that went on in a time, at the
    minute that was named where one was."""
    view = asked.view
    rows = view.flow_slots
    rows = rows[rows["proto"].isin(["tcp", "udp"]) & ~rows["dst"].map(is_group).astype(bool)]
    for one in filter(None, (asked.device, asked.second)):
        rows = rows[(rows["src"] == one) | (rows["dst"] == one)]
    flows = rows.groupby("flow", sort=False).agg(
        src=("src", "first"), dst=("dst", "first"), proto=("proto", "first"), port=("port", "first"),
        out=("src_bytes", "sum"), back=("dst_bytes", "sum"), start_s=("since_s", "min"), end_s=("until_s", "max"),
    )  # fmt: skip
    flows = flows.sort_values(["src", "dst", "proto", "port", "start_s"])
    pair = ["src", "dst", "proto", "port"]
    so_far = flows.groupby(pair, observed=True)["end_s"].cummax()
    gap_s = flows["start_s"] - so_far.groupby([flows[one] for one in pair], observed=True).shift()
    flows["burst"] = (~(gap_s <= _GAP_S)).cumsum()
    bursts = flows.groupby("burst").agg(
        src=("src", "first"), dst=("dst", "first"), proto=("proto", "first"), port=("port", "first"),
        out=("out", "sum"), back=("back", "sum"), start_s=("start_s", "min"), end_s=("end_s", "max"),
        flows=("out", "size"),
    )  # fmt: skip
    # A flood and a scan carry no file: many connections, or nothing that comes back.
    bursts = bursts[(bursts["flows"] <= _MOST_FLOWS) & (bursts["out"] > 0) & (bursts["back"] > 0)]
    forth = bursts["out"] >= bursts["back"]
    bursts["sender"] = bursts["src"].where(forth, bursts["dst"])
    bursts["receiver"] = bursts["dst"].where(forth, bursts["src"])
    bursts["sent"] = bursts[["out", "back"]].max(axis=1)
    brief = bursts["end_s"] - bursts["start_s"] <= _MOST_SHARE * view.span_s
    bursts = bursts[brief & (bursts["sent"] >= least_bytes)]
    if out:
        left = bursts[~bursts["receiver"].isin(view.own | view.local)]
        bursts = left if len(left) or span is not None else bursts
    if span is not None:
        start_s, end_s = span.start_s, span.end_s
        near = (bursts["start_s"] <= end_s) & (bursts["end_s"] >= start_s)
        at_s = start_s if span.at_s is None else span.at_s
        exact = near & (bursts["start_s"] < at_s + _MINUTE_S) & (bursts["end_s"] >= at_s)
        bursts = bursts[exact] if span.at_s is not None and exact.any() else bursts[near]
    return [
        _Transfer(str(row["sender"]), str(row["receiver"]), str(row["proto"]), int(row["port"]), int(row["sent"]),
                  int(row["out"] + row["back"]), float(row["start_s"]), float(row["end_s"]))
        for _, row in bursts.sort_values("sent", ascending=False, kind="stable").iterrows()
    ]  # fmt: skip


def _describe(asked: Asked, one: _Transfer) -> Fact:
    view, plant, ends = asked.view, asked.analysis.plant, {one.sender, one.receiver}
    known = {each.address for each in plant.devices} if plant else view.own | view.local
    inside = ends <= view.own | view.local
    around = "plant" if ends <= known else "stranger" if inside else "outside"
    return say(
        "transfer", sender=view.name_of(one.sender), receiver=view.name_of(one.receiver),
        service=name_service(one.proto, one.port), sent_bytes=one.sent_bytes, start_time_s=one.start_s,
        end_time_s=one.end_s, around=say(f"transfer_around_{around}").text,
    )  # fmt: skip


def _find_incident(asked: Asked, one: _Transfer) -> Incident | None:
    """The incident that is about the transfer: of both ends, in its time, and no fault that both only notice."""
    return next(
        (
            each
            for each in worst_first(list(asked.analysis.incidents))
            if each.facts
            and min(measure_part(each, end, asked.view) for end in (one.sender, one.receiver))
            >= END
            and find_start(each)[0] <= one.end_s
            and find_end(each) >= one.start_s
        ),
        None,
    )


def _tell_before(asked: Asked, one: _Transfer) -> Fact:
    """What else the two exchanged: who never did before does something new."""
    rows = asked.view.flows_of(one.sender)
    rows = rows[rows["other"] == one.receiver]
    more_bytes = int((rows["sent_bytes"] + rows["got_bytes"]).sum()) - one.both_bytes
    first_s = float(rows["since_s"].min())
    kind = "transfer_before" if more_bytes > 0 else "transfer_first"
    return say(kind, both_bytes=more_bytes, first_time_s=first_s)


def _deny(asked: Asked, span: Span) -> Answer:
    times: dict[str, Value] = {
        "start_time_s": max(span.start_s, asked.view.start_s),
        "end_time_s": min(span.end_s, asked.view.end_s),
    }
    named = say("transfers_none_times", **times).text
    line = say("transfers_none", asked.reply(False), least_bytes=_LEAST_BYTES, times=named, **times)
    return Answer(line, asked.sensor, standing="inconclusive")
