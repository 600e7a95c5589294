"""Log files as pieces of text lines: binary files refused, encodings mended, lines cut to a bound."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from traffic.errors import UserError

MOST_CHARS = 4096  # of a line; syslog's own bound is 2,048 octets (RFC 5424, 6.1)
MOST_BYTES = 16 << 30  # of one file, unpacked: a packed bomb ends here
_PIECE = 16 << 20
_HEAD = 8192


@dataclass(frozen=True)
class Piece:
    """Some lines of a file, in order.

    Attributes:
        lines: without their ends, at most ``MOST_CHARS`` each.
        first: number of the first line in the file, from 1.
        cut: how many lines were longer.
        mended: how many were not UTF-8 and were read as Latin-1.
        truncated: the file goes on, but is not read further.
        damaged: the archive is cut or broken here; nothing comes after it.
    """

    lines: list[str]
    first: int
    cut: int = 0
    mended: int = 0
    truncated: bool = False
    damaged: bool = False


def read_pieces(path: Path) -> Iterator[Piece]:
    """Read a text file, plain or gzip, in pieces of bounded size; an archive as far as it is good.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    first, rest, seen = 1, b"", 0
    with ExitStack() as stack:
        try:
            plain = stack.enter_context(path.open("rb"))
            stream: io.BufferedReader | gzip.GzipFile = plain
            if plain.peek(2)[:2] == b"\x1f\x8b":
                stream = gzip.GzipFile(fileobj=plain)
            encoding = _encoding(stream.peek(_HEAD)[:_HEAD], path)
            decoder = codecs.getincrementaldecoder(encoding or "utf-8")("replace")
            for block in _read_blocks(stream):
                seen += len(block)
                if encoding:
                    block = decoder.decode(block).encode()
                lines = (rest + block).split(b"\n")
                # A line without an end must not be collected for ever.
                rest = lines.pop()[: 4 * MOST_CHARS + 1]
                piece = _make_piece(lines, first, seen >= MOST_BYTES)
                yield piece
                first += len(piece.lines)
                if piece.truncated:
                    return
        except (OSError, EOFError, zlib.error) as error:
            if seen and isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
                yield replace(_make_piece([rest], first, False), damaged=True)
                return
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"{path} cannot be read ({reason}); expected a log or a table as text; check the file"
            ) from error
        if rest:
            yield _make_piece([rest], first, False)


def _read_blocks(stream: io.BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    """Blocks of about ``_PIECE``; of an archive all that comes before its damage, then the error."""
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            part = stream.read1(_PIECE)
        except (OSError, EOFError, zlib.error):
            if parts:
                yield b"".join(parts)
            raise
        parts.append(part)
        size += len(part)
        if size and (size >= _PIECE or not part):
            yield b"".join(parts)
            parts, size = [], 0
        if not part:
            return


def read_head(path: Path) -> list[str]:
    """The first lines of a file, at most 8 kB of it; none where it is no text or cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        if head[:2] == b"\x1f\x8b":
            head = zlib.decompressobj(31).decompress(head, _HEAD)
        encoding = _encoding(head, path)
    except (OSError, zlib.error, UserError):
        return []
    if encoding:
        text = head[: len(head) // 2 * 2].decode(encoding, "replace").removeprefix("\ufeff")
        return text.splitlines()
    lines = head.split(b"\n")
    return _make_piece(lines[:-1] if len(lines) > 1 else lines, 1, False).lines


def _encoding(head: bytes, path: Path) -> str:
    """``utf-16-le`` or ``-be`` where the file starts so, else "".

    Raises:
        UserError: zero bytes in the head: no text.
    """
    marks = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
    if head[:2] in marks:
        return marks[head[:2]]
    # The journal's export form holds lengths as binary numbers; its first key says what it is.
    if b"\x00" in head and not head.startswith(b"__CURSOR="):
        raise UserError(
            f"{path} is no text (zero bytes in its head); expected a log or a table as text; "
            "export it as text first"
        )
    return ""


def _make_piece(lines: list[bytes], first: int, truncated: bool) -> Piece:
    longest = max(map(len, lines), default=0)
    cut = 0
    if longest > MOST_CHARS:
        cut = sum(len(line) > MOST_CHARS for line in lines)
        lines = [line[:MOST_CHARS] for line in lines]
    if first == 1 and lines:
        lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    joined, mended = b"\n".join(lines), 0
    try:
        texts = joined.decode().split("\n") if lines else []
    except UnicodeDecodeError:
        texts = []
        for line in lines:  # one bad byte in a piece; programs of old write Latin-1
            text, good = _decode(line)
            texts.append(text)
            mended += not good
    return Piece([text.rstrip("\r\x00") for text in texts], first, cut, mended, truncated)


def _decode(line: bytes) -> tuple[str, bool]:
    try:
        return line.decode(), True
    except UnicodeDecodeError as error:
        # A cut in the middle of a character is no other encoding.
        if error.end == len(line) == MOST_CHARS or error.start >= MOST_CHARS - 3:
            return line[: error.start].decode(), True
        return line.decode("latin-1"), False
