"""That nobody was seen to do something: said with how long and how much was looked at."""

from assistant.answers.asked import Answer, Asked, Reply, begin, find_incidents, say
from assistant.answers.plant.descriptions import describe_endings
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import END, measure_part

_SHOWN_BY_FLOWS = ("nobody_talk", "nobody_outside", "nobody_scan", "nobody_attack")
# What an incident tells of though no request of the kind was read: who is turned away at the door asks
# nothing.
_CONTRARY = {
    "refuse": ("service_down", "brute_force"), "login": ("brute_force",), "publish": ("mqtt_abuse",),
    "write": ("unauthorized_command",), "scan": ("recon",), "aspect": ("name_resolution",),
}  # fmt: skip


def find_contrary(asked: Asked, kind: str) -> list[Incident]:
    """Incidents of the kind that would be denied, at the device that is asked about or at all."""
    if asked.second and kind.startswith("nobody_refuse"):
        return []
    found = find_incidents(asked, _CONTRARY.get(kind.split("_")[1], ()))
    device, view = asked.device, asked.view
    return [one for one in found if not device or measure_part(one, device, view) >= END]


def deny(asked: Asked, kind: str) -> Answer:
    """Nobody was seen to do it: said with how long and how much was looked at; not that nobody did
    where the sensor was blind, or no content was read that would show it."""
    if not asked.view.seen_s > 0:  # NaN: no slot has traffic
        return Answer(say("nobody_no_ip", asked.reply(False)), asked.found.facts)
    if known := find_contrary(asked, kind):
        rest = tuple(one.facts[0] for one in known[1:])
        refused = describe_endings(asked.sessions, asked.view, ("refused",))
        shown = refused if kind.startswith("nobody_refuse") else []
        line = begin(known[0].facts[0], asked.reply(True))
        return Answer(line, (*known[0].facts[1:], *rest, *shown))
    unread = asked.requests.empty and kind not in _SHOWN_BY_FLOWS
    reply: Reply = "unclear" if asked.blind or unread else asked.reply(False)
    read, seen_s = len(asked.requests), asked.view.span_s
    return Answer(say(kind, reply, name=asked.name, seen_s=seen_s, read=read), asked.sensor)
