"""Who is at a machine from afar: who opened sessions of SSH, Telnet, RDP, VNC, whether there is a shell, who
commands a bot; as far as connections tell.

Whether a login succeeded is encrypted, or was not read; how long a session lasted and how much the server
sent says how likely it is. A server waits for a login only so long: LoginGraceTime of sshd_config(5), 120 s,
AUTH_TIMEOUT of Dropbear, 300 s. And Zeek took a session for one that was let in where its server sent 4,000
bytes (authentication_data_size in base/protocols/ssh/main.bro of Bro 2.2).
"""

import re
from dataclasses import replace
from typing import Any

import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say
from assistant.detection.incidents import Incident
from assistant.diagnosis.shells import find_shell_sessions, read_shell_ports, shell_facts
from assistant.diagnosis.standing import is_unanswered
from assistant.facts.fact import Fact, Value, listed
from assistant.facts.requests import is_login
from assistant.facts.traffic_view import TrafficView
from traffic.labels import ATTACKS

_MOST = 6
_PORTS = {22: "SSH", 23: "Telnet", 3389: "RDP", 5900: "VNC"}
_SERVICES = {"ssh": "SSH", "telnet": "Telnet", "rdp": "RDP", "rfb": "VNC"}
_ENCRYPTED = ("SSH", "RDP")
_GRACE_S, _LONGEST_GRACE_S = 120.0, 300.0
_LET_IN_BYTES = 4000
_VAIN = ("refused", "unanswered")
_NAMES = {
    "SSH": r"\bssh\b|\bputty\b|\bsecure shell\b", "Telnet": r"\btelnet\b",
    "RDP": r"\brdp\b|\bremote desktop\b|\bfernwartung\b|\bescritorio remoto\b", "VNC": r"\bvnc\b",
}  # fmt: skip
_ASKS = re.compile(
    r"\blog(?:ged|s|ging)? ?(?:in|on)\b|\blogins?\b|\bsessions?\b|\bconnect\w*|\bopen(?:s|ed|ing)?\b|\baccess\w*"
    r"|\b(?:into|onto)\b|\busing\b|\bshells?\b|\bsign(?:ed)? (?:in|on)\b|\bget(?:s|ting)? in\b|\bgot in\b"
    r"|\bc[ao]me in\b|\bwho\b|\bused?\b"
    r"|\bangemeldet\b|\beingeloggt\b|\banmeld\w*|\bsitzung\w*|\bsesion\w*|\bwer\b|\bquien\b|\bentro\b"
)
_INTO = re.compile(r"\b(?:in|into|on|onto|at|to|auf|en) dev\b")
_FROM = re.compile(r"\b(?:from|of|by|von|desde) dev\b|^(?:did|does|has) dev\b")
_KINDS = frozenset(
    ("encryption", "manual", "code", "before", "feedback", "help", "checks", "none", "meaning")
)


def answer_remote(asked: Asked) -> Answer | None:
    """Who opened sessions of the service that a question names, when, how long and how much; None where
    it names none, or where its logins were read or guessed, of which others tell."""
    plain, query = asked.query.plain, asked.query
    words = asked.question.lower()
    named = next((one for one, words_of in _NAMES.items() if re.search(words_of, words)), "")
    if not named or not _ASKS.search(plain) or (query.kind in _KINDS and not query.guessed):
        return None
    logins = asked.view.exchanges
    logins = logins[is_login(logins) & (logins["protocol"] == named.lower())]
    rows = _select(asked, named)
    if len(logins) or find_incidents(asked, ("brute_force",)):
        return None
    held = rows[~rows["ended"].isin(_VAIN) & rows["opened"]]
    if held.empty:
        return _tell_none(asked, named, rows)
    held = held.sort_values("judged", ascending=False, kind="stable")
    clients = list(dict.fromkeys(map(str, held["client"])))
    facts = [_tell_session(asked.view, named, one) for one in held.head(_MOST).to_dict("records")]
    first = held.iloc[0]
    kind = ("unlikely", "open", "likely")[int(first["judged"])]
    reply: Reply = "unclear" if asked.polar and kind == "open" else ""
    servers = list(dict.fromkeys(map(str, held["server"])))
    values: dict[str, Value] = {
        "clients": asked.view.names_of(clients), "servers": asked.view.names_of(servers), "service": named,
        "n": len(held), "hidden": say("remote_encrypted" if named in _ENCRYPTED else "remote_unread").text,
        **_values(first),
    }  # fmt: skip
    line = say(f"remote_{kind}", reply, **values)
    return Answer(line, tuple(facts), about=clients[0], standing="inconclusive")


def _select(asked: Asked, named: str) -> pd.DataFrame:
    """Sessions of a service between whom and when the question asks, parts of one joined, with
    ``judged``: 2 the login very likely succeeded, 1 it may have, 0 little speaks for it."""
    rows = asked.view.sessions
    for one in filter(None, (asked.device, asked.second)):
        rows = rows[(rows["client"] == one) | (rows["server"] == one)]
    if asked.device and not asked.second:
        side = "server" if _INTO.search(asked.query.plain) else "client"
        one_sided = side == "server" or _FROM.search(asked.query.plain)
        rows = rows[rows[side] == asked.device] if one_sided else rows
    if asked.span is not None:
        rows = rows[(rows["start_s"] <= asked.span.end_s) & (rows["end_s"] >= asked.span.start_s)]
    slots = asked.view.flow_slots.drop_duplicates("flow").set_index("flow")
    service = rows["flow"].map(slots["service"]).map(_SERVICES).astype(object)
    spoken = service.where(service.notna(), rows["port"].map(_PORTS))
    rows = rows[(spoken == named).to_numpy(bool)]
    return join_parts(
        rows.assign(sport=rows["flow"].map(slots["sport"])), encrypted=named in _ENCRYPTED
    )


def join_parts(rows: pd.DataFrame, *, encrypted: bool = True) -> pd.DataFrame:
    """Sessions of which a sensor saw parts, as one each: a later part of the same ports has no beginning.

    Args:
        rows: sessions with ``sport``, the client's port.
        encrypted: whether the sizes are those of an encrypted service.
    """
    rows = rows.sort_values("start_s", kind="stable")
    ends = ["client", "server", "port", "sport"]
    new = rows["begun"] | ~rows.duplicated(ends)
    # Each beginning of the same ports is another session.
    nth = new.groupby([rows[one].astype("str") for one in ends]).cumsum()
    whole = rows.groupby([*(rows[one].astype("str") for one in ends), nth], sort=False).agg(
        client=("client", "first"), server=("server", "first"), port=("port", "first"),
        start_s=("start_s", "min"), end_s=("end_s", "max"), begun=("begun", "first"), opened=("opened", "any"),
        ended=("ended", "last"), data_bytes=("data_bytes", "sum"), server_bytes=("server_bytes", "sum"),
        parts=("start_s", "size"),
    )  # fmt: skip
    whole = whole.reset_index(drop=True)
    span_s = whole["end_s"] - whole["start_s"]
    long = (span_s > _LONGEST_GRACE_S) & (whole["data_bytes"] > 0)
    much = (whole["server_bytes"] >= _LET_IN_BYTES) & encrypted
    likely = long | (much & (span_s > _GRACE_S))
    return whole.assign(judged=likely.astype(int) * 2 + (~likely & (much | (span_s > _GRACE_S))))


def _values(row: pd.Series) -> dict[str, Value]:
    return {
        "start_time_s": float(row["start_s"]), "end_time_s": float(row["end_s"]),
        "span_s": float(row["end_s"] - row["start_s"]), "server_bytes": float(row["server_bytes"]),
        "client_bytes": float(row["data_bytes"] - row["server_bytes"]), "grace_s": _GRACE_S,
        "longest_grace_s": _LONGEST_GRACE_S,
    }  # fmt: skip


def _tell_session(view: TrafficView, named: str, row: dict[str, Any]) -> Fact:
    """One session: who, with whom, when, how long, how much, and what is not known of it."""
    values = _values(pd.Series(row))
    parts = int(row["parts"])
    beside = [
        say("remote_begun_before").text if not row["begun"] else "",
        say("remote_parts", parts=parts).text if parts > 1 else "",
        say("remote_still").text if row["ended"] == "open" else "",
    ]
    more = listed([one for one in beside if one])
    server = view.port_at(str(row["server"]), int(row["port"]))
    return say(
        "remote_session", client=view.name_of(str(row["client"])), server=server, service=named,
        more=f"; {more}" if more else "", parts=parts, **values,
    )  # fmt: skip


def _tell_none(asked: Asked, named: str, rows: pd.DataFrame) -> Answer:
    """That nobody got a session, or tried to."""
    if rows.empty:
        port = next(number for number, name in _PORTS.items() if name == named)
        reply: Reply = "unclear" if asked.blind and asked.polar else asked.reply(False)
        line = say("remote_none", reply, service=named, name=asked.name, port=port)
        return Answer(line, asked.sensor, standing="inconclusive")
    clients = asked.view.names_of(dict.fromkeys(map(str, rows["client"])))
    reply = "unclear" if asked.blind and asked.polar else asked.reply(False)
    line = say("remote_vain", reply, n=len(rows), clients=clients, service=named, name=asked.name)
    return Answer(line, asked.sensor)


# ---- Shells ----

_MOST_SHELLS = 4
_SHELL = re.compile(
    r"\b(?:reverse|remote|bind|root) shells?\b|\bback ?-?doors?\b|\bmeterpreter\b|\bmetasploit\b|\btrojans?\b|\brats?\b"
    r"|\bhinterertuer\w*|\bpuerta trasera\b|\bshells? (?:open|opened|running|to|on|between)\b"
)
_SHELL_NAMED = re.compile(
    r"\b(?:reverse|remote|bind|root) shells?\b|\bmeterpreter\b|\bmetasploit\b"
)
_INTRUDER = re.compile(
    r"\b(?:hackers?|hacked|intruders?|attackers?|broke in|broken into|compromis\w*|gehackt)\b"
)
_WHAT_IS = re.compile(r"\b(?:what|why|was|wofuer|que|known|used|uses?|for)\b")


def answer_shell(asked: Asked) -> Answer | None:
    """What is known of sessions at ports that are known for shells; None where a question asks for none,
    an incident tells more, or there is none."""
    plain = asked.query.plain
    shell = bool(_SHELL.search(plain))
    of_port = asked.query.port in read_shell_ports() and bool(_WHAT_IS.search(plain))
    intruder = asked.polar and bool(_INTRUDER.search(plain))
    if not (shell or of_port or intruder):
        return None
    if not of_port and find_incidents(asked, ATTACKS):
        return None
    view = asked.view
    ends = [asked.device] if asked.device else []
    rows = find_shell_sessions(view, *ends)
    if of_port:
        rows = rows[rows["port"] == asked.query.port]
    if rows.empty:
        if not _SHELL_NAMED.search(plain):
            return None
        ports = sorted(read_shell_ports())
        values = {f"port{place}": float(port) for place, port in enumerate(ports)}
        line = say(
            "shell_none",
            "unclear" if asked.polar else "",
            name=asked.name,
            ports=", ".join(map(str, ports)),
            **values,
        )
        return Answer(line, asked.sensor, standing="inconclusive")
    first, *rest = shell_facts(view, *ends, most=_MOST_SHELLS)
    line = begin(first, "unclear") if asked.polar else first
    return Answer(
        replace(line, id=first.id),
        tuple(rest),
        about=str(rows["client"].iloc[0]),
        standing="inconclusive",
    )


# ---- Who commands a machine under foreign control ----

_COMMANDS = re.compile(
    r"\b(?:whom?|(?:what|which) (?:machine|server|host|address|ip)|wer|quien)\b.{0,40}"
    r"\b(?:command\w*|control(?:s|led|ling)?|steer\w*"
    r"|direct(?:s|ed|ing)|remote[- ]control\w*|gives? (?:it |him |them |dev )?(?:its |the |his )?orders|orders it"
    r"|runs it|behind (?:it|the bot\w*|dev)|kommandier\w*|befehl\w*|steuert|fernsteuer\w*|controla|comanda|manda)\b"
    r"|\bc ?(?:2|&|and) ?c?\b.*\b(?:server|address|host|peer)\b"
    r"|\b(?:controller|master|boss|operator|server|dev) of (?:the |this |that )?bot\w*"
    r"|\b(?:its|the) (?:command|c2|c&c|botnet) (?:server|controller|master|host)\b|\bbotmaster\b"
)
_OF_A_BOT = re.compile(
    r"\b(?:it|him|them|that thing|bots?|botnet\w*|malware|infected|camera|thing)\b"
)


_OF_THE_BOT = re.compile(r"\bdev of (?:the |this |that )?bot\w*")


def answer_commander(asked: Asked) -> Answer | None:
    """Whom a machine that shows a controller takes its commands from; None where that is not asked, or
    no machine that is meant shows one."""
    plain = asked.query.plain
    if not _COMMANDS.search(plain):
        return None
    found = [one for one in find_incidents(asked, ("c2",)) if one.peers and one.role != "target"]
    if asked.device and not _OF_THE_BOT.search(plain):  # "the controller of the bot" is no PLC
        found = [one for one in found if one.device == asked.device]
    elif not _OF_A_BOT.search(plain) and "bot" not in plain:
        return None  # "who controls the valves?" asks who writes
    if not found:
        return None
    meant = next((one for one in found if asked.focus and one.id == asked.focus.id), found[0])
    ends = {one.device: one for one in reversed(found)}
    others = tuple(one.facts[0] for one in ends.values() if one is not meant)
    return Answer(_name_commander(asked, meant), (*meant.facts, *others), about=meant.device)


def _name_commander(asked: Asked, incident: Incident) -> Fact:
    first = incident.facts[0]
    controller = first.values.get("controller") or first.values.get("target")
    values: dict[str, Value] = {
        "controller": str(controller or asked.view.name_of(incident.peers[0])),
        "name": asked.view.name_of(incident.device),
    }
    return say(
        "commander_silent" if is_unanswered(incident.label, incident.facts) else "commander",
        **values,
    )
