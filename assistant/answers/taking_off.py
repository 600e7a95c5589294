"""Whether a machine may be taken off the network: what would stop with it, and what speaks for it."""

import re
from collections.abc import Sequence

from assistant.answers.asked import Answer, Asked, say, say_span
from assistant.answers.behaviour import name_uses
from assistant.answers.intrusion import find_hostile
from assistant.detection.incidents import Incident
from assistant.diagnosis.spans import is_over
from assistant.facts.fact import Fact

_ASKS = re.compile(
    r"^(?:(?:and|so|ok|but|then|und|y) )*(?:may|can|could|should|shall|must|do|does|would"
    r"|is it (?:safe|ok|okay|possible)|what|darf|kann|soll\w*|muss|puedo|podemos"
    r"|debo|debemos|se puede|is there (?:a|any) (?:risk|danger))\b"
    r"|\b(?:should|may|can|must|do) (?:i|we|one)\b"
)
_OFF = re.compile(
    r"\b(?:unplug\w*|pull (?:\w+ )?(?:plug|cable)|disconnect\w*|isolat\w*|quarantin\w*|block\w*"
    r"|(?:switch|turn|power|shut) (?:\w+ )?(?:off|down)"
    r"|tak(?:e|ing) (?:\w+ )?(?:off|down|out|offline)|cut (?:\w+ )?off|kick (?:\w+ )?out"
    r"|abklemm\w*|abzieh\w*|ausstecken|abschalt\w*|ausschalt\w*"
    r"|trennen|sperren|vom netz|desconect\w*|desenchuf\w*|apagar\w*|aisl(?:ar|amos|o)\w*|bloque(?:ar|o|amos)\w*)\b"
)


def answer_taking_off(asked: Asked) -> Answer | None:
    """What speaks for taking a machine off the network, and what would stop; None where that is not asked."""
    plain = asked.query.plain
    if not asked.device or not (_ASKS.search(plain) and _OFF.search(plain)):
        return None
    acts = find_hostile(asked).get(asked.device, [])
    uses = name_uses(asked)
    known = asked.analysis.plant
    stranger = known is not None and asked.device not in {one.address for one in known.devices}
    kind = ("off_stranger" if stranger else "off_hostile") if acts else "off_plain"
    kind = kind if uses else f"{kind}_idle"
    line = say(kind, "unclear" if asked.polar and not acts else "", name=asked.name, parts=uses)
    shown = acts or ([asked.incident] if asked.incident is not None else [])
    return Answer(line, _tell(asked, shown))


def _tell(asked: Asked, incidents: Sequence[Incident]) -> tuple[Fact, ...]:
    facts = list[Fact]()
    for one in incidents:
        if is_over(one, asked.analysis):
            facts.append(say_span(asked, one, ""))
        facts += one.facts[:1]
    return tuple(facts)
