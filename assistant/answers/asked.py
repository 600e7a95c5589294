"""A question with all that its answer may use, and the form of an answer."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.citations import Citation
from assistant.diagnosis.investigate import Investigation
from assistant.diagnosis.spans import find_end, find_start, is_over
from assistant.diagnosis.standing import Standing
from assistant.facts.fact import Fact, Proof, Value, kind_of, make_fact
from assistant.facts.sensor import find_blindness
from assistant.facts.traffic_view import TrafficView
from assistant.history import History
from assistant.questions.entities import Mention, list_machines
from assistant.questions.queries import Query
from assistant.questions.times import Span
from knowledge_base.index import Index
from traffic.capture import SAMPLE_S
from traffic.files import read_yaml

Reply = Literal["", "yes", "no", "unclear"]
_POLAR = re.compile(
    r"^(?:(?:and|but|so|ok|okay|well|und|y|aber|pero|please|hi|hello|hey|good morning|good evening|hallo|hola"
    r"|guten (?:morgen|tag|abend)|buen[oa]s (?:dias|tardes|noches)),? )*"
    r"(?:is|are|was(?! (?:wurde|stand)\b)|were|does|do|did|can|could|has|have|had"
    r"|will|would|should|must|may|any|ist|sind|war|hat|haben|kann|schreibt|spricht|redet|fragt|antwortet"
    r"|funktioniert|laeuft|gibt"
    r"|greift|werden|wird|verlieren|soll|muss|darf|duerfen|esta|estan|es|hay|tiene|puede|habla|escribe"
    r"|responde|funciona|alguien|debo"
    r"|se|anyone|anybody|anything|someone|somebody|something|dev (?:ok|okay|alive|there|up)|everything|all)\b"
)
_OF_LIST = re.compile(
    r"\b(?:they|them|these|those|which|what came|all|both|others?|rest|sie|diese|welche\w*|davon|alle|anderen?|ellos"
    r"|ellas|estos|esos|cual\w*|todos|demas|otros)\b"
)
_SENTENCE = re.compile(
    r"[.;:!] | [-–] |, (?=(?:and |but |so )?(?:did|does|is|was|are|were|has|have) (?:it|he|she|they|that|this|dev)\b)"
)
# "is it dns or the cable?" asks which, not whether.
_EITHER = re.compile(r"\b(?:or|oder) (?!not\b|no\b|nicht\b|nein\b)")
_STILL = re.compile(
    r"\b(?:still|now|at (?:the|this) moment|currently|at present|ongoing|(?<!what is )(?<!whats )going on"
    r"|unresolved|unsolved|persist\w*"
    r"|noch|gerade|jetzt|todavia|aun|ahora|sigue\w*)\b"
)
# "is the flood over?", "is the loss gone?"
_ENDED = re.compile(
    r"\b(?:gone|over(?! (?:which|what|the|an?|tcp|udp|port|telnet|ssh|mqtt|modbus|https?|\d))"
    r"|finished|ended|stopped|done|fixed|solved|resolved|better|vorbei|beendet|weg|termin\w+)\b"
)
# Kinds of query that are about documents, remarks or packets, and not about what an incident is.
OF_NO_INCIDENT = frozenset(("manual", "code", "before", "feedback", "help", "packets"))
# Who asks for a name, a time or a number is not asking whether.
OPEN = re.compile(
    r"^(?:(?:and|so|but|ok|hi|hello|und|y)\W+)*(?:who|whom|whose|what|which|why|when|where|how|since when|wer"
    r"|was (?:ist|sind|hat|haben|macht|soll|fuer|war|kann)|welche\w*|warum|wieso|wann|wo|wie|quien|que|cual|por que"
    r"|cuando|donde|como|cuant\w+)\b"
)
# "plc-1 says busy, still?", "dev antwortet nicht, immer noch?"
_STILL_LAST = re.compile(
    r"(?:^|[,.;] ?|\b(?:and|und|y) )(?:is it |ist es |esta )?(?:immer )?(?:still|noch|todavia|aun|sigue)"
    r"(?: (?:immer|now|going on|so|asi|(?:a|the|any|ein|un) (?:problem|issue|trouble|thing|problema)))?\W*$"
)
_LATE_S = 2 * SAMPLE_S  # what was seen since then goes on, as far as samples can tell
LATELY_S = 60.0  # who sent something this near to the end is still there
PLANT = "the plant"  # as a sentence names all of it
_FRAGMENTS = (
    "outside_one",
    "fault_at",
    "attack_by",
    "attack_by_on",
    "attack_by_to",
    "serves",
    "calls",
    "concerned",
    "of_unit",
    "kind_since",
    "kind_since_by",
    "kind_span",
    "over_protocol",
    "sensor_two_way",
    "reported_whom",
    "reported_whom_unsaid",
    "download_nameless",
    "remote_encrypted",
    "remote_unread",
    "remote_begun_before",
    "remote_parts",
    "remote_still",
    "publisher",
    "state_unseen",
    "state_back",
    "state_test",
)  # parts of a sentence
_VERBS = ("verb_", "verbs_", "part_")  # how the kinds of such begin


@cache
def read_sentences(name: str) -> dict[str, str]:
    """Sentences by kind, of a file beside this one."""
    return read_yaml(Path(__file__).with_name(name), dict[str, str], "a sentence a kind")


@cache
def _sentences() -> dict[str, str]:
    names = (
        "sentences.yaml",
        "several.yaml",
        "verdicts.yaml",
        "lists.yaml",
        "written.yaml",
        "content.yaml",
    )
    return {kind: said for name in names for kind, said in read_sentences(name).items()}


def say(kind: str, reply: Reply = "", proof: Proof | None = None, /, **values: Value) -> Fact:
    """The sentence of a kind with its values, after "yes", "no" or "cannot tell" where due."""
    sentence = _sentences()[kind]
    keeps = kind in _FRAGMENTS or kind.startswith(_VERBS) or sentence.startswith("plant.yaml")
    if not reply and not keeps:  # a name at the beginning keeps its letters
        sentence = sentence[0].upper() + sentence[1:]
    fact = make_fact(kind, sentence, values, proof=proof)
    if not reply and fact.text.startswith((f"{PLANT} ", f"{PLANT}:")):
        fact = replace(fact, text=fact.text[0].upper() + fact.text[1:])
    return begin(fact, reply)


def begin(fact: Fact, reply: Reply) -> Fact:
    """The fact after "yes", "no" or "cannot tell"; how sure it is stays said, once."""
    if not reply:
        return fact
    word, text = _sentences()[f"reply_{reply}"], fact.text
    sure = re.match(r"(Confirmed|Likely|Not certain|Cannot tell): ", text)
    if text.startswith("Healthy"):
        return replace(fact, text=f"{word.removesuffix(':')}, h{text[1:]}")
    rest = _go_on(text[sure.end() :] if sure else text, fact)
    if sure and reply != "unclear":
        word = f"{word.removesuffix(':')}, {sure[1].lower()}:"
    return replace(fact, text=f"{word} {rest}")


def _go_on(text: str, fact: Fact) -> str:
    """A sentence as it goes on after a colon; a name at its beginning keeps its letters."""
    first = text.split(" ")[0]
    names = (one for one in fact.values.values() if isinstance(one, str) and not one.endswith("."))
    named = any(one.startswith(first) for one in names)
    plain = first[1:].islower() or len(first) == 1
    return text if named or not plain else text[0].lower() + text[1:]


@dataclass(frozen=True)
class Answer:
    """What is said to a question.

    Attributes:
        line: the answer in one sentence.
        facts: what bears it, the strongest first.
        checks: what to do next, in order, where it is not what the diagnosis says.
        citations: passages that it quotes.
        quotes: whether passages are the answer itself, and are shown.
        whole: whether causes, checks and passages of the diagnosis belong to the answer.
        steps: what to do was asked for, and the line is the first step.
        listing: whether the facts are a list that is shown whole.
        refused: whether nothing that was asked for is here.
        standing: how sure this answer is, where it is not about how the device is doing.
        about: the device that it names, which "it" means from then on; "" for the one that was asked
            about.
        incident: what it is about, where it says no fact of that.
    """

    line: Fact
    facts: tuple[Fact, ...] = ()
    checks: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    quotes: bool = False
    whole: bool = False
    steps: bool = False
    listing: bool = False
    refused: bool = False
    standing: Standing | None = None
    about: str = ""
    incident: Incident | None = None


def tell_incident(incident: Incident) -> Answer:
    """What was measured of an incident, its leading fact first."""
    return Answer(incident.facts[0], incident.facts[1:])


@dataclass(frozen=True)
class Asked:
    """A question, read, with what was found about its device.

    Attributes:
        question: the operator's words.
        query: what is asked for.
        found: about the device that is meant: incident or condition, standing, facts.
        analysis: the capture with its verdicts and incidents.
        index: the knowledge base, None without one.
        history: states and remarks, None where nothing is kept.
        span: the time that is asked about; None for the whole capture.
        guessed: what the query asks for is a guess, and so gets neither "yes" nor "no".
        alike: devices of a kind that the question names, "which plc"; the answer is one of them.
        focus: the incident that a talk is about, which need not be the one that the question means.
        listed: ids of the incidents that the talk listed last.
    """

    question: str
    query: Query
    found: Investigation
    analysis: Analysis
    index: Index | None = None
    history: History | None = None
    span: Span | None = None
    guessed: bool = False
    alike: tuple[str, ...] = ()
    focus: Incident | None = None
    listed: tuple[str, ...] = ()

    @property
    def meant_by_list(self) -> list[Incident]:
        """The incidents that the talk listed last, where "they", "these" or "which" mean those; else none."""
        if self.query.names_device or not _OF_LIST.search(self.query.plain):
            return []
        known = {one.id: one for one in self.analysis.incidents if one.facts}
        return [known[one] for one in self.listed if one in known]

    @property
    def view(self) -> TrafficView:
        """The capture laid out for questions about one device."""
        return self.analysis.view

    @property
    def incident(self) -> Incident | None:
        """What explains the device that is meant."""
        return self.found.incident

    @property
    def device(self) -> str:
        """The address that the question names, or that the talk is about; "" for the whole plant."""
        named = (*self.found.mention.devices, *self.found.mention.peers)
        return named[0] if named else ""

    @property
    def second(self) -> str:
        """The second address that the question names; "" for none, and where it names a kind that
        several devices are of."""
        mention = self.found.mention
        named = (*mention.devices, *mention.peers)
        return named[1] if len(named) > 1 and not mention.alike else ""

    def about(self, device: str, span: Span | None = None) -> "Asked":
        """The same asked of one device, or of the plant ("") in a time."""
        mention = Mention((device,) if device else ())
        return replace(self, found=replace(self.found, mention=mention), span=span)

    @property
    def name(self) -> str:
        """The device that is meant, as a sentence names it."""
        return self.view.name_of(self.device) if self.device else PLANT

    @property
    def blind(self) -> bool:
        """Whether the sensor could not see the device that is meant, or one of the plant's."""
        devices = [self.device] if self.device else list_machines(self.analysis)
        quality, seen_s = self.view.quality, self.view.seen_s
        return any(find_blindness(quality, one, seen_s) for one in devices)

    def name_ends(self, incident: Incident) -> str:
        """Where an incident lies, and whom it touches first, as a sentence names them."""
        return self.view.names_of(dict.fromkeys((incident.device, *incident.peers[:1])))

    @property
    def known(self) -> tuple[Fact, ...]:
        """What is known of what is meant: the facts of its incident, else what was found."""
        return self.incident.facts if self.incident else self.found.facts

    @property
    def sensor(self) -> tuple[Fact, ...]:
        """What the sensor missed, and what it says itself."""
        return tuple(one for one in self.found.facts if kind_of(one) in ("sensor", "notice"))

    @property
    def polar(self) -> bool:
        """Whether "yes" or "no" was asked for."""
        # "it calls out. does anyone answer?"
        asks = any(map(_POLAR.match, (self.query.plain, _SENTENCE.split(self.query.plain)[-1])))
        asks = asks or bool(_STILL_LAST.search(self.query.plain))
        return asks and not (self.either or self.guessed)

    @property
    def either(self) -> bool:
        """Whether one of several was asked for: "is it an attack or a fault?"."""
        return bool(_EITHER.search(self.query.plain))

    @property
    def still(self) -> bool:
        """Whether what goes on at the end of the capture was asked for: "is there still a flood?"."""
        return bool(_STILL.search(self.query.plain))

    @property
    def ended(self) -> bool:
        """Whether it was asked if something is over."""
        return self.polar and bool(_ENDED.search(self.query.plain))

    def reply(self, yes: bool) -> Reply:
        """How the answer begins, where "yes" or "no" was asked for."""
        return ("yes" if yes else "no") if self.polar else ""

    def is_well(self, well: bool) -> Reply:
        """How the answer begins, where it says whether something is well: "is it down?" asks the
        other way round."""
        return self.reply(well != self.query.negative)

    def all_is(self, well: bool) -> Reply:
        """How the answer begins, where it says whether all is well: "yes" or "no" only to words that
        ask for one of the two: "is it ok?", "anything to worry about?", not "is it busy?"."""
        if not (self.query.negative or self.query.positive):
            return ""
        return self.reply(well != self.query.negative)

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """TCP connections of the devices that are named, or of all, at the port that is named."""
        rows = self.view.sessions
        for one in filter(None, (self.device, self.second)):
            rows = rows[(rows["client"] == one) | (rows["server"] == one)]
        if self.span is not None:
            rows = rows[rows["start_s"].between(self.span.start_s, self.span.end_s)]
        port = self.query.port
        return rows if port is None else rows[rows["port"] == port]

    @cached_property
    def requests(self) -> pd.DataFrame:
        """Exchanges of the device, or of all; answers without a question are left out unless they
        refuse."""
        rows = self.view.exchanges
        if self.device:
            rows = rows[(rows["client"] == self.device) | (rows["server"] == self.device)]
        if self.second:
            rows = rows[(rows["client"] == self.second) | (rows["server"] == self.second)]
        if self.query.protocol:
            rows = rows[rows["protocol"] == self.query.protocol]
        if self.span is not None:
            rows = rows[rows["ts"].between(self.span.start_s, self.span.end_s)]
        for name, wanted in (("unit", self.query.unit), ("port", self.query.port)):
            if wanted is not None and (rows[name] == wanted).any():
                rows = rows[rows[name] == wanted]
        alone = (rows["outcome"] == "unasked") & (rows["code"] > 0)
        return rows[~rows["outcome"].isin(["unasked", "malformed"]) | alone]

    @cached_property
    def talks(self) -> pd.DataFrame:
        """Traffic by who opened it, to whom, over what: ``src dst proto port pkts both_bytes syns
        dst_pkts since_s until_s refused``, most packets first; of the device, or of all."""
        rows = self.view.flow_slots
        if self.device:
            rows = rows[(rows["src"] == self.device) | (rows["dst"] == self.device)]
        if self.second:
            rows = rows[(rows["src"] == self.second) | (rows["dst"] == self.second)]
        if self.query.port is not None:
            rows = rows[rows["port"] == self.query.port]
        if self.span is not None:
            late = rows["since_s"] > self.span.end_s
            rows = rows[~late & (rows["until_s"] >= self.span.start_s)]
        rows = rows.assign(
            pkts=rows["src_pkts"] + rows["dst_pkts"],
            both_bytes=rows["src_bytes"] + rows["dst_bytes"],
        )
        groups = rows.groupby(["src", "dst", "proto", "port"], sort=False)
        totals = groups.agg(
            pkts=("pkts", "sum"),
            both_bytes=("both_bytes", "sum"),
            syns=("syns", "sum"),
            dst_pkts=("dst_pkts", "sum"),
            since_s=("since_s", "min"),
            until_s=("until_s", "max"),
            refused=("refused", "all"),
        ).reset_index()
        return totals.sort_values("pkts", ascending=False, kind="stable", ignore_index=True)


def find_incidents(asked: Asked, labels: Collection[str]) -> list[Incident]:
    """Incidents of these labels that have facts, at the device that is asked about or at all, the
    worst first."""
    return [
        one
        for one in worst_first(list(asked.analysis.incidents))
        if one.label in labels and one.facts and (not asked.device or one.touches(asked.device))
    ]


def say_span(asked: Asked, incident: Incident, reply: Reply) -> Fact:
    """When an incident began, and when it ended or that it goes on."""
    start_s, exact = find_start(incident)
    end_s = find_end(incident)
    kind = "since_over" if is_over(incident, asked.analysis) else "since_still"
    before_s = asked.view.last_s - end_s
    if kind == "since_still" and before_s > _LATE_S:
        kind, reply = "since_last", "unclear" if reply else ""
    if exact and end_s - start_s < 1:  # a single command does not go on
        kind, reply = "since_once", "" if kind == "since_still" else reply
    return say(
        kind if exact else f"{kind}_about",
        reply,
        name=asked.name if incident.touches(asked.device) else asked.view.name_of(incident.device),
        start_time_s=start_s,
        end_time_s=end_s,
        span_s=max(end_s - start_s, 0.0),
        last_time_s=asked.view.last_s,
        before_s=max(before_s, 0.0),
    )


def say_recorded(asked: Asked) -> Fact:
    """How long the capture lasts, and from when on."""
    start_s = float(asked.view.flow_slots["since_s"].min())
    return say("capture_span", start_time_s=start_s, span_s=asked.view.span_s)
