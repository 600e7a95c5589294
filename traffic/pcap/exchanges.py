"""Requests and answers: who asked whom for what, whether it was answered, refused, late or in vain.

One form for all protocols: each reads its messages into rows, and here what answers is joined to
what asked. In time order, rows of one key of one flow:

    ask          ask   answer   answer             unanswered | answered | unasked
    |             |---->|        |
"""

import numpy as np
import pandas as pd

from traffic.arrays import number_groups, starts_run
from traffic.conversations import EXCHANGE_COLUMNS, OUTCOMES, empty_exchanges
from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages, cut_messages, order_segments
from traffic.pcap.packets import Packets
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.protocol import ANSWER, ASK, KINDS, SKIP, TELL, Events, Protocol

_ANSWERED, _REFUSED, _UNANSWERED, _UNSEEN, _UNASKED, _TOLD, _MALFORMED = range(len(OUTCOMES))


def read_exchanges(packets: Packets, work: pd.DataFrame, flows: pd.DataFrame) -> pd.DataFrame:
    """Pair the messages of every protocol that is read.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        flows: a row per flow in the numbers of ``work``: ``service`` ("" where unknown),
            ``transport`` (IANA number), ``server_port``, ``begun`` (its SYN was seen), ``two_way``
            (both sides were).

    Returns:
        A row per request, per answer that nobody asked for, and per message that needs none, by
        time: ``ts src dst`` (rows of ``addresses``; ``src`` asked or told) ``port protocol`` (a
        place in ``PROTOCOLS``) ``flow`` (as in ``work``) ``kind function unit target value name``
        (a place in the names) ``outcome code answer_ts behind row answer_row``.
        The names are in the table's ``attrs["names"]``; in ``attrs["services"]`` is what flows turned
        out to speak, by their number.
    """
    names: dict[str, int] = {}
    services: dict[int, str] = {}
    parts = [
        _read_protocol(number, protocol, packets, work, flows, names, services)
        for number, protocol in enumerate(PROTOCOLS)
        if protocol.read is not None
    ]
    parts = [part for part in parts if len(part)]
    found = pd.DataFrame()
    if parts:
        found = pd.concat(parts, ignore_index=True)
        found = found.sort_values("ts", kind="stable", ignore_index=True)
    found.attrs |= {"names": list(names), "services": services}
    return found


def make_exchanges(found: pd.DataFrame, packets: Packets, number: np.ndarray) -> pd.DataFrame:
    """What ``read_exchanges`` found as the table of a capture.

    Args:
        found: the table of ``read_exchanges``.
        packets: of the same capture.
        number: shape (n_flows,), the capture's number of each flow.
    """
    if found.empty:
        return empty_exchanges()
    frame = packets.table["frame"].to_numpy()
    answer_row = found["answer_row"].to_numpy()
    named = {
        "client": (found["src"], packets.addresses),
        "server": (found["dst"], packets.addresses),
        "protocol": (found["protocol"], [protocol.name for protocol in PROTOCOLS]),
        "kind": (found["kind"], KINDS),
        "name": (found["name"], found.attrs["names"]),
    }
    columns = {name: found[name].to_numpy() for name in EXCHANGE_COLUMNS if name in found}
    columns |= {
        name: pd.Categorical.from_codes(codes.to_numpy(), categories)
        for name, (codes, categories) in named.items()
    }
    columns["flow"] = number[found["flow"].to_numpy()]
    columns["delay_s"] = (found["answer_ts"] - found["ts"]).to_numpy()
    columns["frame"] = frame[found["row"].to_numpy()]
    columns["answer_frame"] = np.where(answer_row >= 0, frame[answer_row], 0)
    return pd.DataFrame({name: columns[name] for name in EXCHANGE_COLUMNS}, copy=False)


def _read_protocol(
    number: int,
    protocol: Protocol,
    packets: Packets,
    work: pd.DataFrame,
    flows: pd.DataFrame,
    names: dict[str, int],
    services: dict[int, str],
) -> pd.DataFrame:
    named = (flows["service"] == protocol.name).to_numpy()
    hinted = (flows["service"] == "").to_numpy() & flows["server_port"].isin(protocol.ports)
    chosen = (named | hinted) & flows["transport"].isin(protocol.transports).to_numpy()
    if not chosen.any():
        return pd.DataFrame()
    rows = [
        _read_messages(protocol, messages, named, flows["begun"].to_numpy(), names, services)
        for messages in _cut(protocol, packets, work, chosen)
        if len(messages)
    ]
    if not any(len(part) for part in rows):
        return pd.DataFrame()
    return _pair(protocol, pd.concat(rows), packets, flows).assign(protocol=number)


def _cut(
    protocol: Protocol, packets: Packets, work: pd.DataFrame, chosen: np.ndarray
) -> list[Messages]:
    segments = order_segments(packets, work, chosen)
    tcp = packets.table["proto"].to_numpy()[segments.row] == TCP
    length, width = protocol.message_bytes, protocol.head_bytes
    return [
        cut_messages(segments.take(tcp), length, width, protocol.resyncs),
        cut_messages(segments.take(~tcp), None, 0),
    ]


def _read_messages(
    protocol: Protocol,
    messages: Messages,
    named: np.ndarray,
    begun: np.ndarray,
    names: dict[str, int],
    services: dict[int, str],
) -> pd.DataFrame:
    """Messages as rows with their names numbered, ``malformed`` where a message should begin and
    none does; flows that turn out to speak something else are added to ``services``."""
    assert protocol.read is not None
    rows = protocol.read(messages)
    others = rows[rows["other"] >= 0].groupby("flow")["other"].first()
    services |= {flow: protocol.others[other] for flow, other in others.items()}
    rows["name"] = _number_names(protocol, messages, rows, names)
    # After a hole, or where a capture begins within a stream, nobody knows where a message begins.
    segments = messages.segments
    sure = segments.follows | (segments.starts & begun[segments.flow])
    rows["malformed"] = rows.pop("wrong") & sure[messages.segment]
    # What goes on at the protocol's port when a capture begins, and is not understood, is another
    # protocol.
    understood = named | begun
    understood[rows["flow"].to_numpy()[(rows["role"] != SKIP).to_numpy()]] = True
    return rows[((rows["role"] != SKIP) | rows["malformed"]) & understood[rows["flow"]]]


def _number_names(
    protocol: Protocol, messages: Messages, rows: pd.DataFrame, names: dict[str, int]
) -> np.ndarray:
    """A number for each name, -1 for none; new names are added to ``names``."""
    number = np.full(len(rows), -1)
    size = rows["name_bytes"].to_numpy()
    named = np.flatnonzero((rows["name_at"].to_numpy() >= 0) & (size > 0))
    if not len(named):
        return number
    width = int(size[named].max())
    texts = messages.take(named).bytes(rows["name_at"].to_numpy()[named], width)
    texts *= np.arange(width) < size[named, None]
    codes, distinct = pd.factorize(texts.view(f"S{width}").ravel().astype(object))
    texts_of = [protocol.read_name(bytes(name)) for name in distinct]
    number[named] = np.array([names.setdefault(name, len(names)) for name in texts_of])[codes]
    return number


def _pair(
    protocol: Protocol, rows: pd.DataFrame, packets: Packets, flows: pd.DataFrame
) -> pd.DataFrame:
    """Join what answers to what asked; a row per request, unasked answer, other message."""
    rows = rows.sort_values("row", kind="stable", ignore_index=True)
    role, flow = rows["role"].to_numpy(), rows["flow"].to_numpy(np.int64)
    ts = packets.table["ts"].to_numpy()[rows["row"].to_numpy()]
    asks, answers = role == ASK, role == ANSWER
    side = flow * 2 + (rows["is_orig"].to_numpy() ^ answers)
    answer = _find_answers(side, rows["key"].to_numpy(), role)
    if protocol.repeats:
        late = (answer >= 0) & (ts[answer] - ts > protocol.wait_s)
        answer[late] = -1
    else:
        # Of requests alike the last one is what was answered; those before it waited in vain.
        last = np.full(len(rows), -1)
        last[answer[answer >= 0]] = np.flatnonzero(answer >= 0)
        answer = np.where(last[answer] == np.arange(len(rows)), answer, -1)
    answered = answer >= 0
    unasked = answers.copy()
    unasked[answer[answered]] = False
    kept = np.flatnonzero(asks | unasked | (role == TELL) | rows["malformed"].to_numpy())

    code = rows["code"].to_numpy()
    code = np.where(answered, code[answer], np.where(asks, -1, code))
    judged = flows["two_way"].to_numpy()[flow] | (flows["transport"].to_numpy()[flow] != TCP)
    waited = judged & (ts + protocol.wait_s <= packets.end_s) & (rows["patient"].to_numpy() == 0)
    outcome = np.select(
        [rows["malformed"], role == TELL, unasked, answered & (code > 0), answered, waited],
        [_MALFORMED, _TOLD, _UNASKED, _REFUSED, _ANSWERED, _UNANSWERED],
        _UNSEEN,
    )
    # Requests of the same client on the same flow between a request and its answer.
    count = _count_up_to(asks, side)
    row = rows["row"].to_numpy()
    src, dst = (packets.table[name].to_numpy()[row] for name in ("src", "dst"))
    found = rows[["kind", "function", "unit", "target", "value", "name", "flow", "row"]].assign(
        ts=ts,
        src=np.where(answers, dst, src),
        dst=np.where(answers, src, dst),
        port=flows["server_port"].to_numpy()[flow],
        outcome=pd.Categorical.from_codes(outcome, OUTCOMES),
        code=code,
        answer_ts=np.where(answered, ts[answer], np.nan),
        behind=np.where(answered, count[answer] - count, 0),
        answer_row=np.where(answered, row[answer], -1),
    )
    return found.iloc[kept]


def _find_answers(side: np.ndarray, key: np.ndarray, role: np.ndarray) -> np.ndarray:
    """The next answer of the same key and side after each request, by row; -1 for none."""
    paired = np.flatnonzero((role == ASK) | (role == ANSWER))
    group = number_groups(side[paired], key[paired])[0]
    order = np.argsort(group, kind="stable")
    paired, group = paired[order], group[order]
    place = np.where(role[paired] == ANSWER, np.arange(len(paired)), len(paired))
    after = np.minimum.accumulate(place[::-1])[::-1]
    there = (role[paired] == ASK) & (after < len(paired))
    there[there] = group[after[there]] == group[there]
    answer = np.full(len(role), -1)
    answer[paired[there]] = paired[after[there]]
    return answer


def _count_up_to(which: np.ndarray, group: np.ndarray) -> np.ndarray:
    """How many rows of ``which`` stand in each row's group up to it."""
    order = np.argsort(group, kind="stable")
    total = np.cumsum(which[order])
    head = starts_run(group[order])
    before = np.maximum.accumulate(np.where(head, total - which[order], 0))
    count = np.empty(len(which), np.int64)
    count[order] = total - before
    return count


def find_events(found: pd.DataFrame) -> Events:
    """Evidence by kind from what ``read_exchanges`` found."""
    events: Events = {}
    for number, protocol in enumerate(PROTOCOLS):
        if len(found):
            events |= protocol.make_events(found[found["protocol"] == number])
    return events
