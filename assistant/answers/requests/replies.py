"""Whether it answers: requests and attempts, and packets that were lost on the way."""

import re

import pandas as pd

from assistant.answers.asked import (
    LATELY_S,
    Answer,
    Asked,
    Reply,
    begin,
    find_incidents,
    say,
    say_span,
)
from assistant.answers.plant.descriptions import (
    describe_endings,
    describe_requests,
    describe_talks,
    name_unread,
)
from assistant.answers.plant.lookups import answer_clocks
from assistant.answers.requests.units import answer_units
from assistant.answers.traffic.partners import KINDS_OF, answer_who
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.diagnosis.standing import is_unanswered
from assistant.facts.fact import Fact, Value, kind_of
from assistant.facts.requests import OUTCOMES, is_often, is_refused
from assistant.facts.sensor import find_blindness
from traffic.labels import ATTACKS
from traffic.plant import is_group

_MOST = 8
_FAILED_SHARE = 0.05
_LOSSES, _LOST_SHARE = ("packet_loss", "congestion"), 0.01
_FAILS_TO_ANSWER = ("device_silent", "service_down", "misconfiguration", "flapping", "packet_loss")
_VAIN = ("refused", "unanswered")
_CONTENT = re.compile(
    r"\b(?:messages?|data|values?|readings?|samples?|recordings?|nachrichten|daten|werte|mensajes|datos|valores)\b"
)
_ATTEMPTS = re.compile(r"\b(connections?|connects?|attempts?|syns?|verbindung\w*|conexion\w*)\b")


def answer_loss(asked: Asked, headline: Fact) -> Answer:
    """Whether packets are lost, from what was sent again; copies of a mirror port are none."""
    if _WAY.search(asked.query.plain) and (told := _compare_ways(asked)):
        return told
    if asked.incident is not None and asked.incident.label in _LOSSES:
        if asked.polar and asked.still and is_over(asked.incident, asked.analysis):
            return Answer(say_span(asked, asked.incident, "no"), asked.incident.facts)
        if asked.ended:
            over = is_over(asked.incident, asked.analysis)
            line = say_span(asked, asked.incident, "yes" if over else "no")
            return Answer(line, asked.incident.facts)
        doubted = asked.found.standing == "inconclusive" or bool(_THINGS.search(asked.query.plain))
        reply: Reply = "unclear" if doubted and asked.polar else asked.reply(True)
        return Answer(begin(headline, reply), asked.found.facts, whole=True)
    # The average of a whole plant hides the line that loses.
    if asked.incident is not None and _CONTENT.search(asked.query.plain):
        # Messages are lost with a connection too, though no packet is.
        pkts, again = asked.view.count_resent(asked.device)
        kind = "loss_little" if again else "loss_none"
        least = again < _LOST_SHARE * pkts and not asked.blind
        lost = say(kind, name=asked.name, resent=again, pkts=pkts, lost_share=again / max(pkts, 1))
        if asked.incident.label in ATTACKS:
            return (
                Answer(lost, asked.incident.facts, whole=True)
                if least
                else Answer(headline, asked.incident.facts)
            )
        if least and asked.incident.facts:
            line = say("loss_beside", lost=lost.text, what=headline.text)
            return Answer(line, (lost, *asked.incident.facts), whole=True)
        return Answer(headline, asked.incident.facts, whole=True)
    lossy_lines = find_incidents(asked, _LOSSES)
    if lossy_lines:
        first, *rest = (fact for one in lossy_lines for fact in one.facts)
        # Who answers late need not have a full line.
        late = kind_of(first) == "slow"
        reply = "" if late else asked.reply(not asked.query.positive)
        return Answer(begin(first, reply), tuple(rest))
    pkts, again = asked.view.count_resent(asked.device)
    if not pkts or asked.blind:
        line = say("loss_unseen", "unclear", name=asked.name)
        return Answer(line, asked.sensor, standing="inconclusive")
    lossy = again >= _LOST_SHARE * pkts
    kind = "loss_some" if lossy else "loss_little" if again else "loss_none"
    # "is the cable ok?" asks the other way round.
    reply = asked.reply(lossy != asked.query.positive)
    if _THINGS.search(asked.query.plain) and not (asked.device or asked.query.positive):
        reply = ""  # whether a cable or the wifi is bad, a count of packets does not say
    undecided = bool(asked.device) and asked.found.standing == "inconclusive"
    if undecided and not lossy:
        reply = "unclear"
    line = say(kind, reply, name=asked.name, resent=again, pkts=pkts, lost_share=again / pkts)
    facts = (*asked.found.facts, *asked.sensor) if undecided else asked.sensor
    return Answer(line, facts, standing=None if lossy or undecided else "normal")


_WAY = re.compile(
    r"\b(?:(?:which|what|one|both|either|each|same) (?:way|direction|side)s?|directions?|way (?:to|from|back)"
    r"|upstream|downstream|richtung(?:en)?|hinweg|rueckweg|sentidos?|direccion(?:es)?)\b"
)
_ONE_WAY = 3.0  # times as large a share, from which on one direction is called the lossy one


def _compare_ways(asked: Asked) -> Answer | None:
    """Which way packets are lost, by who had to send again; None where hardly anybody had to."""
    lossy = find_incidents(asked, _LOSSES)
    end = asked.device or (lossy[0].device if lossy else "")
    resent = asked.view.evidence_of(end, ("retransmission",)) if end else pd.DataFrame()
    if asked.second:
        resent = resent[resent["other"] == asked.second]
    if resent.empty:
        return None
    rows = asked.view.flows_of(end)
    rows = rows[rows["other"].isin(resent["other"]) & (rows["proto"] == "tcp")]
    sent = int(rows["sent_pkts"].sum())
    got = int((rows["src_pkts"] + rows["dst_pkts"]).sum()) - sent
    out = int(resent.loc[resent["src"] == end, "count"].sum())
    back = int(resent["count"].sum()) - out
    if out + back < _LOST_SHARE * (sent + got):
        return None
    shares = out / max(sent, 1), back / max(got, 1)
    kind = "ways_both"
    if max(shares) >= _ONE_WAY * min(shares):
        kind = "ways_out" if shares[0] > shares[1] else "ways_in"
    line = say(
        kind, name=asked.view.name_of(end), peers=asked.view.names_of(dict.fromkeys(resent["other"])), resent=out,
        sent=sent, lost_share=shares[0], resent_back=back, got=got, back_share=shares[1],
    )  # fmt: skip
    return Answer(line, (say("ways_doubt"), *(lossy[0].facts if lossy else ())))


_THINGS = re.compile(
    r"\b(?:cables?|wires?|wiring|plugs?|connectors?|wi-?fi|wlan|antennas?|fib(?:re|er)s?|switch(?:es)?|kabel"
    r"|stecker|cable)\b"
)


def still_talks(asked: Asked) -> Answer | None:
    """Whether two devices, or one and anybody, exchanged packets up to the end; None where that is
    not asked."""
    talks = asked.talks
    if not (asked.still and asked.second and len(talks)):
        return None
    last_s = float(talks["until_s"].max())
    lately = asked.analysis.capture.end_s - last_s <= LATELY_S
    line = say(
        "still_talks", asked.reply(lately), name=asked.name, peer=asked.view.name_of(asked.second), last_time_s=last_s
    )  # fmt: skip
    touching = asked.incident.facts[:1] if asked.incident else ()
    return Answer(line, (*describe_talks(talks, asked.view, 3), *touching))


def answer_answers(asked: Asked, headline: Fact) -> Answer:
    """Whether a device answers, and for how long it has not."""
    if said := still_talks(asked):
        return said
    if asked.query.protocol == "ntp":
        return answer_clocks(asked)
    if asked.query.relation == "refuse" and asked.device and asked.polar and not asked.second:
        return answer_who(asked)  # "did plc-1 say no to anyone?"
    if not asked.device and asked.query.relation == "outside":
        return _reaches_outside(asked)
    if told := answer_units(asked):
        return told
    if asked.device and _PING.search(asked.query.plain):
        return _answer_pings(asked)
    if asked.device in asked.view.local and _FAR_END.search(asked.query.plain):
        return _reaches_outside(asked, asked.device)
    incident = asked.incident
    calls = incident is not None and incident.device == asked.device
    if incident and calls and _ANYONE.search(asked.query.plain):
        vain = is_unanswered(incident.label, incident.facts)
        return Answer(
            begin(incident.facts[0], asked.reply(False) if vain else ""), incident.facts[1:]
        )
    if asked.incident is not None and _OUTCOME.search(asked.query.plain) and len(asked.requests):
        rows = asked.requests[asked.requests["outcome"].isin(OUTCOMES)]
        return _some_requests(asked, rows, rows[rows["outcome"] != "answered"])
    if not asked.device or (asked.incident is not None and _SOME_OF_IT.search(asked.query.plain)):
        return _all_requests(asked)
    view, found = asked.view, asked.found
    # "does A reach B?" asks whether B answers A
    device = asked.second if asked.query.active and asked.second else asked.device
    name = view.name_of(device)
    if find_blindness(view.quality, device, view.seen_s) in ("one_way", "cut"):
        return Answer(say("answers_unseen", "unclear", name=name), found.facts, whole=True)
    if asked.query.relation == "outside" and not asked.second:
        return _reaches_outside(asked, device)
    rows = asked.requests
    rows = rows[rows["server"] == device]
    rows = rows[rows["outcome"].isin(OUTCOMES)]
    kinds = KINDS_OF.get(asked.query.relation, ())
    if rows["kind"].isin(kinds).any():  # "were the writes accepted?"
        return _count_answers(asked, name, rows[rows["kind"].isin(kinds)])
    if said := _fails_to_answer(asked, device, rows, headline):
        return said
    sent = view.sent_by(device)
    if sent.empty:
        line = say("answers_silent", asked.is_well(False), name=name)
        return Answer(line, found.facts, whole=True)
    if rows.empty:
        values: dict[str, Value] = {
            "pkts": int(sent["sent_pkts"].sum()),
            "last_time_s": float(sent["until_s"].max()),
        }
        before_s = view.last_s - float(values["last_time_s"])
        if before_s > LATELY_S:  # that it was alive then does not say that it is
            line = say("answers_heard_last", "unclear", name=name, before_s=before_s, **values)
            return Answer(line, found.facts, standing="inconclusive")
        return Answer(say("answers_heard", asked.is_well(True), name=name, **values), found.facts)
    return _count_answers(asked, name, rows)


_PING = re.compile(r"\b(?:answer|respon|repl|react)\w* .*\b(?:pings?|icmp|echo)\b|\bpingable\b")


def _answer_pings(asked: Asked) -> Answer:
    """Whether a device answers pings; where nobody pinged it, nothing tells."""
    talks = asked.talks
    talks = talks[talks["proto"].eq("icmp") & talks["dst"].eq(asked.device)]
    if talks.empty:
        return Answer(say("ping_unseen", "unclear", name=asked.name), asked.known)
    got = int(talks["dst_pkts"].sum())
    sent = int((talks["pkts"] - talks["dst_pkts"]).sum())
    line = say("ping_counted", asked.is_well(got > 0), name=asked.name, n=got, asked=sent)
    return Answer(line, tuple(describe_talks(talks, asked.view)))


def _reaches_outside(asked: Asked, device: str = "") -> Answer:
    """Whether what a device, or the plant, opens to outside addresses is answered, and by which it is
    not."""
    view = asked.view
    rows = view.flow_slots
    rows = rows[rows["src"].isin([device] if device else list(view.local))]
    rows = rows[~rows["dst"].isin(view.own | view.local)]
    rows = rows[~rows["dst"].map(is_group).astype(bool)]
    name = view.name_of(device) if device else asked.name
    if rows.empty:
        return Answer(say("outside_unasked", "unclear", name=name), asked.sensor)
    got = rows.groupby("dst")["answered"].any()
    vain = [str(one) for one in got.index[~got]]
    talks = asked.talks[asked.talks["dst"].isin(vain or list(got.index))]
    known = asked.incident.facts if device and asked.incident else ()
    facts = (*known, *describe_talks(talks, view, 5), *asked.sensor)
    if not got.any():
        line = say("outside_never", asked.is_well(False), name=name, names=view.names_of(vain))
        return Answer(line, facts)
    values: dict[str, Value] = {
        "name": name,
        "n": int(got.sum()),
        "last_time_s": float(rows.loc[rows["answered"], "until_s"].max()),
        "names": view.names_of(vain or map(str, got.index)),
        "vain": len(vain),
    }
    kind = "outside_partly" if vain else "outside_reached"
    # That it is reached says nothing of pauses: "did it ever lose its internet?" gets no "no".
    paused = bool(vain) or bool(_LOSES.search(asked.query.plain))
    return Answer(say(kind, "" if paused else asked.is_well(True), **values), facts)


_LOSES = re.compile(r"\b(?:los[et]\w*|interrupt\w*|dropp?\w*|ever)\b")


_SOME_OF_IT = re.compile(
    r"\b(?:any|others?|some) (?:\w+ ){0,2}(?:answers?|requests?|reads?|registers?|quer\w+)\b"
    r"|\b(?:refuse|reject|deny) (?:everything|all)\b"
)
_EACH_ONE = re.compile(r"\b(?:every|all|each|alle|jede\w*|tod[oa]s?|cada)\b")
_FAIL = re.compile(r"\b(?:fail|refus|reject|den[iy]|turn)\w*")
_BRIEF_S = 1.0  # within which a connection that was accepted is closed without a word
_AFTER_S = 1.0  # the last packet before a silence is none after it
_OFF = re.compile(
    r"\b(?:off|dead|unplugged|power|disconnected|silent|crash\w*|frozen|hang\w*|gone|lost|tot|aus|weg|apagad\w"
    r"|muert\w)\b"
)


def _fails_to_answer(
    asked: Asked, device: str, rows: pd.DataFrame, headline: Fact
) -> Answer | None:
    """What an incident says of it: that it does not answer, or that it did not for a while; None
    where no incident is about that."""
    incident = asked.incident
    if incident is None or incident.label not in _FAILS_TO_ANSWER:
        return None
    if device not in (incident.device, *(() if len(rows) else incident.peers)):
        return None
    facts = (*asked.found.facts, *describe_requests(rows, asked.view, refused=True, most=4))
    start_s, end_s = find_start(incident)[0], find_end(incident)
    answers = rows[(rows["ts"] > end_s) & (rows["outcome"] != "unanswered")]
    name = asked.view.name_of(device)
    if len(answers) and is_over(incident, asked.analysis):
        values: dict[str, Value] = {"start_time_s": start_s, "end_time_s": end_s}
        return Answer(say("answers_again", asked.is_well(True), name=name, **values), facts)
    heard = asked.view.sent_by(device)
    heard = heard[heard["until_s"] > start_s + _AFTER_S]
    off = asked.query.negative and bool(_OFF.search(asked.query.plain))
    if off and len(heard) and asked.found.standing != "inconclusive":
        # What refuses, or answers others, is not switched off.
        last = float(heard["until_s"].max())
        line = say("answers_lives", asked.reply(False), name=name, last_time_s=last)
        return Answer(line, (headline, *facts), whole=True)
    unclear = asked.found.standing == "inconclusive"
    reply: Reply = "unclear" if unclear else asked.is_well(False)
    return Answer(begin(headline, reply), facts, whole=True)


_STOPS = re.compile(r"\bstop\w* (?:answer|respond|reply|work|talk|send)\w*")


def _count_answers(asked: Asked, name: str, rows: pd.DataFrame) -> Answer:
    """How many of the requests to it were answered, refused, left."""
    counts = rows["outcome"].value_counts()
    answered, refused, vain = (int(counts.get(one, 0)) for one in OUTCOMES)
    facts = tuple(describe_requests(rows, asked.view, refused=True, most=4))
    values: dict[str, Value] = {
        "name": name, "asked": len(rows), "answered": answered, "refused": refused, "unanswered": vain,
    }  # fmt: skip
    if vain == len(rows):
        line = say("answers_nothing", asked.is_well(False), **values)
        return Answer(line, (*asked.found.facts, *facts), whole=True)
    values["last_time_s"] = float(rows.loc[rows["outcome"] != "unanswered", "ts"].max())
    if vain:
        # "did it fail?" is not denied of who left every twentieth request without an answer.
        most = _FAILED_SHARE if asked.query.negative else 0.5
        well = vain < most * len(rows)
        reply = asked.reply(not well) if _STOPS.search(asked.query.plain) else asked.is_well(well)
        return Answer(say("answers_partly", reply, **values), facts)
    kind = "answers_refuses" if refused else "answers_all"
    plain = asked.query.plain
    # "did it refuse?", not "is it dead?"
    fails = (
        asked.query.negative
        and bool(refused)
        and not re.search(rf"{_OFF.pattern}|\\bdown\\b", plain)
    )
    reply = asked.reply(True) if fails else asked.is_well(True)
    if refused and _EACH_ONE.search(asked.query.plain):  # "does every request succeed?"
        reply = asked.reply(bool(_FAIL.search(asked.query.plain)) and refused == len(rows))
    return Answer(say(kind, reply, **values), facts)


def _all_requests(asked: Asked) -> Answer:
    """Whether requests of the plant succeed."""
    if _ATTEMPTS.search(asked.query.plain):
        return _all_attempts(asked)
    rows = asked.requests
    rows = rows[rows["outcome"].isin([*OUTCOMES, "unasked"])]
    kinds = KINDS_OF.get(asked.query.relation, ())  # "did the commands get through?"
    if rows["kind"].isin(kinds).any():
        rows = rows[rows["kind"].isin(kinds)]
    if rows.empty:
        unread = name_unread(asked.view)
        line = say("requests_unread" if unread else "requests_unseen", "unclear", names=unread)
        return Answer(line, asked.found.facts, standing="inconclusive")
    failed = rows[(rows["outcome"] == "unanswered") | is_refused(rows)]
    if asked.query.measure == "refused" and not asked.query.positive:
        if not is_refused(failed).any():
            line = say(
                "requests_none_refused", asked.reply(False), failed=len(failed), asked=len(rows)
            )
            return Answer(
                line, (*describe_requests(failed, asked.view, refused=True), *asked.sensor)
            )
        failed = failed[is_refused(failed)]
    if _SOME.search(asked.query.plain) and asked.incident is not None and len(failed):
        return _some_requests(asked, rows, failed)
    facts = tuple(describe_requests(failed, asked.view, refused=True)) if len(failed) else ()
    kind = "requests_some_fail" if len(failed) else "requests_succeed"
    mostly = failed.empty or 2 * len(failed) >= len(rows) or asked.query.negative
    reply = asked.is_well(failed.empty) if mostly else ""  # "did it answer?" mostly
    line = say(kind, reply, failed=len(failed), asked=len(rows))
    rest = tuple(fact for fact in asked.found.facts if fact not in facts)
    # Refusals were counted; that needs no window to judge a device by.
    counted = is_often(int(is_refused(failed).sum()), len(rows))
    unjudged = asked.found.standing == "inconclusive"
    return Answer(line, (*facts, *rest), standing="likely" if counted and unjudged else None)


ACCEPTED = re.compile(
    r"\b(?:accept\w*|acknowledg\w*|obey\w*|executed?|carried out|took effect|go through|went through"
    r"|succe\w+|angenommen|ausgefuehrt|acept\w*)\b"
)
_ANYONE = re.compile(
    r"\b(?:any(?:one|body)|some(?:one|body)|who) (?:ever )?"
    r"(?:answers?|replie[sd]|reply|responds?|picks? up)\b"
)
_FAR_END = re.compile(r"\b(?:other|far|remote|opposite) (?:side|end|party)\b")
_OUTCOME = re.compile(
    r"\b(?:they|those|these|any|it|all)\b.*\b(?:accepted|executed|successful|carried out|refused|rejected|denied)\b"
)
_SOME = re.compile(r"\b(?:any|others?|some|everything|remaining|rest|all)\b")
_EVERY = re.compile(r"\b(?:everything|all)\b")


def _some_requests(asked: Asked, rows: pd.DataFrame, failed: pd.DataFrame) -> Answer:
    """Whether anything is answered where an incident is: "do the other registers work?"."""
    incident = asked.incident
    assert incident is not None
    ends = [incident.device, *incident.peers]
    mine = rows["client"].isin(ends) & rows["server"].isin(ends)
    rows, failed = rows[mine], failed[failed.index.isin(rows.index[mine])]
    good = len(rows) - len(failed)
    all_fail = bool(_EVERY.search(asked.query.plain)) and asked.query.negative
    reply = asked.reply((good == 0) if all_fail else good > 0)
    line = say("requests_some_work", reply, n=good, asked=len(rows), failed=len(failed))
    facts = describe_requests(rows, asked.view, refused=True) if len(rows) else []
    return Answer(line, (*incident.facts, *facts))


def _all_attempts(asked: Asked) -> Answer:
    """Whether connections of the plant were accepted."""
    rows = asked.sessions
    if rows.empty:
        return Answer(say("count_no_sessions", "unclear", name=asked.name), asked.found.facts)
    failed = rows[rows["ended"].isin(_VAIN)]
    known = asked.incident.facts if asked.incident else ()
    facts = (*known, *describe_endings(rows, asked.view, _VAIN))
    # Accepted and closed before a word is no connection either.
    brief = rows["begun"] & (rows["end_s"] - rows["start_s"] <= _BRIEF_S)
    cut = rows[brief & (rows["server_bytes"] == 0) & rows["ended"].isin(["fin", "reset"])]
    well = failed.empty and cut.empty
    kind = (
        "attempts_some_fail" if len(failed) else "attempts_cut" if len(cut) else "attempts_succeed"
    )
    line = say(kind, asked.is_well(well), failed=len(failed), n=len(rows), cut=len(cut))
    return Answer(line, facts)
