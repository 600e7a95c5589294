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
from traffic.simulation.distributions import between
from traffic.simulation.scenario import Scene

__all__ = ["make_questions"]

# Groups, broadcasts, IPv6 (which asks by other means) and who has no address yet.
_NOBODY = r"22[4-9]\.|23\d\.|255\.|.*\.255$|0\.0\.0\.0$|.*:"
_CONFIRMED_SLOTS = 3  # acknowledged data vouches for an entry for about this long
_HEADER_BYTES, _SPOKEN_BYTES = 52, 10  # less in ten seconds is no conversation


def make_questions(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """The slots in which a host asked for a neighbour and was answered.

    Args:
        scene: network, devices and chance.
        rows: one row per active flow and slot: ``slot src dst proto conn_state exchanges``, packets and
            bytes of both sides.

    Returns:
        ``slot src dst``, a row for each question.
    """
    uses, hosts = _uses(scene, rows)
    if not len(uses):
        return pd.DataFrame({"slot": [], "src": [], "dst": []})
    pair, slot, vouched = (uses[name].to_numpy() for name in ("pair", "slot", "vouched"))
    src, dst = pair // len(hosts), pair % len(hosts)
    new = np.diff(pair, prepend=-1) != 0
    seen = np.maximum.accumulate(np.where(vouched, np.arange(len(uses)), -1))
    known = (seen >= np.flatnonzero(new)[np.cumsum(new) - 1]) & (slot - slot[seen] <= _CONFIRMED_SLOTS)
    modern, age_s = _stacks(scene, hosts)
    phase = scene.stage.rng.random(new.sum())[np.cumsum(new) - 1]
    turn = np.floor(slot * SAMPLE_S / age_s[src] + phase)
    due = (np.diff(turn, prepend=-1.0) != 0) | new
    met_before = new & (slot <= scene.stage.start_s // SAMPLE_S + 1)  # in all likelihood before the capture began
    asked = due & ~met_before & ~(known & modern[src])
    return pd.DataFrame({"slot": slot[asked], "src": hosts[src[asked]], "dst": hosts[dst[asked]]})


def _uses(scene: Scene, rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Which neighbour each host sends to in a slot, and whether TCP vouches for it; strangers are the router's.

    Returns:
        ``pair`` (number of the sender times how many hosts there are, plus that of its neighbour), ``slot`` and
        ``vouched``, sorted; and the hosts' addresses, of which the first is the router's.
    """
    network = scene.stage.network
    codes, hosts = pd.factorize(pd.concat([pd.Series([network + "1"]), rows["src"], rows["dst"]], ignore_index=True))
    names = pd.Series(hosts, dtype="str")
    nobody, afar = names.str.match(_NOBODY).to_numpy(bool), ~names.str.startswith(network).to_numpy(bool)
    end = {"orig": codes[1 : len(rows) + 1], "resp": codes[len(rows) + 1 :]}
    pkts = {side: rows[f"{side}_pkts"].to_numpy() for side in end}
    tcp = (rows["proto"] == "tcp").to_numpy()
    answered = tcp & (pkts["resp"] > 0) & (pkts["orig"] > 0)
    silent = tcp & (rows["conn_state"] == "S0").to_numpy()
    parts = []
    for one, other in (("orig", "resp"), ("resp", "orig")):
        src, dst = end[one], end[other]
        used = (pkts[one] > 0) & ~silent & ~nobody[src] & ~nobody[dst] & ~(afar[src] & afar[dst])
        spoke = rows[f"{one}_bytes"].to_numpy() - _HEADER_BYTES * pkts[one] >= _SPOKEN_BYTES
        vouched = answered & spoke & ~afar[src]  # a router forwards and never learns that it arrived
        if one == "resp":  # Linux believes an acknowledgement when it sends again; an only answer is the last
            vouched &= (rows["exchanges"] > 1).to_numpy(bool)
        src, dst = np.where(afar[src], 0, src), np.where(afar[dst], 0, dst)
        part = pd.DataFrame({"pair": src * len(hosts) + dst, "slot": rows["slot"].to_numpy(), "vouched": vouched})
        parts.append(part[used & (src != dst)])
    uses = pd.concat(parts, ignore_index=True)
    return uses.groupby(["pair", "slot"], as_index=False)["vouched"].max(), np.asarray(hosts, object)


def _stacks(scene: Scene, hosts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per host whether it forgets as modern systems do, and after how many seconds it asks anew; the router first."""
    rng = scene.stage.rng
    modern = rng.random(len(hosts)) < rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.2, 0.7])
    modern[0] = False  # routers keep entries for hours
    drawn = np.where(modern, rng.uniform(25, 70, len(hosts)), np.exp(rng.uniform(np.log(60), np.log(1200), len(hosts))))
    drawn[0] = between(rng, 300, 14400)
    return modern, drawn
