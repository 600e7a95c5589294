"""Operators' remarks on an incident (false alarm, confirmed, shelved ...), read and kept.

Feedback never changes a verdict by itself: wrongly confirmed "normal" windows would silence a live
bot, so whatever trains on it later checks it first.

    "shelve it till 6, fitter is on his way"
     ──────    ──────  ─────────────────────
     act       until   why
"""

import re
import time
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta

from assistant.answers.plant.states import describe_remark, describe_state, name_moment, say_state
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.playbook import read_playbook
from assistant.history import Feedback, History, IncidentRecord, State
from assistant.outcomes import keep_measured, keep_outcomes
from knowledge_base.index import Index
from traffic.labels import LABELS, NORMAL

MAX_REASON_CHARS = 500
MAX_SHELVED_S = 90 * 86400.0

# ---- When a shelved incident comes back ----

_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "ein": 1, "eine": 1, "einen": 1, "un": 1, "una": 1, "two": 2, "zwei": 2,
    "dos": 2, "three": 3, "drei": 3, "tres": 3, "four": 4, "vier": 4, "cuatro": 4, "five": 5, "six": 6,
    "eight": 8, "acht": 8, "ocho": 8, "ten": 10, "zehn": 10, "diez": 10, "half an": 0.5,
    "eine halbe": 0.5, "media": 0.5,
}  # fmt: skip
_UNITS = (
    (r"min(?:ute[ns]?|utos?|s)?", 60.0),
    (r"h(?:ours?|rs?)?|stunden?|std|horas?", 3600.0),
    (r"days?|tage?n?|dias?|d", 86400.0),
    (r"weeks?|wochen?|semanas?", 604800.0),
)
_UNIT = "|".join(f"(?P<unit{place}>{words})" for place, (words, _) in enumerate(_UNITS))
_NUMBER = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_SPAN = re.compile(
    rf"(?:\b(?:for|fuer|fur|por|durante) )?(?:the next |die naechsten |die nachsten |las proximas )?"
    rf"\b(?P<n>\d+(?:[.,]\d+)?|{_NUMBER}) ?(?:{_UNIT})\b"
)
_DAYS = (
    ("monday", "montag", "lunes"),
    ("tuesday", "dienstag", "martes"),
    ("wednesday", "mittwoch", "miercoles"),
    ("thursday", "donnerstag", "jueves"),
    ("friday", "freitag", "viernes"),
    ("saturday", "samstag", "sabado"),
    ("sunday", "sonntag", "domingo"),
)
_DAY_NUMBER = {name: number for number, names in enumerate(_DAYS) for name in names}
_MORNING = (
    r"tomorrow morning|morgen frueh|morgen fruh|manana por la manana|morning|day ?shift"
    r"|(?:fruehschicht|fruhschicht)"
)
_CLOCK = (
    r"(?P<hour>[01]?\d|2[0-4])(?:[:.h](?P<minute>[0-5]\d))?"
    r"(?: ?(?P<half>am|pm|a\.m\.|p\.m\.|de la (?:manana|tarde|noche)))?(?: ?(?P<uhr>uhr|o ?clock|h))?"
)
_UNTIL = re.compile(
    r"\b(?:until|untill|till|til|bis|hasta)(?: zum?| el| la| las| the| next| naechsten| nachsten)* ?"
    rf"(?:(?P<date>\d{{4}}-\d\d-\d\d)|(?P<morning>{_MORNING})"
    r"|(?P<day>" + "|".join(_DAY_NUMBER) + r"|tomorrow|morgen|manana)"
    r"|(?P<noon>noon|midday|mittags?|mediodia)|(?P<midnight>midnight|mitternacht|medianoche)|)"
    rf"(?:,? ?(?:at |um |a las )?(?<!\d){_CLOCK}(?![\d:%]))?(?: tomorrow| morgen| manana)?\b"
)
_MORNING_HOUR = 6


@dataclass(frozen=True)
class Until:
    """A moment as somebody says it, before it is known when he says it.

    Attributes:
        hour, minute: of the day, in this machine's time zone; hour 24 is midnight.
        half_open: a bare hour up to 12 ("till 6"), which may mean the morning or the evening: the
            nearer one is taken, since to shelve for too short a time hides nothing.
        weekday: 0 for Monday; None for none.
        days: whole days from today; None where the next such time is meant.
        date: "2026-12-24"; "" for none.
    """

    hour: int = 0
    minute: int = 0
    half_open: bool = False
    weekday: int | None = None
    days: int | None = None
    date: str = ""

    def at_s(self, now_s: float) -> float:
        """The moment that is meant at ``now_s``, seconds since the epoch."""
        # Naive times are this machine's wall clock, which knows of summer time.
        now = datetime.fromtimestamp(now_s)
        start = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.date:
            start = datetime.fromisoformat(self.date)
        clock = timedelta(hours=self.hour, minutes=self.minute)
        if self.date or self.days is not None:
            return (start + timedelta(days=self.days or 0) + clock).timestamp()
        if self.weekday is not None:
            start += timedelta(days=(self.weekday - start.weekday()) % 7)
            step = timedelta(days=7)
        else:
            step = timedelta(hours=12 if self.half_open else 24)
            clock = timedelta(hours=self.hour % (12 if self.half_open else 24), minutes=self.minute)
        at = start + clock
        while at <= now:
            at += step
        return at.timestamp()


def _is_date(text: str | None) -> bool:
    try:
        return not text or bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _read_until(plain: str) -> tuple[Until | None, tuple[int, int]]:
    """The moment that a text names, and where it stands there."""
    for found in _UNTIL.finditer(plain):
        part = found.groupdict()
        if not any(part.values()) or not _is_date(part["date"]):
            continue
        half = (part["half"] or "").replace(".", "")
        hour = int(part["hour"] or 0)
        if half:
            hour = hour % 12 + (0 if half in ("am", "de la manana") else 12)
        if not part["hour"]:
            hour = _MORNING_HOUR if part["morning"] else 12 if part["noon"] else 0
        words = re.sub(r"(?:de|por) la manana", "", found[0])
        days = 1 if re.search(r"\b(?:tomorrow|morgen|manana)\b", words) else None
        weekday = _DAY_NUMBER.get(part["day"] or "")
        exact = half or part["minute"] or part["uhr"] or part["date"] or days or weekday is not None
        until = Until(
            hour=hour,
            minute=int(part["minute"] or 0),
            half_open=bool(part["hour"]) and hour <= 12 and not exact,
            weekday=weekday,
            days=days,
            date=part["date"] or "",
        )
        return until, found.span()
    return None, (0, 0)


# ---- What is said ----

_BECAUSE = re.compile(
    r"\b(?:because(?: of)?|becuase|cause(?= (?:we|it|the|i)\b)|due to|reason:?|weil|wegen|porque|debido a"
    r"|a causa de|since(?! (?:when|\d)))\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
# Weaker: "for maintenance" gives a reason, "the alarm for line 2" none.
_FOR = re.compile(
    r"\b(?:for|für|fuer|por|para)\s+((?:an? |the |our |die |das |den |un |una |el |la )?(?:planned "
    r"|geplante )?(?:maint|test|work|repair|clean|upgrade|update|service|inspection|wartung|reparatur"
    r"|arbeit|umbau|reinigung|mantenimiento|prueba|obra|limpieza|reparac|revisi).*)",
    re.IGNORECASE | re.DOTALL,
)
_WAS = re.compile(
    r"\b(?:(?:it|that|this|cause|there) (?:was|is)|(?:it|that)['’]s|(?:es|das|ursache|grund) (?:war|ist)|war"
    r"|fue|era)\s+(?!not\b|nicht\b|kein|wrong|incorrect|right|correct|falsch|richtig|something else\b"
    r"|another cause|(?:ei)?n? ?(?:a )?false|(?:ei)?n? ?fehlalarm|(?:una )?falsa)(.+)",
    re.IGNORECASE | re.DOTALL,
)
_AFTER_MARK = re.compile(r"(?:[:;,]|\s[-\u2013])\s+(.+)", re.DOTALL)

_NOT = r"\b(?:not|isnt|wasnt|no|never|kein\w*|nicht|nunca)\b (?:es |a |an |the |la |una |un |my |our |really )*"
_FALSE = r"false (?:alarm|positive)|fals ?alarm|(?:fehl|falsch)alarm|falsa alarma|falso positivo"
_BENIGN = (
    r"\b(?:tests?|pen ?test|drill|maintenance|planned|expected|scheduled|backups?|harmless|noise|normal|known"
    r"|fine|ok|okay|intended|us|me|dismiss|geplant\w*|wartung|absicht\w*|harmlos|bekannt|erwartet"
    r"|uebung|wir|ich|in ordnung|prueba|mantenimiento|planificado|previsto|inofensiv\w*|esperado|conocido"
    r"|nosotros)\b"
)
_NOT_FALSE = re.compile(rf"{_NOT}(?:{_FALSE})")
# The first that fits; earlier ones hold what a later one would misread ("take back the false alarm").
_ACTS = tuple(
    (act, re.compile(pattern))
    for act, pattern in (
        (
            "undo",
            r"\b(?:undo|undid|revert|re-?open|unshelve|unmute|unacknowledge|rueckgaengig|zuruecknehmen"
            r"|zurueckgenommen|deshacer|deshaz\w*|reabr\w*|revertir|retira\w*)\b"
            r"|^(?:\w+,? ){0,3}(?:take|put) (?:\w+ ){0,4}back\b|\bnimm\b.*\bzurueck\b|\bwieder (?:oeffnen"
            r"|aufmachen)\b",
        ),
        ("note", r"^(?:please |bitte )?(?:note|notiz|nota|vermerk\w*|anot\w+|notier\w*)\b"),
        ("confirm", _NOT_FALSE.pattern),
        (
            "shelve",
            r"\b(?:shelv\w*|snooz\w*|mut(?:e|ed)|silence\w*|suppress\w*|stumm\w*|zurueckstell\w*"
            r"|zurueckgestellt|verschieb\w*|wiedervorlage|unterdrueck\w*|silenci\w*|aplaz\w*|pospon\w*)\b"
            r"|\bput\b.*\bto sleep\b",
        ),
        ("quiet", r"\b(?:ignor\w*|hide|do ?nt (?:bother|alarm|alert|warn)|do not (?:bother|alarm|alert|warn))\b"),
        ("false_alarm", rf"\b(?:{_FALSE})\b"),
        (
            "wrong",
            rf"\b(?:wrong|incorrect|falsch|incorrect[ao]|equivocad[ao]|something else|etwas anderes"
            rf"|(?:other|different|another|real|actual|true) cause|andere ursache|otra (?:causa|cosa))\b"
            rf"|\bstimmt nicht\b|{_NOT}(?:right|correct|true|richtig|korrekt|correcto|cierto)\b",
        ),
        ("false_alarm", rf"{_NOT}(?:real|echt\w*|attack|problem|angriff|ataque)\b"),
        (
            "confirm",
            r"\b(?:confirm\w*|correct|right|true|real|bestaetig\w*|stimmt|richtig|korrekt|correcto|cierto"
            r"|es verdad)\b",
        ),
        (
            "acknowledge",
            r"\b(?:ack|acked|acknowledg\w*|quittier\w*|zur kenntnis|reconoc\w*|enterad[ao])\b",
        ),
        ("false_alarm", _BENIGN),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Remark:
    """What somebody said of an incident.

    Attributes:
        act: ``false_alarm``, ``confirm``, ``wrong`` (another cause), ``acknowledge``, ``shelve``,
            ``note``, ``undo``; "" where it was not understood.
        why: the reason in his words, "" where none is given.
        label: what it was instead, one of ``LABELS``; "" where it is not said.
        span_s: how long it is to be shelved; None where that is not said so.
        until: the moment until which; None where that is not said so.
        undoes: the act that is taken back; "" for the newest.
    """

    act: str
    why: str
    label: str
    span_s: float | None
    until: Until | None = None
    undoes: str = ""


def read_remark(text: str) -> Remark:
    """Read an operator's remark, in English, German or Spanish.

    >>> read_remark("mark as false alarm because we ran a scan")
    Remark(act='false_alarm', why='we ran a scan', label='normal', span_s=None, until=None, undoes='')
    """
    text = unicodedata.normalize("NFC", text)
    because = _BECAUSE.search(text)
    head = text[: because.start()] if because else text
    plain = _plain(head)
    act = _act(plain) or _act(_plain(text))
    span_s, until, rest = _read_end(text)
    if act == "quiet":  # "ignore it": for a while, or because it is nothing
        act = "false_alarm" if span_s is None and until is None else "shelve"
    if act != "shelve":
        span_s, until, rest = None, None, text
    undoes = (_act(_UNDO_WORDS.sub(" ", plain)) if act == "undo" else "") or ""
    if act == "undo" and re.search(r"\bunshelve", plain):
        undoes = "shelve"
    if act == "undo" and undoes not in ("shelve", "false_alarm", "confirm", "wrong", "acknowledge"):
        undoes = ""
    was = _WAS.search(rest)
    if not act and was:
        act = "false_alarm" if re.search(_BENIGN, _plain(was[1])) else "wrong"
    why = "" if act == "undo" else _read_reason(rest, act)
    named = _named(_plain(text)) if act in ("wrong", "confirm") else ""
    return Remark(act, why, NORMAL if act == "false_alarm" else named, span_s, until, undoes)


# What is no reason: the act once more, "it was the contractor, false alarm".
_BARE = re.compile(
    rf"(?:^|[,.;]\s*)(?:so |please |bitte )?(?:(?:mark|flag|close|shelve|snooze|ignore|mute|ack\w*"
    rf"|confirm\w*|aplaza\w*|silencia\w*|zurückstellen|quittieren)"
    rf"(?: (?:it|this|that|as ok|as))*|an? (?:{_FALSE})|{_FALSE})\W*$",
    re.IGNORECASE,
)
_UNDO_WORDS = re.compile(
    r"\b(?:undo|take|back|reopen|re-open|revert|unshelve|deshacer|rueckgaengig)\b"
)


def _act(plain: str) -> str:
    return next((act for act, pattern in _ACTS if pattern.search(plain)), "")


def _read_reason(text: str, act: str) -> str:
    """The reason in a remark; the strongest sign of one decides."""
    signs = [_BECAUSE, _AFTER_MARK, _WAS]
    marked = _AFTER_MARK.search(text)
    if act == "wrong" and ":" not in text and not (marked and _WAS.search(marked[1])):
        signs = [_BECAUSE, _WAS, _AFTER_MARK]  # "it was a loose cable, we fixed it"
    if act in ("shelve", "acknowledge"):
        signs.append(_FOR)
    if act == "note":
        signs = [_AFTER_MARK]
    for sign in signs:
        found = sign.search(text)
        why = _BARE.sub("", found[1]).strip(" .!,;\n") if found else ""
        if why:
            return why[:MAX_REASON_CHARS]
    return ""


def _read_end(text: str) -> tuple[float | None, Until | None, str]:
    """How long, until when, and the text without those words."""
    plain = "".join(map(_letter, text))  # letter by letter: places in one are places in the other
    until, (start, end) = _read_until(plain)
    if until is not None:
        return None, until, f"{text[:start]} {text[end:]}"
    found = _SPAN.search(plain)
    if found is None:
        return None, None, text
    number = found["n"].replace(",", ".")
    unit_s = next(s for place, (_, s) in enumerate(_UNITS) if found[f"unit{place}"])
    span_s = float(_NUMBERS.get(number, 0) or number) * unit_s
    return span_s, None, f"{text[: found.start()]} {text[found.end() :]}"


def _letter(one: str) -> str:
    return (unicodedata.normalize("NFD", one.lower()) or one)[0]


def _named(plain: str) -> str:
    """The label that a remark names, but for one that it denies."""
    for name in LABELS[1:]:
        words = read_playbook(name).said or re.escape(name.replace("_", " "))
        found = re.search(rf"\b(?:{words})\b", plain.replace("_", " "))
        if found and not re.search(rf"{_NOT}$", plain[: found.start()]):
            return name
    return ""


def _plain(text: str) -> str:
    """Small letters without accents or apostrophes; ä is ae."""
    text = text.lower()
    for letter, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss"), ("'", ""), ("’", "")):
        text = text.replace(letter, plain)
    return " ".join("".join(map(_letter, text)).split())


# ---- What is kept ----


def keep(
    remark: Remark,
    diagnosis: Diagnosis,
    incident: Incident,
    history: History,
    who: str,
    now_s: float | None = None,
    analysis: Analysis | None = None,
    index: Index | None = None,
) -> str:
    """Keep a remark; returns what to answer: what is true now.

    Where the capture and the knowledge base are given, an outcome becomes a past incident there,
    and what is taken back is one no more.

    Raises:
        UserError: the history cannot be written.
    """
    at_s = time.time() if now_s is None else now_s
    if not remark.act or (remark.act == "note" and not remark.why):
        return say_state("remark_unclear").text
    keep_incident(incident, diagnosis.cause, history)
    if analysis is not None:
        keep_measured(incident, analysis, history)
    said = _keep(remark, incident, history, who, at_s)
    keep_outcomes(history, index)
    return said


def _keep(remark: Remark, incident: Incident, history: History, who: str, at_s: float) -> str:
    if remark.act == "undo":
        return _undo(remark, incident, history, who, at_s)
    if remark.act == "shelve":
        return _shelve(remark, incident, history, who, at_s)
    before = history.state(incident.id, at_s)
    if remark.act == "note":  # a note changes no state
        state, until_s, said = before.state, before.until_s, None
    else:
        state, until_s, said = "acknowledged", None, None
    act, label = remark.act, remark.label
    if act == "wrong" and label == incident.label:
        act = "confirm"
    if act in ("false_alarm", "confirm", "wrong"):
        label = label or (incident.label if act == "confirm" else "")
        said = Feedback(
            incident.device, incident.start_s, incident.end_s, incident.id, incident.label,
            label, who, remark.why, at_s,
        )  # fmt: skip
    history.set_state(incident.id, state, who, remark.why, until_s, at_s, act, said)
    kept = State(state, who, remark.why, None, at_s, act, said.label if said else "")
    if act == "wrong" and not (kept.label or kept.why):
        return say_state("kept_wrong_open", who=who).text
    text = describe_remark(kept, at_s, "kept_").text
    return (
        text
        if remark.why or (act == "wrong" and label)
        else f"{text} {say_state('want_reason').text}"
    )


def keep_incident(incident: Incident, summary: str, history: History) -> None:
    """Keep an incident in the history, so that it can be found again and given a state."""
    where = (incident.id, incident.device, incident.label, incident.start_s, incident.end_s)
    history.add_incident(IncidentRecord(*where, summary))


def _shelve(remark: Remark, incident: Incident, history: History, who: str, at_s: float) -> str:
    until_s = remark.until.at_s(at_s) if remark.until else None
    if remark.span_s is not None:
        until_s = at_s + remark.span_s
    if until_s is None or not remark.why:
        missing = "reason" if until_s is not None else "time" if remark.why else "both"
        return say_state("shelve_how", missing=say_state(f"missing_{missing}").text).text
    if until_s <= at_s:
        return say_state("shelve_past", until=name_moment(until_s, at_s)).text
    if until_s > at_s + MAX_SHELVED_S:
        return say_state("shelve_long", most_s=MAX_SHELVED_S).text
    history.set_state(incident.id, "shelved", who, remark.why, until_s, at_s, "shelve")
    kept = State("shelved", who, remark.why, until_s, at_s, "shelve")
    return describe_remark(kept, at_s, "kept_").text


def _undo(remark: Remark, incident: Incident, history: History, who: str, at_s: float) -> str:
    undone = history.undo(incident.id, who, remark.undoes, at_s)
    if undone is None:
        return say_state("undo_nothing").text
    text = describe_remark(undone, at_s).text
    left = describe_state(incident, history, at_s) if history.standing(incident.id) else None
    active = history.state(incident.id, at_s).state == "active"
    state = say_state("undo_active") if active or left is None else None
    state = state or say_state("undo_state", text=left.text if left else "")
    return say_state("kept_undo", text=text, state=state.text).text
