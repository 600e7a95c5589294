"""Who writes to a device, and whether anything says that it may or should not."""

import re

from assistant.answers.asked import Answer, Asked, Reply, begin, say
from assistant.answers.attacks.denials import deny
from assistant.answers.plant.descriptions import describe_requests
from assistant.answers.traffic.partners import KINDS_OF
from assistant.facts.devices import newcomer_facts, writer_facts
from assistant.facts.fact import Fact, kind_of, listed

_MOST = 8


def answer_writers(asked: Asked, headline: Fact) -> Answer:
    """Who writes to the device, and whether anything says that it should not."""
    rows = asked.requests
    writes = rows[rows["kind"].isin(KINDS_OF["write"])]
    if asked.device:
        own = writes[writes["server"] == asked.device]
        acts = (writes["client"] == asked.device).any()
        suffers = len(own) or (asked.found.mention.devices and not (asked.query.active or acts))
        writes = own if suffers else writes[writes["client"] == asked.device]
    incident = asked.incident
    if asked.second and _MAY.search(asked.query.plain):
        return _may_write(asked)
    if (
        incident is not None
        and incident.label == "unauthorized_command"
        and _IS_ALLOWED.search(asked.query.plain)
    ):
        # Whether it was ordered, only the plant knows; what plant.yaml forbids is not allowed.
        forbidden = bool(incident.facts) and kind_of(incident.facts[0]) == "forbidden_writer"
        reply: Reply = asked.reply(False) if forbidden else "unclear"
        return Answer(begin(headline, reply), incident.facts, whole=True)
    if incident is not None and incident.label == "unauthorized_command" and incident.facts:
        seen = describe_requests(writes, asked.view) if len(writes) else []
        line = begin(incident.facts[0], asked.reply(True))
        return Answer(line, (*incident.facts[1:], *seen), whole=True)
    counted = asked.view.writes  # a log may count commands and not hold them
    if asked.device:
        counted = counted[counted["server"] == asked.device]
    if writes.empty and not counted.empty:
        names = asked.view.names_of(dict.fromkeys(counted["client"]))
        after_s = float(counted["since_s"].min()) - asked.view.start_s
        line = say("writers_unjudged", "unclear", name=asked.name, names=names, after_s=after_s)
        return Answer(line, tuple(writer_facts(asked.view, asked.device)))
    if writes.empty:
        return deny(asked, "nobody_write")
    facts = tuple(describe_requests(writes, asked.view, refused=True))
    names = listed(
        [asked.view.name_of(one) for one in dict.fromkeys(writes["client"].astype("str"))], _MOST
    )
    allowed = asked.view.allowed_writers
    servers = dict.fromkeys(writes["server"].astype("str"))
    # Of who writes, whom it writes to is named.
    name = asked.name if asked.device in ("", *servers) else asked.view.names_of(servers)
    if all(server in allowed for server in servers):
        return Answer(
            say("writers_allowed", "no" if asked.polar else "", name=name, names=names), facts
        )
    since_s = writes.groupby("client", observed=True)["ts"].min() - asked.view.start_s
    later = [asked.view.name_of(str(one)) for one in since_s.index[since_s >= _FROM_START_S]]
    kind = "writers_unjudged" if since_s.min() >= _FROM_START_S else "writers_from_start"
    kind = "writers_some_later" if later and kind == "writers_from_start" else kind
    line = say(
        kind, "unclear" if asked.polar else "", name=name, names=names,
        after_s=float(since_s.min()), later=listed(later, _MOST),
    )  # fmt: skip
    return Answer(line, (*newcomer_facts(asked.view, asked.device), *facts))


_FROM_START_S = 60.0  # who wrote within it may have written before


_IS_ALLOWED = re.compile(
    r"^(?:and )?(?:is|was|were|are|had|did) (?:it|that|this|dev|he|they|the \w+) (?:\w+ ){0,4}"
    r"(?:allowed|permitted|authori[sz]ed|planned|ordered|approved|legitimate|permission)\b"
)
_MAY = re.compile(
    r"\b(allowed|permitted|authori[sz]ed|entitled|supposed|may|darf|duerfen|erlaubt|berechtigt|permitid\w"
    r"|autorizad\w|puede)\b"
)


def _may_write(asked: Asked) -> Answer:
    """Whether plant.yaml lets one device write to another, and whether it did."""
    view, client, server = asked.view, asked.device, asked.second
    allowed = view.allowed_writers.get(server)
    rows = asked.requests
    rows = rows[(rows["client"] == client) & (rows["server"] == server)]
    writes = rows[rows["kind"].isin(KINDS_OF["write"])]
    kind = "may_unknown" if allowed is None else "may_yes" if client in allowed else "may_no"
    reply: Reply = "unclear" if allowed is None else asked.reply(client in allowed)
    line = say(kind, reply, client=view.name_of(client), name=view.name_of(server))
    told = describe_requests(writes, view) if len(writes) else []
    incident = asked.incident.facts if asked.incident else ()
    return Answer(line, (*incident, *told), standing="inconclusive" if allowed is None else None)
