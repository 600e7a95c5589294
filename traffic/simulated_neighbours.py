"""Who asks whose address by ARP: every host of the wire for every neighbour it still uses, once in a while.

    used by UDP, or to acknowledge only     x    x    x    x    x      asked anew when the entry has aged
    used by TCP whose data is acknowledged  =======================    TCP itself confirms the entry: never asked

Modern systems forget within a minute what nothing confirms (Linux and Windows: base_reachable_time, 30 s times 0.5 to
1.5, then a few seconds of delay; RFC 4861, 7.3.3, whose machinery they use for IPv4 too); small stacks keep an entry
for minutes and ask when that time is over, whatever happens meanwhile.
"""

import numpy as np
import pandas as pd

from traffic.capture import SAMPLE_S
from traffic.simulated_draws import between
from traffic.simulated_scene import Scene

__all__ = ["make_questions"]

# Groups, broadcasts, IPv6 (which asks by other means) and who has no address yet.
_NOBODY = r"22[4-9]\.|23\d\.|255\.|.*\.255$|0\.0\.0\.0$|.*:"
_CONFIRMED_SLOTS = 3  # acknowledged data vouches for an entry for about this long
_HEADER_BYTES, _SPOKEN_BYTES = 52, 10  # less in ten seconds is no conversation


def make_questions(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """The slots in which a host asked for a neighbour and was answered.

    Args:
        scene: network, devices and chance.
        rows: one row per active flow and slot: ``slot src dst proto conn_state``, packets and bytes of both sides.

    Returns:
        ``slot src dst``, a row for each question.
    """
    uses = _uses(scene, rows)
    if not len(uses):
        return uses[["slot", "src", "dst"]]
    uses = uses.groupby(["src", "dst", "slot"], sort=True, as_index=False)["vouched"].max()
    src, dst, slot = (uses[name].to_numpy() for name in ("src", "dst", "slot"))
    vouched = uses["vouched"].to_numpy(bool)
    new = np.r_[True, (src[1:] != src[:-1]) | (dst[1:] != dst[:-1])]
    pair = np.cumsum(new) - 1
    seen = np.maximum.accumulate(np.where(vouched, np.arange(len(uses)), -1))
    known = (seen >= np.flatnonzero(new)[pair]) & (slot - slot[np.maximum(seen, 0)] <= _CONFIRMED_SLOTS)
    modern, age_s = _stacks(scene, src)
    phase = scene.stage.rng.random(new.sum())[pair]
    turn = np.floor(slot * SAMPLE_S / age_s + phase)
    due = (np.r_[True, turn[1:] != turn[:-1]] | new) & ~(known & modern)
    began = (
        scene.stage.start_s // SAMPLE_S + 1
    )  # what was known before the capture need not be asked in its first slots
    return uses.loc[due & ~(new & (slot <= began)), ["slot", "src", "dst"]]


def _uses(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Which neighbour each host sends to in a slot, and whether TCP vouches for it; strangers are the router's."""
    answered = (rows["proto"] == "tcp").to_numpy() & (rows["resp_pkts"] > 0).to_numpy() & (rows["orig_pkts"] > 0)
    silent = ((rows["proto"] == "tcp") & (rows["conn_state"] == "S0")).to_numpy()
    parts = []
    for src, dst, side in (("src", "dst", "orig"), ("dst", "src", "resp")):
        spoke = (rows[f"{side}_bytes"] - _HEADER_BYTES * rows[f"{side}_pkts"] >= _SPOKEN_BYTES).to_numpy()
        used = (rows[f"{side}_pkts"] > 0).to_numpy() & ~silent
        part = pd.DataFrame({"src": rows[src], "dst": rows[dst], "slot": rows["slot"], "vouched": answered & spoke})
        parts.append(part[used])
    uses = pd.concat(parts, ignore_index=True)
    network, router = scene.stage.network, scene.stage.network + "1"
    uses = uses[~uses["src"].str.match(_NOBODY).to_numpy(bool) & ~uses["dst"].str.match(_NOBODY).to_numpy(bool)]
    afar = [~uses[side].str.startswith(network).to_numpy(bool) for side in ("src", "dst")]
    uses["vouched"] &= ~afar[0]  # a router forwards and never learns that it arrived
    uses = uses.assign(src=uses["src"].mask(afar[0], router), dst=uses["dst"].mask(afar[1], router))
    return uses[(uses["src"] != uses["dst"]).to_numpy() & ~(afar[0] & afar[1])]


def _stacks(scene: Scene, src: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row whether its host forgets as modern systems do, and after how many seconds it asks anew."""
    rng, (number, hosts) = scene.stage.rng, pd.factorize(src)
    modern = rng.random(len(hosts)) < rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.2, 0.7])
    modern &= hosts != scene.stage.network + "1"  # routers keep entries for hours
    drawn = [between(rng, 25, 70) if new else between(rng, 60, 1200) for new in modern]
    age_s = np.where(hosts == scene.stage.network + "1", between(rng, 300, 14400), drawn)
    return modern[number], age_s[number]
