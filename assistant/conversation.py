"""A conversation about one capture: what is in focus, what is asked of it, one checked reply for each question."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assistant.citations import check, cite, resolve
from assistant.diagnose import Diagnosis, diagnose
from assistant.feedback import keep, keep_incident, read_remark
from assistant.intents import read_intent
from assistant.phrases import Fact
from assistant.questions import Asked, read_devices
from assistant.replies import (
    HELP,
    Said,
    say_attack,
    say_certainty,
    say_checks,
    say_devices,
    say_incidents,
    say_numbers,
    say_others,
    say_since,
    say_usual,
)
from assistant.wording import clock

if TYPE_CHECKING:
    from assistant.analysis import Analysis
    from assistant.history import History
    from assistant.incidents import Incident
    from assistant.writer import ChatModel
    from knowledge_base.index import Index

__all__ = ["Conversation", "Reply"]

MAX_CHARS = 2000
_ABOUT_FOCUS: dict[str, Callable[..., Said]] = {
    "since": say_since,
    "others": say_others,
    "attack": say_attack,
    "certainty": say_certainty,
    "usual": say_usual,
    "numbers": say_numbers,
}
_OF_DOCUMENTS = ("", "why", "checks", "manual", "before", "attack")
_NO_CAPTURE = "No capture is open, so I can only answer from the documents. Open one to ask about its devices."
_NOTHING = "I found nothing about that, neither in the capture nor in the documents."
_SHORT = 6  # words up to which a bare device name ("and the camera?") asks what is wrong with it


@dataclass(frozen=True)
class Reply:
    """What is shown; the diagnosis where the reply rests on one."""

    text: str
    diagnosis: Diagnosis | None


class Conversation:
    """The thread of one operator: the device and incident in focus, kept from question to question."""

    def __init__(
        self,
        analysis: "Analysis | None",
        index: "Index | None",
        history: "History | None",
        writer: "ChatModel | None" = None,
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
        said = self._say(question) if question else Said(HELP)
        checked = check(said.text, said.facts, said.citations, self.index)
        text = checked.text.strip() or _NOTHING
        if checked.removed:
            text += "\n\nNote: a part of this reply had no source and was removed."
        self._keep(question, text, said.diagnosis)
        return Reply(text, said.diagnosis)

    def _say(self, question: str) -> Said:
        intent = read_intent(question)
        if intent.name == "help":
            return Said(HELP)
        if self.analysis is None:
            found = self._from_documents(question) if intent.name in _OF_DOCUMENTS else None
            return found or Said(f"{_NO_CAPTURE}\n\n{HELP}")
        asked = read_devices(question, self.analysis)
        named = bool(asked.devices or asked.peers or asked.missing)
        if not intent.name and not (named and len(question.split()) <= _SHORT):
            return self._from_documents(question) or self._about(question, asked) or Said(f"{_NOTHING}\n\n{HELP}")
        if intent.name == "devices":
            return say_devices(self.analysis)
        if intent.name == "incidents":
            return say_incidents(self.analysis, self._states())
        return self._on_focus(intent.name, question, asked, named)

    def _on_focus(self, intent: str, question: str, asked: Asked, named: bool) -> Said:
        """Answer about a device: the one that is named, else the one in focus, else the worst."""
        if intent in ("why", "") or self.focus is None or (named and not self._is_focus(asked)):
            self.focus = self._diagnose(question, intent, named)
        focus = self.focus
        if intent in ("why", "") or not focus.device:
            return _whole(focus)
        if intent in _ABOUT_FOCUS:
            said = _ABOUT_FOCUS[intent](focus, self._incident(), self.analysis)
            return replace(said, diagnosis=focus)
        own: dict[str, Callable[[], Said]] = {
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
        writer = self.writer if intent in ("why", "") else None
        diagnosis = diagnose(question, self.analysis, self.index, device=device or None, writer=writer)
        self.focus = diagnosis
        incident = self._incident()
        if self.history and incident:
            keep_incident(incident, diagnosis.cause, self.history)
        return diagnosis

    def _is_focus(self, asked: Asked) -> bool:
        return self.focus is not None and self.focus.device in asked.devices

    def _about(self, question: str, asked: Asked) -> Said | None:
        if not (asked.devices or asked.peers or asked.missing):
            return None
        self.focus = self._diagnose(question, "why", named=True)
        return _whole(self.focus)

    def _incident(self) -> "Incident | None":
        """The incident that explains the focus."""
        if self.focus is None or self.analysis is None or not self.focus.incidents or not self.focus.label:
            return None
        found = (one for one in self.analysis.incidents if one.id == self.focus.incidents[0])
        incident = next(found, None)
        return incident if incident and incident.label == self.focus.label else None

    def _from_documents(self, question: str) -> Said | None:
        """Passages that answer, quoted; None where the knowledge base has none."""
        if self.index is None:
            return None
        from knowledge_base.retriever import search

        citations = resolve(cite(search(self.index, question, k=3), question), self.index)
        if not citations:
            return None
        lines = [f"- [{one.number}] {one.place}: {one.quoted}" for one in citations]
        return Said("\n".join(["From the documents:", *lines]), (), citations)

    def _manual(self, question: str) -> Said:
        """What the manuals say: to the words of the question if it has any of its own, else to the focus."""
        own_words = [word for word in question.split() if len(word) > 3]
        found = self._from_documents(question) if len(own_words) > 3 else None
        if found:
            return found
        focus = self.focus
        if focus is None or not focus.citations:
            return Said("No document in the knowledge base fits this. Add the manual of the device to it.")
        lines = [f"- [{one.number}] {one.place}: {one.quoted}" for one in focus.citations]
        return Said("\n".join(["**From the manuals**", *lines]), focus.facts, focus.citations, focus)

    def _before(self) -> Said:
        """Past incidents of the knowledge base, and this plant's own kept ones."""
        focus, incident = self.focus, self._incident()
        lines: list[str] = []
        values: dict[str, float | str] = {}
        if incident and self.history:
            kept = self.history.incidents(device=incident.device, label=incident.label, before_s=incident.start_s)
            for number, one in enumerate(kept[:5]):
                values |= {f"at{number}_time_s": one.start_s, f"what{number}": one.summary}
                lines.append(f"- {clock(one.start_s)}: {one.summary.replace(chr(10), ' ')}")
            for number, said in enumerate(self.history.feedback(incident.device)[-3:]):
                values |= {f"said{number}": f"{said.who} {said.why}", f"said{number}_time_s": said.at_s}
                why = said.why or "no reason given"
                lines.append(f"- {clock(said.at_s)}: {said.who} said {said.label or 'wrong'}: {why}")
        similar = focus.similar if focus else ()
        lines += [f"- [{one.number}] {one.place}: {one.quoted}" for one in similar]
        opening = "This is what is known from before:" if lines else "Nothing like it is known from before."
        return Said("\n".join([opening, *lines]), (Fact("before", "", values),), similar, focus)

    def _feedback(self, question: str) -> Said:
        incident = self._incident()
        if self.history is None:
            return Said("Nothing is kept in this conversation, so a remark would be lost.")
        if incident is None or self.focus is None:
            return Said("There is no incident in focus to remark on. Ask about one first.", diagnosis=self.focus)
        answer = keep(read_remark(question), self.focus, incident, self.history, self.who)
        return Said(answer, diagnosis=self.focus)

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


def _whole(diagnosis: Diagnosis) -> Said:
    """A whole diagnosis; it was checked where it was made, and its facts travel with it to be checked again."""
    return Said(diagnosis.text, diagnosis.known, (*diagnosis.citations, *diagnosis.similar), diagnosis)
