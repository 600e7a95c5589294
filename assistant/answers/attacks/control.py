"""Who commands a machine under foreign control: the far end that it calls, and nobody who writes to it."""

import re

from assistant.answers.asked import Answer, Asked, find_incidents, say
from assistant.detection.incidents import Incident
from assistant.diagnosis.standing import is_unanswered
from assistant.facts.fact import Fact, Value

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
    return Answer(_name(asked, meant), (*meant.facts, *others), about=meant.device)


def _name(asked: Asked, incident: Incident) -> Fact:
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
