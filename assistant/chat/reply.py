"""What a talk shows, and what it says where no capture is open or nothing was judged yet."""

from dataclasses import dataclass

from assistant.answers.plant.documents import find_quotations, list_quotations
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.grounding import check
from assistant.questions.queries import Query
from knowledge_base.documents import Kind
from knowledge_base.index import Index

HELP = """I answer questions about this capture and the documents in the knowledge base. For example:
- Is everything ok? What is wrong with the controller? Why does it not answer?
- Since when? Is it still going on? Is it getting worse? Which others are affected? What changed?
- What happened between 14:05 and 14:10? Which devices are unknown, healthy, undecided? Who is the cause?
- Who talks to it, asks it, writes to it, refuses it, scans it? What does it do? How many, how often, how fast?
- Is it an attack or a fault? Is it a matter for security? How sure are you? What speaks against it?
- What should I check first? What does the manual say? Has it happened before? What is exception 2?
- Show the numbers. Show the packets. Which devices are there? Who is responsible for it? List the incidents.
- Mark as false alarm because of a test. Acknowledge. Shelve for two hours because of maintenance. More.
I only read: nothing is sent to the network, nothing is changed on a device."""
# Without a capture only these can be answered, from documents; which are looked at first.
_OF_DOCUMENTS: dict[str, Kind] = {
    "before": "incident", "manual": "manual", "code": "manual", "why": "manual", "wrong": "manual",
    "checks": "manual", "": "manual",
}  # fmt: skip
_NO_CAPTURE = (
    "No capture is open, so I can only answer from the documents. "
    "Open one to ask about its devices."
)
_NOT_JUDGED = (
    "Nothing of {about} was judged yet, so I cannot say how its devices are: the first verdicts come "
    "when a device was seen for a minute. Ask again then."
)
NOTHING = "I found nothing about that, neither in the capture nor in the documents."


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
    diagnosis: Diagnosis | None = None
    removed: int = 0
    refused: bool = False


def reply_from_documents(question: str, query: Query, index: Index | None, about: str) -> Reply:
    """Where nothing was judged: that, and passages where the documents hold any."""
    unjudged = _NOT_JUDGED.format(about=about) if about else ""
    kind = _OF_DOCUMENTS.get(query.kind)
    citations = find_quotations(index, question, kind) if kind else ()
    if kind and not citations:
        citations = find_quotations(index, question)
    if not citations:
        return Reply(unjudged or f"{_NO_CAPTURE}\n\n{HELP}", refused=True)
    text = "\n".join(["From the documents:", *list_quotations(citations)])
    checked = check(text, (), citations, index)
    said = checked.text.strip() or NOTHING
    return Reply("\n\n".join(filter(None, (unjudged, said))), None, len(checked.removed))
