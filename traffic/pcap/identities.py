"""Who made a device and what it is, from what messages say and from the MACs of its interfaces."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from traffic.identities import empty_identities, make_identities
from traffic.makers import find_maker
from traffic.pcap.exchanges import Content
from traffic.pcap.frames import Frames
from traffic.pcap.packets import Packets
from traffic.plant import GROUP, is_local


@dataclass(frozen=True)
class Said:
    """What devices of a capture, or of a piece of one, say of themselves.

    Attributes:
        messages, frames: ``device unit field value source ts file frame`` of messages over IP and
            of frames without, each by time.
        claims: who claims an address by ARP: ``device mac frame``, each once.
        macs: that send frames without IP.
    """

    messages: pd.DataFrame
    frames: pd.DataFrame
    claims: pd.DataFrame
    macs: np.ndarray


def hear_devices(packets: Packets, content: Content, frames: Frames) -> Said:
    """What the devices of some packets say of themselves.

    Args:
        packets: of one capture, or a piece of it.
        content: what their messages say.
        frames: of the same.
    """
    arp = packets.arp[["sender", "mac", "frame"]].drop_duplicates(["sender", "mac"])
    claims = pd.DataFrame(
        {
            "device": packets.addresses[arp["sender"].to_numpy()],
            "mac": [_text(mac) for mac in arp["mac"]],
            "frame": arp["frame"].to_numpy(),
        }
    ).astype({"device": "str", "mac": "str"})
    return Said(
        _by_time(packets, content),
        _by_time(frames.packets, frames.content),
        claims[~claims["device"].str.match(GROUP)],
        pd.unique(frames.packets.table["src_mac"].to_numpy()),
    )


def name_identities(pieces: list[Said], flows: pd.DataFrame) -> pd.DataFrame:
    """Identities of the devices of a capture, those that messages tell before those of MACs.

    A device that speaks of itself by its MAC is known by its address where the capture tells one.

    Args:
        pieces: of one capture.
        flows: of the whole, with ``orig_l2_addr resp_l2_addr`` where it has MACs.
    """
    owners = _own_macs(pd.concat([piece.claims for piece in pieces]), flows)
    macs = np.concatenate([piece.macs for piece in pieces])
    bare = pd.DataFrame({"mac": [_text(mac) for mac in macs]}).assign(frame=0)
    bare = bare[~bare["mac"].isin(owners["mac"])]
    owners = pd.concat([owners, bare.assign(device=bare["mac"])], ignore_index=True)
    messages = pd.concat([piece.messages for piece in pieces], ignore_index=True)
    messages = messages.iloc[np.lexsort([messages[name] for name in ("frame", "file", "ts")])]
    said = pd.concat([messages, *(piece.frames for piece in pieces)], ignore_index=True)
    said = said.drop(columns=["ts", "file"])
    four = owners[~owners["device"].str.contains(":", regex=False)]
    of_mac = four.drop_duplicates("mac", keep=False).set_index("mac")["device"].to_dict()
    said = said.assign(device=[of_mac.get(device, device) for device in said["device"]])
    return make_identities(pd.concat([said, _read_makers(owners)], ignore_index=True))


def _by_time(packets: Packets, content: Content) -> pd.DataFrame:
    said = content.identities
    if said.empty:
        return empty_identities().drop(columns="sure").assign(ts=0.0, file=0)
    said = said.sort_values("row", kind="stable")
    row = said.pop("row").to_numpy()
    return said.assign(**{n: packets.table[n].to_numpy()[row] for n in ("ts", "file", "frame")})


def _read_makers(owners: pd.DataFrame) -> pd.DataFrame:
    makers = owners.assign(value=[find_maker(mac) for mac in owners["mac"]])
    return makers.assign(unit=-1, field="make", source="OUI").drop(columns="mac")


def _own_macs(claimed: pd.DataFrame, flows: pd.DataFrame) -> pd.DataFrame:
    """Which addresses an interface itself has, as ``device mac frame``; the MAC is the device where
    it is a router's, behind which many addresses lie.

    Who answers for an address by ARP has it. Without ARP a MAC's only local address of a version is
    its own.
    """
    sides = [
        flows[[f"id.{side}_h", f"{side}_l2_addr"]].set_axis(["device", "mac"], axis=1)
        for side in ("orig", "resp")
        if f"{side}_l2_addr" in flows
    ]
    if not sides:
        return claimed
    seen = pd.concat(sides).dropna().drop_duplicates().assign(frame=0)
    seen = seen[~seen["mac"].isin(claimed["mac"]) & ~seen["mac"].map(_is_group_mac).astype(bool)]
    six = seen["device"].str.contains(":", regex=False)
    alone = ~seen.assign(six=six).duplicated(["mac", "six"], keep=False)
    own = seen[alone & is_local(seen["device"])]
    routers = seen[~seen["mac"].isin(own["mac"])].drop_duplicates("mac")
    return pd.concat([claimed, own, routers.assign(device=routers["mac"])], ignore_index=True)


def _text(mac: int) -> str:
    return "" if mac < 0 else int(mac).to_bytes(6, "big").hex(":")


def _is_group_mac(mac: str) -> bool:
    """Broadcast and multicast: nobody's own.

    >>> _is_group_mac("ff:ff:ff:ff:ff:ff"), _is_group_mac("00:1b:1b:00:00:01")
    (True, False)
    """
    return int(mac[:2], 16) & 1 == 1
