"""What lies beyond a device: trouble of the one with whom it talks most, and to whom it gives what goes outside."""

import re

from assistant.answers.asked import Answer, Asked, find_incidents, say
from assistant.detection.incidents import Incident
from assistant.diagnosis.spans import find_end, find_start
from assistant.facts.fact import Value
from traffic.plant import is_group

_KINDS = frozenset(
    ("why", "wrong", "health", "since", "loss", "answers", "affected", "slowest", "count", "")
)
_SLOW = re.compile(
    r"\b(?:slow\w*|late|lag\w*|delay\w*|langsam\w*|traege|lent[oa]\w*|hang\w*|stutter\w*)\b"
)
_LINKS = ("congestion", "packet_loss", "flapping", "device_silent", "service_down")
_MOST_SHARE = (
    0.5  # of a device's packets, from which on its troubles are most likely those of that peer
)
_NEAR_S = 60.0


def answer_partner(asked: Asked) -> Answer | None:
    """Of a device that has no incident: trouble on the way to the one with whom it talks most; None where
    none is known, or something else is asked."""
    query, device = asked.query, asked.device
    asks = query.kind in _KINDS and (query.kind != "count" or bool(_SLOW.search(query.plain)))
    # Of who is judged well, the way to it is too.
    alone = asked.second or asked.found.mention.alike or asked.found.standing == "normal"
    if (
        not asks
        or not device
        or alone
        or asked.incident is not None
        or device not in asked.view.local
    ):
        return None
    rows = asked.view.flows_of(device)
    pkts = (rows["src_pkts"] + rows["dst_pkts"]).groupby(rows["other"]).sum()
    if pkts.empty or pkts.max() < _MOST_SHARE * pkts.sum():
        return None
    partner = str(pkts.idxmax())
    found = [
        one for one in find_incidents(asked.about(partner), _LINKS) if _is_at(one, partner, asked)
    ]
    if not found:
        return None
    line = say(
        "partner_trouble", "unclear" if asked.polar else "", name=asked.name,
        peer=asked.view.name_of(partner), what=found[0].facts[0].text,
    )  # fmt: skip
    return Answer(line, (*found[0].facts[1:], *asked.found.facts), standing="inconclusive")


def _is_at(incident: Incident, device: str, asked: Asked) -> bool:
    """Whether it is a device's own trouble, at the time that is asked about; that of one of its other clients
    explains nothing."""
    if device != incident.device:
        return False
    span = asked.span
    return span is None or span.overlaps(
        find_start(incident)[0] - _NEAR_S, find_end(incident) + _NEAR_S
    )


_WAY_OUT = re.compile(
    r"\b(?:(?:as|its|default|wrong|which|what) (?:\w+ )?gateways?|next hop|by mistake|puerta de enlace"
    r"|wrong (?:machine|device|mac|router)|falsche\w* gateway)\b"
)


def answer_way_out(asked: Asked) -> Answer | None:
    """To whose hardware address a device gives what goes outside; None where that is not asked, or the capture
    has no such address."""
    flows = asked.analysis.capture.flows
    if not asked.device or not _WAY_OUT.search(asked.query.plain) or "resp_l2_addr" not in flows:
        return None
    inside = asked.view.own | asked.view.local
    out = flows[flows["id.orig_h"].isin(asked.view.local) & ~flows["id.resp_h"].isin(inside)]
    out = out[~out["id.resp_h"].map(is_group).astype(bool) & out["resp_l2_addr"].notna()]
    rows = out[out["id.orig_h"] == asked.device]
    if rows.empty:
        return None
    # Who takes what the most devices send outside is the router.
    usual = out.groupby("resp_l2_addr")["id.orig_h"].nunique().idxmax()
    pkts = rows.groupby("resp_l2_addr")["orig_pkts"].sum().sort_values(ascending=False)
    owners = {str(mac): _find_owner(str(mac), asked) for mac in pkts.index}
    odd = [mac for mac in owners if mac != usual]
    mac = (odd or list(owners))[0]
    mine = rows[rows["resp_l2_addr"] == mac]
    values: dict[str, Value] = {
        "name": asked.name, "mac": mac, "owner": asked.view.name_of(owners[mac]) if owners[mac] else mac,
        "pkts": int(pkts[mac]),
        "since_time_s": float(mine["ts"].min()),
        "until_time_s": float((mine["ts"] + mine["duration"].fillna(0.0)).max()),
    }  # fmt: skip
    known_facts = asked.incident.facts if asked.incident else ()
    return Answer(say("way_out_odd" if odd else "way_out", **values), known_facts)


def _find_owner(mac: str, asked: Asked) -> str:
    """Whose a hardware address is: of plant.yaml, else who was seen with it alone; "" for nobody."""
    named = [
        one.address
        for one in asked.view.plant.devices
        if one.mac and one.mac.lower() == mac.lower()
    ]
    seen = [one for one in asked.view.addresses_at(mac) if one in asked.view.local]
    seen = seen if len(seen) == 1 else []
    return (named or seen or [""])[0]
