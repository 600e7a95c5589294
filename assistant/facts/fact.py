"""Numbers in words: the one place where a fact's values become text, so that text can be checked
against them.

A value's name ends with its unit, and the unit alone decides how it reads:

    silent_s=312.0            5.2 minutes          first_time_s=1545466958.9   2018-12-22 08:22:38 UTC
    sent_bytes=1360226        1.4 MB               unanswered_share=0.998      99.8 %
    attempts=4055             4,055                peer="10.0.0.5:80"          10.0.0.5:80
"""

import hashlib
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import pandas as pd

from assistant.facts.moments import show_utc

Value = float | str

_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_IRREGULAR = {
    "reply": "replies",
    "query": "queries",
    "address": "addresses",
    "retry": "retries",
    "stretch": "stretches",
}


@dataclass(frozen=True)
class Proof:
    """Where a fact's number is in the packets.

    Attributes:
        filter: Wireshark display filter that selects the frames that were counted.
        frames: a few of them, the first and the last among them.
        count: how many it selects; None where it selects more than what was counted.
        decode_as: what Wireshark has to be told of a port, "tcp.port==5020,mbtcp"; "" for nothing.
    """

    filter: str
    frames: tuple[int, ...] = ()
    count: int | None = None
    decode_as: str = ""


@dataclass(frozen=True)
class Fact:
    """One sentence that was computed, not written.

    Attributes:
        id: the kind of fact and a hash of its text, "flood-1a2b3c".
        text: plain English; every number in it comes from ``values``
            (``assistant.diagnosis.grounding`` checks it).
        values: by name; the name's ending is the unit (``_s``, ``_time_s``, ``_bytes``, ``_share``,
            ``_mbit_per_s``).
        windows: starts (seconds since the epoch) of windows from which the fact comes, at most 12,
            evenly chosen.
        proof: where its number is in the packets, where that is known.
    """

    id: str
    text: str
    values: dict[str, Value]
    windows: tuple[float, ...] = ()
    proof: Proof | None = None


def make_fact(
    kind: str,
    sentence: str,
    values: Mapping[str, Value],
    windows: Sequence[float] = (),
    proof: Proof | None = None,
) -> Fact:
    """Put values into a sentence, each as its unit reads; ``{n:attempt}`` adds the noun, in the
    plural where due.

    >>> make_fact("c2", "{who} made {n:attempt} in {span_s}.", {"who": "cam", "n": 1, "span_s": 90}).text
    'cam made 1 attempt in 90 s.'

    Raises:
        KeyError: the sentence names a value that was not given; a bug, not a user's mistake.
    """
    plain = {name: _readable(name, value) for name, value in values.items()}
    text = _Sentence().vformat(
        sentence, (), {name: _Named(name, value) for name, value in plain.items()}
    )
    mark = hashlib.sha256(f"{kind} {text}".encode()).hexdigest()[:6]
    return Fact(f"{kind}-{mark}", text, plain, _thinned(windows), proof)


def kind_of(fact: Fact) -> str:
    """The kind of a fact: its id without the hash."""
    return fact.id.rpartition("-")[0] or fact.id


def find_whole(name: str, text: str) -> re.Match[str] | None:
    """Where a name stands in a text as a whole: 10.0.0.1 is not in 10.0.0.11, nor plc-1 in plc-10."""
    return re.search(rf"(?<![\w.:-]){re.escape(name)}(?![\w-]|\.\w)", text)


def make_facts(
    sentences: Mapping[str, str],
    kinds: Iterable[str],
    values: Mapping[str, Value],
    windows: Sequence[float] = (),
) -> list[Fact]:
    """One fact of each kind, all from the same values."""
    return [make_fact(kind, sentences[kind], values, windows) for kind in kinds]


def _readable(name: str, value: Value) -> Value:
    """Plain floats; a share that is nearly all or nearly none never reads as all or none: the rest
    is the evidence."""
    if isinstance(value, str):
        return value
    return (
        min(max(float(value), 0.001), 0.999)
        if name.endswith("_share") and 0 < value < 1
        else float(value)
    )


def show(name: str, value: Value) -> str:
    """Word one value; text stays as it is, a number reads as the unit at the end of its name says.

    >>> show("gap_s", 0.25), show("gap_s", 7200.0), show("lost_share", 0.998), show("port", 6667.0)
    ('0.25 s', '2 hours', '99.8 %', '6667')
    """
    if isinstance(value, str):
        return value
    for ending, word in _UNITS.items():
        if name.endswith(ending):
            return word(value)
    return _count(value)


def plural(n: float, noun: str) -> str:
    """The noun as it reads after the number; a phrase is counted by its last word.

    >>> plural(1, "retry"), plural(2, "ARP query"), plural(3, "packet")
    ('retry', 'ARP queries', 'packets')
    """
    head, _, last = noun.rpartition(" ")
    last = last if n == 1 else _IRREGULAR.get(last, f"{last}s")
    return f"{head} {last}".strip()


# Who asks "which ones?" gets the same sentences with everything that they list; a list is made in so
# many places, and deep below who knows of the question, that no argument could be handed through.
_UNCUT = ContextVar("uncut", default=False)


@contextmanager
def uncut_lists() -> Iterator[None]:
    """Within this, no list ends in "and 5 more"."""
    token = _UNCUT.set(True)
    try:
        yield
    finally:
        _UNCUT.reset(token)


def listed(names: Iterable[str], limit: int = 4) -> str:
    """Names as a sentence lists them, the tail as a number.

    >>> listed(["a", "b", "c"]), listed("abcdef", limit=2)
    ('a, b and c', 'a, b and 4 more')
    """
    names = list(names)
    if _UNCUT.get():
        limit = len(names)
    shown = names[:limit] if len(names) <= limit else [*names[:limit], f"{len(names) - limit} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def by_count(values: pd.Series) -> list:
    """Distinct values, the most frequent first; the earlier one where counts are equal."""
    counts = values.groupby(values, sort=False).size()
    return counts.sort_values(ascending=False, kind="stable").index.tolist()


def _count(value: float) -> str:
    if value == round(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}".rstrip("0").rstrip(".")


def _duration(value: float) -> str:
    if value < 0.1:
        return f"{value * 1e3:.0f} ms" if value else "0 s"
    for unit_s, word, start_s in (
        (86400.0, "days", 172800.0),
        (3600.0, "hours", 7200.0),
        (60.0, "minutes", 120.0),
    ):
        if value >= start_s:
            return f"{_trim(value / unit_s)} {word}"
    return f"{_trim(value) if value >= 1 else round(value, 2)} s"


def _trim(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:,.0f}"


def _size(value: float) -> str:
    for unit, word in _BYTES:
        if value >= unit:
            return f"{_trim(value / unit)} {word}"
    return f"{value:.0f} {plural(round(value), 'byte')}"


def _share(value: float) -> str:
    return f"{_trim(100 * value)} %"


_UNITS = {
    "_time_s": show_utc,
    "_per_s": _count,
    "_s": _duration,
    "_bytes": _size,
    "_share": _share,
    "port": lambda value: f"{value:.0f}",
}


@dataclass(frozen=True)
class _Named:
    name: str
    value: Value

    def __format__(self, noun: str) -> str:
        words = show(self.name, self.value)
        return (
            f"{words} {plural(self.value, noun)}"
            if noun and not isinstance(self.value, str)
            else words
        )


class _Sentence(string.Formatter):
    def check_unused_args(self, used: object, args: object, kwargs: object) -> None:
        """A value may stand beside the text without being in it: a machine reads it there."""


def _thinned(windows: Sequence[float], most: int = 12) -> tuple[float, ...]:
    n = len(windows)
    places = (
        range(n) if n <= most else sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})
    )
    return tuple(float(windows[i]) for i in places)
