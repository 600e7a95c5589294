"""Decide whose fault a failed command was, from the packets around it; the manual comes after.

    named? ─▶ seen? ─▶ sent? ─▶ received? ─▶ answered? ─▶ with which code? ─▶ what does the manual say?
    command   blind    command  network,     device        command, device     of this device's codes
                                device

Each step ends in a reason (``reasons.yaml``), which has its blame. A manual may say what a code means
at its own device, or that a register is not there; what was counted it never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd

from assistant.facts.fact import Fact, Proof, Value, make_fact
from assistant.facts.requests import OUTCOMES
from assistant.facts.sensor import find_blindness
from assistant.locate.around import Around, Scene
from assistant.locate.commands import FailedCommand
from assistant.locate.manual import Quoted, read_manual
from knowledge_base.index import Index
from traffic.files import Strict, read_yaml
from traffic.pcap.protocols import BY_NAME

Blame = Literal["network", "device", "command", "inconclusive"]
_SLOW_S = 0.5  # an answer that took as long is late by itself
_LOST = 1  # packets sent again that explain a command without an answer
_MANY = 3  # devices quiet at once
_MOST_FRAMES = 5
_WAITED = ("timeout", "connect", "reset")  # errors of who had sent something


class _Reason(Strict):
    blame: Blame
    text: str
    checks: tuple[str, ...]
    sure: bool = False


@cache
def read_reasons() -> Mapping[str, _Reason]:
    """Every reason, by its name."""
    path = Path(__file__).with_name("reasons.yaml")
    return read_yaml(path, dict[str, _Reason], "why commands fail")


@dataclass(frozen=True)
class Located:
    """Whose fault a failed command was.

    Attributes:
        id: the agent's number of it, "" where it gave none.
        device, source: addresses; "" where unknown.
        at_s: when it was sent.
        verdict: ``network``, ``device``, ``command``, or ``inconclusive``.
        reason: a key of ``reasons.yaml``.
        text: one sentence.
        evidence: what was counted around it, with frames and display filters.
        checks: what to do, in order.
        quoted: the places of the device's manual that say more.
        without_manual: the verdict of the packets alone.
    """

    id: str
    device: str
    source: str
    at_s: float
    verdict: Blame
    reason: str
    text: str
    evidence: tuple[Fact, ...]
    checks: tuple[str, ...]
    quoted: tuple[Quoted, ...] = ()
    without_manual: Blame = "inconclusive"


@dataclass(frozen=True)
class _Finding:
    """A reason with the values of its sentence, and the exchange that shows it."""

    reason: str
    values: dict[str, Value]
    row: pd.Series | None = None


def locate(command: FailedCommand, scene: Scene, index: Index | None = None) -> Located:
    """Say whose fault a failed command was.

    Args:
        command: as the agent tells of it.
        scene: the capture.
        index: the knowledge base; None to decide by the packets alone.
    """
    around = Around(scene, command)
    found = _find(around)
    reason, view = read_reasons()[found.reason], scene.view
    told = {
        "device": view.name_of(around.device) if around.device else command.device,
        "source": view.name_of(around.source) if around.source else "the agent",
        "asked": command.device,
        **found.values,
    }
    located = Located(
        id=command.id,
        device=around.device,
        source=around.source,
        at_s=command.time,
        verdict=reason.blame,
        reason=found.reason,
        text=make_fact(found.reason, reason.text, told).text,
        evidence=tuple(_evidence(around, found)),
        checks=tuple(make_fact("check", one, told).text for one in reason.checks),
        without_manual=reason.blame,
    )
    if index is None or not around.device or located.verdict in ("network", "inconclusive"):
        return located
    said = read_manual(index, scene, around, found.row, found.reason, reason.sure)
    blame = said.blame or located.verdict
    text = f"{located.text} {said.text}".strip()
    checks = (*said.checks, *located.checks) if blame != located.verdict else located.checks
    return replace(located, verdict=blame, text=text, checks=checks, quoted=said.quoted)


def _find(around: Around) -> _Finding:
    """The first reason that holds, from the name of the device to its answer."""
    if not around.covered:
        return _Finding("not_covered", {"at_time_s": around.command.time})
    if len(around.lookups) and not (around.device and len(around.between)):
        outcome = around.lookups["outcome"]
        codes = around.lookups["code"]
        if ((outcome == "refused") & (codes == 3)).any():
            return _Finding("name_unknown", {}, around.lookups.iloc[-1])
        if not (outcome == "answered").any():
            failed = int((outcome == "refused").sum())
            values: dict[str, Value] = {"tries": len(outcome), "failed": failed}
            values["unanswered"] = int((outcome == "unanswered").sum())
            return _Finding("name_failed", values, around.lookups.iloc[-1])
    if not around.device:
        return _Finding("unknown_device" if around.scene.inventory else "unknown_name", {})
    if _is_blind(around):
        return _Finding("blind", {})
    if len(around.matching):
        return _judge_exchange(around)
    if len(around.published):
        return _judge_published(around)
    return _judge_connection(around)


def _is_blind(around: Around) -> bool:
    quality = around.view.quality
    if find_blindness(quality, around.device, around.view.seen_s) in ("one_way", "cut"):
        return True
    holes = quality.holes[quality.holes["kind"] != "clock back"]
    inside = (holes["start_s"] <= around.end_s) & (holes["end_s"] >= around.start_s)
    return bool(inside.any())


def _judge_exchange(around: Around) -> _Finding:
    """The request itself was seen: what became of it."""
    rows = around.matching
    outcome = rows["outcome"].astype(str)
    for kind in ("malformed", "refused"):
        if (outcome == kind).any():
            row = rows[(outcome == kind).to_numpy()].iloc[-1]
            return _judge_refusal(around, row) if kind == "refused" else _Finding(
                "malformed", {"protocol": str(row["protocol"])}, row
            )  # fmt: skip
    good = rows[outcome.isin(["answered", "told"]).to_numpy()]
    waiting = rows[(outcome == "unanswered").to_numpy()]
    if len(waiting) and (good.empty or waiting["ts"].max() > good["ts"].max()):
        return _judge_silence(around, waiting)
    if good.empty:
        return _Finding("unseen", {}, rows.iloc[-1])
    row = good.iloc[-1]
    later = around.sessions
    later = later[(later["start_s"] > row["ts"]) & (later["ended"] == "unanswered")]
    if len(later) and not later["opened"].any():  # the next step of the command failed
        tried: dict[str, Value] = {"tries": len(later), "port": int(later["port"].iloc[-1])}
        return _judge_unanswered_port(around, tried)
    delay_s = float(good["delay_s"].max()) if good["delay_s"].notna().any() else 0.0
    waited_s = (around.command.until or float("inf")) - float(row["ts"])
    resent = around.count("retransmission", around.device, around.source)
    if around.error == "timeout" and delay_s > min(_SLOW_S, max(waited_s, 0.0)):
        values: dict[str, Value] = {"delay_s": delay_s, "resent": resent}
        return _Finding("loss_late" if resent >= _LOST else "slow", values, row)
    if around.error in _WAITED and resent >= _LOST:  # another step of the command was lost
        return _Finding("loss", {"resent": resent}, row)
    return _Finding("answered", {"delay_s": delay_s}, row)


def _judge_refusal(around: Around, row: pd.Series) -> _Finding:
    protocol, code = BY_NAME[str(row["protocol"])], int(row["code"])
    words = protocol.say_code(code, protocol.refusals.get(code, "no word for it"))
    values: dict[str, Value] = {"code": words, "unit": int(row["unit"])}
    if code in protocol.gone:
        units = _units_of(around, row)
        absent = row["unit"] >= 0 and not units.get(int(row["unit"])) and any(units.values())
        return _Finding("unit_absent" if absent else "behind", values, row)
    if code in protocol.busy:
        return _Finding("refused_busy", values, row)
    return _Finding("refused_device" if code in protocol.failed else "refused_command", values, row)


def _units_of(around: Around, row: pd.Series) -> dict[int, bool]:
    """Whether each unit behind the device that anybody asked ever answered."""
    rows, gone = around.view.exchanges, BY_NAME[str(row["protocol"])].gone
    rows = rows[(rows["server"] == around.device) & (rows["protocol"] == row["protocol"])]
    lives = (rows["outcome"] == "answered") | (
        (rows["outcome"] == "refused") & ~rows["code"].isin(gone)
    )
    return {int(u): bool(any_) for u, any_ in lives.groupby(rows["unit"]).any().items()}


def _judge_silence(around: Around, waiting: pd.DataFrame) -> _Finding:
    """The request was seen and nothing answered it."""
    row = waiting.iloc[-1]
    values: dict[str, Value] = {"tries": len(waiting), "unit": int(row["unit"])}
    resent = around.count("retransmission", around.device, around.source)
    # A request over TCP that was not sent again was confirmed: whoever did that lives.
    confirmed = not resent and (around.view.sessions["flow"] == row["flow"]).any()
    if not confirmed and around.is_silent(around.device):
        return _judge_quiet(around, len(waiting) + resent)
    if resent >= _LOST:
        return _Finding("loss", {"resent": resent}, row)
    units = _units_of(around, row)
    if row["unit"] >= 0 and any(lives for unit, lives in units.items() if unit != row["unit"]):
        return _Finding("unit_gone" if units.get(int(row["unit"])) else "unit_absent", values, row)
    return _Finding("hung", values, row)


def _judge_quiet(around: Around, tries: int) -> _Finding:
    """The device was not heard after the command: alone, with others, or never at all."""
    scene, device = around.scene, around.device
    quiet = scene.gone_quiet(around.command.time)
    if device in quiet and len(quiet) >= _MANY:
        return _Finding("many_silent", {"silent": len(quiet)})
    if not len(scene.heard_slots(device)) and device not in scene.inventory:
        return _Finding("unknown_address", {"tries": tries})
    return _Finding("device_silent", {"tries": tries})


def _judge_published(around: Around) -> _Finding:
    """The command went through a broker: did the broker take it, and pass it on?"""
    rows = around.published
    refused = rows[(rows["outcome"] == "refused").to_numpy()]
    if len(refused):
        return _judge_refusal(around, refused.iloc[-1])
    row, broker = rows.iloc[-1], str(rows["server"].iloc[-1])
    if row["outcome"] == "unanswered":
        through = Around(around.scene, around.command.model_copy(update={"device": broker}))
        return _judge_silence(through, rows)
    passed = around.view.exchanges
    passed = passed[(passed["client"] == broker) & (passed["server"] == around.device)]
    passed = passed[(passed["name"] == around.command.name) & (passed["ts"] >= around.start_s)]
    if len(passed):
        return _Finding("target_deaf", {}, row)
    if around.is_connected_to(broker, float(row["ts"])):
        return _Finding("nobody_listens", {"name": around.command.name}, row)
    return _Finding("target_offline", {}, row)


def _judge_connection(around: Around) -> _Finding:
    """No request was seen: did a connection come about, or was anything sent at all?"""
    rows, view = around.sessions, around.view
    if len(rows):
        ended, port = rows["ended"].astype(str), int(rows["port"].iloc[-1])
        tried: dict[str, Value] = {"tries": len(rows), "port": port}
        if (ended == "refused").any():
            return _judge_refused_port(around, tried)
        if (ended == "unanswered").any() and not rows["opened"].any():
            return _judge_unanswered_port(around, tried)
        closed = (rows["ended_by"].astype(str) == "server") | (ended == "reset")
        if closed.any() and not len(around.between):
            return _Finding("closed", tried)
    tries = around.count("arp_unanswered", around.source, around.device, both=False)
    resent = around.count("retransmission", around.device, around.source)
    if around.source and (tries or (resent and around.error in _WAITED)):
        if tries and around.is_silent(around.device):
            return _judge_quiet(around, tries)
        return _Finding("loss", {"resent": resent + tries})
    told = around.count("unreachable", around.device, around.source)
    if told:
        return _Finding("no_route", {"told": told})
    if not around.source:
        return _Finding("unknown_source", {})
    if around.error in (*_WAITED, "refused") and not len(around.between):
        # Who waited for an answer, or got one, had sent something: the sensor saw none of it.
        if not around.is_heard_in(around.source) or around.is_silent(around.source):
            known = len(around.scene.heard_slots(around.source))
            return _Finding("source_gone" if known else "path_unseen", {})
        return _Finding("never_sent" if around.met_before() else "path_unseen", {})
    if around.is_heard_in(around.source) or around.met_before():
        return _Finding("never_sent", {})
    seen = len(view.flow_slots) and around.source in view.heard
    return _Finding("never_sent" if seen else "path_unseen", {})


def _judge_refused_port(around: Around, tried: dict[str, Value]) -> _Finding:
    rows = around.view.sessions
    rows = rows[(rows["server"] == around.device) & rows["opened"]]
    port = tried["port"]
    here = rows[rows["port"] == port]
    now = here[(here["start_s"] <= around.command.time) & (here["end_s"] >= around.end_s)]
    if len(now):
        return _Finding("refused_full", tried | {"others": len(now)})
    usual = any(port in protocol.ports for protocol in BY_NAME.values())
    others = rows.loc[rows["port"] != port, "port"]
    if here.empty and len(others) and not usual:
        return _Finding("refused_port", tried | {"other_port": int(others.mode().iloc[0])})
    return _Finding("refused_service", tried)


def _judge_unanswered_port(around: Around, tried: dict[str, Value]) -> _Finding:
    """Nothing answers attempts to connect."""
    told = around.count("unreachable", around.device, around.source)
    silent = around.is_silent(around.device)
    if told and silent:
        return _Finding("no_route", {"told": told})
    if silent or not len(around.scene.heard_slots(around.device)):
        return _judge_quiet(around, int(tried["tries"]))
    resent = around.count("retransmission", around.device, "")
    others = around.view.exchanges
    others = around.select(others, "server", around.device)
    others = others[others["client"] != around.source]
    if resent > around.count("retransmission", around.device, around.source) and len(others):
        return _Finding("loss", {"resent": resent})
    return _Finding("filtered", tried)


# ---- What was counted around the command ----

_SENTENCES = {
    "asked": "{source} sent {device} {n:request} over {protocol} around it: {answered} answered, "
    "{refused} refused, {unanswered} without an answer.",
    "itself": "The request itself was {outcome} at {at_time_s}.",
    "sessions": "{source} opened {n:connection} to {device} around it: {refused} refused, "
    "{unanswered} without an answer, {opened} accepted.",
    "arp": "{n:ARP query} of {source} for {device} went unanswered.",
    "resent": "{n:packet} between {source} and {device} had to be sent again.",
    "nothing": "No packet from {source} to {device} is in the capture between {start_time_s} and "
    "{end_time_s}.",
    "others": "{device} answered {n:request} of others meanwhile.",
}


def _evidence(around: Around, found: _Finding) -> list[Fact]:
    view, device, source = around.view, around.device, around.source
    if not device or not around.covered:
        return []
    named: dict[str, Value] = {
        "device": view.name_of(device), "source": view.name_of(source) if source else "the agent",
    }  # fmt: skip
    facts = []

    def add(kind: str, rows: pd.DataFrame | None = None, **values: Value) -> None:
        proof = _prove(around, rows) if rows is not None else None
        facts.append(make_fact(kind, _SENTENCES[kind], named | values, proof=proof))

    rows, opened = around.between, around.sessions
    if len(rows):
        counts = rows["outcome"].astype(str).value_counts()
        shown = {name: int(counts.get(name, 0)) for name in OUTCOMES}
        add("asked", rows, n=len(rows), protocol=str(rows["protocol"].iloc[0]), **shown)
    if found.row is not None and found.row["frame"]:
        one = pd.DataFrame([found.row])
        add("itself", one, outcome=str(found.row["outcome"]), at_time_s=float(found.row["ts"]))
    if len(opened):
        ended = opened["ended"].astype(str)
        counted = {name: int((ended == name).sum()) for name in ("refused", "unanswered")}
        add("sessions", n=len(opened), opened=int(opened["opened"].sum()), **counted)
    if source and (n := around.count("arp_unanswered", source, device, both=False)):
        add("arp", n=n)
    if source and (n := around.count("retransmission", device, source)):
        add("resent", n=n)
    if source and not facts:
        add("nothing", start_time_s=around.start_s, end_time_s=around.end_s)
    others = around.select(view.exchanges, "server", device)
    others = others[(others["client"] != source) & (others["outcome"] == "answered")]
    if source and len(others):
        add("others", n=len(others))
    return facts


def _prove(around: Around, rows: pd.DataFrame) -> Proof | None:
    """Where exchanges are in the packets; None where the capture has none."""
    frames = [int(one) for name in ("frame", "answer_frame") for one in rows[name] if one]
    if not frames:
        return None
    ends = f"ip.addr == {around.device}"
    if around.source:
        ends += f" && ip.addr == {around.source}"
    kept = sorted(set(frames))
    kept = kept[: _MOST_FRAMES - 1] + kept[-1:] if len(kept) > _MOST_FRAMES else kept
    ipv6 = ":" in around.device
    return Proof(ends.replace("ip.addr", "ipv6.addr") if ipv6 else ends, tuple(kept))
