"""The page of one device: what it sent and got, how fast it is answered, what went wrong, with whom
it talks, and what is different from before."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from assistant.answers.answer import answer
from assistant.app.subject import Subject
from assistant.app.views.alarms import name_label
from assistant.app.views.markup import render
from assistant.detection.pipeline import Analysis
from assistant.facts.devices import name_service
from assistant.facts.moments import Clock
from assistant.history import History
from traffic.capture import SAMPLE_S
from traffic.samples import TROUBLE

_MOST_PEERS, _MOST_ROWS = 12, 40
_TROUBLES = {
    "unanswered": ("unanswered_out", "unanswered_in", "udp_unanswered_out", "udp_unanswered_in",
                   "arp_unanswered_out", "arp_unanswered_in"),
    "refused": ("refused_out", "refused_in", "mqtt_refused", "modbus_exceptions", "unreachable"),
    "reset": ("resets",),
    "sent again": ("retransmissions", "zero_windows"),
}  # fmt: skip
_UNSEEN_S = 2.0  # of a slot: less of it would look like a fall


@dataclass(frozen=True)
class Curves:
    """What a device did over time, for the plots; ``time`` is the plant's local time.

    Attributes:
        rates: ``time value kind``: kilobytes in ten seconds, sent and received.
        troubles: ``time value kind``: how many attempts failed in ten seconds, by how.
        delays: ``time value kind``: milliseconds until an answer, the median of ten seconds.
    """

    rates: pd.DataFrame
    troubles: pd.DataFrame
    delays: pd.DataFrame


def make_curves(
    analysis: Analysis, device: str, zone: str, span: tuple[float, float] | None = None
) -> Curves:
    """The curves of one device.

    Args:
        analysis: of the capture or the recent past.
        device: address.
        zone: of the clock, an IANA name.
        span: the part of the time that is shown, seconds since the epoch; all of it by default.
    """
    start_s, end_s = span or (analysis.capture.start_s, analysis.capture.end_s)
    mine = analysis.samples[analysis.samples["device"] == device]
    mine = mine[mine["start_s"].between(start_s, end_s)]
    time = _local(mine["start_s"], zone)
    whole = whole_slots(mine["start_s"], analysis)
    sent, received = (mine.loc[whole, name] / 1e3 for name in ("out_bytes", "in_bytes"))
    kilobytes = {"sent": sent, "received": received}
    known = {kind: mine[list(names)].sum(axis=1) for kind, names in _TROUBLES.items()}
    rest = mine[list(TROUBLE)].sum(axis=1) - sum(known.values())
    troubles = {kind: counts for kind, counts in (known | {"other": rest}).items() if counts.any()}
    asked = analysis.view.exchanges
    asked = asked[
        ((asked["server"] == device) | (asked["client"] == device)) & asked["delay_s"].notna()
    ]
    asked = asked[asked["ts"].between(start_s, end_s)]
    side = asked["server"].eq(device).map({True: "it answers", False: "it is answered"})
    slot_s = (asked["ts"] // SAMPLE_S) * SAMPLE_S
    medians = (asked["delay_s"] * 1e3).groupby([slot_s, side]).median().unstack()
    # Where nobody was answered the line breaks: it must not lead across as if somebody had been.
    delays = medians.reindex(mine["start_s"].to_numpy()).rename_axis("time").reset_index()
    delays = delays.melt("time", var_name="kind", value_name="value")
    delays["time"] = _local(delays["time"], zone)
    return Curves(
        _stack(time[whole], kilobytes), _stack(time, troubles), delays[["time", "value", "kind"]]
    )


def whole_slots(slot_s: pd.Series, analysis: Analysis) -> pd.Series:
    """Which slots were seen from their beginning to their end, as the open one was not; all of them
    where no slot was."""
    seen = analysis.view.flow_slots
    first_s, last_s = seen["since_s"].min() - _UNSEEN_S, seen["until_s"].max() + _UNSEEN_S
    whole = (slot_s >= first_s) & (slot_s + SAMPLE_S <= last_s)
    return whole | (not whole.any())


def _local(seconds: pd.Series, zone: str) -> pd.Series:
    """Moments as a clock on the wall of the plant shows them."""
    return pd.to_datetime(seconds, unit="s", utc=True).dt.tz_convert(zone).dt.tz_localize(None)


def _stack(time: pd.Series, columns: dict[str, pd.Series]) -> pd.DataFrame:
    parts = [pd.DataFrame({"time": time, "value": one, "kind": kind}) for kind, one in columns.items()]  # fmt: skip
    empty = pd.DataFrame({"time": time[:0], "value": pd.Series(dtype=float), "kind": pd.Series(dtype=str)})  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else empty


@dataclass(frozen=True)
class PeerRow:
    """What a device has with one other: ``share`` is of the busiest one's packets, for a bar."""

    name: str
    address: str
    own: bool
    services: str
    pkts: int
    share: float


def list_peers(analysis: Analysis, device: str) -> list[PeerRow]:
    """Those a device talks to, the busiest first."""
    view = analysis.view
    peers = view.peers_of(device).sort_values("pkts", ascending=False, kind="stable")
    flows = view.flows_of(device)
    found = []
    for address, row in peers.head(_MOST_PEERS).iterrows():
        theirs = flows[flows["other"] == address]
        ports = theirs.groupby(["proto", "port"]).size().sort_values(ascending=False).index[:3]
        services = ", ".join(
            dict.fromkeys(name_service(str(proto), int(port)) for proto, port in ports)
        )
        name = str(address)
        found.append(
            PeerRow(view.name_of(name), name, name in view.local, services, int(row["pkts"]),
                    float(row["pkts"] / peers["pkts"].max()))
        )  # fmt: skip
    return found


def render_device(subject: Subject, history: History, device: str) -> str:
    """Head of a device's page: who it is, how it is doing, what changed."""
    analysis, picture = subject.analysis, subject.picture()
    state = next((one for one in picture.devices if one.address == device), None)
    if analysis is None or state is None:
        return render("device_head.html.jinja", state=None)
    known = next((one for one in subject.plant.devices if one.address == device), None)
    clock = subject.clock(history)
    changed = answer("What changed?", analysis, None, device)
    mine = [one for one in analysis.incidents if device in (one.device, *one.related)]
    return render(
        "device_head.html.jinja",
        state=state,
        known=known,
        macs=analysis.view.macs_of(device),
        headline=clock.tell(changed.facts[0].text) if changed.facts else "",
        changed=[clock.tell(one.text) for one in changed.facts[1:7]],
        incidents=[(one, clock.show(one.start_s), clock.show(one.end_s)) for one in mine],
        meaning=name_label,
        does=[clock.tell(one.text) for one in analysis.facts_of(device)[:4]],
    )


def render_partners(subject: Subject, history: History, device: str) -> str:
    """Foot of a device's page: peers, requests and sessions."""
    analysis = subject.analysis
    if analysis is None or device not in analysis.view.local:
        return ""
    clock, view = subject.clock(history), analysis.view
    asked, opened = view.exchanges, view.sessions
    asked = asked[(asked["client"] == device) | (asked["server"] == device)]
    opened = opened[(opened["client"] == device) | (opened["server"] == device)]
    return render(
        "device_partners.html.jinja",
        peers=list_peers(analysis, device),
        requests=_requests(asked.tail(_MOST_ROWS)[::-1], view.name_of, clock),
        n_requests=len(asked),
        sessions=_sessions(opened.tail(_MOST_ROWS)[::-1], view.name_of, clock),
        n_sessions=len(opened),
    )


def _requests(rows: pd.DataFrame, name, clock: Clock) -> Sequence[tuple[str, ...]]:  # type: ignore[no-untyped-def]
    return [
        (
            clock.show(one.ts), name(str(one.client)), name(str(one.server)),
            f"{one.protocol} {one.kind}" + (f" {one.name}" if isinstance(one.name, str) else ""),
            f"{one.outcome}, code {one.code}" if one.code > 0 else str(one.outcome),
            "" if pd.isna(one.delay_s) else f"{one.delay_s * 1e3:.0f} ms",
        )
        for one in rows.itertuples()
    ]  # fmt: skip


def _sessions(rows: pd.DataFrame, name, clock: Clock) -> Sequence[tuple[str, ...]]:  # type: ignore[no-untyped-def]
    return [
        (
            clock.show(one.start_s), name(str(one.client)), f"{name(str(one.server))} port {one.port}",
            f"{one.end_s - one.start_s:.0f} s", str(one.opened), str(one.ended),
        )
        for one in rows.itertuples()
    ]  # fmt: skip
