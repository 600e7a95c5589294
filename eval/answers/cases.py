"""Cases of an evaluation, read strictly: every mistake of a file is named at once, by its key.

    cases/retrieval-*.yaml    questions, and the places in documents that answer them
    cases/answers-*.yaml      questions about captures, and what a right answer says
    cases/asked-*.yaml        the same as one short line each, as made cases have it

A case is named by a letter and a number, a capture likewise: no name may hint the answer.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from assistant.diagnosis.standing import Standing
from eval.testbed.events.catalogue import KINDS
from eval.testbed.sensor import DEGRADATIONS
from traffic.errors import UserError
from traffic.files import Strict, read_yaml
from traffic.labels import LABELS, NORMAL

NO_CAUSE = "none"
CASES = Path(__file__).parent / "cases"
UNSEEN = (
    Path(__file__).parent / "unseen"
)  # manuals that nothing was tuned on, with questions to them
_MOST_NAMED = 12
_PART = re.compile(r"\{(\w*)\}")

_ORIGINS = ("sample", "data", "file", "simulated", "recorded")

Number = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9]*-)?\d{2,4}$")]
Text = Annotated[str, Field(min_length=1, max_length=300)]
Form = TypeVar("Form")


class Question(Strict):
    """One question to the documents.

    Attributes:
        id: a letter and a number.
        group: what is hard about it; results are shown by group.
        question: as an operator would put it.
        answers: by the beginning of a document's file name, the headings (or ``page 3``) under
            which the answer stands; none where any part of the document will do. No documents:
            nothing answers.
    """

    id: Number
    group: Text
    question: Text
    answers: dict[Text, tuple[Text, ...]]


class QuestionFile(Strict):
    """Questions to the shipped documents, to those of a further folder, or to one of ``UNSEEN``."""

    version: Literal[1]
    documents: Literal["shipped", "further", "unseen"]
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


class Simulated(Strict):
    """A plant that ``traffic.simulation.simulate`` invents; it is handed on as tables, so that no
    file name is read."""

    seed: int
    devices: Annotated[int, Field(ge=1, le=250)]
    hours: Annotated[float, Field(gt=0, le=24)]
    scenarios: tuple[str, ...]

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := [name for name in self.scenarios if name not in LABELS or name == NORMAL]:
            raise ValueError(
                f"scenarios: no scenario is called {', '.join(unknown)}; {_any_of(LABELS[1:])}"
            )
        return self


class Recorded(Strict):
    """A run of the testbed, by the options of ``faultwise testbed record`` that make it again."""

    seed: Annotated[int, Field(ge=0)]
    kind: Text
    minutes: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.kind not in KINDS:
            raise ValueError(f"kind: no event is called {self.kind}; {_any_of(KINDS)}")
        return self


class Source(Strict):
    """Where a capture comes from: exactly one origin; how it is read, and what a sensor made of it."""

    sample: Text | None = Field(None, description="a folder of assistant/samples")
    data: Text | None = Field(None, description="a path below the folder of captures")
    file: Path | None = Field(None, description="a path as it is")
    simulated: Simulated | None = None
    recorded: Recorded | None = None
    plant: Path | None = Field(None, description="its plant.yaml, found as the capture is")
    local: tuple[Text, ...] = ()
    sensor: tuple[Text, ...] = Field((), description="degradations of eval.testbed.sensor")
    folder: str = Field("", description="what its cases are counted with; by default the origin")

    @property
    def group(self) -> str:
        """What its cases are counted with: a folder of captures, an origin, or ``degraded``."""
        if self.sensor:
            return "degraded"
        return self.folder or next(name for name in _ORIGINS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in _ORIGINS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{len(given)} origins are given; expected one of {', '.join(_ORIGINS)}"
            )
        return self


class Case(Strict):
    """One question about a capture, and what a right answer says.

    Attributes:
        id: a letter and a number.
        capture: a key of the file's captures.
        question: as an operator would put it.
        by: the command that is asked: ``ask``, or ``chat``, which also answers from documents.
        devices: addresses or names in the inventory, any of them is right; may be none where all is
            well. In these, and in question, mentions and denies, ``{source}`` and ``{target}``
            stand for the devices that the capture's own truth names, where it has one: so a case
            outlives a change of the simulator.
        causes: labels, any of them is right; ``none`` where too little was seen to name a cause.
        standings: any of them is right.
        mentions: the answer must hold each of these, or one of its alternatives (``a | b``); case
            does not matter.
        denies: the cause must hold none of these.
        refused: the question is none for this assistant, and the right answer says so.
        must: regular expressions, case ignored, that the whole answer matches.
        must_not: those that it does not match.
        error: of the one line that refuses the capture.
    """

    id: Number
    capture: Text
    question: Text
    by: Literal["ask", "chat"] = "ask"
    devices: tuple[Text, ...] = ()
    causes: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()
    mentions: tuple[Text, ...] = ()
    denies: tuple[Text, ...] = ()
    refused: bool = False
    must: tuple[Text, ...] = ()
    must_not: tuple[Text, ...] = ()
    error: str = ""

    @property
    def parts(self) -> frozenset[str]:
        """Which devices of the truth are meant: ``source``, ``target``."""
        texts = (self.question, *self.devices, *self.mentions, *self.denies)
        return frozenset(_PART.findall(" ".join(texts)))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if odd := self.parts - {"source", "target"}:
            raise ValueError(
                f"{{{min(odd)}}} stands for nothing; expected {{source}} or {{target}}"
            )
        if unknown := [label for label in self.causes if label not in (*LABELS, NO_CAUSE)]:
            raise ValueError(
                f"causes: no label is called {', '.join(unknown)}; {_any_of((*LABELS, NO_CAUSE))}"
            )
        expected = [name for name in ("devices", "causes", "standings") if getattr(self, name)]
        if self.refused and expected:
            raise ValueError(f"refused: a refused question has no {', '.join(expected)}")
        # Where all is well the answer may speak of any device.
        needed = {"causes", "standings"}
        if not set(self.causes) <= {NORMAL, NO_CAUSE}:
            needed.add("devices")
        if not self.refused and (missing := sorted(needed - set(expected))):
            raise ValueError(f"{', '.join(missing)}: expected at least one, or refused: true")
        return self


class CaseFile(Strict):
    """Captures by neutral names, and cases about them."""

    version: Literal[1]
    captures: dict[Number, Source]
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _captures_known(self) -> Self:
        unknown = [case for case in self.cases if case.capture not in self.captures]
        if odd := [f"{case.id}.capture: {case.capture}" for case in unknown]:
            raise ValueError(f"{'; '.join(odd)}; {_any_of(self.captures)}")
        blind = [f"{case.id}: {{source}} or {{target}}" for case in self.cases
                 if case.parts and self.captures[case.capture].data]  # fmt: skip
        if blind:
            raise ValueError(
                f"{'; '.join(blind)}; expected addresses, because a capture of data tells no truth"
            )
        return self


class Entry(Strict):
    """One question as a short line; fields as in ``Case``.

    Attributes:
        capture: a path below the folder that the file names, or beside a file that names none.
        ask: the question.
        right: the right answer in words, for who reads the case.
        device: address that the answer is about, or says in its first line.
        cause: labels.
        standing: any of them is right; none where how sure it is does not matter.
        plant: an inventory, found as the capture is.
        local: public networks that are the plant's.
        sensor: what a bad sensor makes of the capture first: names of
            ``eval.testbed.sensor.DEGRADATIONS``.
        facts: what whoever made the capture knows of it, not graded, like ``measured`` and
            ``decode`` (what tshark has to be told).
    """

    capture: Text
    ask: Text
    right: str = ""
    by: Literal["ask", "chat"] = "ask"
    device: str = ""
    cause: tuple[str, ...] = ()
    standing: tuple[Standing, ...] = ()
    must: tuple[Text, ...] = ()
    must_not: tuple[Text, ...] = ()
    refused: bool = False
    error: str = ""
    plant: str = ""
    local: tuple[Text, ...] = ()
    sensor: tuple[Text, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)
    measured: dict[str, Any] = Field(default_factory=dict)
    decode: Any = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for pattern in (*self.must, *self.must_not, self.error):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        if not (
            self.must or self.must_not or self.standing or self.cause or self.error or self.refused
        ):
            raise ValueError(
                "must, must_not, standing, cause, error, refused: expected one at least"
            )
        if unknown := [name for name in self.sensor if name not in DEGRADATIONS]:
            raise ValueError(f"sensor: no {', '.join(unknown)}; {_any_of(DEGRADATIONS)}")
        return self


class EntryFile(Strict):
    """Short lines about captures of one folder below that of all captures."""

    version: Literal[1]
    folder: Text
    cases: Annotated[tuple[Entry, ...], Field(min_length=1)]


def find_cases(beginning: Literal["retrieval", "answers"]) -> tuple[Path, ...]:
    """The shipped files of one kind of cases, by name."""
    patterns = (
        ("answers-*.yaml", "asked-*.yaml") if beginning == "answers" else ("retrieval-*.yaml",)
    )
    return tuple(path for pattern in patterns for path in sorted(CASES.glob(pattern)))


def read_questions(paths: Sequence[Path]) -> tuple[QuestionFile, ...]:
    """Read files of questions.

    Raises:
        UserError: a file is missing or not YAML, a key is wrong or missing (all of a file are
            named), or an id is used twice.
    """
    files = {path: _validate(path, _load(path), QuestionFile) for path in paths}
    _need_distinct([(path, one.id) for path, file in files.items() for one in file.questions])
    return tuple(files.values())


def read_cases(paths: Sequence[Path]) -> tuple[CaseFile, ...]:
    """Read files of cases, long or short; errors as in ``read_questions``."""
    files = {path: _read_case_file(path) for path in paths}
    _need_distinct([(path, one.id) for path, file in files.items() for one in file.cases])
    _need_distinct([(path, name) for path, file in files.items() for name in file.captures])
    return tuple(files.values())


def _read_case_file(path: Path) -> CaseFile:
    content = _load(path)
    if isinstance(content, list):
        entries = _validate(path, content, tuple[Entry, ...])
        return _expand(entries, path.parent.name, path.parent)
    if isinstance(content, dict) and "folder" in content:
        file = _validate(path, content, EntryFile)
        return _expand(file.cases, file.folder, None)
    return _validate(path, content, CaseFile)


def _expand(entries: Sequence[Entry], folder: str, beside: Path | None) -> CaseFile:
    """Short lines in the long form, numbered by their place."""
    captures: dict[str, Source] = {}
    cases = []
    for place, entry in enumerate(entries, start=1):
        where: dict[str, Any] = (
            {"file": beside / entry.capture} if beside else {"data": f"{folder}/{entry.capture}"}
        )
        if entry.plant:
            where["plant"] = (beside or Path(folder)) / entry.plant
        source = Source(**where, local=entry.local, sensor=entry.sensor, folder=folder)
        between = ": " if beside else "/"
        name = " ".join(
            [f"{folder}{between}{entry.capture}", *entry.sensor, *entry.local, entry.plant]
        )
        captures[name.strip()] = source
        prefix = re.sub("[^a-z0-9]", "", folder.lower()) + ("" if beside else "x")
        prefix += "degraded" if entry.sensor else ""
        case = Case.model_construct(  # checked as an entry, which needs less
            id=f"{prefix}-{place:03}", capture=name.strip(), question=entry.ask, by=entry.by,
            devices=(entry.device,) if entry.device else (), causes=entry.cause,
            standings=entry.standing, must=entry.must, must_not=entry.must_not, refused=entry.refused,
            error=entry.error,
        )  # fmt: skip
        cases.append(case)
    return CaseFile.model_construct(version=1, captures=captures, cases=tuple(cases))


def _load(path: Path) -> object:
    return read_yaml(path, object, "a file of cases")


def _validate(path: Path, content: Any, form: type[Form]) -> Form:
    try:
        return TypeAdapter(form).validate_python(content)
    except ValidationError as error:
        # A list that lost its wrong items is no shorter than it was.
        mistakes = error.errors(include_url=False, include_input=False)
        mistakes = [one for one in mistakes if one["type"] != "too_short" or len(mistakes) == 1]
        problems = [_problem(one, content) for one in mistakes]
        more = len(problems) - _MOST_NAMED
        named = "; ".join(problems[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise UserError(
            f"{path} has {len(problems)} {'mistake' if len(problems) == 1 else 'mistakes'}: "
            f"{named}; expected the form that eval/answers/cases.py describes; correct the keys"
        ) from error


def _problem(error: Any, content: Any) -> str:
    """A mistake by its key, the case by its id where it has one: `say_mistakes` would count cases."""
    where, value = [], content
    for key in error["loc"]:
        found = isinstance(value, list) or (isinstance(value, dict) and key in value)
        value = value[key] if found else None
        named = value.get("id") if isinstance(key, int) and isinstance(value, dict) else None
        where.append(str(named or key))
    message = error["msg"].removeprefix("Value error, ")
    message = "no such key" if error["type"] == "extra_forbidden" else message
    return f"{'.'.join(where) or 'file'}: {message}"


def _need_distinct(names: list[tuple[Path, str]]) -> None:
    first: dict[str, Path] = {}
    for path, name in names:
        if name in first:
            raise UserError(
                f"{path} uses {name} again, as {first[name]} did; expected names once; rename one"
            )
        first[name] = path


def _any_of(names: Any) -> str:
    return f"expected some of {', '.join(names)}"
