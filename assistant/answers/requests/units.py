"""The units behind a gateway, which share its address: which answer, since when one does not."""

import re
from dataclasses import replace

import pandas as pd

from assistant.answers.asked import Answer, Asked, begin, say
from assistant.facts.fact import Fact, listed
from assistant.facts.requests import OUTCOMES

UNITS = re.compile(
    r"\b(?:other|remaining|all|every|each|any|which|the|welche\w*|que|cual\w*) "
    r"(?:\w+ )?(?:units?|slaves?|einheit\w*|unidad\w*)\b|\bunit \d+"
)
_OTHERS = re.compile(r"\bothers?|remaining|rest\b")
_EVER = re.compile(r"\b(?:ever|before|did|once)\b")


def answer_units(asked: Asked) -> Answer | None:
    """Whether a unit answers, or the others do; None where no unit is asked about or none is read."""
    if not UNITS.search(asked.query.plain):
        return None
    asked = replace(
        asked, guessed=False
    )  # units are named, whatever kind the question was taken for
    rows = _select_judged(asked)
    if rows.empty:
        return None
    failed = rows["outcome"] != "answered"
    each = {int(unit): _describe(int(unit), failed[mine.index], mine)
            for unit, mine in rows.groupby("unit")}  # fmt: skip
    dead = [unit for unit, fact in each.items() if fact.values["failed_last"]]
    if asked.query.unit in each:
        fact = each[asked.query.unit]
        answered = int(fact.values["answered"])
        well = answered > 0 if _EVER.search(asked.query.plain) else asked.query.unit not in dead
        return Answer(begin(fact, asked.is_well(well)), asked.known)
    living = [unit for unit in each if unit not in dead]
    others = bool(_OTHERS.search(asked.query.plain))
    well = others or not dead
    shown = living if well else dead
    names = listed(map(str, shown), 12)
    kind = "units_answer" if well else "units_fail"
    if not names:
        return Answer(say("units_none", asked.is_well(False)), tuple(each.values()))
    line = say(kind, asked.is_well(well), n=len(shown), names=names, all=len(each))
    return Answer(line, tuple(each.values()))


def count_units(asked: Asked) -> Answer | None:
    """How many units share the address that is asked about, or any; None where none is read."""
    units = sorted(_select_judged(asked)["unit"].unique())
    if len(units) < 2:
        return None
    names = listed(map(str, units), 12)
    return Answer(say("units_seen", n=len(units), names=names, name=asked.name), asked.known)


def _select_judged(asked: Asked) -> pd.DataFrame:
    """Requests to units whose outcome was seen."""
    rows = asked.requests
    rows = rows[(rows["unit"] >= 0) & rows["outcome"].isin(OUTCOMES)]
    if asked.device or asked.incident is None:
        return rows
    # Unit 17 of another gateway says nothing of the one that fails.
    there = rows["server"].isin([asked.incident.device, *asked.incident.peers])
    return rows[there] if there.any() else rows


def _describe(unit: int, failed: pd.Series, rows: pd.DataFrame) -> Fact:
    """What one unit answered, and what came after its last answer."""
    good = rows[~failed]
    last_s = float(good["ts"].max()) if len(good) else 0.0
    after = int((rows["ts"] > last_s).sum())
    fails = after > 1
    kind = "unit_never" if good.empty else "unit_no_longer" if fails else "unit_answers"
    return say(
        kind, unit=unit, asked=len(rows), answered=len(good), last_time_s=last_s, after=after,
        failed_last=int(fails),
    )  # fmt: skip
