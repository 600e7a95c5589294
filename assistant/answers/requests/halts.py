"""Who told a controller to stop or to start anew, where no incident tells it: an allowed one did, or nobody."""

import re
from dataclasses import replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, find_incidents, say, tell_incident
from assistant.answers.attacks.denials import deny
from assistant.answers.plant.descriptions import describe_requests, name_function
from assistant.facts.fact import Value, kind_of, listed
from assistant.questions.plain import DEVICE
from traffic.pcap.protocols import BY_NAME

_DONE = (
    r"(?:stopped|halted|paused|reset|restarted|rebooted|angehalten|gestoppt|zurueckgesetzt|neu gestartet"
    r"|detenid[oa]|parad[oa]|reiniciad[oa])"
)
_CONTROLLER = (
    rf"(?:{DEVICE}|(?:the |our |a )?(?:plcs?|controllers?|cpus?|rtus?)|die (?:sps|steuerung))"
)
_HALT = re.compile(
    rf"\bwho (?:has |had )?(?:stops?|halts?|pauses|resets|restarts|reboots|{_DONE}) {_CONTROLLER}\b"
    rf"|\bwer hat {_CONTROLLER} {_DONE}\b|\bquien (?:ha )?(?:paro|detuvo|reinicio|{_DONE})\b"
    rf"|^(?:and )?(?:was|were|has|is|did) (?:\w+ )?{_CONTROLLER} (?:been |ever )?{_DONE}\b"
    r"|^(?:did|has) (?:any(?:one|body)|some(?:one|body))"
    rf" (?:stop|halt|pause|reset|restart|reboot|{_DONE}) {_CONTROLLER}"
    rf"|^(?:wurde|ist|fue) {_CONTROLLER} {_DONE}\b"
)


def answer_halt(asked: Asked) -> Answer | None:
    """Who did it, or that nobody was seen to; None where that is not asked, an incident tells it, or no
    protocol that has such commands was read."""
    rows = asked.requests
    if not _HALT.search(asked.query.plain) or asked.second:
        return None
    for incident in find_incidents(asked, ("unauthorized_command",)):
        if any(kind_of(one) == "interrupt" for one in incident.facts):
            return tell_incident(incident)
    if asked.incident is not None:
        return None
    rows = rows[rows["server"] == asked.device] if asked.device else rows
    told = pd.Series(data=False, index=rows.index)
    known, unknown = False, False
    for name in rows["protocol"].unique():
        protocol, of_it = BY_NAME[str(name)], rows["protocol"] == name
        known |= bool(protocol.interrupts)
        unknown |= not rows.loc[of_it, "function"].isin([-1, *protocol.functions]).all()
        told |= of_it & rows["function"].isin(protocol.interrupts)
    if not known:
        return None
    mine = rows[told & (rows["kind"] == "control")]
    if mine.empty:
        denied = deny(asked, "nobody_stop")
        # What nobody has described may be it.
        line = say("nobody_stop", "unclear", **denied.line.values) if unknown else denied.line
        return replace(denied, line=line)
    words = (
        name_function(str(name), int(function))
        for name, function in zip(mine["protocol"], mine["function"], strict=True)
    )
    clients, servers = (
        mine[end].astype("str").value_counts().index for end in ("client", "server")
    )
    values: dict[str, Value] = {
        "clients": asked.view.names_of(clients), "servers": asked.view.names_of(servers), "n": len(mine),
        "what": listed(dict.fromkeys(words)), "at_time_s": float(mine["ts"].iloc[-1]),
        "accepted": int((mine["outcome"] == "answered").sum()),
    }  # fmt: skip
    line = say("halted", asked.reply(True), **values)
    return Answer(line, tuple(describe_requests(mine, asked.view, refused=True)))
