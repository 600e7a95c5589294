"""Refusals in a row: a server that answered a client, and now answers no with every request.

a a a a a r r r      a: answered, r: refused       the row at the end counts
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assistant.detection.rules.conversation import read_conversations, word_code
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.pcap.protocols import BY_NAME

REFUSED = 3  # requests in a row
_WORKED = 5  # after so many that were answered
_STEADY_SLOTS, _STEADY_OF = 5, 6  # with an answer, of those before a refusal
_CLOSING_S = 1.0  # in which a refused connection is closed
_LET_IN_S = 60.0  # who was answered for so long before its first refused login


@dataclass(frozen=True)
class Refusals:
    """Requests of one client that a server refused in a row.

    Attributes:
        kind: ``logins_refused`` or ``refuses``.
        client, server: addresses.
        since_s: of the first of them.
        count: how many.
        code: of the last, in words.
        shut_out: it talked with the server all the time until then, and gets no word from it since.
    """

    kind: str
    client: str
    server: str
    since_s: float
    count: int
    code: str
    shut_out: bool = False


def read_refusals(view: TrafficView, recent_s: float) -> Iterator[Refusals]:
    """What is refused lately, and was answered before; logins also where they never were.

    Args:
        view: of the recent past.
        recent_s: the newest refusal is not older than this.
    """
    same = ["kind", "function", "unit", "target", "name"]
    for client, server, name, rows in read_conversations(view):
        protocol = BY_NAME[name]
        wrong = (rows["code"] > 0) & ~rows["code"].isin(protocol.busy)
        if name == "dns" or not (wrong & (rows["ts"] >= recent_s)).any():
            continue
        for _, mine in rows.groupby(same, dropna=False, observed=True, sort=False):
            bad = wrong[mine.index].to_numpy()
            row = _trailing(bad)
            if not row or mine["ts"].iloc[-1] < recent_s:
                continue
            part = mine.iloc[-row:]
            denied = bool(part["code"].isin(protocol.denied).all())
            login = denied and part["kind"].iloc[0] == "session"
            needed = login or int((~bad).sum()) >= _WORKED
            since_s, code = float(part["ts"].iloc[0]), word_code(name, int(part["code"].iloc[-1]))
            # One refused login is enough of who was let in until then.
            turned = login and _was_let_in(view, client, server, since_s)
            if not turned and (row < REFUSED or not needed):
                continue
            kind = "logins_refused" if login else "refuses"
            out = turned and _is_shut_out(view, client, server, since_s, float(part["ts"].iloc[-1]))
            yield Refusals(kind, client, server, since_s, row, code, out)
            break


def _was_let_in(view: TrafficView, client: str, server: str, before_s: float) -> bool:
    """Whether a server answered a client for a while, before it refused a login."""
    flows = view.flows_of(client)
    mine = flows[(flows["other"] == server) & flows["out"] & (flows["dst_pkts"] > 0)]
    return len(mine) > 0 and before_s - float(mine["since_s"].min()) >= _LET_IN_S


def _is_shut_out(
    view: TrafficView, client: str, server: str, since_s: float, last_s: float
) -> bool:
    """Whether a client was heard by a server in most slots of the minute before a refusal, and has
    nothing from it after the last."""
    flows = view.flows_of(client)
    mine = flows[(flows["other"] == server) & flows["out"] & (flows["dst_pkts"] > 0)]
    slot = int(since_s // SAMPLE_S)
    before = mine.loc[mine["slot"].between(slot - _STEADY_OF, slot - 1), "slot"].nunique()
    return before >= _STEADY_SLOTS and not (mine["since_s"] > last_s + _CLOSING_S).any()


def _trailing(bad: np.ndarray) -> int:
    """How many at the end of a row are bad.

    >>> _trailing(np.array([True, False, True, True]))
    2
    """
    return len(bad) if bad.all() else int(np.argmin(bad[::-1]))
