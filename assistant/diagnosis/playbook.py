"""What each label means to an operator: the cause in words, look-alikes, checks in order.

The words are data, ``playbook/<label>.yaml``, the same for every plant. They hold no numbers: those
come from facts alone. Checks start with what is nearest, safest and most likely, and never ask for
a scan or a write on a control network (NIST SP 800-82r3). A sentence that several labels share
stands in each of their files, so that a file reads whole.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from assistant.facts.fact import Fact, kind_of
from traffic.files import Strict, read_yaml
from traffic.labels import LABELS, NORMAL

FOLDER = Path(__file__).with_name("playbook")


class Playbook(Strict):
    """How a label is explained.

    Attributes:
        short: its name in a list.
        said: how people call it in a remark, a regular expression; "" for its name alone.
        asked: how a question calls it, a regular expression over the plain question; "" where
            another query asks for it.
        blamed: how a question calls it that takes it for the cause of something else, likewise.
        source, target: what the device does, or what happens to it; they follow its name in a
            sentence.
        gloss: what that means, for someone who has not met the word.
        doubt: what cannot be told from traffic alone, and what would tell it.
        apart: labels that look alike at first sight; numbers rule them out or leave them open.
        symptoms: what people who see it speak of (``symptoms``), its own first, then those of its causes.
        checks: what to do next, in order, at the device that is the source.
        target_checks: the same at a device that suffers.
        terms: words that manuals and past incidents use for it.
        consequence: what comes of it where nobody responds, for an alarm.
        respond_min: within how many minutes an operator should.
        place: where it lies: at a device, on the way, in settings.
        remedy: what has to be changed, and at which end.
        restart: whether a restart helps.
        lies, maybe, excludes: sides (``assistant/answers/incidents/sides.yaml``) at which it lies, may lie and
            does not lie.
    """

    short: str
    source: str
    target: str
    gloss: str
    doubt: str = ""
    apart: tuple[str, ...]
    symptoms: tuple[str, ...]
    checks: tuple[str, ...]
    target_checks: tuple[str, ...]
    terms: str
    consequence: str
    respond_min: int
    place: str
    remedy: str
    restart: str
    lies: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    said: str = ""
    asked: str = ""
    blamed: str = ""

    def does(self, role: str) -> str:
        """What a device in the role of an incident does or suffers; it follows its name."""
        return self.target if role == "target" else self.source


class HealthPlaybook(Strict):
    """How a device without an incident is described; ``{name:noun}`` takes a fact's value.

    Attributes:
        healthy, healthy_but: the headline of a device that is well.
        unclear: the headline where it cannot be called well, by reason.
        in_short: the shortest form, by reason; "well" where there is none.
        undecided: what one stretch of time looked like.
        undecided_in_all: how much of the time was undecided, where that is little.
        unsupported: said where the measurements fit none of the suspicions.
        ask, look_up, look_at: checks: what the device did, who an outside or an own peer is.
        until: the last check, by reason.
    """

    healthy: str
    healthy_but: str
    unclear: dict[str, str]
    in_short: dict[str, str]
    undecided: str
    undecided_in_all: str
    unsupported: str
    ask: str
    look_up: str
    look_at: str
    until: dict[str, str]


class CausePlaybook(Strict):
    """How a cause is explained that a rule proved.

    Attributes:
        meaning: what it means.
        checks: what to do, in order.
        asked: a pattern of the words with which people speak of it; "" for no words of its own.
        symptom: what people who see it speak of; "" where that is as for its label.
        place: where it lies; "" where that is as for its label.
        remedy, restart, lies, maybe, excludes: as in ``Playbook``; where ``remedy`` is "" all are as
            for its label.
    """

    meaning: str
    checks: tuple[str, ...]
    asked: str = ""
    symptom: str = ""
    place: str = ""
    remedy: str = ""
    restart: str = ""
    lies: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


@cache
def read_causes() -> dict[str, CausePlaybook]:
    """How the causes that rules prove are explained, by kind of fact."""
    return read_yaml(
        FOLDER.with_name("causes.yaml"), dict[str, CausePlaybook], "the causes' playbook"
    )


_OF_RIGHTS = re.compile(
    r"(?i)denied|not authori[sz]ed|access|permission|privilege|password|insufficient rights"
)


def find_cause(facts: Sequence[Fact]) -> CausePlaybook | None:
    """How the cause is explained that the leading fact proves; None where its label's words do. Who
    is refused for want of a right has another remedy than who asks for what is not there."""
    if not facts:
        return None
    known, kind = read_causes(), kind_of(facts[0])
    if any(kind_of(one) == "unit_changed" for one in facts):
        return known["unit_changed"]
    rights = known.get(f"{kind}_rights")
    return (
        rights
        if rights and _OF_RIGHTS.search(str(facts[0].values.get("code", "")))
        else known.get(kind)
    )


@cache
def read_playbook(label: str) -> Playbook:
    """Read how a label other than ``normal`` is explained.

    Raises:
        UserError: the file is missing or has other keys; a fault of the installation.
    """
    return read_yaml(FOLDER / f"{label}.yaml", Playbook, "a label's playbook")


def find_place(label: str, facts: Sequence[Fact]) -> str:
    """Where a trouble of a label lies, by its leading fact."""
    cause = find_cause(facts)
    return (cause.place if cause else "") or read_playbook(label).place


def find_remedy(label: str, facts: Sequence[Fact]) -> Playbook | CausePlaybook:
    """What tells how such a trouble is mended, and at which side it lies."""
    cause = find_cause(facts)
    return cause if cause is not None and cause.remedy else read_playbook(label)


@cache
def read_health_playbook() -> HealthPlaybook:
    """Read how a device without an incident is described."""
    return read_yaml(FOLDER / f"{NORMAL}.yaml", HealthPlaybook, "the playbook of normal traffic")


def find_blamed(plain: str) -> set[str]:
    """Labels that a plain question names where it takes them for a cause."""
    return {
        label
        for label in LABELS
        if label != NORMAL and (blamed := read_playbook(label).blamed) and re.search(blamed, plain)
    }


def find_asked(plain: str) -> tuple[str, ...]:
    """Labels whose kind of trouble a plain question names.

    >>> find_asked("is there a flood?"), find_asked("is dev ok?")
    (('dos', 'ddos', 'mqtt_abuse'), ())
    """
    return tuple(
        label
        for label in LABELS
        if label != NORMAL
        and (asked := read_playbook(label).asked)
        and re.search(rf"\b(?:{asked})\b", plain)
    )
