"""What a capture would have shown of simulated flows: packet times, losses, evidence."""

import numpy as np
import pandas as pd

from traffic.arrays import count_up
from traffic.capture import ACTIVITY_COUNTS, EVIDENCE_COLUMNS, SAMPLE_S, spread
from traffic.simulation.distributions import log_uniform
from traffic.simulation.plant import WIRELESS
from traffic.simulation.scenario import LossInterval, Scenario
from traffic.simulation.wireless import draw_air_losses

# ---- packet times: when within their flows packets pass ----
#
# steady    | | | | | | | | | | | |      polled every second: spread evenly, as for a log
# spaced    |||       |||       |||      polled every ten seconds: each exchange together
# loose     ||||        |         |      a page fetched: at its start, now and then, at its end

# Columns of activity -> totals of a flow.
_TOTALS = {
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_bytes": "orig_ip_bytes",
    "resp_bytes": "resp_ip_bytes",
}
_KEEPALIVE_BYTES = 53  # a PINGREQ, its answer or an acknowledgement, with headers
_SLOW_S = 1.5  # exchanges further apart than this are placed one by one


def even_activity(flows: pd.DataFrame) -> pd.DataFrame:
    """Activity as a log implies it, and how many exchanges each slot holds (``spoken``)."""
    activity = spread(flows)
    flow = activity["flow"].to_numpy()
    exchanges, pkts = (flows[name].to_numpy(float)[flow] for name in ("exchanges", "orig_pkts"))
    share = np.where(exchanges > 0, exchanges / np.maximum(pkts, 1), 1.0)
    return activity.assign(spoken=activity["orig_pkts"] * share)


def packet_activity(flows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Activity and exchanges as packets show them; sums per flow are those of ``even_activity``."""
    flows, alive = _split_keepalives(flows)
    columns = ("duration", "exchanges")
    duration, exchanges = (flows[name].fillna(0.0).to_numpy(float) for name in columns)
    pkts, steady = flows["orig_pkts"].to_numpy(float), flows["steady"].to_numpy(bool)
    slow = (exchanges >= 2) & (duration > _SLOW_S * exchanges) & (pkts >= exchanges)
    spaced = np.flatnonzero((duration > SAMPLE_S) & steady & slow)
    loose = np.flatnonzero((duration > SAMPLE_S) & ~steady & (pkts > 3))
    rest = np.setdiff1d(np.arange(len(flows)), np.concatenate([spaced, loose]))
    parts = [_place(flows.iloc[rest], rest), _place(*_cut_loose(flows, loose, rng))]
    pieces = pd.concat([*parts, _place_exchanges(flows, spaced, rng), alive], ignore_index=True)
    counts = [*ACTIVITY_COUNTS, "spoken"]
    pieces = pieces.groupby(["flow", "slot"], as_index=False)[counts].sum()
    seen = (pieces["orig_pkts"] + pieces["resp_pkts"] > 0) | ~pieces["flow"].duplicated()
    return pieces[seen].reset_index(drop=True)


def _split_keepalives(flows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The flows less their keep-alives, and the activity of these."""
    alive_s = flows["alive_s"].to_numpy(float)
    duration = flows["duration"].fillna(0.0).to_numpy(float)
    due = np.floor(duration / np.where(alive_s > 0, alive_s, np.inf))
    most = np.minimum(flows["orig_pkts"], flows["resp_pkts"]).to_numpy(float)
    many = np.maximum(np.minimum(due, (most - 1) // 2), 0).astype(np.int64)
    row, place = np.repeat(np.arange(len(flows)), many), count_up(many)
    ts = flows["ts"].to_numpy(float)[row] + (place + 1) * alive_s[row]
    alive = pd.DataFrame({"flow": row, "slot": np.floor(ts / SAMPLE_S).astype(np.int64)})
    alive = alive.assign(orig_pkts=2, resp_pkts=2, orig_syns=0, spoken=0.0)
    for side in ("orig", "resp"):
        size, pkts = f"{side}_ip_bytes", f"{side}_pkts"
        # What a clipped flow's packets are long on average may be less than a keep-alive.
        kept = (flows[size] - 2 * _KEEPALIVE_BYTES * many).clip(lower=0)
        taken = (flows[size] - kept).to_numpy(float).astype(np.int64)
        alive[f"{side}_bytes"] = _part_of(taken, many, row, place)
        flows = flows.assign(**{size: kept, pkts: flows[pkts] - 2 * many})
    return flows, alive


def _part_of(total: np.ndarray, many: np.ndarray, row: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The ``place``-th of ``many`` whole parts of each row's total; the first is never smaller than
    the last."""
    return -(-(place + 1) * total[row] // many[row]) + (-place * total[row] // many[row])


def _place(pieces: pd.DataFrame, owner: np.ndarray) -> pd.DataFrame:
    """Activity of pieces spread evenly; ``owner`` is the flow of each."""
    active = even_activity(pieces.reset_index(drop=True))
    return active.assign(flow=owner[active["flow"].to_numpy()])


def _cut_loose(
    flows: pd.DataFrame, loose: np.ndarray, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Three pieces of each flow, most at its start, the rest in the middle and at its end; and the
    flow of each piece."""
    left, n = flows.iloc[loose], len(loose)
    length = left["duration"].to_numpy(float)
    middle, last = rng.uniform(0.2, 0.8, n), rng.uniform(0.02, 0.2, n)
    first_s = np.minimum(rng.lognormal(0, 1, n), length * 0.1)
    starts = (np.zeros(n), length * middle, length * 0.999)
    lengths = (first_s, length * 0.1 * middle, length * 0.0009)
    parts = []
    for place, share in enumerate((1 - 2 * last, last, None)):
        piece = left.copy()
        for name in _TOTALS.values() if share is not None else ():
            piece[name] = np.floor(flows[name].to_numpy()[loose] * share)
            left = left.assign(**{name: left[name] - piece[name]})
        history = "D" if place else piece["history"]
        ts = piece["ts"] + starts[place]
        parts.append(piece.assign(ts=ts, duration=lengths[place], history=history))
    return pd.concat(parts, ignore_index=True), np.tile(loose, 3)


def _place_exchanges(
    flows: pd.DataFrame, spaced: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Activity of every exchange at its time, with its share of the packets."""
    chosen = flows.iloc[spaced]
    many = np.rint(chosen["exchanges"].to_numpy(float)).astype(np.int64)
    row, place = np.repeat(np.arange(len(chosen)), many), count_up(many)
    gap = chosen["duration"].to_numpy(float) / np.maximum(many - 1, 1)  # the last ends the flow
    first, last = place == 0, place == many[row] - 1
    late = np.where(first | last, 0.0, rng.uniform(0, 0.04, len(row)) * gap[row])
    ts = chosen["ts"].to_numpy(float)[row] + place * gap[row] + late
    opened = chosen["history"].str.contains("S", regex=False).to_numpy(bool)[row]
    slot = np.floor(ts / SAMPLE_S).astype(np.int64)
    pieces = pd.DataFrame({"flow": spaced[row], "slot": slot, "spoken": 1.0})
    pieces["orig_syns"] = (first & opened).astype(np.int64)
    for name, total in _TOTALS.items():
        whole = np.rint(chosen[total].to_numpy(float)).astype(np.int64)
        pieces[name] = _part_of(whole, many, row, place)
    return pieces


# ---- ARP: who asks whose address ----
#
# used by UDP, or to acknowledge only     x    x    x    x    x     asked anew once the entry is old
# used by TCP whose data is acknowledged  ======================    TCP confirms it: never asked
#
# Modern systems forget within a minute what nothing confirms (Linux and Windows:
# base_reachable_time, 30 s times 0.5 to 1.5, then a few seconds of delay; RFC 4861, 7.3.3, whose
# machinery they use for IPv4 too); small stacks keep an entry for minutes and ask when that time is
# over, whatever happens meanwhile.

# Groups, broadcasts, IPv6 (which asks by other means) and hosts without an address yet.
_NO_ARP = r"22[4-9]\.|23\d\.|255\.|.*\.255$|0\.0\.0\.0$|.*:"
_CONFIRMED_SLOTS = 3  # acknowledged data confirms an entry for about this long
_HEADER_BYTES, _DATA_BYTES = 52, 10  # less data in a slot is no conversation


def make_arp_requests(scenario: Scenario, rows: pd.DataFrame) -> pd.DataFrame:
    """The slots in which a host asked for a neighbour's address and was answered.

    Args:
        scenario: network, devices and chance.
        rows: one row per active flow and slot: ``slot src dst proto conn_state exchanges``, packets
            and bytes of both sides.

    Returns:
        ``slot src dst``, a row for each request.
    """
    uses, hosts = _neighbour_uses(scenario, rows)
    if not len(uses):
        return pd.DataFrame({"slot": [], "src": [], "dst": []})
    pair, slot, confirmed = (uses[name].to_numpy() for name in ("pair", "slot", "confirmed"))
    src, dst = pair // len(hosts), pair % len(hosts)
    new = np.diff(pair, prepend=-1) != 0
    group = np.cumsum(new) - 1
    latest = np.maximum.accumulate(np.where(confirmed, np.arange(len(uses)), -1))
    known = (latest >= np.flatnonzero(new)[group]) & (slot - slot[latest] <= _CONFIRMED_SLOTS)
    modern, age_s = _draw_stacks(scenario, len(hosts))
    phase = scenario.rng.random(new.sum())[group]
    turn = np.floor(slot * SAMPLE_S / age_s[src] + phase)
    due = (np.diff(turn, prepend=-1.0) != 0) | new
    # A pair seen in the first slots had met, in all likelihood, before the capture began.
    met_before = new & (slot <= scenario.sim.start_s // SAMPLE_S + 1)
    asked = due & ~met_before & ~(known & modern[src])
    return pd.DataFrame({"slot": slot[asked], "src": hosts[src[asked]], "dst": hosts[dst[asked]]})


def _neighbour_uses(scenario: Scenario, rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Which neighbour each host sends to in a slot, and whether TCP confirms it; addresses beyond
    the plant count as the router.

    Returns:
        ``pair`` (number of the sender times how many hosts there are, plus that of its neighbour),
        ``slot`` and ``confirmed``, sorted; and the hosts' addresses, of which the first is the
        router's.
    """
    network, n = scenario.sim.network, len(rows)
    router = pd.Series([scenario.sim.router])
    codes, hosts = pd.factorize(pd.concat([router, rows["src"], rows["dst"]], ignore_index=True))
    names = pd.Series(hosts, dtype="str")
    no_arp = names.str.match(_NO_ARP).to_numpy(bool)
    afar = ~names.str.startswith(network).to_numpy(bool)
    end = {"orig": codes[1 : n + 1], "resp": codes[n + 1 :]}
    pkts = {side: rows[f"{side}_pkts"].to_numpy() for side in end}
    tcp = (rows["proto"] == "tcp").to_numpy()
    answered = tcp & (pkts["resp"] > 0) & (pkts["orig"] > 0)
    silent = tcp & (rows["conn_state"] == "S0").to_numpy()
    parts = []
    for one, other in (("orig", "resp"), ("resp", "orig")):
        src, dst = end[one], end[other]
        used = (pkts[one] > 0) & ~silent & ~no_arp[src] & ~no_arp[dst] & ~(afar[src] & afar[dst])
        data = rows[f"{one}_bytes"].to_numpy() - _HEADER_BYTES * pkts[one] >= _DATA_BYTES
        # A router forwards, and never learns that it arrived.
        confirmed = answered & data & ~afar[src]
        if one == "resp":
            # Linux believes an acknowledgement when it sends again; an only answer is the last.
            confirmed &= (rows["exchanges"] > 1).to_numpy(bool)
        src, dst = np.where(afar[src], 0, src), np.where(afar[dst], 0, dst)
        part = {"pair": src * len(hosts) + dst, "slot": rows["slot"].to_numpy()}
        parts.append(pd.DataFrame({**part, "confirmed": confirmed})[used & (src != dst)])
    uses = pd.concat(parts, ignore_index=True)
    uses = uses.groupby(["pair", "slot"], as_index=False)["confirmed"].max()
    return uses, np.asarray(hosts, object)


def _draw_stacks(scenario: Scenario, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Per host whether it forgets as modern systems do, and after how many seconds it asks anew;
    the router is the first."""
    rng = scenario.rng
    modern = rng.random(n) < rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.2, 0.7])
    modern[0] = False  # routers keep entries for hours
    young_s, old_s = rng.uniform(25, 70, n), np.exp(rng.uniform(np.log(60), np.log(1200), n))
    age_s = np.where(modern, young_s, old_s)
    age_s[0] = log_uniform(rng, 300, 14400)
    return modern, age_s


# ---- segments sent again ----

# Share of segments that a device loses without a fault, and how likely each is: most cables lose
# nothing at all.
_USUAL_LOSS, _USUAL_ODDS = (0, 1e-4, 1e-3, 4e-3), (0.85, 0.09, 0.04, 0.02)


def draw_losses(scenario: Scenario, flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    """Draw the segments sent again: a few everywhere, many in intervals of loss, whose truth
    follows from them.

    Returns:
        One row per flow and slot with losses: ``flow slot src dst``, and how many were sent again
        by the originator (``sent``) and the responder (``back``).
    """
    rng, rows = scenario.rng, _active(flows, activity)
    tcp = rows[(rows["proto"] == "tcp") & (rows["conn_state"] != "S0")]
    devices = pd.unique(pd.concat([tcp["src"], tcp["dst"]]))
    usual = rng.choice(_USUAL_LOSS, size=len(devices), p=_USUAL_ODDS) * rng.random(len(devices))
    share = dict(zip(devices, usual, strict=True))
    rate = np.maximum(tcp["src"].map(share), tcp["dst"].map(share)).to_numpy(float)
    back_rate = rate
    if scenario.sim.flavour == WIRELESS:
        rate, back_rate = draw_air_losses(scenario.sim, tcp)
    cause = np.full(len(tcp), -1)
    for i, loss in enumerate(scenario.losses):
        hit = _within(tcp, loss)
        cause[hit & (loss.loss_share > np.maximum(rate, back_rate))] = i
        rate = np.where(hit, np.maximum(rate, loss.loss_share), rate)
        back_rate = np.where(hit, np.maximum(back_rate, loss.loss_share), back_rate)
    sent = rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.6))
    back = rng.binomial(tcp["resp_pkts"], np.minimum(back_rate, 0.6))
    for i, loss in enumerate(scenario.losses):
        _add_loss_truth(scenario, tcp[(cause == i) & (sent + back > 0)], loss)
    lost = tcp[["flow", "slot", "src", "dst"]].assign(sent=sent, back=back)
    return lost[sent + back > 0]


def _active(flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    """Activity with what the flows say of it, one row per flow and slot."""
    columns = ["id.orig_h", "id.resp_h", "proto", "app", "code", "asks", "tells", "distinct"]
    rows = activity.join(flows[[*columns, "conn_state", "history", "exchanges"]], on="flow")
    return rows.rename(columns={"id.orig_h": "src", "id.resp_h": "dst"})


def _within(rows: pd.DataFrame, loss: LossInterval) -> np.ndarray:
    """Which rows lie in an interval of loss of one of their ends."""
    middle = (rows["slot"].to_numpy() + 0.5) * SAMPLE_S
    theirs = ((rows["src"] == loss.device) | (rows["dst"] == loss.device)).to_numpy()
    return theirs & (middle >= loss.start_s) & (middle < loss.end_s)


def _add_loss_truth(scenario: Scenario, rows: pd.DataFrame, loss: LossInterval) -> None:
    ts, device = rows["slot"] * SAMPLE_S, loss.device
    own = pd.Series(np.full(len(rows), device, object))
    scenario.add_truth_at(own, ts, loss.label, loss.direction, loss.cause)
    if loss.label == "packet_loss":
        peer = rows["src"].where(rows["src"] != device, rows["dst"])
        near = peer.str.startswith(scenario.sim.network)
        scenario.add_truth_at(peer[near], ts[near], loss.label, "target", loss.cause, least=3)


def mark_retransmissions(history: pd.Series, lost: pd.DataFrame) -> pd.Series:
    """Zeek's history with a ``T`` for the first segment sent again, and for the tenth, and the
    hundredth."""
    totals = lost.groupby("flow")[["sent", "back"]].sum().reindex(range(len(history)), fill_value=0)
    for name, letter in (("sent", "T"), ("back", "t")):
        count = totals[name].to_numpy()
        many = np.where(count > 0, np.floor(np.log10(np.maximum(count, 1))) + 1, 0).astype(np.int64)
        history = history + pd.Series([letter * n for n in many], index=history.index, dtype=object)
    return history


# ---- evidence ----

_READS, _WRITES = (1, 2, 3, 4, 20, 24), (5, 6, 15, 16, 21, 22, 23)  # Modbus function codes
# What Zeek's protocol logs hold; the rest only packets tell.
PROTOCOL_KINDS = (
    "dns_query",
    "dns_failed",
    "modbus_read",
    "modbus_write",
    "modbus_other",
    "modbus_exception",
    "mqtt_connect",
    "mqtt_refused",
    "mqtt_publish",
    "mqtt_malformed",
)


def make_evidence(
    scenario: Scenario, flows: pd.DataFrame, activity: pd.DataFrame, lost: pd.DataFrame
) -> pd.DataFrame:
    """Draw the evidence that packets would give of all flows.

    Args:
        scenario: loose evidence and intervals of loss.
        flows: shape (n_flows, ...), in the order that ``activity`` counts them.
        activity: the slots of each flow.
        lost: segments that were sent again, as ``draw_losses`` gave them.

    Returns:
        Evidence as a capture holds it, sorted by slot.
    """
    rows, noted = _active(flows, activity), scenario.evidence
    parts = [noted.assign(slot=np.floor(noted["ts"].astype(float) / SAMPLE_S)), _dns(rows)]
    parts += [_modbus(scenario, rows), *_mqtt(scenario, rows), *_resets(rows)]
    parts.append(_rows(lost, "retransmission", count=lost["sent"]))
    parts.append(_rows(_turned(lost), "retransmission", count=lost["back"]))
    parts.append(_zero_windows(scenario, rows))
    parts.append(_rows(make_arp_requests(scenario, rows), "arp_request"))
    return _summed([part for part in parts if len(part)], scenario)


def _rows(
    table: pd.DataFrame,
    kind: str | np.ndarray,
    code: int | pd.Series = -1,
    count: int | np.ndarray | pd.Series = 1,
    distinct: int | np.ndarray = 0,
) -> pd.DataFrame:
    found = table[["slot", "src", "dst"]]
    return found.assign(kind=kind, code=code, count=count, distinct=distinct)


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows as the other side sent them."""
    return rows.assign(src=rows["dst"], dst=rows["src"])


def _summed(parts: list[pd.DataFrame], scenario: Scenario) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=EVIDENCE_COLUMNS)
    types = dict.fromkeys(("slot", "code", "count", "distinct"), np.int64)
    words = dict.fromkeys(("src", "dst", "kind"), "str")
    table = pd.concat(parts, ignore_index=True).astype({**types, **words})
    first, last = scenario.sim.start_s // SAMPLE_S, scenario.sim.end_s // SAMPLE_S
    table = table[(table["count"] > 0) & (table["slot"] >= first) & (table["slot"] < last)]
    keys = ["slot", "src", "dst", "kind", "code"]
    sums = table.groupby(keys, as_index=False).agg({"count": "sum", "distinct": "max"})
    return sums.reindex(columns=EVIDENCE_COLUMNS)


def _dns(rows: pd.DataFrame) -> pd.DataFrame:
    dns = rows[rows["app"] == "dns"]
    failed = dns[dns["code"] >= 0]
    silent = dns[(dns["conn_state"] == "S0") & (dns["orig_pkts"] > 0)]
    answers = _rows(failed, "dns_failed", failed["code"], failed["resp_pkts"])
    queries = _rows(dns, "dns_query", count=dns["orig_pkts"])
    return pd.concat([queries, answers, _rows(silent, "dns_failed")])


def _draw_requests(scenario: Scenario, rows: pd.DataFrame, share: str = "asks") -> np.ndarray:
    """How many requests (``asks``) or messages of the other side (``tells``) the exchanges of a
    slot held."""
    expected = rows["spoken"] * rows[share].astype(float)
    return np.floor(expected + scenario.rng.random(len(rows))).astype(np.int64)


def _modbus(scenario: Scenario, rows: pd.DataFrame) -> pd.DataFrame:
    modbus = rows[rows["app"] == "modbus"]
    count, code = _draw_requests(scenario, modbus), modbus["code"]
    kind = np.where(code.isin(_WRITES), "modbus_write", "modbus_other")
    kind = np.where(code.isin(_READS), "modbus_read", kind)
    return _rows(modbus, kind, code, count, np.minimum(count, modbus["distinct"]))


def _mqtt(scenario: Scenario, rows: pd.DataFrame) -> list[pd.DataFrame]:
    mqtt = rows[rows["app"] == "mqtt"]
    opened = mqtt[(mqtt["orig_syns"] > 0) & mqtt["history"].str.contains("D")]
    parts = [_rows(opened, "mqtt_connect")]
    for side, share in ((mqtt, "asks"), (_turned(mqtt), "tells")):
        count = _draw_requests(scenario, mqtt, share)
        distinct = np.minimum(count, mqtt["distinct"])
        parts.append(_rows(side, "mqtt_publish", count=count, distinct=distinct))
    return parts


def _resets(rows: pd.DataFrame) -> list[pd.DataFrame]:
    last = rows[(rows["proto"] == "tcp") & ~rows["flow"].duplicated(keep="last")]
    by_orig, by_resp = (last[last["history"].str.contains(letter)] for letter in "Rr")
    return [_rows(by_orig, "reset"), _rows(_turned(by_resp), "reset")]


def _zero_windows(scenario: Scenario, rows: pd.DataFrame) -> pd.DataFrame:
    """Receivers that ran full: in congestion, and rarely elsewhere."""
    tcp = rows[(rows["proto"] == "tcp") & (rows["resp_pkts"] > 0)]
    rate = np.full(len(tcp), 1e-5)
    for loss in scenario.losses:
        rate = np.where(_within(tcp, loss), np.maximum(rate, loss.full_share), rate)
    count = scenario.rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.5))
    return _rows(tcp, "zero_window", count=count)
