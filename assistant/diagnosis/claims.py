"""Whether a fact bears what a sentence of a writer says."""

from collections.abc import Sequence

from assistant.diagnosis.grounding import fold
from assistant.facts.fact import Fact


def find_fault(text: str, facts: Sequence[Fact], advice: Sequence[str] = ()) -> str:
    """Why a sentence does not stand; "" where one of the facts, or a piece of advice, says it."""
    borne = {fold(one) for one in (*(fact.text for fact in facts), *advice)}
    return "" if fold(text) in borne else "no fact says so"
