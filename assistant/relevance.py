"""Which incidents a question means: by the devices it names, then by the symptom it speaks of, then the worst."""

from typing import TYPE_CHECKING

from assistant.questions.entities import Asked, worst_first

if TYPE_CHECKING:
    from assistant.detection.incidents import Incident
    from assistant.detection.pipeline import Analysis

__all__ = ["choose_incidents"]

# What operators say of a symptom -> labels it speaks of; these incidents come first.
_SYMPTOMS: dict[str, tuple[str, ...]] = {
    "scan": ("recon",), "flood": ("dos", "ddos"), "login": ("brute_force",), "password": ("brute_force",),
    "beacon": ("c2",), "botnet": ("c2", "ddos"), "malware": ("c2", "ddos"), "upload": ("exfiltration", "congestion"),
    "data": ("exfiltration",), "slow": ("congestion", "packet_loss"), "lag": ("congestion", "packet_loss"),
    "dns": ("name_resolution",), "name": ("name_resolution",), "offline": ("device_silent", "service_down"),
    "silent": ("device_silent",), "answer": ("device_silent", "service_down"), "refuse": ("service_down",),
    "download": ("device_silent", "service_down"), "disconnect": ("flapping",), "reconnect": ("flapping",),
    "write": ("unauthorized_command",), "mqtt": ("mqtt_abuse",), "broker": ("mqtt_abuse",),
}  # fmt: skip


def choose_incidents(question: str, asked: Asked, analysis: "Analysis") -> "list[Incident]":
    """Incidents of the devices that were asked for, or that touch them; of everybody, where nobody was asked for."""
    words = question.lower()
    fitting = {label for symptom, labels in _SYMPTOMS.items() if symptom in words for label in labels}
    ordered = worst_first(list(analysis.incidents))
    ordered.sort(key=lambda one: one.label not in fitting)
    targets = asked.devices[:1] or asked.peers
    if not targets:
        return ordered
    own = [one for one in ordered if one.device in targets]
    return own + [one for one in ordered if one not in own and set(targets) & {*one.peers, *one.related}]
