"""A conversation about one capture: what is in focus, and one checked reply to each question."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from assistant.chat.feedback import keep, keep_incident, read_remark
from assistant.chat.replies import (
    ReplyDraft,
    list_quotations,
    quote_documents,
    say_attack,
    say_certainty,
    say_checks,
    say_devices,
    say_help,
    say_incidents,
    say_numbers,
    say_others,
    say_since,
    say_usual,
    say_whole,
)
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.diagnosis import Diagnosis, diagnose
from assistant.diagnosis.grounding import check
from assistant.diagnosis.llm_writer import ChatModel, write
from assistant.facts.fact import Fact, Value, show
from assistant.history import History
from assistant.questions.entities import Mention, read_devices, words_besides
from assistant.questions.intents import Intent, read_intent
from assistant.questions.scope import foreign_words, is_in_scope
from knowledge_base.documents import Kind
from knowledge_base.index import Index

MAX_CHARS = 2000
_ABOUT_FOCUS: dict[str, Callable[..., ReplyDraft]] = {
    "since": say_since,
    "others": say_others,
    "attack": say_attack,
    "certainty": say_certainty,
    "usual": say_usual,
    "numbers": say_numbers,
}
_OF_DOCUMENTS = ("", "why", "checks", "manual", "before", "attack")
# Which documents are looked at first; manuals elsewhere.
_KINDS: dict[str, Kind] = {"before": "incident"}
_NO_CAPTURE = (
    "No capture is open, so I can only answer from the documents. "
    "Open one to ask about its devices."
)
_NOTHING = "I found nothing about that, neither in the capture nor in the documents."
_NO_DOCUMENT = "No document in the knowledge base fits this. Add the manual of the device to it."
_NOT_KEPT = "Nothing is kept in this conversation, so a remark would be lost."
_NO_INCIDENT = "There is no incident in focus to remark on. Ask about one first."
_NOT_MINE = (
    "That I cannot answer: nothing in it names a device, a fault or a document of this plant."
)


@dataclass(frozen=True)
class Reply:
    """What is shown.

    Attributes:
        text: checked.
        diagnosis: what the reply rests on, if it rests on one.
        removed: how many sentences of the text had no source and were taken out.
        refused: the question is none for this assistant, or what is asked for is not there.
    """

    text: str
    diagnosis: Diagnosis | None
    removed: int = 0
    refused: bool = False


class Conversation:
    """The thread of one operator, with the device and incident in focus."""

    def __init__(
        self,
        analysis: Analysis | None,
        index: Index | None,
        history: History | None,
        writer: ChatModel | None = None,
        who: str = "operator",
    ) -> None:
        """Begin.

        Args:
            analysis: the capture; without one only documents answer.
            index: the knowledge base.
            history: where the conversation is kept; without one nothing is kept.
            writer: a chat-capable model that words diagnoses.
            who: the operator's name, for the history.
        """
        self.analysis = analysis
        self.index = index
        self.history = history
        self.writer = writer
        self.who = who
        self.focus: Diagnosis | None = None
        self._number = history.start_conversation(who) if history else 0

    def reply(self, question: str) -> Reply:
        """Answer one question.

        Raises:
            UserError: the history or the knowledge base cannot be used.
        """
        question = question.strip()[:MAX_CHARS]
        draft = self._answer(question) if question else say_help()
        diagnosis = draft.diagnosis
        if diagnosis is not None and draft.checked:
            text, removed = diagnosis.text or _NOTHING, diagnosis.removed
        else:
            checked = check(draft.text, draft.facts, draft.citations, self.index)
            text, removed = checked.text.strip() or _NOTHING, len(checked.removed)
            if removed:
                text += "\n\nNote: a part of this reply had no source and was removed."
        self._keep(question, text, diagnosis)
        refused = draft.refused if diagnosis is None else diagnosis.refused
        return Reply(text, diagnosis, removed, refused)

    def _answer(self, question: str) -> ReplyDraft:
        """Choose what answers: the documents, a list, or what is in focus."""
        intent = read_intent(question)
        if intent.name == "help":
            return say_help()
        mention = read_devices(question, self.analysis) if self.analysis else Mention()
        named = bool(mention.devices or mention.peers or mention.missing or mention.kind)
        # The reasons of a remark may speak of anything.
        remark = intent.name == "feedback" and bool(self._incident() or read_remark(question).why)
        if not remark and not is_in_scope(question, intent, mention, self.index):
            return say_help(_NOT_MINE if self.analysis else _NO_CAPTURE)
        if self.analysis is None:
            found = None
            if intent.name in _OF_DOCUMENTS:
                kind = _KINDS.get(intent.name, "manual")
                found = quote_documents(self.index, question, kind)
            return found or say_help(_NO_CAPTURE)
        known = named and not words_besides(foreign_words(question, intent), self.analysis)
        if not intent.name and not known:
            found = quote_documents(self.index, question)
            if found is None and named:
                self.focus = self._diagnose(question, "why", named=True)
                found = say_whole(self.focus, checked=True)
            return found or say_help(_NOTHING)
        if intent.name == "devices":
            return say_devices(self.analysis)
        if intent.name == "incidents":
            return say_incidents(self.analysis, self._states())
        return self._on_focus(intent, question, mention, named)

    def _on_focus(self, asks: Intent, question: str, mention: Mention, named: bool) -> ReplyDraft:
        """Answer about a device: the one that is named, else the one in focus, else the worst."""
        intent = asks.name
        past = self._past(question, asks) if intent == "before" and not named else None
        if past is not None:
            return past
        if intent == "feedback" and self.focus is None and not named:
            # Nobody has seen the incident that it would be kept for.
            return self._feedback(question)
        focus = self.focus
        moved = focus is None or (named and focus.device not in mention.devices)
        whole = intent in ("why", "")
        if focus is None or moved or whole:
            focus = self.focus = self._diagnose(question, intent, named)
        if whole or not focus.device:
            return say_whole(focus, checked=moved or whole)
        if intent in _ABOUT_FOCUS:
            draft = _ABOUT_FOCUS[intent](focus, self._incident(), self.analysis)
            return replace(draft, diagnosis=focus)
        own: dict[str, Callable[[], ReplyDraft]] = {
            "checks": lambda: say_checks(focus),
            "manual": lambda: self._manual(question),
            "before": self._before,
            "feedback": lambda: self._feedback(question),
        }
        return own[intent]()

    def _diagnose(self, question: str, intent: str, named: bool) -> Diagnosis:
        """A new focus; "why does it fail?" without a name stays with the device in focus."""
        assert self.analysis is not None
        device = self.focus.device if self.focus and not named else None
        composed = diagnose(question, self.analysis, self.index, device or None)
        diagnosis = write(
            composed, self.writer if intent in ("why", "") else None, self.analysis.plant
        )
        self.focus = diagnosis
        incident = self._incident()
        if self.history and incident:
            keep_incident(incident, diagnosis.cause, self.history)
        return diagnosis

    def _incident(self) -> Incident | None:
        """The incident that explains the focus."""
        focus = self.focus
        if focus is None or self.analysis is None or not focus.incidents:
            return None
        found = (one for one in self.analysis.incidents if one.id == focus.incidents[0])
        incident = next(found, None)
        return incident if incident and incident.label == focus.label else None

    def _past(self, question: str, intent: Intent) -> ReplyDraft | None:
        """Past incidents by the question's own words, "has the weather service failed before?"."""
        assert self.analysis is not None
        own = words_besides(foreign_words(question, intent), self.analysis)
        return quote_documents(self.index, question, _KINDS["before"]) if own else None

    def _manual(self, question: str) -> ReplyDraft:
        """What the manuals say to the question's own words, or without such to the focus."""
        own_words = [word for word in question.split() if len(word) > 3]
        found = quote_documents(self.index, question) if len(own_words) > 3 else None
        if found:
            return found
        focus = self.focus
        if focus is None or not focus.citations:
            return ReplyDraft(_NO_DOCUMENT)
        text = "\n".join(["**From the manuals**", *list_quotations(focus.citations)])
        return ReplyDraft(text, focus.facts, focus.citations, focus)

    def _before(self) -> ReplyDraft:
        """Past incidents of the knowledge base, and this plant's own kept ones."""
        focus, incident = self.focus, self._incident()
        lines: list[str] = []
        values: dict[str, Value] = {}
        if incident and self.history:
            kept = self.history.incidents(
                device=incident.device, label=incident.label, before_s=incident.start_s
            )
            for number, past in enumerate(kept[:5]):
                values |= {f"at{number}_time_s": past.start_s, f"what{number}": past.summary}
                lines.append(
                    f"- {show('start_time_s', past.start_s)}: {past.summary.replace(chr(10), ' ')}"
                )
            for number, one in enumerate(self.history.feedback(incident.device)[-3:]):
                values |= {
                    f"said{number}": f"{one.who} {one.why}",
                    f"said{number}_time_s": one.at_s,
                }
                why = one.why or "no reason given"
                lines.append(
                    f"- {show('at_time_s', one.at_s)}: {one.who} said {one.label or 'wrong'}: {why}"
                )
        similar = focus.similar if focus else ()
        lines += list_quotations(similar)
        opening = (
            "This is what is known from before:"
            if lines
            else "Nothing like it is known from before."
        )
        return ReplyDraft(
            "\n".join([opening, *lines]), (Fact("before", "", values),), similar, focus
        )

    def _feedback(self, question: str) -> ReplyDraft:
        incident = self._incident()
        if self.history is None:
            return ReplyDraft(_NOT_KEPT)
        if incident is None or self.focus is None:
            return ReplyDraft(_NO_INCIDENT, diagnosis=self.focus)
        answer = keep(read_remark(question), self.focus, incident, self.history, self.who)
        return ReplyDraft(answer, diagnosis=self.focus)

    def _states(self) -> dict[str, str]:
        if self.history is None or self.analysis is None:
            return {}
        return {one.id: self.history.state(one.id).state for one in self.analysis.incidents}

    def _keep(self, question: str, text: str, diagnosis: Diagnosis | None) -> None:
        if self.history is None:
            return
        self.history.add_message(self._number, "operator", question)
        self.history.add_message(self._number, "assistant", text)
        if diagnosis is not None and diagnosis.text == text:
            self.history.add_answer(question, diagnosis.to_dict(), self._number)
