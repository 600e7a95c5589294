"""Requests and answers: who asked whom for what, whether it was answered, refused, late or in vain.

One form for all protocols: each reads its messages into rows, and here what answers is joined to
what asked. In time order, rows of one key of one flow:

    ask          ask   answer   answer             unanswered | answered | unasked
    |             |---->|        |
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from traffic.arrays import number_groups, starts_run
from traffic.conversations import EXCHANGE_COLUMNS, OUTCOMES, empty_exchanges
from traffic.pcap.headers import TCP
from traffic.pcap.messages import MessageBytes, Messages, cut_messages, order_segments
from traffic.pcap.packets import Packets
from traffic.pcap.protocols import PROTOCOLS
from traffic.pcap.protocols.protocol import ANSWER, ASK, KINDS, SKIP, TELL, Events, Protocol
from traffic.pcap.protocols.written import DATA_BYTES

_MOST_ALIKE = 4  # requests of one key that are under way at once
# Who closes its side right after it asked, as a program that finds its answer late does, waits for none.
_HASTY_S = 0.1
_OF_REQUESTS = ["kind", "function", "unit", "target", "name", "points", "login"]
_ANSWERED, _REFUSED, _UNANSWERED, _UNSEEN, _UNASKED, _TOLD, _MALFORMED = range(len(OUTCOMES))


# Of a stream that only tells what its ends are: its first packets, in a few flows of each client
# and server.
_OPENING_PKTS = 8
_OPENING_FLOWS = 4
_OPENING_BYTES = 1 << 20


@dataclass(frozen=True)
class _Texts:
    """Texts of messages with their numbers, added to while messages are read."""

    names: dict[str, int]
    points: dict[str, int]


@dataclass(frozen=True)
class Content:
    """What the messages of a capture say.

    Attributes:
        exchanges: one row per request, per answer that nobody asked for, and per message that needs
            none, by time: ``ts src dst`` (rows of ``addresses``; ``src`` asked or told) ``port
            protocol`` (a place in ``PROTOCOLS``) ``flow`` (as in ``work``) ``kind function unit
            target value name`` (a place in ``names``) ``points`` (a place in ``points``) ``outcome
            code answer_ts behind row answer_row``.
        names: texts from outside, each once.
        points: bytes of write commands, and what reads found, as hexadecimal digits, each once.
        services: what flows turned out to speak, by their number.
        identities: one row per statement about a device, by protocol: ``device unit field value
            source row``.
    """

    exchanges: pd.DataFrame
    names: tuple[str, ...]
    points: tuple[str, ...]
    services: dict[int, str]
    identities: pd.DataFrame


def read_content(packets: Packets, work: pd.DataFrame, flows: pd.DataFrame) -> Content:
    """Read the messages of every protocol that is read, and pair what asks with what answers.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        flows: a row per flow in the numbers of ``work``: ``service`` ("" where unknown),
            ``transport`` (IANA number), ``server_port``, ``begun`` (its SYN was seen), ``two_way``
            (both sides were), ``left_s`` (when the client closed its side).
    """
    texts = _Texts({}, {})
    services: dict[int, str] = {}
    said: list[pd.DataFrame] = []
    parts = [
        _read_protocol(number, protocol, packets, work, flows, texts, services, said)
        for number, protocol in enumerate(PROTOCOLS)
        if protocol.read is not None or protocol.identify is not None
    ]
    parts = [part for part in parts if len(part)]
    found = pd.DataFrame()
    if parts:
        found = pd.concat(parts, ignore_index=True)
        found = found.sort_values("ts", kind="stable", ignore_index=True)
    said = [one for one in said if len(one)]
    identities = pd.concat(said, ignore_index=True) if said else pd.DataFrame()
    return Content(found, tuple(texts.names), tuple(texts.points), services, identities)


def make_exchanges(content: Content, packets: Packets, number: np.ndarray) -> pd.DataFrame:
    """What ``read_content`` found as the table of a capture.

    Args:
        content: what was read.
        packets: of the same capture.
        number: shape (n_flows,), the capture's number of each flow.
    """
    found = content.exchanges
    if found.empty:
        return empty_exchanges()
    frame = packets.table["frame"].to_numpy()
    answer_row = found["answer_row"].to_numpy()
    named = {
        "client": _name_clients(found, packets),
        "server": (found["dst"], packets.addresses),
        "protocol": (found["protocol"], [protocol.name for protocol in PROTOCOLS]),
        "kind": (found["kind"], KINDS),
        "name": (found["name"], content.names),
        "points": (found["points"], content.points),
    }
    columns = {name: found[name].to_numpy() for name in EXCHANGE_COLUMNS if name in found}
    columns |= {
        name: pd.Categorical.from_codes(codes.to_numpy(), pd.Index(categories, dtype="str"))
        for name, (codes, categories) in named.items()
    }
    columns["flow"] = number[found["flow"].to_numpy()]
    columns["delay_s"] = (found["answer_ts"] - found["ts"]).to_numpy()
    columns["frame"] = frame[found["row"].to_numpy()]
    columns["answer_frame"] = np.where(answer_row >= 0, frame[answer_row], 0)
    return pd.DataFrame({name: columns[name] for name in EXCHANGE_COLUMNS}, copy=False)


def _name_clients(
    found: pd.DataFrame, packets: Packets
) -> tuple[pd.Series, np.ndarray | list[str]]:
    """Clients as rows of names: addresses, and MACs of those that have none yet."""
    nobody = np.flatnonzero(np.isin(packets.addresses, ("0.0.0.0", "::")))  # noqa: S104
    macs = packets.table["src_mac"].to_numpy()[found["row"].to_numpy()]
    bare = (found["src"].isin(nobody) & (macs >= 0)).to_numpy()
    if not bare.any():
        return found["src"], packets.addresses
    codes, distinct = pd.factorize(macs[bare])
    clients = found["src"].astype("int64")
    clients[bare] = len(packets.addresses) + codes
    texts = [int(mac).to_bytes(6, "big").hex(":") for mac in distinct]
    return clients, [*packets.addresses, *texts]


def join_exchanges(*parts: pd.DataFrame) -> pd.DataFrame:
    """Tables of exchanges as one, by time."""
    parts = tuple(part for part in parts if len(part))
    if len(parts) < 2:
        return parts[0] if parts else empty_exchanges()
    columns = {
        name: union_categoricals([part[name] for part in parts])
        if isinstance(parts[0][name].dtype, pd.CategoricalDtype)
        else np.concatenate([part[name].to_numpy() for part in parts])
        for name in EXCHANGE_COLUMNS
    }
    whole = pd.DataFrame(columns, copy=False)
    keys = [whole[name].to_numpy() for name in ("frame", "ts")]
    keys[1:1] = [whole["protocol"].cat.codes.to_numpy(), whole["flow"].to_numpy() < 0]
    return whole.take(np.lexsort(keys)).reset_index(drop=True)


def _read_protocol(
    number: int,
    protocol: Protocol,
    packets: Packets,
    work: pd.DataFrame,
    flows: pd.DataFrame,
    texts: _Texts,
    services: dict[int, str],
    said: list[pd.DataFrame],
) -> pd.DataFrame:
    # What shares an envelope with another protocol is found by that one's reader, which comes first.
    shared = [flow for flow, service in services.items() if service == protocol.name]
    named = (flows["service"] == protocol.name).to_numpy()
    named = named | np.isin(np.arange(len(named)), shared)
    hinted = (flows["service"] == "").to_numpy() & flows["server_port"].isin(protocol.ports)
    chosen = (named | hinted) & flows["transport"].isin(protocol.transports).to_numpy()
    if not chosen.any():
        return pd.DataFrame()
    opens = protocol.read is None or protocol.opens
    if opens:
        few, first = _select_openings(work, named, flows["server_port"].to_numpy())
        for messages in _cut(packets, few, first, _whole_stream, 1, resyncs=False):
            said += [_identify(protocol, messages)] if len(messages) else []
    rows, begun, streams = [], flows["begun"].to_numpy(), None
    length, width, resyncs = protocol.message_bytes, protocol.head_bytes, protocol.resyncs
    for messages in (
        () if protocol.read is None else _cut(packets, work, chosen, length, width, resyncs)
    ):
        if protocol.identify is not None and not opens and len(messages):
            said.append(_identify(protocol, messages))
        if len(messages):
            streams = streams or messages
            rows.append(_read_messages(protocol, messages, named, begun, texts, services))
    if not any(len(part) for part in rows):
        return pd.DataFrame()
    found = _pair(protocol, pd.concat(rows), packets, flows).assign(protocol=number)
    if protocol.read_back is not None and streams is not None:
        points = found["points"].to_numpy().copy()
        for row, data in protocol.read_back(streams, found).items():
            points[row] = texts.points.setdefault(data.hex(), len(texts.points))
        found = found.assign(points=points)
    return found.drop(columns=["message", "answer_message"])


def _cut(
    packets: Packets,
    work: pd.DataFrame,
    chosen: np.ndarray,
    length: MessageBytes | None,
    width: int,
    resyncs: bool,
) -> list[Messages]:
    segments = order_segments(packets, work, chosen)
    tcp = packets.table["proto"].to_numpy()[segments.row] == TCP
    return [
        cut_messages(segments.take(tcp), length, width, resyncs),
        cut_messages(segments.take(~tcp), None, 0),
    ]


def _whole_stream(head: np.ndarray, known: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.full(len(head), _OPENING_BYTES)


def _select_openings(
    work: pd.DataFrame, named: np.ndarray, port: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """The first packets of either side of a few flows of each client and server, and which flows these
    are.

    Args:
        work: packets, sorted by flow.
        named, port: shape (n_flows,): the flows of the protocol, and their servers' ports.
    """
    flow, is_orig = work["flow"].to_numpy(), work["is_orig"].to_numpy()
    speaks = np.flatnonzero(named[flow] & (work["payload"].to_numpy() > 0) & ~is_orig)
    heads = speaks[starts_run(flow[speaks])]
    ends = (work[name].to_numpy()[heads] for name in ("src", "dst"))
    servers = number_groups(*ends, port[flow[heads]])[0]
    few = _count_up_to(np.ones(len(heads), bool), servers) <= _OPENING_FLOWS
    chosen = np.zeros(len(named), bool)
    chosen[flow[heads[few]]] = True
    mine = np.flatnonzero(chosen[flow] & (work["payload"].to_numpy() > 0))
    nth = _count_up_to(np.ones(len(mine), bool), flow[mine].astype(np.int64) * 2 + is_orig[mine])
    return work.iloc[mine[nth <= _OPENING_PKTS]], chosen


def _identify(protocol: Protocol, messages: Messages) -> pd.DataFrame:
    """What messages say of devices, as ``device unit field value source row``."""
    assert protocol.identify is not None
    found = protocol.identify(messages)
    if not found:
        return pd.DataFrame()
    message = np.array([one.message for one in found])
    table = pd.DataFrame([vars(one) for one in found]).drop(columns="message")
    sender = messages.segments.packets.addresses[messages.of_packet("src")[message]]
    table["device"] = table["device"].where(table["device"] != "", sender)
    return table.assign(row=messages.row[message])


def _read_messages(
    protocol: Protocol,
    messages: Messages,
    named: np.ndarray,
    begun: np.ndarray,
    texts: _Texts,
    services: dict[int, str],
) -> pd.DataFrame:
    """Messages as rows with their texts numbered, ``malformed`` where a message should begin and
    none does; flows that turn out to speak something else are added to ``services``."""
    assert protocol.read is not None
    rows = protocol.read(messages)
    others = rows[rows["other"] >= 0].groupby("flow")["other"].first()
    services |= {flow: protocol.others[other] for flow, other in others.items()}
    name_at, size = (rows.pop(name).to_numpy() for name in ("name_at", "name_bytes"))

    def read_name(name: bytes) -> str:
        return protocol.read_name(name.rstrip(b"\0"))

    rows["name"] = _number_texts(messages, name_at, size, read_name, texts.names)
    data_at = rows.pop("data_at").to_numpy()
    size = np.minimum(messages.held - data_at, DATA_BYTES)
    rows["points"] = _number_texts(messages, data_at, size, bytes.hex, texts.points)
    # After a hole, or where a capture begins within a stream, nobody knows where a message begins.
    segments = messages.segments
    sure = segments.follows | (segments.starts & begun[segments.flow])
    rows["malformed"] = rows.pop("wrong") & sure[messages.segment]
    rows["message"] = np.arange(len(messages))
    # What goes on at the protocol's port when a capture begins, and is not understood, is another
    # protocol.
    understood = named | begun
    understood[rows["flow"].to_numpy()[(rows["role"] != SKIP).to_numpy()]] = True
    return rows[((rows["role"] != SKIP) | rows["malformed"]) & understood[rows["flow"]]]


def _number_texts(
    messages: Messages,
    place: np.ndarray,
    size: np.ndarray,
    read: Callable[[bytes], str],
    known: dict[str, int],
) -> np.ndarray:
    """A number for each text of ``size`` bytes at ``place`` of a message, -1 for none; new ones are
    added to ``known``."""
    number = np.full(len(messages), -1)
    there = np.flatnonzero((place >= 0) & (size > 0))
    if not len(there):
        return number
    size, width = size[there], int(size[there].max())
    texts = messages.take(there).bytes(place[there], width + 1)
    texts *= np.arange(width + 1) < size[:, None]
    texts[np.arange(len(there)), size] = 1  # where it ends: what follows it is lost
    codes, distinct = pd.factorize(texts.view(f"S{width + 1}").ravel().astype(object))
    said = [read(bytes(one)[:-1]) for one in distinct]
    number[there] = np.array([known.setdefault(one, len(known)) for one in said])[codes]
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
    if protocol.broadcasts or protocol.elsewhere:
        side = np.zeros(len(rows), np.int64)
    group = number_groups(side, rows["key"].to_numpy())[0]
    if protocol.repeats:
        answer = _find_answers(group, role)
        answer[(answer >= 0) & (ts[answer] - ts > protocol.wait_s)] = -1
    else:
        answer = _match(group, role, ts, protocol.wait_s)
    answered = answer >= 0
    unasked = answers.copy()
    unasked[answer[answered]] = False
    kept = np.flatnonzero(asks | unasked | (role == TELL) | rows["malformed"].to_numpy())

    code = rows["code"].to_numpy()
    code = np.where(answered, code[answer], np.where(asks, -1, code))
    judged = flows["two_way"].to_numpy()[flow] | (flows["transport"].to_numpy()[flow] != TCP)
    waited = judged & (ts + protocol.wait_s <= packets.end_s) & (rows["patient"].to_numpy() == 0)
    waited &= flows["left_s"].to_numpy()[flow] - ts >= _HASTY_S
    refused = answered & (code > 0) & ~np.isin(code, list(protocol.remarks))
    outcome = np.select(
        [rows["malformed"], role == TELL, unasked, refused, answered, waited],
        [_MALFORMED, _TOLD, _UNASKED, _REFUSED, _ANSWERED, _UNANSWERED],
        _UNSEEN,
    )
    # A number or name that the request does not hold is that of its answer: a lease, a stratum.
    value, name = rows["value"].to_numpy(), rows["name"].to_numpy()
    value = np.where(answered & (value < 0), value[answer], value)
    name = np.where(answered & (name < 0), name[answer], name)
    # Requests of the same client on the same flow between a request and its answer.
    count = _count_up_to(asks, side)
    row = rows["row"].to_numpy()
    src, dst = (packets.table[name].to_numpy()[row] for name in ("src", "dst"))
    found = rows[[*_OF_REQUESTS, "flow", "row", "message"]].assign(
        ts=ts,
        value=value,
        name=name,
        src=np.where(answers, dst, src),
        # Whoever answers what all were asked is the server.
        dst=np.select([answers, answered], [src, src[answer]], dst),
        port=flows["server_port"].to_numpy()[flow],
        outcome=pd.Categorical.from_codes(outcome, OUTCOMES),
        code=code,
        answer_ts=np.where(answered, ts[answer], np.nan),
        behind=np.where(answered, count[answer] - count, 0),
        answer_row=np.where(answered, row[answer], -1),
        answer_message=np.where(answered, rows["message"].to_numpy()[answer], -1),
    )
    return found.iloc[kept]


def _match(group: np.ndarray, role: np.ndarray, ts: np.ndarray, wait_s: float) -> np.ndarray:
    """The answer of each request, by row; -1 for none.

    Of requests alike the last one before an answer is what was answered: those before it waited in
    vain, unless answers are left for them in time.
    """
    answer, free = np.full(len(role), -1), role.copy()
    for turn in range(_MOST_ALIKE):
        found = _find_answers(group, free)
        asked = np.flatnonzero(found >= 0)
        # Of several requests before one answer the last.
        order = np.lexsort((asked, found[asked]))
        last = np.append(np.diff(found[asked][order]) != 0, True)[: len(asked)]
        asked = asked[order][last]
        if turn:
            asked = asked[ts[found[asked]] - ts[asked] <= wait_s]
        if not len(asked):
            break
        answer[asked] = found[asked]
        free[asked] = free[found[asked]] = SKIP
    return answer


def _find_answers(group: np.ndarray, role: np.ndarray) -> np.ndarray:
    """The next answer of the same group after each request, by row; -1 for none."""
    paired = np.flatnonzero((role == ASK) | (role == ANSWER))
    order = np.argsort(group[paired], kind="stable")
    paired = paired[order]
    place = np.where(role[paired] == ANSWER, np.arange(len(paired)), len(paired))
    after = np.minimum.accumulate(place[::-1])[::-1]
    there = np.flatnonzero((role[paired] == ASK) & (after < len(paired)))
    there = there[group[paired[after[there]]] == group[paired[there]]]
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


def find_events(content: Content) -> Events:
    """Evidence by kind from what ``read_content`` found."""
    events: Events = {}
    found = content.exchanges
    for number, protocol in enumerate(PROTOCOLS):
        if len(found):
            events |= protocol.make_events(found[found["protocol"] == number])
    return events
