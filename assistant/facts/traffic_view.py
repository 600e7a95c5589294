"""A capture laid out for questions about one device at a time: what every fact is computed from."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from assistant.facts.activity import join_activity
from assistant.facts.contacts import Contact, End
from assistant.facts.fact import by_count, listed
from traffic.capture import END_PROBE, SAMPLE_S, Capture
from traffic.plant import Plant, is_group, is_link_local

FEW_ENDPOINTS = 8  # fewer hosts and ports than this are no scan of them
BASELINE_S = 600.0  # who did it within the first ten minutes that are known is not new to it
_NOBODY = ("0.0.0.0", "::")  # noqa: S104 (who has no address yet)
_EXPLORED = 20  # endpoints
# Of one address to one port in a sample, nothing coming back: a flood. A stream may go one way over UDP
# (video, syslog), from one port and never so fast; tries that each begin anew are no stream. Fewer are
# those of a client, however often it tries: what no rule calls a flood must not vanish from the others.
FLOOD_PKTS, FLOOD_TRIES = {"tcp": 1_000, "udp": 20_000}, 1_000
FLOOD_PART = 100  # of those tries in a slot, each of several who flood together
_ROUTES = re.compile("router|gateway|firewall")


class TrafficView:
    """A capture laid out for questions about one device at a time.

    Attributes:
        flow_slots: one row per flow and slot with packets: ``flow slot src dst sport port proto
            service state history``, packets and bytes of either side, ``syns``, ``answered``,
            ``refused``, ``missed_bytes``, ``sized`` (the counts are known), ``attempt`` (retries of
            a 5-tuple share one), ``since_s`` and ``until_s`` (the part of the flow inside the
            slot), and the same of the packets of either side: ``src_first_s src_last_s
            dst_first_s dst_last_s``.
        evidence: as in the capture, but for what was sent again and tells of no loss.
        delays, sessions, exchanges, transfers, notices, quality, identities: as in the capture.
        records: as in the capture: logs and readings of the devices.
        samples: as ``traffic.samples.make_samples`` returns them; its devices are the local ones.
        local: addresses of these devices.
        plant: names of addresses; empty where none was given.
        signs: of a plant watched live, by device: what the newest seconds show that no incident
            tells yet, a sentence each.
        start_s: seconds since the epoch; start of the first slot.
        end_s: end of the last slot.
        flow_macs: hardware addresses of both ends of each flow, where any address has several; None
            where none has.
        contacts: of a plant watched live, first contacts with ports outside, of which the view may
            no longer hold the first call.
        whole_since_s: of a plant watched live, since when nothing that was seen was let go.
        live: whether it ends with what was seen last, and not with a capture.
    """

    def __init__(self, capture: Capture, samples: pd.DataFrame, plant: Plant | None = None) -> None:
        self.flow_slots = join_activity(capture)
        told = capture.evidence
        self.evidence = told[(told["kind"] != "retransmission") | (told["code"] != END_PROBE)]
        self.delays = capture.delays
        self.sessions = capture.sessions
        self.exchanges = capture.exchanges
        self.notices = capture.notices
        self.transfers = capture.transfers
        self.quality = capture.quality
        self.records = capture.records
        self.samples = samples
        self.local = frozenset(map(str, samples["device"].unique()))
        self.plant = plant or Plant()
        self.start_s, self.end_s = capture.start_s, capture.end_s
        self.signs: dict[str, str] = {}
        self.live = False
        self.whole_since_s = float("-inf")
        self.contacts: Mapping[End, Contact] = {}
        self.identities = capture.identities
        self._macs = _read_macs(capture.flows)
        self._openers = _read_macs(capture.flows, _SIDES[:1])
        shared = any(len(macs) > 1 for macs in self._macs.values())
        self.flow_macs = capture.flows[[mac for _, mac in _SIDES]] if shared else None
        # One device is asked about again and again; a capture of a million flows is searched for
        # it once.
        self._flows: dict[str, pd.DataFrame] = {}
        self._peers: dict[str, pd.DataFrame] = {}
        self._evidence: dict[str, pd.DataFrame] = {}

    @property
    def seen_s(self) -> float:
        """How long the capture lasts."""
        return self.end_s - self.start_s

    def name_of(self, address: str) -> str:
        """The device's name with its address, or the address alone."""
        return self.plant.name_of(address)

    def names_of(self, addresses: Iterable[str], limit: int = 4) -> str:
        """Names of addresses as a sentence lists them."""
        return listed(map(self.plant.name_of, addresses), limit)

    def port_at(self, address: str, port: int) -> str:
        """A port of an address: "10.0.0.5:80", or "plc-1 (10.0.0.5) port 502"."""
        name = self.name_of(address)
        plain = name == address and ":" not in address
        return f"{address}:{port}" if plain else f"{name} port {port}"

    def macs_of(self, address: str) -> list[str]:
        """Hardware addresses that an address was seen with; empty where the capture has none."""
        return sorted(self._macs.get(address, ()))

    def openers_of(self, address: str) -> list[str]:
        """Hardware addresses from which an address opened connections."""
        return sorted(self._openers.get(address, ()))

    def hosts_at(self, mac: str) -> list[str]:
        """Addresses that were seen with a hardware address, link-local ones too."""
        return sorted(one for one, macs in self._macs.items() if mac in macs and one not in _NOBODY)

    def addresses_at(self, mac: str) -> list[str]:
        """Addresses that were seen with a hardware address; of no use to tell one: link-local ones."""
        return [one for one in self.hosts_at(mac) if not is_link_local(one)]

    @cached_property
    def openers_by_mac(self) -> dict[str, tuple[str, ...]]:
        """By hardware address the addresses that opened connections from it, where each of them came
        with no other one."""
        found: dict[str, list[str]] = {}
        for address in sorted(self._openers):
            if address not in _NOBODY and not is_group(address) and not is_link_local(address):
                for mac in self._macs[address]:
                    found.setdefault(mac, []).append(address)
        alone = {one for one, macs in self._macs.items() if len(macs) == 1}
        return {mac: tuple(ends) for mac, ends in found.items() if alone.issuperset(ends)}

    def machine_of(self, address: str) -> str:
        """The address that a device is known by: another one than its link-local address, where it
        has one on the same interface."""
        return self._second_addresses.get(address, address)

    def addresses_of(self, machine: str) -> list[str]:
        """The address that a device is known by, and its link-local ones."""
        others = [one for one, named in self._second_addresses.items() if named == machine]
        return [machine, *others]

    @cached_property
    def _second_addresses(self) -> dict[str, str]:
        """Link-local addresses of devices, each with the address of the same interface that names
        its machine: the one address inside that came with the same hardware address.

        A link-local address is never routed (RFC 4291, 2.5.6), so its hardware address is its own.
        A router's also carries what it forwards: where the inventory does not say which of several
        is the router, nothing is joined.
        """
        inside = self.local | {one.address for one in self.plant.devices}
        named: dict[str, list[str]] = {}
        for address in sorted(one for one in inside if not is_link_local(one)):
            for mac in self.macs_of(address):
                named.setdefault(mac, []).append(address)
        for one in self.plant.devices:
            named.setdefault(one.mac.lower(), []).append(one.address)
        roles = {one.address for one in self.plant.devices if _ROUTES.search(one.role.lower())}
        found = {}
        for address in sorted(filter(is_link_local, self.local)):
            same = list(
                dict.fromkeys(one for mac in self.macs_of(address) for one in named.get(mac, ()))
            )
            if len(same) > 1:  # who stands between others carries what it forwards for them
                own = [one for one in same if len(self.macs_of(one)) == 1]
                same = own if len(own) == 1 else [one for one in same if one in roles]
            if len(same) == 1:
                found[address] = same[0]
        return found

    @cached_property
    def explorers(self) -> frozenset[str]:
        """Who tries many ports or hosts, most of them in vain: it looks around and needs none."""
        rows = self.flow_slots
        tried = rows[(rows["syns"] > 0) | (rows["proto"] != "tcp")]
        tried = tried.assign(good=tried["answered"] & ~tried["refused"])
        each = tried.groupby(["src", "dst", "port"], sort=False)["good"].any()
        by_source = each.groupby(level=0).agg(["size", "mean"])
        found = (by_source["size"] > _EXPLORED) & (by_source["mean"] <= 0.5)
        return frozenset(map(str, by_source.index[found]))

    def by_clients(self, rows: pd.DataFrame) -> np.ndarray:
        """Which rows of flows are those of clients, shape (n,), bool: not of who looks around, is
        refused at many ports of that device, or opens connections to that port faster than any
        client would. That such a one is refused tells nothing of a service."""
        calls = pd.MultiIndex.from_frame(rows[["src", "dst", "port"]])
        looks = calls.droplevel("port").isin(self.knockers) | calls.isin(self._flooded)
        return ~(looks | rows["src"].isin(self.explorers).to_numpy())

    @cached_property
    def knockers(self) -> pd.Index:
        """Who is refused at many ports of whom, and so looks for open ones: ``src dst``."""
        rows = self.flow_slots
        refused = rows[(rows["proto"] == "tcp") & rows["refused"]]
        ports = refused.groupby(["src", "dst"])["port"].nunique()
        return ports.index[ports >= FEW_ENDPOINTS]

    @cached_property
    def _flooded(self) -> pd.Index:
        """Who floods which port of whom: ``src dst port``."""
        rows = self.flow_slots
        rows = rows[rows["proto"].isin(["tcp", "udp"]) & ~rows["answered"]]
        each = rows.groupby(["src", "dst", "port", "proto", "slot"])
        # Tools that keep one port send many SYNs from it.
        opened = np.maximum(each["attempt"].nunique(), each["syns"].sum())
        # Of several who flood together each may open less than one alone would.
        together = opened.groupby(["dst", "port", "proto", "slot"]).transform("sum")
        floods = (opened >= FLOOD_TRIES) | ((together >= FLOOD_TRIES) & (opened >= FLOOD_PART))
        return opened.index[floods].droplevel(["proto", "slot"]).unique()

    @cached_property
    def heard(self) -> frozenset[str]:
        """Addresses that sent a packet in this capture."""
        rows = self.flow_slots
        sent = [rows.loc[rows["src_pkts"] > 0, "src"], rows.loc[rows["dst_pkts"] > 0, "dst"]]
        return frozenset(map(str, pd.concat(sent).unique()))

    @cached_property
    def speakers(self) -> frozenset[str]:
        """Addresses that sent anything, a question by ARP or an answer to one too."""
        arp, vain = self.evidence_of_kind("arp_request"), self.evidence_of_kind("arp_unanswered")
        asked = arp.groupby("dst")["count"].sum()
        replied = asked[
            asked > vain.groupby("dst")["count"].sum().reindex(asked.index, fill_value=0)
        ]
        opened = self.flow_slots["src"].unique()
        return self.heard | frozenset(map(str, [*opened, *arp["src"].unique(), *replied.index]))

    @property
    def span_s(self) -> float:
        """From the first packet to the last; the slots' span where no packet's time is known."""
        if self.flow_slots.empty:
            return self.seen_s
        rows = self.flow_slots
        return max(float(rows["until_s"].max() - rows["since_s"].min()), 0.001)

    @cached_property
    def own(self) -> frozenset[str]:
        """The plant's addresses: its devices; every address of a capture that holds no device but
        by link-local addresses, as that of a plant on public ones does."""
        if any(not is_link_local(address) for address in self.local):
            return self.local
        ends = {*self.flow_slots["src"].unique(), *self.flow_slots["dst"].unique()}
        return frozenset(str(address) for address in ends if not is_group(str(address)))

    @cached_property
    def routers(self) -> frozenset[str]:
        """Own addresses whose hardware address also carries outside ones, or whose role says so."""
        named = {one.address for one in self.plant.devices if _ROUTES.search(one.role.lower())}
        outside = {
            mac
            for address, macs in self._macs.items()
            if address not in self.local and not is_group(address)
            for mac in macs
        }
        sharing = {one for one in self.local if outside & self._macs.get(one, frozenset())}
        return frozenset(named | sharing)

    @cached_property
    def writes(self) -> pd.DataFrame:
        """Who wrote to whom: ``client server control since_s longest_s count frames``; ``control``: it
        changes how the device runs; ``longest_s``: the longest pause in between."""
        events = self._write_events
        each = events[events["write"]].groupby(["client", "server", "control"])
        return each.agg(
            since_s=("ts", "min"),
            longest_s=("ts", lambda ts: float(np.diff(np.sort(ts), prepend=ts.min()).max())),
            count=("count", "sum"),
            frames=("frame", lambda frames: tuple(int(f) for f in frames.iloc[:5] if f)),
        ).reset_index()

    @cached_property
    def first_seen_s(self) -> dict[str, float]:
        """When each address first took part in a conversation."""
        rows = self.flow_slots
        ends = pd.concat(
            [rows[[end, "since_s"]].set_axis(["end", "s"], axis=1) for end in ("src", "dst")]
        )
        return ends.astype({"end": "str"}).groupby("end")["s"].min().to_dict()

    def watched_s(self, writes: pd.DataFrame) -> pd.Series:
        """How long the servers of ``writes`` were watched before these began: a capture may hold
        other machines, or another day, before it holds them."""
        known_s = writes["server"].map(self.first_seen_s).astype("float64").fillna(self.start_s)
        return writes["since_s"] - known_s.clip(lower=self.start_s)

    def write_slots(self, client: str, server: str) -> pd.DataFrame:
        """The slots in which a client wrote to a server, as ``slot``."""
        events = self._write_events
        mine = events[(events["client"] == client) & (events["server"] == server) & events["write"]]
        return pd.DataFrame({"slot": np.floor(mine["ts"] / SAMPLE_S).astype(np.int64)})

    @cached_property
    def _write_events(self) -> pd.DataFrame:
        """Every request with ``write`` and ``control``; by slot where packets were not seen."""
        asked = self.exchanges[~self.exchanges["outcome"].isin(["unasked", "malformed"])]
        if len(asked):
            kind = asked["kind"]
            columns = asked[["ts", "client", "server", "frame"]].astype(
                {"client": "str", "server": "str"}
            )
            control = (kind == "control").to_numpy()
            write = control | (kind == "write").to_numpy()
            return columns.assign(count=1, control=control, write=write)
        rows = self.evidence_of_kind("modbus_read", "modbus_write", "modbus_other")
        return pd.DataFrame(
            {
                "ts": rows["slot"] * SAMPLE_S,
                "client": rows["src"],
                "server": rows["dst"],
                "frame": 0,
                "count": rows["count"],
                "control": False,
                "write": rows["kind"] == "modbus_write",
            }
        )

    def requests_of(self, evidence: pd.DataFrame) -> pd.DataFrame:
        """The exchanges that evidence of Modbus requests counts: of its pairs and functions, in its
        slots. Empty where packets were not seen."""
        asked = self.exchanges[self.exchanges["protocol"] == "modbus"]
        asked = asked[asked["function"].isin(evidence["code"].unique())]
        asked = asked.assign(slot=np.floor(asked["ts"] / SAMPLE_S).astype(np.int64))
        ends = asked[["client", "server", "slot"]].astype({"client": "str", "server": "str"})
        counted = pd.MultiIndex.from_frame(evidence[["src", "dst", "slot"]])
        good = ~asked["outcome"].isin(["unasked", "malformed"])
        return asked[good & pd.MultiIndex.from_frame(ends).isin(counted)]

    @property
    def allowed_writers(self) -> dict[str, frozenset[str]]:
        """Addresses that may write to each device of which plant.yaml names any."""
        return self.plant.allowed_writers

    def flows_of(self, device: str) -> pd.DataFrame:
        """``flow_slots`` of one device from its side, by slot, with ``other out sent_bytes
        got_bytes sent_pkts sent_first_s sent_last_s``."""
        if device not in self._flows:
            found = _find_rows(self._places, device)
            self._flows[device] = _one_side(self.flow_slots.take(found), device)
        return self._flows[device]

    def sent_by(self, device: str) -> pd.DataFrame:
        """The rows of ``flows_of`` in which the device itself sent something."""
        rows = self.flows_of(device)
        return rows[rows["sent_pkts"] > 0]

    @cached_property
    def _places(self) -> tuple[dict[str, np.ndarray], ...]:
        """Rows of ``flow_slots`` by opener and by answerer: looked for once, not for each device."""
        return tuple(self.flow_slots.groupby(end).indices for end in ("src", "dst"))

    @cached_property
    def _evidence_places(self) -> tuple[dict[str, np.ndarray], ...]:
        """The same of ``evidence``."""
        return tuple(self.evidence.groupby(end).indices for end in ("src", "dst"))

    def peers_of(self, device: str) -> pd.DataFrame:
        """What a device has with each other address in the whole capture: ``pkts connections
        slots``."""
        if device not in self._peers:
            self._peers[device] = count_by_peer(self.flows_of(device))
        return self._peers[device]

    def evidence_of(self, device: str, kinds: Iterable[str]) -> pd.DataFrame:
        """Evidence rows that name a device on either side, with ``other``."""
        if device not in self._evidence:
            rows = self.evidence.take(_find_rows(self._evidence_places, device))
            other = rows["dst"].where(rows["src"] == device, rows["src"])
            self._evidence[device] = rows.assign(other=other)
        rows = self._evidence[device]
        return rows[rows["kind"].isin(list(kinds))]

    def evidence_of_kind(self, *kinds: str) -> pd.DataFrame:
        """Evidence rows of some kinds, of all devices."""
        return self.evidence[self.evidence["kind"].isin(kinds)]

    @cached_property
    def last_s(self) -> float:
        """When the last packet of a flow was seen, else the end of the last slot; seconds since the epoch."""
        last_s = float(self.flow_slots["until_s"].max()) if len(self.flow_slots) else self.end_s
        return min(last_s, self.end_s)

    def count_resent(self, device: str = "") -> tuple[int, int]:
        """Packets of a device, or of all, and how many of them were sent again."""
        rows, resent = self.flow_slots, self.evidence_of_kind("retransmission")
        if device:
            rows, resent = self.flows_of(device), self.evidence_of(device, ("retransmission",))
        return int((rows["src_pkts"] + rows["dst_pkts"]).sum()), int(resent["count"].sum())

    def endpoint(self, flows: pd.DataFrame) -> str:
        """The answering side that most flows share, "10.0.0.5:80" or "plc-1 (10.0.0.5) port
        502"."""
        there = flows[flows["dst"] == by_count(flows["dst"])[0]]
        address, proto = str(there["dst"].iloc[0]), by_count(there["proto"])[0]
        port = int(by_count(there.loc[there["proto"] == proto, "port"])[0])
        return self.port_at(address, port) if proto in ("tcp", "udp") else self.name_of(address)


def _find_rows(places: Iterable[dict[str, np.ndarray]], device: str) -> np.ndarray:
    """Where a device stands on either side, in the table's order, shape (n,)."""
    found = [at[device] for at in places if device in at]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))


def count_by_peer(flows: pd.DataFrame) -> pd.DataFrame:
    """Packets of the openers (at least one a row), connections and slots with each ``other``, as
    floats."""
    other = flows["other"]
    return pd.DataFrame(
        {
            "pkts": flows["src_pkts"].clip(lower=1).groupby(other).sum(),
            "connections": flows["flow"].groupby(other).nunique(),
            "slots": flows["slot"].groupby(other).nunique(),
        }
    ).astype(float)


def busiest_pairs(evidence: pd.DataFrame, most: int) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Source, target and rows of each pair in evidence, the highest count first."""
    totals = evidence.groupby(["src", "dst"])["count"].sum()
    for src, dst in totals.sort_values(ascending=False, kind="stable").index[:most]:
        yield src, dst, evidence[(evidence["src"] == src) & (evidence["dst"] == dst)]


def _one_side(rows: pd.DataFrame, device: str) -> pd.DataFrame:
    rows = rows.sort_values("slot", kind="stable")
    out = (rows["src"] == device).to_numpy(bool)
    return rows.assign(
        out=out,
        other=rows["dst"].where(out, rows["src"]),
        sent_bytes=np.where(out, rows["src_bytes"], rows["dst_bytes"]),
        got_bytes=np.where(out, rows["dst_bytes"], rows["src_bytes"]),
        sent_pkts=np.where(out, rows["src_pkts"], rows["dst_pkts"]),
        sent_first_s=np.where(out, rows["src_first_s"], rows["dst_first_s"]),
        sent_last_s=np.where(out, rows["src_last_s"], rows["dst_last_s"]),
    )


_SIDES = (("id.orig_h", "orig_l2_addr"), ("id.resp_h", "resp_l2_addr"))


def _read_macs(
    flows: pd.DataFrame, sides: Sequence[tuple[str, str]] = _SIDES
) -> dict[str, frozenset[str]]:
    pairs = [flows[[ip, mac]].set_axis(["ip", "mac"], axis=1) for ip, mac in sides if mac in flows]
    if not pairs:
        return {}
    known = pd.concat(pairs).dropna().drop_duplicates()
    return {str(ip): frozenset(macs) for ip, macs in known.groupby("ip")["mac"]}
