"""What a machine did earlier in the capture, before what is talked about: "and before that?"."""

import re

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.descriptions import describe_requests, describe_talks
from assistant.answers.partners import KINDS_OF, find_culprits
from assistant.diagnosis.spans import find_start
from assistant.facts.fact import Value
from assistant.questions.plain import DEVICE
from assistant.questions.times import Span
from traffic.labels import ATTACKS

_EARLIER = re.compile(
    r"\b(?:before (?:that|it|this|then)|earlier(?: on)?|vorher|davor|antes(?: de eso)?)\b|\bbefore\W*$"
)
_DOES = re.compile(
    r"^(?:and|und|y)?[ ,]*(?:what about )?(?:before|earlier|vorher|davor|antes)\b"
    r"|\b(?:do|does|did|doing|hat|machte|hizo|hacia)\b"
)
# Whether it happened, worked or was met before is asked of other things.
_JUST_BEFORE_S = 1.0  # what begins within it began with the incident
_OTHERS = re.compile(
    r"\b(?:happen|seen|work|occur|met|meet|problem|trouble|vorgekommen|passiert|ocurr)\w*"
)


def answer_earlier(asked: Asked) -> Answer | None:
    """What was seen of the machine that is talked about until the incident began, or whether it did
    before what it did then; None where that is not asked, or nothing is talked about."""
    plain, incident = asked.query.plain, asked.incident
    asks = _EARLIER.search(plain) and _DOES.search(plain) and not _OTHERS.search(plain)
    if (
        not asks
        or incident is None
        or asked.query.kind not in ("before", "changed", "does", "why", "who")
    ):
        return None
    named = DEVICE in plain and asked.device
    attacks = incident.label in ATTACKS and not named
    device = find_culprits(incident)[0] if attacks else asked.device or incident.device
    start_s, view = find_start(incident)[0], asked.view
    earlier = asked.about(device, Span(view.start_s, start_s - _JUST_BEFORE_S))
    kinds = KINDS_OF.get(asked.query.relation)
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
