"""Whether there is a shell from afar, or somebody behind a machine: by sessions at ports that are known for
them, where no incident tells more."""

import re
from dataclasses import replace

from assistant.answers.asked import Answer, Asked, begin, find_incidents, say
from assistant.diagnosis.shells import find_shell_sessions, read_shell_ports, shell_facts
from traffic.labels import ATTACKS

_SHELL = re.compile(
    r"\b(?:reverse|remote|bind|root) shells?\b|\bback ?-?doors?\b|\bmeterpreter\b|\bmetasploit\b|\btrojans?\b|\brats?\b"
    r"|\bhinterertuer\w*|\bpuerta trasera\b|\bshells? (?:open|opened|running|to|on|between)\b"
)
_NAMED = re.compile(r"\b(?:reverse|remote|bind|root) shells?\b|\bmeterpreter\b|\bmetasploit\b")
_INTRUDER = re.compile(
    r"\b(?:hackers?|hacked|intruders?|attackers?|broke in|broken into|compromis\w*|gehackt)\b"
)
_WHAT_IS = re.compile(r"\b(?:what|why|was|wofuer|que|known|used|uses?|for)\b")
_MOST = 4


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
        if not _NAMED.search(plain):
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
    first, *rest = shell_facts(view, *ends, most=_MOST)
    line = begin(first, "unclear") if asked.polar else first
    return Answer(
        replace(line, id=first.id),
        tuple(rest),
        about=str(rows["client"].iloc[0]),
        standing="inconclusive",
    )
