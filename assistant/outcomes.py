"""What people said an incident was, as past incidents of the knowledge base that answer later.

The history is the truth: a past incident stands in the knowledge base as long as the newest
judgement of it that nobody took back is a confirmation or names another cause. ``keep_outcomes``
brings the knowledge base there from wherever it is, so that a process killed between the two, or
another one that took a judgement back, costs nothing but the next call.

judgement ─▶ history ─▶ keep_outcomes ─▶ incidents/confirmed/ID.md ─▶ knowledge base
"""

import re
import threading
from datetime import UTC, datetime
from pathlib import Path

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis
from assistant.facts.fact import Value, kind_of
from assistant.history import History, Judged
from knowledge_base.formats import PastIncident, render_incident
from knowledge_base.index import Index
from knowledge_base.manifest import Entry
from traffic.files import Strict, file_hash, write_text
from traffic.labels import TAXONOMY

FOLDER = ("incidents", "confirmed")  # below the home folder
_MOST_FACTS = 6
_NO_NUMBER = re.compile(r"_(?:time_s|s|per_s|bytes|share)$")  # how much, not whether
_AT_PORT = re.compile(r"(?:^|[\w\])]):(\d{1,5})$| port (\d{1,5})$")
_COUNTED = re.compile(r"\b\d+ (?=[A-Z])")  # "299 SERVFAIL (server failure)"
# What a person says he did, after what it was: "loose plug, fixed by a new connector".
_FIX = re.compile(
    r"[\s,;.(]*\b(?:(?:and )?(?:fixed|solved|mended|cured|repaired|remedied) (?:by|with)|fix:|remedy:"
    r"|behoben durch|gelöst durch|abhilfe:|lösung:|(?:arreglado|solucionado|reparado) con|solución:)\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_NO_FIX = "Not recorded."
_CHANGING = threading.Lock()


class Measured(Strict):
    """What is kept of an incident, beside what the history knows of it.

    Attributes:
        device: as an operator calls it.
        role: of the device, "" where nobody said.
        direction: ``source``, ``target``, or "" for both.
        symptoms: the facts, in sentences.
        signs: as ``knowledge_base.likeness`` has them.
    """

    device: str
    role: str = ""
    direction: str = ""
    symptoms: str
    signs: tuple[str, ...]


def make_signs(incident: Incident, analysis: Analysis) -> tuple[str, ...]:
    """The signs of an incident, sorted: what was measured, without addresses, names and times.

    Args:
        incident: with its facts.
        analysis: knows what the device is.
    """
    signs = {f"label={incident.label}/{incident.role}"}
    for fact in incident.facts:
        kind = kind_of(fact)
        if kind == "related":
            continue  # who else is concerned is no property of the fault
        signs.add(f"kind={kind}")
        for name, value in fact.values.items():
            signs |= _read_sign(kind, name, value)
    known = analysis.plant.devices if analysis.plant else ()
    for one in known:
        if one.address == incident.device:
            said = (("role", one.role), ("model", one.model))
            signs |= {f"{name}={text.lower()}" for name, text in said if text}
    return tuple(sorted(signs))


def _read_sign(kind: str, name: str, value: Value) -> set[str]:
    if not isinstance(value, str):
        counts = value > 0 and not _NO_NUMBER.search(name)
        return {f"positive={kind}.{name}"} if counts else set()
    if name in ("code", "codes"):
        return {f"code={_COUNTED.sub('', value).lower()}"}
    port = _AT_PORT.search(value)
    return {f"port={port[1] or port[2]}"} if port else set()


def keep_measured(incident: Incident, analysis: Analysis, history: History) -> None:
    """Keep what was measured of an incident that the history knows, before somebody judges it."""
    known = analysis.plant.devices if analysis.plant else ()
    device = next((one for one in known if one.address == incident.device), None)
    measured = Measured(
        device=device.name if device else incident.device,
        role=device.role if device else "",
        direction=incident.role if incident.role != "both" else "",
        symptoms=" ".join(fact.text for fact in incident.facts[:_MOST_FACTS]),
        signs=make_signs(incident, analysis),
    )
    history.keep_measured(incident.id, measured.model_dump_json())


def outcome_id(incident: str) -> str:
    """The id of the past incident that an incident becomes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", incident).strip("-._")[:41]


def make_outcome(judged: Judged) -> PastIncident | None:
    """The past incident of a judgement; None where it was a false alarm, or another cause that
    nobody named."""
    record, remark = judged.incident, judged.remark
    if remark.act == "false_alarm" or not (remark.act == "confirm" or remark.label or remark.why):
        return None
    measured = Measured.model_validate_json(judged.measured)
    label = remark.label or (record.label if remark.act == "confirm" else "")
    why = " ".join(remark.why.split())
    fix = _FIX.search(why)
    cause = (why[: fix.start()] if fix else why).strip(" ,.;")
    meant = TAXONOMY[label].meaning if label else ""
    same = cause.lower().replace("_", " ") in ("", label.replace("_", " "))
    words = meant if same else f"{cause} ({meant})" if meant else cause
    start, end = (datetime.fromtimestamp(at_s, UTC) for at_s in (record.start_s, record.end_s))
    said = datetime.fromtimestamp(remark.at_s, UTC)
    span = f"From {start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC."
    title = f"{record.label.replace('_', ' ')} at {measured.device}"
    return PastIncident(
        id=outcome_id(record.id),
        title=title,
        date=start.date(),
        devices={measured.device: measured.role},
        label=label,
        direction=measured.direction if label else "",  # type: ignore[arg-type]
        first_guess=record.label if remark.act == "wrong" and label != record.label else "",
        symptoms=f"{measured.symptoms} {span}",
        cause=f"{words[:1].upper()}{words[1:]}.",
        fix=fix[1].strip(" .") + "." if fix else _NO_FIX,
        who=f"{' '.join(remark.who.split())} on {said:%Y-%m-%d}",
        signs=measured.signs,
    )


def keep_outcomes(history: History | None, index: Index | None) -> None:
    """Bring the past incidents of the knowledge base to what the history says of them.

    Does nothing where the two are not of one home folder, or where the vectors are of another
    sentence model: after a rebuild the next call does it.

    Raises:
        UserError: the files or the index cannot be written.
    """
    if history is None or index is None or not index.comparable:
        return
    home = index.folder.parent
    if history.file.path.resolve().parent != home:
        return
    with _CHANGING:
        version = history.version()
        if index.memo.get("outcomes") == version:
            return
        _write_outcomes(history, index, home.joinpath(*FOLDER))
        index.memo["outcomes"] = version


def _write_outcomes(history: History, index: Index, folder: Path) -> None:
    made = [one for judged in history.judged() if (one := make_outcome(judged))]
    wanted = {folder / f"{one.id.lower()}.md": render_incident(one) for one in made}
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    kept = {Path(one.path).name: one for one in index.list() if _is_outcome(one)}
    fresh = [
        path
        for path in wanted
        if path.name not in kept or kept[path.name].sha256 != file_hash(path)
    ]
    if fresh:
        index.add(fresh)
    names = {path.name for path in wanted}
    for name, entry in kept.items():
        if name not in names:
            index.remove(entry.id)
    for path in folder.glob("*.md"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _is_outcome(entry: Entry) -> bool:
    """Whether a document was written here; the home folder may have been moved since."""
    return not entry.example and Path(entry.path).parent.parts[-len(FOLDER) :] == FOLDER
