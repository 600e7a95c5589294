"""Which devices a question is about, beyond those that it names: "it", "the other side", "which one of them"."""

import re
from dataclasses import replace

from assistant.answers.incidents.since import STILL_THERE
from assistant.answers.topics import CULPRIT
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.choosing import find_culprits, find_run, find_targets
from assistant.diagnosis.investigate import Investigation
from assistant.questions.entities import Mention, list_machines
from assistant.questions.plain import DEVICE
from assistant.questions.queries import Query

_WHICH_ONE = re.compile(
    r"(?:and )?(?:which|what|welche\w*|que|cual) (?!is\b|was\b|are\b|does\b|did\b)\w+"
)
_IT = re.compile(r"\b(?:it|he|she|er|sie)\b")
_VICTIM = re.compile(r"\b(?:target|victim|attacked|scanned|opfer|ziel|victima|objetivo)\b")
_CULPRIT = re.compile(rf"\b(?:{CULPRIT})\b")
_THIS = re.compile(
    rf"\b(?:(?:this|the|that|my|our) (?:device|machine|host|thing|box)|it|its|{DEVICE})\b"
)
_OTHER_SIDE = re.compile(
    r"\b(?:other|far|remote|opposite) (?:side|end|party|machine|one|client|device|host|sensor)\b"
)
_OF_IT = ("answers", "does", "who", "count", "loss")
_OF_NO_DEVICE = ("sensor", "dns", "zones", "place")


def choose_devices(found: Investigation, query: Query, analysis: Analysis) -> Investigation:
    """The same about the devices that the question is about: not always those whose kind it names."""
    mention, of_kind = found.mention, not query.names_device
    all_of_them = query.kind == "count" and len(mention.devices) > 1
    asks_which = query.kind == "who" and bool(_WHICH_ONE.match(query.plain))
    if of_kind and (all_of_them or asks_which):
        # "how often are the plcs polled?" is asked of all, "which broker refuses?" asks which.
        mention = Mention()
    if found.incident is not None and (meant := _find_meant(found.incident, mention, query)):
        mention = Mention((meant,))
    machines = list_machines(analysis)
    nobody = not (mention.devices or mention.peers or mention.missing)
    if nobody and len(machines) == 1 and _THIS.search(query.plain):
        mention = Mention(tuple(machines))  # "what does the camera do?", of a capture of one device
    # "sensor" and "name server" name no device then, so that none is missed.
    notes = found.notes[1:] if query.kind in _OF_NO_DEVICE and mention.kind else found.notes
    return replace(found, mention=mention, notes=notes)


def _find_meant(incident: Incident, mention: Mention, query: Query) -> str:
    """The end of an incident that words such as "it" and "the other side" mean; "" for none."""
    plain, named = query.plain, query.names_device
    counted = query.kind == "count" and query.measure == "devices"  # "one attacker or several?"
    of_one = (query.kind in _OF_IT or bool(STILL_THERE.search(plain))) and not counted
    if not named and query.kind != "who" and _VICTIM.search(plain):
        return next(iter(find_targets(incident)), "")  # "which services run on the target?"
    if not named and query.kind != "who" and of_one and _CULPRIT.search(plain):
        return find_culprits(incident)[0]
    if _OTHER_SIDE.search(plain):  # "does the other side answer?"
        meant = next(iter(mention.devices), incident.device)
        ends = (one for one in (incident.device, *incident.peers) if one != meant)
        return "" if named else next(ends, "")
    if not (of_one and mention == Mention() and _IT.search(plain)):
        return ""
    return find_run(incident, query) or incident.device
