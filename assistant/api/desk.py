"""What every door offers, once: REST, MCP and the metrics call these functions and no others.

All results are what JSON can say, in the contracts of the command line; lists come in pages.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from assistant.answers.answer import answer
from assistant.answers.incidents.condition import judge_all
from assistant.chat.feedback import keep, keep_incident, read_remark
from assistant.detection.incidents import worst_first
from assistant.detection.pipeline import Analysis
from assistant.diagnosis.device_states import list_devices
from assistant.diagnosis.llm_writer import write
from assistant.history import History
from assistant.locate import FailedCommand, locate
from assistant.locate.around import Scene
from assistant.monitor.alarm_list import (
    Alarm,
    Standing,
    Tier,
    find_standing,
    list_alarms,
    read_meter,
)
from assistant.outcomes import keep_outcomes
from assistant.report import passages_json, plain
from assistant.session import Session
from knowledge_base.retriever import search
from traffic.errors import UserError

Json = dict[str, Any]
QUESTION_CHARS = 2000
MOST_COMMANDS = 200
MOST_ROWS, MOST_PASSAGES = 200, 20
LIVE = "live"  # the id of the plant that is watched
_KEPT = 4  # captures that are open at once
_MOST_SHELVED_H = 90 * 24.0


@dataclass(frozen=True)
class Opened:
    """A capture that can be asked about."""

    id: str
    name: str
    analysis: Analysis


class Desk:
    """The session of one process with the captures that are open. Models and the knowledge base
    serve one question at a time."""

    def __init__(
        self,
        session: Session,
        live: Callable[[], Analysis | None] | None = None,
        name: str = "live",
    ) -> None:
        """Begin without a capture.

        Args:
            session: models, knowledge base and history.
            live: the recent past of a plant that is watched, None while nothing of it was judged.
            name: of that plant.
        """
        self.session, self._live, self._name = session, live, name
        self._lock = threading.RLock()
        self._open: OrderedDict[str, Opened] = OrderedDict()
        self._number = 0

    @property
    def history(self) -> History:
        """Alarms, states of incidents, answers, and the audit log."""
        return self.session.history

    # ---- Captures ----

    def open(self, path: Path, name: str = "") -> Opened:
        """Read and judge a capture; the one that was not asked about for longest is closed.

        Raises:
            UserError: it cannot be read, or holds no capture.
        """
        with self._lock:
            return self.add(_call(self.session.analyse(path), path.name, name), name or path.name)

    def add(self, analysis: Analysis, name: str) -> Opened:
        """Put a capture that was judged elsewhere beside the others."""
        with self._lock:
            self._number += 1
            opened = Opened(f"c{self._number}", name, analysis)
            self._open[opened.id] = opened
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
            return opened

    def close_capture(self, capture: str) -> Json:
        """Forget a capture."""
        with self._lock:
            return {"closed": self._open.pop(self.find(capture).id).id}

    def captures(self) -> Json:
        """The captures that are open, the newest last, and the live plant before them."""
        with self._lock:
            live = self._find_live()
            rows = [*([live] if live else []), *self._open.values()]
            return _page([describe(one) for one in rows], 0, MOST_ROWS)

    def _find_live(self) -> Opened | None:
        analysis = self._live() if self._live else None
        return Opened(LIVE, self._name, analysis) if analysis is not None else None

    def find(self, capture: str = "") -> Opened:
        """An open capture; where none is named the live plant, else the newest.

        Raises:
            UserError: none is open, or none of this id.
        """
        live = self._find_live() if capture in ("", LIVE) else None
        if live is not None:
            return live
        with self._lock:
            if capture and capture in self._open:
                self._open.move_to_end(capture)
                return self._open[capture]
            if not capture and self._open:
                return next(reversed(self._open.values()))
        live = self._find_live()
        known = ", ".join([*([live.id] if live else []), *self._open]) or "none is open"
        raise UserError(
            f"no capture {capture[:40]!r} is open; expected one of: {known}; "
            "POST one to /api/v1/captures, or start with --capture"
        )

    # ---- Questions ----

    def ask(self, question: str, capture: str = "", device: str = "") -> Json:
        """A Diagnosis, as `ask --format json` gives it.

        Raises:
            UserError: nothing was asked, or too much.
        """
        _check_question(question)
        analysis = self.find(capture).analysis
        with self._lock:
            composed = answer(question, analysis, self.session.index, device or None, self.history)
            diagnosis = write(composed, self.session.models.writer, analysis.plant)
        self.history.add_answer(question, diagnosis.to_dict())
        return plain(diagnosis.to_dict() | {"text": diagnosis.text})

    def incidents(self, capture: str = "", offset: int = 0, limit: int = 50) -> Json:
        """Incidents of a capture, the worst first, and in a line what was judged beside them."""
        analysis = self.find(capture).analysis
        rows = [plain(one) for one in worst_first(list(analysis.incidents))]
        return _page(rows, offset, limit) | {"judged": judge_all(analysis).line.text}

    def devices(self, capture: str = "", offset: int = 0, limit: int = 50) -> Json:
        """Devices of a capture with how they are doing, the worst first."""
        found = list_devices(self.find(capture).analysis)
        return _page([plain(one) for one in found], offset, limit)

    def sensor(self, capture: str = "") -> Json:
        """What the sensor of a capture could not see, and alarms about the sensor that go on."""
        going = [one for one in list_alarms(self.history) if one.label == "sensor"]
        going = [one for one in going if one.returned_s is None]
        alarms = [{"about": one.device, "text": one.content.text} for one in going]
        if not capture and not self._open and self._find_live() is None:
            return {"capture": None, "notes": [], "alarms": alarms}
        opened = self.find(capture)
        quality = opened.analysis.capture.quality
        whole = {str(name): _number(value) for name, value in quality.whole.items()}
        notes = list(opened.analysis.capture.notes)
        return {"capture": opened.id, "notes": notes, "counts": whole, "alarms": alarms}

    def search_documents(self, question: str, count: int = 5) -> Json:
        """Passages, as `kb search --format json` gives them."""
        _check_question(question)
        with self._lock:
            found = search(self.session.index, question, k=max(1, min(count, MOST_PASSAGES)))
        return {"items": plain(passages_json(found)), "total": len(found)}

    def locate(
        self, commands: Sequence[FailedCommand], capture: str = "", manuals: bool = True
    ) -> Json:
        """Of failed commands whose fault each was, as `locate --format json` gives it."""
        if not 1 <= len(commands) <= MOST_COMMANDS:
            raise UserError(
                f"{len(commands):,} commands at once; expected 1 to {MOST_COMMANDS}; send them in parts"
            )
        analysis = self.find(capture).analysis
        scene = Scene(analysis.capture, analysis.view)
        with self._lock:
            index = self.session.index if manuals else None
            found = [plain(locate(one, scene, index)) for one in commands]
        return _page(found, 0, MOST_COMMANDS)

    # ---- Alarms ----

    def alarms(
        self, tier: Tier = "notification", hours: float = 24.0, offset: int = 0, limit: int = 50
    ) -> Json:
        """Alarms with their states, those that go on first, and how many there are."""
        found = list_alarms(self.history, tier=tier)
        # By the traffic's clock: a replay's alarms are of its own time.
        now_s = max([one.returned_s or one.incident_end_s for one in found], default=time.time())
        kept = [one for one in found if (one.returned_s or now_s) >= now_s - hours * 3600]
        page = _page(kept, offset, limit)
        page["items"] = [alarm_json(one, self.standing(one)) for one in page["items"]]
        return page | {"meter": plain(read_meter(self.history, now_s))}

    def standing(self, alarm: Alarm) -> Standing:
        """The state of an alarm now."""
        return find_standing(alarm, self.history, time.time())

    def acknowledge(self, incident: str, who: str, why: str = "") -> Json:
        """Take an alarm."""
        self.history.set_state(incident, "acknowledged", who, why[:500], act="acknowledge")
        return self._state(incident)

    def shelve(self, incident: str, who: str, why: str, hours: float) -> Json:
        """Hide an alarm for a time, with a reason."""
        if not 0 < hours <= _MOST_SHELVED_H:
            raise UserError(
                f"shelved for {hours:g} h; expected more than 0 and at most {_MOST_SHELVED_H:g}"
            )
        until_s = time.time() + hours * 3600
        self.history.set_state(incident, "shelved", who, why[:500], until_s, act="shelve")
        return self._state(incident)

    def undo(self, incident: str, who: str) -> Json:
        """Take back what was declared of an alarm last."""
        self.history.check_incident(incident)
        undone = self.history.undo(incident, who)
        with self._lock:
            keep_outcomes(self.history, self.session.index)
        return self._state(incident) | {"undone": plain(undone) if undone else None}

    def _state(self, incident: str) -> Json:
        return {"incident": incident, "state": plain(self.history.state(incident))}

    def feedback(self, incident: str, text: str, who: str, capture: str = "") -> Json:
        """Keep a remark on an incident of a capture, in a person's words: "false alarm because of
        a test", "confirmed", "it was a scan"."""
        _check_question(text)
        analysis = self.find(capture).analysis
        found = next((one for one in analysis.incidents if one.id == incident), None)
        if found is None:
            raise UserError(
                f"no incident {incident[:60]!r} in this capture; expected an id that /incidents lists"
            )
        with self._lock:
            index = self.session.index
            diagnosis = answer("why?", analysis, index, found.device, self.history)
            keep_incident(found, diagnosis.cause, self.history)
            remark = read_remark(text)
            said = keep(remark, diagnosis, found, self.history, who, analysis=analysis, index=index)
        return {"incident": incident, "text": said}


def describe(opened: Opened) -> Json:
    """An open capture in short."""
    analysis = opened.analysis
    return {
        "id": opened.id,
        "name": opened.name,
        "start_s": _number(analysis.capture.start_s),
        "end_s": _number(analysis.capture.end_s),
        "devices": int(analysis.samples["device"].nunique()),
        "incidents": len(analysis.incidents),
        "notes": list(analysis.capture.notes),
    }


def alarm_json(alarm: Alarm, standing: Standing) -> Json:
    """An alarm with its state, as `alarms list --format json` gives it."""
    return plain(asdict(alarm) | {"state": asdict(standing)})


def _call(analysis: Analysis, file: str, name: str) -> Analysis:
    """An analysis whose notes call its file by the name that people gave it."""
    notes = tuple(note.replace(file, name or file) for note in analysis.capture.notes)
    return replace(analysis, capture=replace(analysis.capture, notes=notes))


def _check_question(text: str) -> None:
    if not text.strip() or len(text) > QUESTION_CHARS:
        raise UserError(
            f"the text has {len(text):,} characters; expected 1 to {QUESTION_CHARS:,}; "
            + ("say it shorter" if text.strip() else "say what you want to know")
        )


def _page(rows: list[Any], offset: int, limit: int) -> Json:
    offset, limit = max(offset, 0), max(1, min(limit, MOST_ROWS))
    shown, after = rows[offset : offset + limit], offset + limit
    return {"items": shown, "total": len(rows), "next": after if after < len(rows) else None}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(float(value)) else None
