"""Whether a question asks which values were written: to what, from what, and whether they are as before."""

import re
from dataclasses import dataclass

_WROTE = r"wr(?:ite|ites|ote|itten|iting)|overw\w+|geschrieben|schreibt|schrieb|escrib\w*|escrit\w*"
_SET = (
    r"sets?|setting|puts?|chang\w+|alter\w*|modif\w+|sen[dt]s?|sending|command\w*|gesetzt|setzt\w*|geaendert"
    r"|verstellt|gestellt|geschickt|sendet\w*|pus\w+|puest\w+|pone|cambi\w+|mand\w+|envi\w+"
)
_VALUE = r"values?|set ?points?|settings|numbers|werte?n?|sollwerte?n?|valor|valores|consignas?"
_THING = (
    r"registers?|regs?|coils?|set ?points?|holding registers?|addresses|address|outputs?|objects?|registern?"
    r"|adressen?|spulen?|sollwerte?|objekte?|registros?|bobinas?|direccion\w*|consignas?"
)
_NUMBERS = re.compile(
    rf"\b(?:{_THING})(?: (?:number|no\.?|nr\.?|nummer|numero))?"
    r" (\d{1,6}(?:(?:, | and | und | y |, and )\d{1,6})*)\b"
)
_WHO = r"(?:dev|it|he|she|they|er|sie|es|the \w+|that \w+|(?:un|an?) \w+|der \w+|el \w+|who(?:ever)? \w+)"
# "what did he write?", "what was written to plc-1?"; "what does he write to?" asks for whom.
_WHAT = re.compile(
    r"^(?!.*\b(?:to|into|auf|an|when|how often|wann|cuando)\W*$)"
    r"(?!.*\b(?:about|concerning|regarding|ueber|zu|sobre)\b|.*\b(?:i|we|you|ich|wir)\b)(?:\w+,? )?"
    r"(?:what|was|que)(?: (?:exactly|all|else|genau|exactamente))? "
    rf"(?:(?:(?:did|does|has|had|hat|haben|do|is|was|were|got|wurde|ha|han|se) )?(?:{_WHO} )?(?:\w+ )?(?:dev )?"
    rf"(?:{_WROTE})"
    r"|(?:did|has|hat|ha) (?:dev|it|he|she|they|er|sie|es) (?:\w+ )?(?:chang\w+|overw\w+|geaendert"
    r"|cambi\w+))\b"
)
_ASKS = r"(?:which|what|welche[nrsm]?|que|cual(?:es)?|show|list|tell|give|zeig\w*|nenn\w*|muestra\w*|dime)"
_VALUES = re.compile(
    rf"\b{_ASKS}\b.*\b(?:{_VALUE})\b.*\b(?:{_WROTE}|{_SET})\b"
    rf"|\b{_ASKS}\b.*\b(?:{_WROTE}|{_SET})\b.*\b(?:{_VALUE})\b"
    r"|^(?:and |so |und |y )?(?:with |mit |con )?(?:which|what|welche[nm]?|que) (?:exact )?"
    r"(?:values?|werte?n?|valores)\W*$"
    rf"|\b(?:{_WROTE}|{_SET})\b.*\b(?:to|from|auf|von|a) (?:what|which values?|welche[nm]? werte?n?|que valor\w*)\b"
)
_OTHER = re.compile(
    r"\b(?:who|wer|quien|when|wann|cuando|how (?:many|often|much)|why|warum|highest|lowest|most"
    r"|wie (?:viele|oft))\b"
)
_ACTS = re.compile(rf"\b(?:{_WROTE}|{_SET})\b")
_OF_PLACE = re.compile(
    rf"\b(?:{_WROTE}|{_SET}|{_VALUE}|stand|steht|stood|before|previously|last|now|back|restored|davor|vorher"
    r"|jetzt|antes|ahora)\b|\b(?:is|was) (?:register|coil) \d+ at\b"
)
_BEFORE = re.compile(
    r"\b(?:before|previous(?:ly)?|former(?:ly)?|old|original(?:ly)?|prior|vorher\w*|davor|alte[nr]?|zuvor|antes"
    r"|anterior\w*)\b"
)
_BACK = re.compile(
    r"\b(?:as (?:it|they) (?:was|were)"
    r"|(?:set|put|written|wrote|changed|turned|reset) (?:it |them |the \w+ )?back|restor\w+|revert\w+|undone"
    r"|(?:old|former|original|previous|right) values? (?:again|back|in (?:it|them|there))"
    r"|zurueck(?:ge(?:setzt|stellt|schrieben))?|wie (?:vorher|zuvor|davor)|como (?:estaba\w*|antes)|restaur\w+)\b"
)
_ASKS_WHETHER = re.compile(
    r"^(?:(?:and|so|but|ok|und|y),? )*(?:is|are|was|were|did|does|do|has|have|got|which|what|ist|sind|wurde|wurden"
    r"|hat|haben|steht|stehen|welche\w*|esta|estan|es|se|ha|han|fue|fueron)\b"
)
# Orders, and what a place is for, ask for no value that was written.
_NOT_ASKED = re.compile(
    r"^(?:please |now |just |bitte |por favor )*"
    r"(?:set|write|put|change|reset|send|schreibe?|setze?|escrib[ae]) (?!point)"
    r"|\b(?:used for|means?|meaning|stands? for|bedeute\w*|signific\w*)\b"
)
_SAME = re.compile(rf"\b(?:it|they|them|everything|{_VALUE}|{_THING}|es|alles|alle|todo)\b")
_VALUE_ASKED = re.compile(
    rf"^(?:and |so |but |und |y )?(?:what|which|was|welche\w*|que|cual)\b.*\b(?:{_VALUE})\b"
)


@dataclass(frozen=True)
class WrittenForm:
    """What is asked of values that were written.

    Attributes:
        numbers: of registers, coils or objects that are named.
        before: what stood there before is asked for.
        back: whether it stands there again is.
        values: what a place holds is asked for, whoever put it there.
        of_talk: it is asked of what the talk is about, and of writes only where that is.
    """

    numbers: tuple[int, ...] = ()
    before: bool = False
    back: bool = False
    values: bool = False
    of_talk: bool = False


_IT = re.compile(r"\b(?:it|they|them|that|those|these|this|es|er|eso|lo)\b")
_BARE = re.compile(r"^(?:and|und|y|what about|was ist mit|que hay de) ")
_NOW = re.compile(r"\b(?:now|currently|at the end|jetzt|ahora)\b")
_SHORT = 12  # words


def go_on(question: str, plain: str, last: str) -> str:
    """A question with what it leaves to the one before put in: "and register 110?", "what was it before?".

    Args:
        question: the operator's words.
        plain: the same as patterns see it.
        last: the question before, as patterns see it.

    >>> go_on("and register 110?", "and register 110?", "what was register 77 set to?")
    'what was register 110 set to?'
    >>> go_on("what was it before?", "what was it before?", "what was register 77 set to?")
    'what was it before? (register 77)'
    """
    form = read_written_form(last)
    if form is None or len(plain.split()) > _SHORT:
        return question
    named = _NUMBERS.search(plain)
    if named is not None:
        bare = _BARE.match(plain) and read_written_form(plain) is None
        return f"what was {named[0]} set to?" if bare else question
    asks = _BEFORE.search(plain) or _BACK.search(plain) or _NOW.search(plain)
    whole = re.search(r"\b(?:everything|all|every|alles|alle|todo)\b", plain)
    if not asks or whole or not (_IT.search(plain) or re.search(rf"\b(?:{_VALUE})\b", plain)):
        return question
    meant = _NUMBERS.search(last)
    return f"{question} ({meant[0] if meant else 'values'})"


def read_written_form(plain: str) -> WrittenForm | None:
    """What a plain question asks of values that were written; None where it asks nothing of them.

    >>> read_written_form("what was register 77 set to?")
    WrittenForm(numbers=(77,), before=False, back=False, values=False, of_talk=False)
    >>> read_written_form("what did he write?") == WrittenForm(), read_written_form("who writes to dev?")
    (True, None)
    """
    named = _NUMBERS.search(plain)
    numbers = tuple(int(one) for one in re.findall(r"\d+", named[1])) if named else ()
    if _NOT_ASKED.search(plain):
        return None
    back = all(one.search(plain) for one in (_BACK, _SAME, _ASKS_WHETHER))
    before = bool(_BEFORE.search(plain)) and not back
    if numbers and not (back or _OF_PLACE.search(plain)):
        return None
    if numbers:
        return WrittenForm(numbers, before, back, values=not (back or _ACTS.search(plain)))
    if back:
        return WrittenForm(back=True, of_talk=True)
    if _OTHER.search(plain):
        return None
    if before and _VALUE_ASKED.search(plain):
        return WrittenForm(before=True, of_talk=True)
    if _WHAT.search(plain) or _VALUES.search(plain):
        return WrittenForm(before=before)
    return None
