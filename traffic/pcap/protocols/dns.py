"""DNS over UDP and TCP: queries, and those that fail or stay unanswered (RFC 1035)."""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP, UDP
from traffic.pcap.packets import Packets
from traffic.pcap.protocols.protocol import (
    Events,
    Heads,
    Protocol,
    find_unanswered,
    make_events,
    number_names,
)

PORTS = (53, 137, 5353, 5355)  # with NetBIOS names, multicast DNS and LLMNR, which speak alike
_PORT = 53  # only a resolver's answers and failures are evidence
_WAIT_S = 5.0
_NAME_BYTES = 80
# RFC 1035, 4.1.1.
RESPONSE_CODES = {
    -1: "no answer",
    1: "format error",
    2: "server failure",
    3: "no such name",
    4: "not implemented",
    5: "refused",
}


def _fits(heads: Heads) -> np.ndarray:
    """A header's length and at most a few questions (RFC 1035, 4.1.1)."""
    first, tcp = heads.first.astype(int), heads.transport == TCP
    # Over TCP two bytes of length come first (RFC 1035, 4.2.2).
    questions = np.where(tcp, first[:, 6] << 8 | first[:, 7], first[:, 4] << 8 | first[:, 5])
    return (heads.payload >= np.where(tcp, 14, 12)) & (questions <= 16)


def find_events(packets: Packets, segments: pd.DataFrame) -> Events:  # noqa: ARG001
    """Queries with the names they ask for, and failures by response code, -1 for silence."""
    table = packets.table
    proto, dport, sport = (table[name].to_numpy() for name in ("proto", "dport", "sport"))
    rows = np.flatnonzero((dport == _PORT) | (sport == _PORT))
    length = np.where(proto[rows] == TCP, 2, 0)
    whole = np.isin(proto[rows], (TCP, UDP)) & (table["held"].to_numpy()[rows] >= 12 + length)
    rows, length = rows[whole], length[whole]
    head = packets.read_payload(rows, 4, length).astype(np.int64)
    names = number_names(packets.read_payload(rows, _NAME_BYTES, length + 12))
    messages = table[["ts", "src", "dst", "sport", "dport"]].iloc[rows]
    messages = messages.assign(
        ident=head[:, 0] << 8 | head[:, 1], code=head[:, 3] & 15, target=names
    )
    is_answer, is_query = head[:, 2] >= 128, head[:, 2] >> 3 & 15 == 0
    queries = messages[~is_answer & (messages["dport"] == _PORT) & is_query]
    queries = queries.rename(columns={"sport": "port"}).assign(code=-1)
    answers = messages[is_answer & (messages["sport"] == _PORT)]
    answers = answers.rename(columns={"src": "dst", "dst": "src", "dport": "port"})
    keys = ["src", "dst", "port", "ident"]
    silent = find_unanswered(queries, answers, keys, _WAIT_S, packets.end_s)
    failed = pd.concat([make_events(silent), make_events(answers[answers["code"] > 0])])
    return {"dns_query": make_events(queries), "dns_failed": failed}


DNS = Protocol(
    name="dns",
    transports=(TCP, UDP),
    ports=PORTS,
    fits=_fits,
    codes={"dns_query": {}, "dns_failed": RESPONSE_CODES},
    find_events=find_events,
)
