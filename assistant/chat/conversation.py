"""A conversation about one capture: what is in focus, and one checked reply to each question."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from assistant.answers.answer import answer
from assistant.answers.by_kind import ELLIPSIS, is_elliptic
from assistant.answers.incidents.aftermath import asks_for_outcome
from assistant.answers.joined import part_question
from assistant.answers.times import is_of_a_time
from assistant.answers.troubles import is_of_device
from assistant.chat.feedback import Remark, keep, keep_incident, read_remark
from assistant.chat.listing import (
    ALL,
    choose,
    find_place,
    is_bare,
    is_cut,
    is_of_incidents,
    lists,
    name_all,
    put_in,
    read_listed,
)
from assistant.chat.references import (
    find_attack_on,
    find_labelled,
    find_moved,
    find_spoken,
    goes_on_bare,
    leave_subject,
    read_rest,
)
from assistant.chat.reply import HELP, NOTHING, Reply, reply_from_documents
from assistant.detection.incidents import Incident, worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.choosing import find_run, find_targets
from assistant.diagnosis.llm_writer import ChatModel, write
from assistant.diagnosis.playbook import find_asked
from assistant.facts.fact import uncut_lists
from assistant.history import History
from assistant.questions.entities import Mention, list_names, read_devices
from assistant.questions.plain import is_name_alone, make_plain
from assistant.questions.queries import Query, read_query
from assistant.questions.written import go_on
from knowledge_base.index import Index

MAX_CHARS = 2000
# Kinds that ask about the whole plant where no device is named and none is meant by a pronoun.
_OF_ALL = frozenset(
    ("first", "health", "wrong", "devices", "incidents", "loss", "dns", "who", "count", "changed", "code")
)  # fmt: skip
_PRONOUN = re.compile(
    r"\b(it|its|he|she|him|her|this|that|these|those|them|they|er|sie|es|ihn|ihm|ihr|das|dies\w*|davon|dazu"
    r"|dem|lo|la|le"
    r"|eso|esto|este|esta|ese|esa|ello)\b"
)
_EVERYTHING = re.compile(
    r"(?<!\bat )\b(everything|all|anything|network|plant|alles|netz\w*|anlage|todo|red|planta)\b"
    r"(?! (?:\w+ )?(?:with|about|of|at|on|from) (?:it|him|her|that one)\b)"
)
_MEANT = re.compile(
    r"\b(?:i|we) mean(?:t)?\b|\b(?:ich|wir) mein\w*\b|\bquise decir\b|\bme refiero\b|\bdigo\b"
)
_LISTS_INCIDENTS = ("incidents", "first")
_DIRECTED = ("who", "writers", "hostile")  # whom such a list names did it
_AND_THE = re.compile(
    r"(?:and|und|y) (?:the |our |die |unsere |l[oa]s |nuestr[oa]s )?\w+\W*$"
)  # "and the plcs?"
# "and plc-2?" asks one of these again; anything else, and what was guessed, was asked of the first alone.
_AGAIN = frozenset(
    (
        "health", "wrong", "why", "who", "writers", "does", "count", "since", "answers", "loss", "dns", "logins",
        "attack", "devices", "responsible", "bearer",
    )
)  # fmt: skip
# Asked of an incident, and of no device that has no part in it.
_OF_THE_TALK = frozenset(("since", "count", "logins", "answers", "loss"))
_MORE = re.compile(
    r"^(tell me |show |give me )?(more|the rest|everything|long|all of it|go on|details?|mehr|alles|mas|todo"
    r"|and\?)\W*$"
)
_NOT_KEPT = "Nothing is kept in this conversation, so a remark would be lost."
_NO_INCIDENT = "There is no incident in focus to remark on. Ask about one first."
_GONE = "That incident is no longer in what is looked back at; its alarm still takes remarks."


_WHY, _ELSE = "why is that?", "what else?"
# What is asked of one incident by its place in the list; anything else asks why.
_OF_ONE = frozenset(
    ("since", "checks", "attack", "certainty", "consequence", "numbers", "packets", "affected", "security")
)  # fmt: skip


class Conversation:
    """The thread of one operator, with the device and incident in focus."""

    def __init__(
        self,
        analysis: Analysis | None,
        index: Index | None,
        history: History | None,
        writer: ChatModel | None = None,
        who: str = "operator",
        number: int | None = None,
        about: str = "",
    ) -> None:
        """Begin, or go on.

        Args:
            analysis: the capture; without one only documents answer.
            index: the knowledge base.
            history: where the conversation is kept; without one nothing is kept.
            writer: a chat-capable model that words diagnoses.
            who: the operator's name, for the history.
            number: of a kept conversation that goes on; a new one by default.
            about: the name of the capture, for the history.
        """
        self.analysis = analysis
        self.index = index
        self.history = history
        self.writer = writer
        self.who = who
        self.focus: Diagnosis | None = None
        self._kind = ""  # what was asked for last
        self._query: Query | None = None  # the same, with all that it said
        self._missing = ""  # what was asked for last and is not in the capture
        self._last: Diagnosis | None = None  # what was answered last, of whatever it was
        self._ask_again: Callable[[], Diagnosis] | None = None
        self._listed: tuple[str, ...] = ()  # whom the last list named
        self._told: tuple[str, ...] = ()  # the incidents that the last list of such told of
        self._before = ""  # the device that a kept conversation was about last
        if number is not None and history is not None:
            last = next(iter(history.answers(conversation=number)), {})
            self._before = str(last.get("device", ""))
        self.number = number or 0  # 0 until there is something to keep
        self._about = about

    def reply(self, question: str) -> Reply:
        """Answer one question, or the two or three that were asked at once.

        Raises:
            UserError: the history or the knowledge base cannot be used.
        """
        question = question.strip()[:MAX_CHARS]
        rest = leave_subject(question)
        if rest != question:
            self.focus, self._kind, self._query = None, "", None
        replies = [self._answer(part) for part in part_question(rest, self.analysis)]
        understood = [one for one in replies if not one.refused] or replies[:1]
        reply = replace(
            understood[-1],
            text="\n\n".join(one.text for one in understood),
            removed=sum(one.removed for one in understood),
        )
        self._keep(question, reply)
        return reply

    def _answer(self, question: str) -> Reply:
        question, query, mention = self._read(question)
        if not question or query.kind == "help":
            return Reply(HELP, refused=True)
        if self.analysis is None:
            return reply_from_documents(question, query, self.index, self._about)
        if _MORE.match(query.plain) and self.focus is not None:
            return Reply(self.focus.long, self.focus)
        if query.kind == "feedback" and not asks_for_outcome(query.plain):
            return self._feedback(question, mention)
        now = self._incident()
        if ALL.match(query.plain) and (everyone := self._name_all(query)) is not None:
            return Reply(everyone.text, everyone)
        if (
            goes_on_bare(query.plain)
            and now is not None
            and not self._find_incident(query, mention)
        ):
            query = replace(query, plain=_ELSE)  # nothing came after it
        analysis, device = self.analysis, self._device_meant(query, mention)
        if (one := self._find_incident(query, mention)) is not None:
            analysis, device, now = replace(analysis, incidents=(one,)), one.device, one
            place = find_place(query.plain)
            more = place is not None and not is_bare(query.plain, place) and query.kind in _OF_ONE
            more = more and not query.guessed
            rest = read_rest(query.plain)
            kind, plain = (query.kind, rest or query.plain) if more or rest else ("why", _WHY)
            query = replace(query, kind=kind, plain=plain, guessed=False)
        elif (one := self._find_spoken(query, mention)) is not None:
            analysis, now = replace(analysis, incidents=(one,)), one
            device = (
                self.focus.device if self.focus and one.touches(self.focus.device) else one.device
            )
        named = (*mention.devices, *mention.peers)
        feels = query.kind == "affected" and _PRONOUN.search(query.plain)
        if feels and now is not None and any(map(now.touches, named)):
            analysis = replace(analysis, incidents=(now,))  # "does hmi-1 feel it too?"
        focus = None if is_of_a_time(query, self.analysis) else now
        self._ask_again = partial(
            answer, question, analysis, self.index, device, self.history, query, focus, self._told
        )
        diagnosis = self._write(self._ask_again())
        self._turn_to(diagnosis, query, mention)
        return Reply(diagnosis.text or NOTHING, diagnosis, diagnosis.removed, diagnosis.refused)

    def _read(self, question: str) -> tuple[str, Query, Mention]:
        """A question with what it leaves to what was said before put in, and what it asks for of whom."""
        names = list_names(self.analysis) if self.analysis else []
        before = self._query.plain if self._query is not None else ""
        question = go_on(question, make_plain(question, names), before)
        query, turned = read_query(question, names), None
        place = find_place(query.plain)
        of_devices = place is not None and not self._is_of_incidents(place, query)
        chosen = self._choose(place) if place and of_devices else ""
        if place and chosen:  # "what does the second one write?", "and the other one?"
            turned = self._query if is_bare(query.plain, place) else None
            question = put_in(question, chosen)
            query = read_query(question, names)
        mention = read_devices(question, self.analysis) if self.analysis else Mention()
        if turned and turned.kind in _DIRECTED:  # who was named as writing is asked what it writes
            return question, replace(turned, kind="does"), mention
        alone = is_name_alone(query.plain) or bool(
            mention.devices and _AND_THE.match(question.lower())
        )
        meant = bool(mention.devices and _MEANT.search(query.plain))
        last, again = self._query, self._kind in _AGAIN
        again = again and (last is None or not last.guessed)
        if again and alone:
            query = replace(query, kind=self._kind)  # "and plc-2?"
        now = self._incident()
        strange = now is not None and not any(map(now.touches, mention.devices))
        if alone and mention.devices and strange and self._kind in _OF_THE_TALK:
            return (
                question,
                replace(query, kind="affected"),
                mention,
            )  # nothing of it is at that device
        if last and again and (meant or (alone and mention.devices)):
            query = last  # "no, I meant plc-2": the same asked of another
        return question, query, mention

    def _is_of_incidents(self, place: re.Match[str], query: Query) -> bool:
        """Whether "the second one" means an incident and no device: where incidents were listed last,
        or nothing was; "the other one" also where the device has another and no list was asked for."""
        now, last = self._incident(), self._last
        if is_of_incidents(place) or not self._listed or self._kind in _LISTS_INCIDENTS:
            return True
        if last is not None and len(last.told) > 1:  # "4 incidents; the worst: …"
            return True
        listed = last is not None and lists(last, self.analysis)
        return bool(
            place["other"]
            and now is not None
            and not listed
            and (
                any(one.touches(now.device) for one in self._others(now))
                or find_labelled(query, self._others(now))
            )
        )

    def _others(self, now: Incident) -> list[Incident]:
        assert self.analysis is not None
        return [one for one in self.analysis.incidents if one.id != now.id and one.facts]

    def _choose(self, place: re.Match[str]) -> str:
        return choose(place, self._listed, self.focus.device if self.focus else "")

    def _find_incident(self, query: Query, mention: Mention) -> Incident | None:
        """The incident that words mean by its place among others: "the second one", "and after that?"."""
        assert self.analysis is not None
        if mention.devices or mention.peers:
            named = (*mention.devices, *mention.peers)[0]
            return find_attack_on(query.plain, named, self._incident(), self.analysis)
        now, place = self._incident(), find_place(query.plain)
        about = self.focus.device if self.focus else ""
        of_devices = place is not None and not self._is_of_incidents(place, query)
        if now is not None and not of_devices:
            others = self._others(now)
            moved = find_moved(query.plain, now, about, others, query, self.analysis)
            if moved is not None:
                return moved
        if place is None or place["other"] or of_devices:
            return None
        told = self._last.told if self._last else ()
        listed = worst_first(list(self.analysis.incidents))
        if len(told) > 1:  # those of one device, as they were listed
            listed = sorted(
                (one for one in listed if one.id in told), key=lambda one: told.index(one.id)
            )
        chosen = choose(place, tuple(one.id for one in listed), "")
        return next((one for one in listed if one.id == chosen), None)

    def _find_spoken(self, query: Query, mention: Mention) -> Incident | None:
        """The incident that a kind of trouble means in this talk: "the flood, who was it?"."""
        assert self.analysis is not None
        if mention.devices or mention.peers or mention.missing or self.focus is None:
            return None
        told = self._last.told if self._last else ()
        return find_spoken(query, self._incident(), self.focus.device, told, self.analysis)

    def _name_all(self, query: Query) -> Diagnosis | None:
        """Everyone whom the last answer lists, "which ones?"; None where it listed nobody."""
        if self._last is None or self._ask_again is None or self.analysis is None:
            return None
        everyone = name_all(query.plain, self._last, self._listed, self._incident(), self.analysis)
        if everyone is None and is_cut(self._last):
            with uncut_lists():
                everyone = self._ask_again()
        if everyone is not None:
            self._last, self._listed = everyone, read_listed(everyone, self.analysis, ())
        return everyone

    def _turn_to(self, diagnosis: Diagnosis, query: Query, mention: Mention) -> None:
        """Keep what the talk is about from an answer on."""
        assert self.analysis is not None
        self._kind = query.kind or self._kind
        self._query = query if query.kind else self._query
        self._missing = mention.missing[0] if mention.missing else self._missing
        if diagnosis.device and mention.devices:
            self._missing = ""
        listed = read_listed(diagnosis, self.analysis, (*mention.devices, *mention.peers))
        self._last = diagnosis
        if len(diagnosis.told) > 1:
            self._told = diagnosis.told
        if len(listed) > 1:
            self._listed = listed
        # A question that was not understood leaves the focus where it is.
        if diagnosis.device and query.kind not in ("code", "manual"):
            self.focus = diagnosis
            if self.history and (incident := self._incident()):
                keep_incident(incident, diagnosis.cause, self.history)

    def _write(self, diagnosis: Diagnosis) -> Diagnosis:
        assert self.analysis is not None
        writer = self.writer if diagnosis.kind in ("why", "wrong") else None
        return write(diagnosis, writer, self.analysis.plant)

    def _device_meant(self, query: Query, mention: Mention) -> str | None:
        """The device in focus, where the question names none and does not ask about all."""
        assert self.analysis is not None
        known = {one.label for one in self.analysis.incidents}
        if known.intersection(find_asked(query.plain)) and not is_of_device(query):
            return None  # "what can we do about the flood?" means the flood's device
        if mention.alike and (meant := self._one_of(mention)):
            return meant
        if (
            mention.devices
            or mention.peers
            or mention.missing
            or is_of_a_time(query, self.analysis)
        ):
            return None
        if (
            query.kind == "checks"
            and "first" in query.plain
            and self.focus
            and not self._incident()
        ):
            return None  # nothing is wrong with what was talked about last
        if self._missing and query.kind not in _OF_ALL:
            return self._missing
        if self.focus is None and not self._is_known(self._before):
            return None
        described = query.names_device and not mention.kind  # "is that machine ours?"
        described = described or bool(ELLIPSIS.match(query.plain))
        described = described or (query.kind in _OF_ALL and is_elliptic(query))
        if query.kind in _OF_ALL and not described and not _PRONOUN.search(query.plain):
            return None
        spoken = self.focus.device if self.focus else self._before
        device = find_run(self._incident(), query) or spoken
        return None if _EVERYTHING.search(query.plain) else device or None

    def _one_of(self, mention: Mention) -> str:
        """Which of several of a kind the talk is about: "did the plc accept it?"; "" for none."""
        now = self._incident()
        ends = (
            self.focus.device if self.focus else "",
            *((now.device, *find_targets(now)) if now else ()),
        )
        return next((one for one in ends if one and one in mention.devices), "")

    def _is_known(self, device: str) -> bool:
        return self.analysis is not None and device in self.analysis.view.local

    def remark(self, incident_id: str, remark: Remark, likely: Incident | None = None) -> str:
        """Keep a remark on one incident; returns what to answer.

        Args:
            incident_id: as the answer showed it.
            remark: what was said.
            likely: what is known of it where nothing but a first sign was seen.

        Raises:
            UserError: the history cannot be written.
        """
        if self.history is None or self.analysis is None:
            return _NOT_KEPT
        found = (one for one in self.analysis.incidents if one.id == incident_id)
        incident = next(found, likely)
        if incident is None:
            return _GONE
        self.focus = answer("why?", self.analysis, self.index, incident.device, self.history)
        return self._keep_remark(remark, incident)

    def _incident(self) -> Incident | None:
        """The incident that explains the focus."""
        focus = self.focus
        if focus is None or self.analysis is None or not focus.incidents:
            return None
        found = (one for one in self.analysis.incidents if one.id == focus.incidents[0])
        incident = next(found, None)
        return incident if incident and incident.label == focus.label else None

    def _feedback(self, question: str, mention: Mention) -> Reply:
        """Keep a remark on the incident in focus, or of the device that it names."""
        if self.history is None:
            return Reply(_NOT_KEPT)
        assert self.analysis is not None
        if mention.devices and (self.focus is None or self.focus.device != mention.devices[0]):
            self.focus = answer("why?", self.analysis, self.index, mention.devices[0], self.history)
        incident = self._incident()
        if incident is None or self.focus is None:
            return Reply(_NO_INCIDENT, self.focus)
        said = self._keep_remark(read_remark(question), incident)
        # What is in focus shows the state; "more" must not show the one before.
        focus = self.focus
        self.focus = answer(focus.question, self.analysis, self.index, focus.device, self.history)
        return Reply(said, self.focus)

    def _keep_remark(self, remark: Remark, incident: Incident) -> str:
        assert self.focus is not None
        assert self.history is not None
        return keep(
            remark,
            self.focus,
            incident,
            self.history,
            self.who,
            analysis=self.analysis,
            index=self.index,
        )

    def _keep(self, question: str, reply: Reply) -> None:
        if self.history is None:
            return
        self.number = self.number or self.history.start_conversation(self.who, self._about)
        self.history.add_message(self.number, "operator", question)
        self.history.add_message(self.number, "assistant", reply.text)
        if reply.diagnosis is not None and reply.diagnosis.text == reply.text:
            self.history.add_answer(question, reply.diagnosis.to_dict(), self.number)
