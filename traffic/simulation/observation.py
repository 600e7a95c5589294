"""The evidence that packets would have given, drawn from what the flows carried in each slot."""

from typing import Any

import numpy as np
import pandas as pd

from traffic.capture import ACTIVITY_COLUMNS, EVIDENCE_COLUMNS, SAMPLE_S, spread
from traffic.simulation.distributions import between
from traffic.simulation.scenario import Lossy, Scene

# When within their flows packets pass, as a capture of packets shows it and no log does.
#
# steady    | | | | | | | | | | | |      polled every second: spread evenly, as for a log
# beats     |||       |||       |||      polled every ten seconds: each exchange together
# loose     ||||        |         |      a page fetched: at its start, now and then, at its end

_PACED = {
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_bytes": "orig_ip_bytes",
    "resp_bytes": "resp_ip_bytes",
}
_SIGN_BYTES = 53  # a PINGREQ, its answer or an acknowledgement, with headers
_SLOW_S = 1.5  # exchanges further apart than this are placed one by one


def evenly(flows: pd.DataFrame) -> pd.DataFrame:
    """Activity as a log implies it, and how many exchanges each slot holds (``spoken``)."""
    activity = spread(flows)
    flow = activity["flow"].to_numpy()
    exchanges, pkts = (flows[name].to_numpy(float)[flow] for name in ("exchanges", "orig_pkts"))
    share = np.where(exchanges > 0, exchanges / np.maximum(pkts, 1), 1.0)
    return activity.assign(spoken=activity["orig_pkts"] * share)


def gathered(flows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Activity and exchanges as packets show them; sums per flow are those of ``evenly``."""
    flows, alive = _without_signs(flows)
    duration, exchanges = (
        flows[name].fillna(0.0).to_numpy(float) for name in ("duration", "exchanges")
    )
    pkts, steady = flows["orig_pkts"].to_numpy(float), flows["steady"].to_numpy(bool)
    slow = (exchanges >= 2) & (duration > _SLOW_S * exchanges) & (pkts >= exchanges)
    beating = np.flatnonzero((duration > SAMPLE_S) & steady & slow)
    loose = np.flatnonzero((duration > SAMPLE_S) & ~steady & (pkts > 3))
    rest = np.setdiff1d(np.arange(len(flows)), np.concatenate([beating, loose]))
    parts = [
        _placed(flows.iloc[rest], rest),
        _placed(*_loosened(flows, loose, rng)),
        _beating(flows, beating, rng),
    ]
    counts = [*ACTIVITY_COLUMNS[2:], "spoken"]
    pieces = (
        pd.concat([*parts, alive], ignore_index=True)
        .groupby(["flow", "slot"], as_index=False)[counts]
        .sum()
    )
    spoke = (pieces["orig_pkts"] + pieces["resp_pkts"] > 0) | ~pieces["flow"].duplicated()
    return pieces[spoke].reset_index(drop=True)


def _without_signs(flows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The flows less their signs of life, and the activity of these."""
    alive_s = flows["alive_s"].to_numpy(float)
    signs = np.floor(
        flows["duration"].fillna(0.0).to_numpy(float) / np.where(alive_s > 0, alive_s, np.inf)
    )
    most = np.minimum(flows["orig_pkts"], flows["resp_pkts"]).to_numpy(float)
    many = np.maximum(np.minimum(signs, (most - 1) // 2), 0).astype(np.int64)
    row, place = np.repeat(np.arange(len(flows)), many), _counter(many)
    slot = np.floor(
        (flows["ts"].to_numpy(float)[row] + (place + 1) * alive_s[row]) / SAMPLE_S
    ).astype(np.int64)
    alive = pd.DataFrame(
        {"flow": row, "slot": slot, "orig_pkts": 2, "resp_pkts": 2, "orig_syns": 0, "spoken": 0.0}
    )
    for side in ("orig", "resp"):
        # What a clipped flow's packets are long on average may be less than a sign of life.
        kept = (flows[f"{side}_ip_bytes"] - 2 * _SIGN_BYTES * many).clip(lower=0)
        taken = (flows[f"{side}_ip_bytes"] - kept).to_numpy(float)
        alive[f"{side}_bytes"] = _shared(taken.astype(np.int64), many, row, place)
        flows = flows.assign(
            **{f"{side}_ip_bytes": kept, f"{side}_pkts": flows[f"{side}_pkts"] - 2 * many}
        )
    return flows, alive


def _counter(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … for each run, as in ``traffic.capture``."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _shared(total: np.ndarray, many: np.ndarray, row: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The ``place``-th of ``many`` whole parts of each row's total; the first is never smaller than
    the last."""
    return -(-(place + 1) * total[row] // many[row]) + (-place * total[row] // many[row])


def _placed(pieces: pd.DataFrame, owner: np.ndarray) -> pd.DataFrame:
    """Activity of pieces spread evenly; ``owner`` is the flow of each."""
    active = evenly(pieces.reset_index(drop=True))
    return active.assign(flow=owner[active["flow"].to_numpy()])


def _loosened(
    flows: pd.DataFrame, loose: np.ndarray, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Three pieces of each flow: most at its start, the rest in the middle and at its end."""
    left = flows.iloc[loose]
    wait = left["duration"].to_numpy(float)
    middle, last = rng.uniform(0.2, 0.8, len(loose)), rng.uniform(0.02, 0.2, len(loose))
    starts = [np.zeros(len(loose)), wait * middle, wait * 0.999]
    lengths = [
        np.minimum(rng.lognormal(0, 1, len(loose)), wait * 0.1),
        wait * 0.1 * middle,
        wait * 0.0009,
    ]
    parts = []
    for start, length, share in zip(starts, lengths, [1 - 2 * last, last, None], strict=True):
        piece = left.copy()
        for name in _PACED.values() if share is not None else ():
            piece[name] = np.floor(flows[name].to_numpy()[loose] * share)
            left = left.assign(**{name: left[name] - piece[name]})
        opening = piece["history"] if start is starts[0] else "D"
        parts.append(piece.assign(ts=piece["ts"] + start, duration=length, history=opening))
    return pd.concat(parts, ignore_index=True), np.tile(loose, 3)


def _beating(flows: pd.DataFrame, beating: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Every exchange at its time, with its share of the packets."""
    chosen = flows.iloc[beating]
    many = np.rint(chosen["exchanges"].to_numpy(float)).astype(np.int64)
    row, place = np.repeat(np.arange(len(chosen)), many), _counter(many)
    pace = (chosen["duration"].to_numpy(float) / np.maximum(many - 1, 1))[
        row
    ]  # the last one ends the flow
    late = np.where(
        (place == 0) | (place == many[row] - 1), 0.0, rng.uniform(0, 0.04, len(row)) * pace
    )
    slot = np.floor((chosen["ts"].to_numpy(float)[row] + place * pace + late) / SAMPLE_S).astype(
        np.int64
    )
    opened = chosen["history"].str.contains("S", regex=False).to_numpy(bool)[row]
    pieces = pd.DataFrame({"flow": beating[row], "slot": slot, "spoken": 1.0})
    pieces["orig_syns"] = ((place == 0) & opened).astype(np.int64)
    for name, total in _PACED.items():
        pieces[name] = _shared(
            np.rint(chosen[total].to_numpy(float)).astype(np.int64), many, row, place
        )
    return pieces


# Who asks whose address by ARP: every host of the wire for every neighbour it still uses, once in a
# while.
#
# used by UDP, or to acknowledge only     x    x    x    x    x      asked anew when the entry has
# aged
# used by TCP whose data is acknowledged  =======================    TCP itself confirms the entry:
# never asked
#
# Modern systems forget within a minute what nothing confirms (Linux and Windows:
# base_reachable_time, 30 s times 0.5 to 1.5, then a few seconds of delay; RFC 4861, 7.3.3, whose
# machinery they use for IPv4 too); small stacks keep an entry for minutes and ask when that time is
# over, whatever happens meanwhile.

# Groups, broadcasts, IPv6 (which asks by other means) and who has no address yet.
_NOBODY = r"22[4-9]\.|23\d\.|255\.|.*\.255$|0\.0\.0\.0$|.*:"
_CONFIRMED_SLOTS = 3  # acknowledged data vouches for an entry for about this long
_HEADER_BYTES, _SPOKEN_BYTES = 52, 10  # less in ten seconds is no conversation


def make_questions(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """The slots in which a host asked for a neighbour and was answered.

    Args:
        scene: network, devices and chance.
        rows: one row per active flow and slot: ``slot src dst proto conn_state exchanges``, packets
            and bytes of both sides.

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
    known = (seen >= np.flatnonzero(new)[np.cumsum(new) - 1]) & (
        slot - slot[seen] <= _CONFIRMED_SLOTS
    )
    modern, age_s = _stacks(scene, hosts)
    phase = scene.stage.rng.random(new.sum())[np.cumsum(new) - 1]
    turn = np.floor(slot * SAMPLE_S / age_s[src] + phase)
    due = (np.diff(turn, prepend=-1.0) != 0) | new
    met_before = new & (
        slot <= scene.stage.start_s // SAMPLE_S + 1
    )  # in all likelihood before the capture began
    asked = due & ~met_before & ~(known & modern[src])
    return pd.DataFrame({"slot": slot[asked], "src": hosts[src[asked]], "dst": hosts[dst[asked]]})


def _uses(scene: Scene, rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Which neighbour each host sends to in a slot, and whether TCP vouches for it; strangers are
    the router's.

    Returns:
        ``pair`` (number of the sender times how many hosts there are, plus that of its neighbour),
        ``slot`` and ``vouched``, sorted; and the hosts' addresses, of which the first is the
        router's.
    """
    network = scene.stage.network
    codes, hosts = pd.factorize(
        pd.concat([pd.Series([network + "1"]), rows["src"], rows["dst"]], ignore_index=True)
    )
    names = pd.Series(hosts, dtype="str")
    nobody, afar = (
        names.str.match(_NOBODY).to_numpy(bool),
        ~names.str.startswith(network).to_numpy(bool),
    )
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
        vouched = (
            answered & spoke & ~afar[src]
        )  # a router forwards and never learns that it arrived
        if (
            one == "resp"
        ):  # Linux believes an acknowledgement when it sends again; an only answer is the last
            vouched &= (rows["exchanges"] > 1).to_numpy(bool)
        src, dst = np.where(afar[src], 0, src), np.where(afar[dst], 0, dst)
        part = pd.DataFrame(
            {"pair": src * len(hosts) + dst, "slot": rows["slot"].to_numpy(), "vouched": vouched}
        )
        parts.append(part[used & (src != dst)])
    uses = pd.concat(parts, ignore_index=True)
    return uses.groupby(["pair", "slot"], as_index=False)["vouched"].max(), np.asarray(
        hosts, object
    )


def _stacks(scene: Scene, hosts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per host whether it forgets as modern systems do, and after how many seconds it asks anew;
    the router first."""
    rng = scene.stage.rng
    modern = rng.random(len(hosts)) < rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.2, 0.7])
    modern[0] = False  # routers keep entries for hours
    drawn = np.where(
        modern,
        rng.uniform(25, 70, len(hosts)),
        np.exp(rng.uniform(np.log(60), np.log(1200), len(hosts))),
    )
    drawn[0] = between(rng, 300, 14400)
    return modern, drawn


_READS, _WRITES = (1, 2, 3, 4, 20, 24), (5, 6, 15, 16, 21, 22, 23)
# Most cables lose nothing at all.
_CLEAN = (0.85, 0.09, 0.04, 0.02)
# What Zeek's protocol logs hold; the rest only packets tell.
PROTOCOL_KINDS = (
    *("dns_query", "dns_failed", "modbus_read", "modbus_write", "modbus_other", "modbus_exception"),
    *("mqtt_connect", "mqtt_refused", "mqtt_publish", "mqtt_malformed"),
)


def make_evidence(
    scene: Scene, flows: pd.DataFrame, activity: pd.DataFrame, lost: pd.DataFrame
) -> pd.DataFrame:
    """Draw the evidence that packets would give of all flows.

    Args:
        scene: loose notes and lossy stretches.
        flows: shape (n_flows, ...), the ledger's form, in the order that ``activity`` counts them.
        activity: the slots of each flow.
        lost: segments that were sent again, as ``draw_losses`` gave them.

    Returns:
        Evidence as a capture holds it, sorted by slot.
    """
    rows = _active(flows, activity)
    noted = scene.notes.assign(slot=np.floor(scene.notes["ts"].astype(float) / SAMPLE_S))
    parts = [noted, _dns(rows), _modbus(scene, rows), _mqtt(scene, rows), _resets(rows)]
    parts += [
        _rows(lost, "retransmission", -1, lost["sent"]),
        _rows(_turned(lost), "retransmission", -1, lost["back"]),
    ]
    parts += [_windows(scene, rows), _rows(make_questions(scene, rows), "arp_request", -1, 1)]
    return _summed([part[EVIDENCE_COLUMNS] for part in parts if len(part)], scene)


def _active(flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    columns = ["id.orig_h", "id.resp_h", "proto", "app", "code", "asks", "tells", "distinct"]
    columns += ["conn_state", "history", "exchanges"]
    return activity.join(flows[columns], on="flow").rename(
        columns={"id.orig_h": "src", "id.resp_h": "dst"}
    )


def _summed(parts: list[pd.DataFrame], scene: Scene) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=EVIDENCE_COLUMNS)
    table = pd.concat(parts, ignore_index=True)
    numbers = {name: table[name].astype(np.int64) for name in ("slot", "code", "count", "distinct")}
    words = {name: table[name].astype("str") for name in ("src", "dst", "kind")}
    table = table.assign(**numbers, **words)
    first, last = scene.stage.start_s // SAMPLE_S, scene.stage.end_s // SAMPLE_S
    table = table[(table["count"] > 0) & (table["slot"] >= first) & (table["slot"] < last)]
    keys = ["slot", "src", "dst", "kind", "code"]
    return table.groupby(keys, as_index=False).agg({"count": "sum", "distinct": "max"})[
        EVIDENCE_COLUMNS
    ]


def _rows(table: pd.DataFrame, kind: Any, code: Any, count: Any, distinct: Any = 0) -> pd.DataFrame:
    return table.assign(kind=kind, code=code, count=count, distinct=distinct)[EVIDENCE_COLUMNS]


def _dns(rows: pd.DataFrame) -> pd.DataFrame:
    dns = rows[rows["app"] == "dns"]
    failed, silent = (
        dns[dns["code"] >= 0],
        dns[(dns["conn_state"] == "S0") & (dns["orig_pkts"] > 0)],
    )
    asked = _rows(dns, "dns_query", -1, dns["orig_pkts"])
    return pd.concat(
        [
            asked,
            _rows(failed, "dns_failed", failed["code"], failed["resp_pkts"]),
            _rows(silent, "dns_failed", -1, 1),
        ]
    )


def _asked(scene: Scene, rows: pd.DataFrame, share: str = "asks") -> np.ndarray:
    """How many requests (``asks``) or messages of the other side (``tells``) the exchanges of a
    slot held."""
    return np.floor(
        rows["spoken"] * rows[share].astype(float) + scene.stage.rng.random(len(rows))
    ).astype(np.int64)


def _modbus(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    modbus = rows[rows["app"] == "modbus"]
    count, code = _asked(scene, modbus), modbus["code"]
    kind = np.where(
        code.isin(_READS),
        "modbus_read",
        np.where(code.isin(_WRITES), "modbus_write", "modbus_other"),
    )
    return _rows(modbus, kind, code, count, np.minimum(count, modbus["distinct"]))


def _mqtt(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    mqtt = rows[rows["app"] == "mqtt"]
    opened = mqtt[(mqtt["orig_syns"] > 0) & mqtt["history"].str.contains("D")]
    count = _asked(scene, mqtt)
    told = _rows(mqtt, "mqtt_publish", -1, count, np.minimum(count, mqtt["distinct"]))
    back = _asked(scene, mqtt, "tells")
    passed = _rows(_turned(mqtt), "mqtt_publish", -1, back, np.minimum(back, mqtt["distinct"]))
    return pd.concat([_rows(opened, "mqtt_connect", -1, 1), told, passed])


def _resets(rows: pd.DataFrame) -> pd.DataFrame:
    last = rows[(rows["proto"] == "tcp") & ~rows["flow"].duplicated(keep="last")]
    mine, theirs = last[last["history"].str.contains("R")], last[last["history"].str.contains("r")]
    return pd.concat([_rows(mine, "reset", -1, 1), _rows(_turned(theirs), "reset", -1, 1)])


def _turned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(src=rows["dst"], dst=rows["src"])


def draw_losses(scene: Scene, flows: pd.DataFrame, activity: pd.DataFrame) -> pd.DataFrame:
    """Segments sent again: a few everywhere, many in lossy stretches, whose truth follows from
    them.

    Returns:
        One row per flow and slot with losses: ``flow slot src dst``, and how many were sent again
        by the originator (``sent``) and the responder (``back``).
    """
    rng, rows = scene.stage.rng, _active(flows, activity)
    tcp = rows[(rows["proto"] == "tcp") & (rows["conn_state"] != "S0")]
    devices = pd.unique(pd.concat([tcp["src"], tcp["dst"]]))
    usual = rng.choice([0, 1e-4, 1e-3, 4e-3], size=len(devices), p=_CLEAN) * rng.random(
        len(devices)
    )
    share = dict(zip(devices, usual, strict=True))
    rate = np.maximum(tcp["src"].map(share), tcp["dst"].map(share)).to_numpy(float)
    cause = np.full(len(tcp), -1)
    for i, stretch in enumerate(scene.losses):
        hit = _within(tcp, stretch)
        cause[hit & (stretch.loss_share > rate)] = i
        rate = np.where(hit, np.maximum(rate, stretch.loss_share), rate)
    sent = rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.6))
    back = rng.binomial(tcp["resp_pkts"], np.minimum(rate, 0.6))
    for i, stretch in enumerate(scene.losses):
        _tell_loss(scene, tcp[(cause == i) & (sent + back > 0)], stretch)
    lost = tcp[["flow", "slot", "src", "dst"]].assign(sent=sent, back=back)
    return lost[sent + back > 0]


def _within(rows: pd.DataFrame, stretch: Lossy) -> np.ndarray:
    """Which rows lie in a lossy stretch of one of their ends."""
    middle = (rows["slot"].to_numpy() + 0.5) * SAMPLE_S
    theirs = ((rows["src"] == stretch.device) | (rows["dst"] == stretch.device)).to_numpy()
    return theirs & (middle >= stretch.start_s) & (middle < stretch.end_s)


def story_of(history: pd.Series, lost: pd.DataFrame) -> pd.Series:
    """Zeek's history with a ``T`` for the first segment sent again, and for the tenth, and the
    hundredth."""
    totals = lost.groupby("flow")[["sent", "back"]].sum().reindex(range(len(history)), fill_value=0)
    for name, letter in (("sent", "T"), ("back", "t")):
        count = totals[name].to_numpy()
        many = np.where(count > 0, np.floor(np.log10(np.maximum(count, 1))) + 1, 0).astype(np.int64)
        history = history + pd.Series([letter * n for n in many], index=history.index, dtype=object)
    return history


def _tell_loss(scene: Scene, felt: pd.DataFrame, stretch: Lossy) -> None:
    when, device = felt["slot"] * SAMPLE_S, stretch.device
    mine = pd.Series(np.full(len(felt), device, object))
    scene.tell_touched(mine, when, stretch.label, stretch.direction, stretch.cause)
    if stretch.label == "packet_loss":
        peer = felt["src"].where(felt["src"] != device, felt["dst"])
        near = peer.str.startswith(scene.stage.network)
        scene.tell_touched(peer[near], when[near], stretch.label, "target", stretch.cause, least=3)


def _windows(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Receivers that ran full: in congestion, and rarely elsewhere."""
    tcp = rows[(rows["proto"] == "tcp") & (rows["resp_pkts"] > 0)]
    rate = np.full(len(tcp), 1e-5)
    for stretch in scene.losses:
        rate = np.where(_within(tcp, stretch), np.maximum(rate, stretch.full_share), rate)
    return _rows(
        tcp, "zero_window", -1, scene.stage.rng.binomial(tcp["orig_pkts"], np.minimum(rate, 0.5))
    )
