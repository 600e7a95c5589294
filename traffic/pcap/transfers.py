"""What HTTP requests fetch and send, from packets: header lines read, content counted.

    client   GET /a.exe ──────────────────────────▶   header: method, file, host
    server   ◀── 200, Content-Length 900, ▒▒▒▒▒▒▒▒▒   content: bytes up to the next header or the end

Message framing: RFC 9112, 6. Content is counted and never kept.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from traffic.pcap.messages import Segments, order_segments
from traffic.pcap.packets import Packets
from traffic.transfers import (
    METHODS,
    TRANSFER_COLUMNS,
    cut_text,
    empty_transfers,
    make_transfers,
    read_file_name,
)

_HEADER_BYTES = 4096
_MOST = 50_000  # requests of a capture that are read; a flood of them carries no file
_AT_ONCE = 4096
_NO_CONTENT = (204, 304)
_START = re.compile(
    rb"(?:(%s) (\S+) HTTP/1\.[01]|HTTP/1\.[01] (\d{3}))[^\r\n]*\r?\n" % "|".join(METHODS).encode()
)
_FIELD = {
    name: re.compile(rb"\n%s:[ \t]*([^\r\n]*)" % name.encode(), re.IGNORECASE)
    for name in (
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "content-disposition",
    )
}
_FILENAME = re.compile(rb"filename=\"?([^\";]+)", re.IGNORECASE)
_MIME = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,80}")
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class _Header:
    """The header of a request or an answer: the segment that it begins, and where its content does, in
    bytes of its stream; ``cut`` where it goes on past what is read of it, or was captured in part."""

    segment: int
    flow: int
    is_orig: bool
    text: bytes
    body: int
    cut: bool

    def field(self, name: str) -> bytes:
        found = _FIELD[name].search(self.text)
        return found[1].strip() if found else b""

    @property
    def length(self) -> float:
        """How long its content is by its own word; NaN where it does not say."""
        text = self.field("content-length")
        return float(text) if text.isdigit() and len(text) < 16 else float("nan")

    @property
    def status(self) -> int:
        found = _START.match(self.text)
        return int(found[3]) if found and found[3] else -1


def read_transfers(
    packets: Packets, work: pd.DataFrame, service: pd.Series, closed: np.ndarray, number: np.ndarray
) -> pd.DataFrame:
    """One row per HTTP request.

    Args:
        packets: the packets of one capture.
        work: as ``traffic.pcap.flows.cut_flows`` returns it.
        service: of each flow in the numbers of ``work``.
        closed: shape (n_flows,), bool: both sides ended it properly.
        number: shape (n_flows,), the capture's number of each flow.

    Returns:
        ``TRANSFER_COLUMNS``, by time.
    """
    chosen = (service == "http").to_numpy()
    if not chosen.any():
        return empty_transfers()
    segments = order_segments(packets, work, chosen)
    if not len(segments.row):
        return empty_transfers()
    streams = _Streams(segments)
    rows = [
        row
        for flow, headers in _by_flow(_find_headers(segments, streams))
        for row in _pair(headers, streams, bool(closed[flow]))
    ]
    if not rows:
        return empty_transfers()
    table = pd.DataFrame(rows)
    table["flow"] = number[table["flow"].to_numpy()]
    return make_transfers(table[TRANSFER_COLUMNS])


class _Streams:
    """Where segments lie in their streams: each one's first byte, and each stream's end and holes."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        stream = segments.flow.astype(np.int64) * 2 + segments.is_orig
        self.stream = stream
        before = np.cumsum(segments.size) - segments.size
        heads = np.flatnonzero(segments.starts)
        self.at = before - np.repeat(before[heads], np.diff(heads, append=len(stream)))

    def end_of(self, segment: int) -> int:
        """The last segment of a segment's stream; streams lie one after another."""
        return int(np.searchsorted(self.stream, self.stream[segment], side="right")) - 1

    def holes_between(self, first: int, last: int) -> bool:
        """Whether bytes are missing after ``first`` up to ``last``."""
        return not self.segments.follows[first + 1 : last + 1].all()


def _find_headers(segments: Segments, streams: _Streams) -> Iterator[_Header]:
    """Headers, in the order of streams; a header begins with its segment."""
    head = segments.read(np.arange(len(segments.row)), np.zeros(len(segments.row), np.int64), 8)
    begins = (head[:, :7] == np.frombuffer(b"HTTP/1.", np.uint8)).all(axis=1) & ~segments.is_orig
    for method in METHODS:
        word = np.frombuffer(f"{method} ".encode()[:8], np.uint8)
        begins |= (head[:, : len(word)] == word).all(axis=1) & segments.is_orig
    place = np.flatnonzero(begins)[: 2 * _MOST]
    for start in range(0, len(place), _AT_ONCE):
        here = place[start : start + _AT_ONCE]
        texts = segments.read(here, np.zeros(len(here), np.int64), _HEADER_BYTES)
        for segment, text in zip(here, texts, strict=True):
            raw = text.tobytes()
            end = raw.find(b"\r\n\r\n")
            if not _START.match(raw):
                continue
            cut = end < 0
            end = len(raw) - 4 if cut else end
            yield _Header(
                segment=int(segment), flow=int(segments.flow[segment]), is_orig=bool(segments.is_orig[segment]),
                text=raw[: end + 2], body=int(streams.at[segment]) + end + 4, cut=cut,
            )  # fmt: skip


def _by_flow(headers: Iterator[_Header]) -> Iterator[tuple[int, list[_Header]]]:
    found: dict[int, list[_Header]] = {}
    for one in headers:
        found.setdefault(one.flow, []).append(one)
    yield from found.items()


def _outside_content(
    headers: list[_Header], streams: _Streams, asks: Sequence[_Header] = ()
) -> list[_Header]:
    """Headers of one side without those that lie in the content of one before them; an answer to HEAD
    says how long the content would be, and holds none."""
    kept: list[_Header] = []
    for one in headers:
        last = kept[-1] if kept else None
        ask = asks[len(kept) - 1] if 0 < len(kept) <= len(asks) else None
        empty = (ask and ask.text.startswith(b"HEAD ")) or (last and last.status in _NO_CONTENT)
        within = last and not empty and streams.at[one.segment] < last.body + last.length
        if not within:  # False where no length is known
            kept.append(one)
    return kept


def _pair(headers: list[_Header], streams: _Streams, closed: bool) -> Iterator[dict[str, Any]]:
    """The requests of one connection, each with its answer: the n-th answers the n-th."""
    asks = _outside_content([one for one in headers if one.is_orig], streams)
    answers = [one for one in headers if not one.is_orig]
    answers = _outside_content([one for one in answers if one.status >= 200], streams, asks)
    segments, table = streams.segments, streams.segments.packets.table
    addresses = segments.packets.addresses
    for place, ask in enumerate(asks):
        row = int(segments.row[ask.segment])
        found = _START.match(ask.text)
        assert found is not None
        answer = answers[place] if place < len(answers) else None
        after = answers[place + 1] if place + 1 < len(answers) else None
        if answer and table["ts"].iat[int(segments.row[answer.segment])] < table["ts"].iat[row]:
            answer = None  # of one before it, whose request was not seen
        method = found[1].decode()
        disposed = _FILENAME.search(answer.field("content-disposition")) if answer else None
        mime = (
            answer.field("content-type").partition(b";")[0].strip().lower().decode("latin-1")
            if answer
            else ""
        )
        yield {
            "ts": float(table["ts"].iat[row]), "client": addresses[table["src"].iat[row]],
            "server": addresses[table["dst"].iat[row]], "port": int(table["dport"].iat[row]), "flow": ask.flow,
            "method": method, "file": cut_text(disposed[1]) if disposed else read_file_name(found[2]),
            "host": cut_text(ask.field("host")), "mime": mime if _MIME.fullmatch(mime) else None,
            "status": answer.status if answer else -1,
            "sent_bytes": np.nan_to_num(ask.length), "frame": int(table["frame"].iat[row]),
            **_count_content(answer, after, streams, closed=closed, head=method == "HEAD"),
        }  # fmt: skip


def _count_content(
    answer: _Header | None, after: _Header | None, streams: _Streams, *, closed: bool, head: bool
) -> dict[str, Any]:
    """How much of an answer's content came, and whether that is all of it."""
    nothing = {"got_bytes": 0.0, "declared_bytes": np.nan, "whole": np.nan, "answer_frame": 0}
    if answer is None:
        return nothing
    segments = streams.segments
    frame = int(segments.packets.table["frame"].iat[int(segments.row[answer.segment])])
    if head or answer.status in _NO_CONTENT:
        return nothing | {"whole": 1.0, "answer_frame": frame}
    last = after.segment - 1 if after else streams.end_of(answer.segment)
    got = float(max(streams.at[last] + segments.size[last] - answer.body, 0))
    declared = answer.length
    holes = streams.holes_between(answer.segment, last)
    whole = np.nan
    if not np.isnan(declared):
        got = min(got, declared)
        whole = 1.0 if got >= declared else np.nan if holes else 0.0
    elif b"chunked" in answer.field("transfer-encoding").lower():
        tail = max(int(segments.size[last]) - len(_LAST_CHUNK), 0)
        ends = segments.read(np.array([last]), np.array([tail]), len(_LAST_CHUNK))[0].tobytes()
        whole = 1.0 if ends == _LAST_CHUNK else np.nan if holes else 0.0
    elif after is None and closed and not holes:  # it ends with the connection
        whole = 1.0
    whole = np.nan if answer.cut else whole
    return {"got_bytes": got, "declared_bytes": declared, "whole": whole, "answer_frame": frame}
