"""Past incidents by likeness of what was measured, not of words.

An incident that was confirmed here keeps its signs beside its words: what kinds of facts were
counted, which of their numbers were above zero, the code that was answered, the service, the label
and the side it was seen from, what the device is. No address, name or time is among them, so that
the same fault at another machine has the same signs.

    kind=refusing  positive=failed.refused  port=502  label=service_down/source  role=plc
"""

from collections.abc import Collection

from knowledge_base.index import Index
from knowledge_base.retriever import Passage, make_passage

# What a sign counts, by what stands before its "=". The code that a device answered tells faults
# apart that look alike otherwise; who the device is tells little.
WEIGHTS = {
    "kind": 2.0, "label": 2.0, "code": 3.0, "positive": 0.5, "port": 1.0, "role": 0.5, "model": 0.5,
}  # fmt: skip
# Of what is unknown of one of the two, nothing follows.
_IF_BOTH_KNOWN = ("role", "model", "port")
# Likeness from which a past incident is shown: of pairs of simulated incidents of different causes at
# most 1 in 100 reaches it, as `python -m eval.research.alike` finds.
LEAST = 0.72
_SHOWN_OF_IT = "Cause and fix"


def likeness(one: Collection[str], other: Collection[str]) -> float:
    """How alike two incidents are: the weight of the signs that they share in that of all.

    >>> likeness(["kind=refusing", "code=exception 2"], ["kind=refusing", "code=exception 6"])
    0.25

    Args:
        one, other: signs, "kind=refusing"; those with another beginning than ``WEIGHTS`` has count
            nothing.

    Returns:
        From 0 to 1; 0 where one of them has no signs.
    """
    groups = [{sign.partition("=")[0] for sign in signs} for signs in (one, other)]
    left_out = {name for name in _IF_BOTH_KNOWN if not all(name in known for known in groups)}
    mine, theirs = (
        {sign for sign in signs if sign.partition("=")[0] not in left_out} for signs in (one, other)
    )
    every = _weigh(mine | theirs)
    return _weigh(mine & theirs) / every if every else 0.0


def _weigh(signs: Collection[str]) -> float:
    return sum(WEIGHTS.get(sign.partition("=")[0], 0.0) for sign in signs)


def find_alike(
    index: Index, signs: Collection[str], k: int = 2, without: str = ""
) -> list[Passage]:
    """The past incidents with signs like these, what each was and what mended it; most alike
    first, the newest first of equally alike ones.

    Args:
        index: an open knowledge base.
        signs: of the incident that is looked at.
        k: how many at most.
        without: the id of a past incident that is none of them: the one that is looked at.
    """
    found = []
    for entry in {entry.id: entry for entry in index.sources().values() if entry.signs}.values():
        if without and entry.title.startswith(f"{without} "):
            continue
        if (alike := round(likeness(signs, entry.signs), 6)) >= LEAST:
            found.append((alike, entry.added, entry))
    found.sort(key=lambda one: (one[0], one[1], one[2].id), reverse=True)
    passages = []
    for alike, _, entry in found[:k]:
        stored = [chunk for one in entry.chunks if (chunk := index.by_id().get(one))]
        shown = next((one for one in stored if one.section == _SHOWN_OF_IT), None)
        if shown or stored:
            passages.append(make_passage(shown or stored[0], alike, entry))
    return passages


def is_by_likeness(index: Index, chunk_id: str) -> bool:
    """Whether a passage is of an incident that has signs, so that it is known what it is like."""
    source = index.sources().get(chunk_id)
    return source is not None and bool(source.signs)
