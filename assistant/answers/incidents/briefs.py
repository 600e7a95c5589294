"""What is known in a sentence for somebody else, and what a finding means in plain words."""

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.incidents.condition import answer_incidents
from assistant.answers.plant.inventory import answer_code, holds_code
from assistant.answers.topics import find_labelled
from assistant.detection.incidents import Incident
from assistant.diagnosis.compose import find_checks
from assistant.diagnosis.playbook import find_asked, find_cause, read_playbook
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.facts.fact import Fact, Value


def answer_summary(asked: Asked, headline: Fact) -> Answer | None:
    """What happened, until when, what comes of it and the first step; of all incidents where none is
    meant; None where there is none."""
    incident = asked.incident
    if asked.focus is None and not asked.device and len(asked.analysis.incidents) > 1:
        return answer_incidents(asked)
    if incident is None or not incident.facts:
        return None
    return _sum_up(asked, incident, headline)


def _sum_up(asked: Asked, incident: Incident, headline: Fact) -> Answer:
    end_s, start_s = find_end(incident), find_start(incident)[0]
    over = is_over(incident, asked.analysis)
    step = next(iter(find_checks(incident)), "")
    values: dict[str, Value] = {
        "what": incident.facts[0].text, "severity": incident.severity, "step": step,
        "text": read_playbook(incident.label).consequence, "end_time_s": end_s, "span_s": end_s - start_s,
    }  # fmt: skip
    line = say("summary_over" if over else "summary_still", "", **values)
    return Answer(line, (headline, *incident.facts[1:]))


def answer_meaning(asked: Asked) -> Answer | None:
    """What a kind of trouble that is named means, else what is talked about; None where neither is known."""
    if holds_code(asked):
        return answer_code(asked)
    if asked.polar or asked.query.exists:  # "any beacons?" asks whether there are some
        return None
    incident = asked.incident
    named = find_asked(asked.query.plain)
    here = find_labelled(asked)
    if named and (incident is None or incident.label not in named):
        book = read_playbook(here[0].label if here else named[0])
        facts = here[0].facts if here else ()
        return Answer(say("meaning", "", what=book.short, text=book.gloss), facts)
    if incident is None or not incident.facts:
        return None
    book, cause = read_playbook(incident.label), find_cause(incident.facts)
    text = cause.meaning if cause else book.gloss
    line = say("meaning", "", what=book.short, text=text)
    return Answer(
        line, (*incident.facts[:1], say("as_it_is", text=book.consequence), *incident.facts[1:])
    )
