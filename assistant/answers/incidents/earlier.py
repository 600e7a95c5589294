"""What a machine did earlier in the capture, before what is talked about: "and before that?"."""

import re

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.plant.descriptions import describe_requests, describe_talks
from assistant.answers.traffic.partners import KINDS_OF
from assistant.diagnosis.choosing import find_culprits
from assistant.diagnosis.spans import find_start
from assistant.facts.fact import Value
from assistant.questions.times import Span
from traffic.labels import ATTACKS

_EARLIER = re.compile(
    r"\b(?:before (?:that|it|this|then)|earlier(?: on)?|vorher|davor|antes(?: de eso)?)\b|\bbefore\W*$"
)
_DOES = re.compile(
    r"^(?:and|und|y)?[ ,]*(?:what about )?(?:the (?:thing|one|problem) )?(?:before|earlier|vorher|davor|antes)\b"
    r"|\b(?:do|does|did|doing|hat|machte|hizo|hacia)\b"
)
_OF_KINDS = ("before", "changed", "does", "usual", "why", "who")
_USUALLY = re.compile(
    r"\b(?:normally|usually|otherwise|regularly|always|normalerweise|sonst|normalmente)\b"
)
_JUST_BEFORE_S = 1.0  # what begins within it began with the incident
# Whether it happened, worked or was met before is asked of other things.
_OTHERS = re.compile(
    r"\b(?:happen|seen|work|occur|met|meet|problem|trouble|vorgekommen|passiert|ocurr)\w*"
)


def answer_earlier(asked: Asked) -> Answer | None:
    """What was seen of the machine that is talked about until the incident began, or whether it did
    before what it did then; None where that is not asked, or nothing is talked about."""
    plain, kinds = asked.query.plain, KINDS_OF.get(asked.query.relation)
    usually = bool(kinds) and asked.polar and bool(_USUALLY.search(plain))
    asks = usually or (_EARLIER.search(plain) and _DOES.search(plain) and not _OTHERS.search(plain))
    if not asks or asked.query.kind not in _OF_KINDS:
        return None
    return tell_earlier(asked)


def tell_earlier(asked: Asked) -> Answer | None:
    """What who attacks, or else the device that is named, did until the incident began; None where nothing
    is talked about."""
    incident = asked.incident
    if incident is None:
        return None
    kinds = KINDS_OF.get(asked.query.relation)
    named = asked.query.names_device and asked.device
    attacks = incident.label in ATTACKS and not named
    device = find_culprits(incident)[0] if attacks else asked.device or incident.device
    start_s, view = find_start(incident)[0], asked.view
    earlier = asked.about(device, Span(view.start_s, start_s - _JUST_BEFORE_S))
    if asked.polar and kinds:
        return _did_so(asked.about(device), kinds, start_s)
    talks = earlier.talks
    values: dict[str, Value] = {"name": view.name_of(device), "start_time_s": start_s}
    if talks.empty:
        return Answer(say("did_before_none", **values, before_s=max(start_s - view.start_s, 0.0)))
    line = say(
        "did_before",
        **values,
        first_time_s=float(talks["since_s"].min()),
        pkts=int(talks["pkts"].sum()),
    )
    requests = earlier.requests
    requests = requests[requests["ts"] < start_s]
    shown = describe_requests(requests, view, refused=True) if len(requests) else []
    return Answer(line, (*shown, *describe_talks(talks, view)))


def _did_so(asked: Asked, kinds: tuple[str, ...], start_s: float) -> Answer | None:
    """Whether a device made requests of some kinds before; None where none of it was read at all."""
    rows = asked.requests
    rows = rows[rows["kind"].isin(kinds) & (rows["client"] == asked.device)]
    if rows.empty:
        return None
    earlier = rows[rows["ts"] < start_s]
    first_s = float(rows["ts"].min())
    values: dict[str, Value] = {
        "name": asked.name, "n": len(earlier), "first_time_s": first_s, "start_time_s": start_s,
        "after_s": first_s - asked.view.start_s,
    }  # fmt: skip
    kind = "did_before_yes" if len(earlier) else "did_before_not"
    return Answer(
        say(kind, asked.reply(bool(len(earlier))), **values),
        tuple(describe_requests(rows, asked.view, refused=True)),
    )


_READS = re.compile(r"\b(?:read|ask|talk|les|lie|fragt|lee|habl)\w*")
_LEARNS_S = 60.0  # who asks within the first minute may have asked before


def answer_began(asked: Asked) -> Answer | None:
    """Who began to ask a device for something, or to write to it, after the capture had begun; None where
    no request to it was read."""
    rows = asked.requests
    rows = rows[rows["server"] == asked.device]
    if asked.query.relation == "write" and not _READS.search(asked.query.plain):
        rows = rows[rows["kind"].isin(KINDS_OF["write"])]
    if rows.empty:
        return None
    first_s = rows.groupby(rows["client"].astype("str"))["ts"].min().sort_values()
    later = first_s[first_s - asked.view.start_s >= _LEARNS_S]
    shown = rows[rows["client"].isin(later.index)] if len(later) else rows
    facts = tuple(describe_requests(shown, asked.view, refused=True))
    if later.empty:
        return Answer(say("began_with_it", asked.reply(False)), facts)
    values: dict[str, Value] = {
        "names": asked.view.names_of(later.index), "first_time_s": float(later.iloc[0]),
        "after_s": float(later.iloc[0]) - asked.view.start_s,
    }  # fmt: skip
    return Answer(say("began_later", asked.reply(True), **values), facts)
