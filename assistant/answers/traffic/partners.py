"""Who talks to whom, asks, reads, writes, scans, refuses; and what a device does."""

import re
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say, say_span
from assistant.answers.attacks.denials import deny, find_contrary
from assistant.answers.plant.descriptions import (
    describe_requests,
    describe_talks,
    name_function,
    name_times,
)
from assistant.answers.topics import TALKS, UNWANTED, find_topic
from assistant.answers.traffic.sessions import answer_close
from assistant.answers.traffic.volumes import answer_left
from assistant.detection.incidents import worst_first
from assistant.diagnosis.choosing import find_culprits, find_targets
from assistant.diagnosis.playbook import find_asked
from assistant.diagnosis.spans import is_over
from assistant.facts.devices import name_service, newcomer_facts, writer_facts
from assistant.facts.fact import Fact, Value, kind_of, listed
from assistant.facts.requests import is_refused
from assistant.questions.plain import DEVICE
from assistant.questions.queries import Query
from traffic.labels import ATTACKS
from traffic.plant import is_group

_MOST = 8
KINDS_OF = {
    "read": ("read",),
    "write": ("write", "control"),
    "publish": ("publish",),
    "login": ("session",),
}
FLOODS = ("dos", "ddos", "mqtt_abuse")
UNDER_CONTROL = ("c2", "exfiltration")
_BLAMED = {"scan": ("recon",), "attack": ATTACKS}


def answer_who(asked: Asked) -> Answer:
    """Who does to the device what was asked for, or to whom the device does it."""
    relation = asked.query.relation
    if _HOLDS.search(asked.query.plain) and (held := _find_holder(asked)):
        return held
    if asked.query.measure == "left" and relation != "outside" and not asked.second:
        return answer_left(asked)
    if relation in ("talk", "ask", "outside") and UNWANTED.search(asked.query.plain):
        return _name_unwanted(asked)
    if relation in _BLAMED:
        return _blame(asked, _BLAMED[relation])
    failed = relation == "talk" and asked.query.measure in ("refused", "failed")
    if failed or relation == "refuse":
        by = bool(re.search(rf"\b(?:from|by|at|of|on) {DEVICE}\b", asked.query.plain))
        by = by or (asked.query.active and not failed)
        asked = replace(asked, query=replace(asked.query, relation="refuse", active=by))
        relation = "refuse"
    if relation == "talk" and asked.query.protocol:
        return _speak(asked)
    if relation == "close":
        return answer_close(asked)
    if (
        relation == "talk"
        and asked.device
        and asked.talks.empty
        and (told := ask_by_arp(asked, active=asked.query.active))
    ):
        return told
    if relation in ("talk", "send", "outside"):
        return answer_talk(asked)
    if relation == "write" and _LOADS.search(asked.query.plain):
        return _answer_loads(asked)
    if relation == "write" and asked.view.exchanges.empty and not asked.view.writes.empty:
        return _count_writes(asked)
    said = _ask(asked)
    if relation == "refuse" and asked.device:  # who is turned away at the door asks nothing
        known = tuple(one.facts[0] for one in find_contrary(asked, "nobody_refuse"))
        said = replace(said, facts=(*known, *(one for one in said.facts if one not in known)))
    if relation == "write":
        said = replace(said, facts=(*newcomer_facts(asked.view, asked.device), *said.facts))
    if asked.view.exchanges.empty:  # who talks says neither who asks nor who writes
        return replace(said, facts=(*said.facts, *answer_talk(asked).facts))
    return said


def _name_unwanted(asked: Asked) -> Answer:
    """Who does what it should not: machines that plant.yaml does not name, then who attacks."""
    blamed = _blame(replace(asked, query=replace(asked.query, relation="attack")), ATTACKS)
    plant, talks = asked.analysis.plant, asked.talks
    if plant is None or not asked.device:
        return blamed
    known = {one.address for one in plant.devices}
    others = talks["src"].where(talks["dst"] == asked.device, talks["dst"])
    mine = talks[~others.isin(known) & ~others.map(is_group).astype(bool)]
    names = asked.view.names_of(dict.fromkeys(others[mine.index]))
    if mine.empty:
        return blamed
    facts = (*blamed.facts, *describe_talks(mine, asked.view, 3))
    return Answer(say("strangers", asked.reply(True), names=names), facts)


_HOLDS = re.compile(
    r"\b(?:hold|held|occup|keep|kept|use|using|block|tak|took|has|have|got|belegt|blockiert|ocupa|tiene)\w*"
    r" .*\b(?:sessions?|connections?|slots?|places?|verbindung\w*|sitzung\w*|sesion\w*|conexion\w*|dev)\b"
)


def _find_holder(asked: Asked) -> Answer | None:
    """Who holds the connections of a server that has no room for more; None where none is known to."""
    for one in worst_first(list(asked.analysis.incidents)):
        held = [fact for fact in one.facts if kind_of(fact) == "held"]
        if held and (not asked.device or one.touches(asked.device)):
            known = held[0].values
            line = say(
                "holds", names=known["others"], server=known["server"], client=known["client"]
            )
            return Answer(line, (*held, *(fact for fact in one.facts if fact not in held)))
    return None


_LOADS = re.compile(
    r"\b(?:programs?|programmes?|logic|firmware|blocks?|projects?)\b.*\b(?:load|download|transfer|flash|updat|replac)"
    r"|\b(?:load|flash|download|transfer|put|push|install)\w* (?:\w+ ){0,3}(?:programs?|programmes?|firmware"
    r"|logic|blocks?)\b"
)


def _answer_loads(asked: Asked) -> Answer:
    """Who loaded a program, a block or firmware, by what requests are called; that none was read says
    nothing of one that ran over what is not read."""
    rows = asked.requests
    rows = rows[rows["kind"].isin(KINDS_OF["write"])]
    keys = pd.MultiIndex.from_arrays([rows["protocol"].astype("str"), rows["function"]])
    loads = {key for key in keys.unique() if _LOADING.search(name_function(*key))}
    rows = rows[keys.isin(list(loads))]
    if rows.empty:
        topic = find_topic(asked)
        line = say("loads_unread", "unclear", name=asked.name, read=len(asked.requests))
        return Answer(line, (*(topic.facts if topic else ()), *asked.sensor))
    told = describe_requests(rows, asked.view, refused=True)
    refused = bool(is_refused(rows).all())
    return Answer(begin(told[0], asked.reply(not refused)), tuple(told[1:]))


_LOADING = re.compile(r"(?i)download|firmware")


def _speak(asked: Asked) -> Answer:
    """Who asks over a protocol, and whom."""
    rows = asked.requests
    if rows.empty:
        protocol = asked.query.protocol
        return Answer(
            say("nobody_speaks", "unclear" if asked.polar else "", protocol=protocol), asked.sensor
        )
    order = rows["client"].astype("str").value_counts()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(n)})" for one, n in order.items()], _MOST
    )
    line = say("ask_all", asked.reply(True), names=names, n=len(order), times=len(rows))
    return Answer(line, tuple(describe_requests(rows, asked.view)))


def _blame(asked: Asked, labels: Iterable[str]) -> Answer:
    """Who is known to scan or attack, from incidents."""
    # "who floods us?" is asked of floods alone.
    labels = find_asked(asked.query.plain) or labels
    incidents = [one for one in worst_first(list(asked.analysis.incidents)) if one.label in labels]
    if asked.device:
        incidents = [one for one in incidents if one.touches(asked.device)]
    if asked.query.active:  # "whom does it attack?": whom it calls for orders is no victim
        incidents = [one for one in incidents if one.label not in UNDER_CONTROL] or incidents
    if asked.query.relation == "attack" and not incidents and asked.incident is not None:
        # "who is behind this?" is asked of faults too.
        incidents = [asked.incident]
    kind = asked.query.relation
    pings = kind == "scan" and "ping" in asked.query.plain
    if pings and not any(
        kind_of(one.facts[0]) == "ping_sweep" for one in incidents if one.facts
    ):  # who pings too much scans nothing
        floods = find_incidents(asked, FLOODS)
        if not floods and (pinged := _name_pinged(asked)):
            return pinged
        incidents, kind = (floods, "attack") if floods else (incidents, kind)
    if not incidents:
        return deny(asked, f"nobody_{kind}")
    if asked.polar and asked.still:
        going = [one for one in incidents if not is_over(one, asked.analysis)]
        if not going:
            return Answer(say_span(asked, incidents[0], "no"), incidents[0].facts)
        incidents = going
    culprits, facts = list[str](), list[Fact]()
    if _SUFFERS.search(asked.query.plain):
        targets = [end for one in incidents for end in find_targets(one)]
        names = listed(dict.fromkeys(map(asked.view.name_of, targets)), _MOST)
        told = tuple(fact for one in incidents for fact in one.facts[:2])
        return Answer(say(f"suffer_{kind}", names=names), told)
    for one in incidents:
        culprits += find_culprits(one)
        facts += one.facts[:2]
    if not asked.query.active:  # who attacks edge-1 is not edge-1, whatever else it does
        culprits = [one for one in culprits if one != asked.device] or culprits
    if asked.query.active and culprits[0] == asked.device and facts:
        hit = dict.fromkeys(end for one in incidents for end in find_targets(one))
        if len(incidents) > 1 and len(hit) > 1:  # "whom does it attack?"
            names = asked.view.names_of(hit, len(hit))
            line = say("attacks_whom", asked.reply(True), name=asked.name, n=len(hit), names=names)
            return Answer(line, tuple(one.facts[0] for one in incidents if one.facts))
        return Answer(begin(facts[0], asked.reply(True)), tuple(facts[1:]))
    names = listed(dict.fromkeys(map(asked.view.name_of, culprits)), _MOST)
    line = say(f"blame_{kind}", asked.reply(True), names=names)
    return Answer(line, tuple(facts), about=culprits[0])


def _name_pinged(asked: Asked) -> Answer | None:
    """Who pings whom; None where nobody does."""
    talks = asked.talks[asked.talks["proto"] == "icmp"]
    aimed = talks["src" if asked.query.active else "dst"] == asked.device
    talks = (
        talks[aimed] if asked.device and aimed.any() else talks
    )  # "who pings it?" asks for no answers of its own
    shown = describe_talks(talks, asked.view)
    return Answer(begin(shown[0], asked.reply(True)), tuple(shown[1:])) if shown else None


# "who was scanned?" asks for who suffered it.
_SUFFERS = re.compile(
    r"^(?:and )?(?:who|whom|what|which \w+)(?: else| other\w*)? "
    r"(?:is|was|were|are|gets?|got|has been|have been) (?:being )?"
    r"(?:\w+ed|hit|swept|(?:the )?(?:\w+ )?(?:victims?|targets?))\b"
)


def answer_talk(asked: Asked) -> Answer:
    """Who talks with whom, over what."""
    talks = asked.talks
    # Where no address is known as the plant's own, nothing is known to be outside.
    inside = asked.view.local
    outside = asked.query.relation == "outside" and bool(inside)
    if outside:
        out = ~talks["dst"].isin(inside) | ~talks["src"].isin(inside)
        talks = talks[out & ~talks["dst"].map(is_group)]
    elif asked.query.active and asked.device and not asked.second:
        own = talks[talks["src"] == asked.device]
        talks = own if len(own) else talks
    if talks.empty:
        return deny(asked, "nobody_outside" if outside else "nobody_talk")
    facts = describe_talks(talks, asked.view)
    if asked.query.port is not None and not asked.device:
        names = listed((f"{asked.view.name_of(row.src)} to {asked.view.name_of(row.dst)}"
                        for row in talks.head(_MOST).itertuples()), 4)  # fmt: skip
        service = name_service(str(talks["proto"].iloc[0]), asked.query.port)
        line = say("talk_port", asked.reply(True), service=service, names=names)
        return Answer(line, tuple(facts))
    if outside:
        return _name_outside(asked, talks, facts)
    if not asked.device:
        ends = dict.fromkeys([*talks["src"], *talks["dst"]])
        line = say(
            "talk_all",
            asked.reply(True) if TALKS.search(asked.query.plain) else "",
            pairs=len(talks[["src", "dst"]].drop_duplicates()),
            ends=len(ends),
        )
        return Answer(line, tuple(facts))
    others = talks["dst"].where(talks["src"] == asked.device, talks["src"])
    names = listed([asked.view.name_of(one) for one in dict.fromkeys(others)], _MOST)
    values: dict[str, Value] = {"name": asked.name, "names": names, "n": others.nunique()}
    if not talks["dst_pkts"].any() and not asked.blind:
        called = (talks["dst"] == asked.device).all()
        if called and asked.query.relation == "send":
            return Answer(say("sends_nothing", asked.reply(False), **values), tuple(facts))
        kind = "talk_vain_passive" if called else "talk_vain_active"
        return Answer(say(kind, **values), tuple(facts))
    only = others.nunique() == 1 and bool(_ELSE.search(asked.query.plain)) and not asked.polar
    return Answer(say("talk_only" if only else "talk", asked.reply(True), **values), tuple(facts))


_ELSE = re.compile(r"\b(?:else|others?|sonst|noch|mas)\b")


def names_no_act(query: Query) -> bool:
    """Whether a question asks who without saying who does what: "who was it?", "who else?"."""
    told = (
        query.protocol
        or query.port is not None
        or query.measure in ("refused", "failed", "talkers")
    )
    told = told or bool(query.aspect or _HOLDS.search(query.plain))
    return query.relation == "talk" and not told and not TALKS.search(query.plain)


def _name_outside(asked: Asked, talks: pd.DataFrame, facts: list[Fact]) -> Answer:
    """Who talks with addresses outside, the one with the most traffic first, and with how many."""
    inside = asked.view.local
    own = talks["src"].where(talks["src"].isin(inside), talks["dst"])
    peers = talks["dst"].where(talks["src"].isin(inside), talks["src"])
    if asked.device:
        names = listed(map(asked.view.name_of, dict.fromkeys(peers)), _MOST)
        values: dict[str, Value] = {"name": asked.name, "names": names, "n": peers.nunique()}
        return Answer(say("talk_counted", asked.reply(True), **values), tuple(facts))
    each = [
        say(
            "outside_one",
            name=asked.view.name_of(str(one)),
            peers=listed(dict.fromkeys(map(asked.view.name_of, mine))),
        ).text
        for one, mine in peers.groupby(own, sort=False)
    ]
    line = say(
        "talk_outside",
        asked.reply(True),
        ends=own.nunique(),
        n=peers.nunique(),
        names=listed(each, _MOST),
    )
    return Answer(line, tuple(facts))


def _ask(asked: Asked) -> Answer:
    """Who asks, from requests and answers."""
    relation, rows = asked.query.relation, asked.requests
    actor, other = ("server", "client") if relation == "refuse" else ("client", "server")
    if relation == "refuse":
        rows = rows[is_refused(rows)]
    elif relation in KINDS_OF:
        rows = rows[rows["kind"].isin(KINDS_OF[relation])]
    if asked.device:
        rows = rows[rows[actor if asked.query.active else other] == asked.device]
    if (
        rows.empty
        and relation in ("ask", "talk")
        and asked.device
        and (told := ask_by_arp(asked, active=asked.query.active))
    ):
        return told
    if rows.empty:
        return deny(
            asked, f"nobody_{relation}_active" if asked.query.active else f"nobody_{relation}"
        )
    suffers = not asked.device and relation in _SUFFER
    suffers = suffers and bool(_SUFFER[relation].search(asked.query.plain))
    shown = other if asked.query.active or suffers else actor
    order = rows[shown].astype("str").value_counts()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(n)})" for one, n in order.items()], _MOST
    )
    facts = describe_requests(rows, asked.view, refused=relation == "refuse")
    form = "active" if asked.query.active else "passive"
    kind = (
        f"{relation}_{form}"
        if asked.device
        else _SUFFERED[relation]
        if suffers
        else f"{relation}_all"
    )
    values: dict[str, Value] = {
        "name": asked.name, "names": names, "n": len(order), "times": len(rows),
    }  # fmt: skip
    if relation == "write" and (is_refused(rows)).all():
        # Who tries and is refused writes nothing.
        return Answer(
            say(f"write_vain_{form if asked.device else 'all'}", asked.reply(False), **values),
            tuple(facts),
        )
    # "does anyone else write?": of one who does nobody else does.
    alone = bool(re.search(r"\b(?:else|others?)\b", asked.query.plain)) and len(order) == 1
    about = "" if asked.query.active or suffers else str(order.index[0])
    # That it does so says nothing of whether it should.
    reply: Reply = (
        "unclear" if asked.polar and UNWANTED.search(asked.query.plain) else asked.reply(not alone)
    )
    return Answer(say(kind, reply, **values), tuple(facts), about=about)


# "which plc was written to?", "which clients were refused?" ask for who suffered it.
_SUFFER = {
    "write": re.compile(
        r"^(?:and )?(?:who|what|which \w+) (?:is|was|were|are|got|gets) (?:being )?"
        r"(?:written|changed|commanded|stopped)"
    ),
    "refuse": re.compile(
        r"\b(?:is|was|were|are|got|gets?|been) (?:\w+ )?(?:refused|rejected|denied|turned away)\b"
        r"|wurden? .*abgewiesen"
    ),
}
_SUFFERED = {"write": "written_all", "refuse": "refused_all"}


def ask_by_arp(asked: Asked, *, active: bool) -> Answer | None:
    """Who asked for the hardware address of a device, where nobody asked it anything else."""
    end = "src" if active else "dst"
    rows = asked.view.evidence_of(asked.device, ("arp_request",))
    vain = asked.view.evidence_of(asked.device, ("arp_unanswered",))
    rows, vain = rows[rows[end] == asked.device], vain[vain[end] == asked.device]
    if rows.empty:
        return None
    counts = rows.groupby("other")["count"].sum().sort_values(ascending=False)
    failed = vain.groupby("other")["count"].sum()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(int(n))})" for one, n in counts.items()], _MOST
    )
    values: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(counts)}
    line = say(f"arp_{'active' if active else 'passive'}", asked.reply(True), name=asked.name,
               names=names, n=int(counts.sum()), failed=int(failed.sum()), **values)  # fmt: skip
    return Answer(line, asked.found.facts)


def _count_writes(asked: Asked) -> Answer:
    """Who writes, where a log counts the commands and does not hold them."""
    rows = asked.view.writes
    shown = "server" if asked.query.active else "client"
    if asked.device:
        rows = rows[rows["client" if asked.query.active else "server"] == asked.device]
    if rows.empty:
        return deny(asked, "nobody_write_active" if asked.query.active else "nobody_write")
    names = listed(map(asked.view.name_of, dict.fromkeys(rows[shown])), _MOST)
    form = ("active" if asked.query.active else "passive") if asked.device else "all"
    values: dict[str, Value] = {"n": rows[shown].nunique(), "times": int(rows["count"].sum())}
    line = say(f"write_{form}", asked.reply(True), name=asked.name, names=names, **values)
    return Answer(line, tuple(writer_facts(asked.view, asked.device)))
