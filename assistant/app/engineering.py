"""The view of engineers: captures and plant.yaml opened, documents, names of devices, models.

What an operator may not see he may not call either: each function asks who calls it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.app.paint import Updates
from assistant.app.subject import Subject
from assistant.app.thread import Thread, begin_thread
from assistant.app.views.documents import (
    add_documents,
    check_documents,
    remove_document,
    render_documents,
    render_found,
)
from assistant.app.views.markup import render, safe
from assistant.app.writers import wire_writers
from assistant.detection.pipeline import analyse_verdicts
from assistant.registry import describe_all, list_registered, use
from traffic.discovery import draft_plant, render_draft
from traffic.errors import UserError
from traffic.plant import load_plant

if TYPE_CHECKING:
    from assistant.app.page import Wiring

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# One capture is read at a time, beside the questions that are answered.
_READING: dict[str, Any] = {**_QUIET, "concurrency_id": "capture", "concurrency_limit": 1}
_CHANGING: dict[str, Any] = {**_QUIET, "concurrency_id": "desk", "concurrency_limit": 1}
_STEP_S = 0.3


class _CancelledError(Exception):
    """The work was given up."""


@dataclass
class Work:
    """Something long that runs in a thread of its own, and says how far it is.

    Attributes:
        run: gets a function to call with (done, in all); its result is kept.
    """

    run: Callable[[Callable[[int, int], None]], Any]
    share: float = 0.0
    result: Any = None
    error: Exception | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        try:
            self.result = self.run(self._tell)
        except Exception as error:  # noqa: BLE001 - `_say_end` shows or raises it
            self.error = error
        finally:
            self.done.set()

    def _tell(self, done: int, of: int) -> None:
        self.share = done / max(of, 1)
        if self.stop.is_set():
            raise _CancelledError


def wire_setup(wiring: "Wiring") -> None:
    """Connect the view of engineers."""
    _wire_captures(wiring)
    _wire_plant_file(wiring)
    _wire_documents(wiring)
    _wire_plant(wiring)
    wire_writers(wiring)
    _wire_adapters(wiring)


def _list_opened(wiring: "Wiring") -> list[Any]:
    """What changes when another capture or inventory is opened."""
    setup = wiring.parts.setup
    return [*wiring.painted, setup.said, setup.cancel, setup.back]


def _wire_captures(wiring: "Wiring") -> None:
    setup, state, session = wiring.parts.setup, wiring.state, wiring.session
    opened = _list_opened(wiring)

    def open_capture(thread: Thread, upload: str) -> Iterator[Updates]:
        path = Path(upload)
        work = Work(lambda tell: session.analyse(path, tell))
        yield from _wait(thread, work, f"Reading {path.name}", setup)
        path.unlink(missing_ok=True)  # traffic stays on the machine no longer than it is needed
        if work.result is not None:
            _turn_to(thread, Subject(path.name, work.result), session)
        with thread.lock:
            said = _say_end(work, path, f"{path.name} is open.")
            updates = wiring.painter.paint(thread) | {
                setup.said: said,
                setup.cancel: gr.Button(visible=False),
                setup.back: gr.Button(visible=thread.subject is not wiring.subject),
            }
        yield updates  # with the lock free: a browser may never fetch it

    def go_back(thread: Thread | None) -> Updates:
        if thread is None:
            return wiring.painter.nothing()
        _turn_to(thread, wiring.subject, session)
        with thread.lock:
            updates = wiring.painter.paint(thread)
        return updates | {setup.back: gr.Button(visible=False), setup.said: ""}

    def cancel(thread: Thread) -> Updates:
        if thread.work is not None:
            thread.work.stop.set()
        return {setup.said: _line("Cancelled."), setup.cancel: gr.Button(visible=False)}

    only = wiring.for_engineers
    setup.capture.upload(
        only("open a capture", open_capture), [state, setup.capture], opened, **_READING
    )
    ending = [setup.said, setup.cancel]
    setup.cancel.click(only("cancel", cancel), state, ending, queue=False, **_QUIET)
    setup.back.click(only("close a capture", go_back), state, opened, **_QUIET)


def _wire_plant_file(wiring: "Wiring") -> None:
    setup, session = wiring.parts.setup, wiring.session

    def use_plant(thread: Thread, upload: str) -> Iterator[Updates]:
        path = Path(upload)
        analysis = thread.subject.analysis

        def read(_: Callable[[int, int], None]) -> Any:
            plant = load_plant(path)
            if thread.subject.live or analysis is None:
                raise UserError(
                    "A plant that is watched live takes its inventory when it starts: --plant plant.yaml."
                )
            return analyse_verdicts(analysis.capture, plant, analysis.windows, analysis.verdicts)

        work = Work(read)
        yield from _wait(thread, work, f"Reading {path.name}", setup)
        if work.result is not None:
            _turn_to(thread, Subject(thread.subject.name, work.result), session)
        with thread.lock:
            said = _say_end(work, path, f"{path.name} is used for this capture.")
            updates = wiring.painter.paint(thread) | {
                setup.said: said,
                setup.cancel: gr.Button(visible=False),
            }
        yield updates

    setup.plant_file.upload(
        wiring.for_engineers("use a plant.yaml", use_plant),
        [wiring.state, setup.plant_file],
        _list_opened(wiring),
        **_READING,
    )


def _wait(thread: Thread, work: Work, doing: str, setup: Any) -> Iterator[Updates]:
    """Say how far work is until it is done, or given up."""
    thread.work = work
    work.start()
    shown = ""
    while not work.done.wait(_STEP_S) and not work.stop.is_set():
        text = f"{doing}… {work.share:.0%}" if work.share else f"{doing}…"
        if text != shown:
            shown = text
            yield {setup.said: _line(text), setup.cancel: gr.Button(visible=True)}


def _say_end(work: Work, path: Path, done: str) -> str:
    """What became of work with an upload, without the place where it lay."""
    if work.stop.is_set():
        return _line(f"Cancelled: {path.name} was not opened.")
    if isinstance(work.error, UserError):
        return _line(str(work.error).replace(str(path), path.name), "That did not work: ")
    if work.error is not None:
        raise work.error
    return _line(done)


def _line(text: str, before: str = "") -> str:
    return f'<p class="said" role="status">{safe(before + text)}</p>'


def _turn_to(thread: Thread, subject: Subject, session: Any) -> None:
    """Let a tab show something else, with a conversation of its own."""
    with thread.lock:
        fresh = begin_thread(session, subject, thread.who, named=False)
        thread.subject, thread.conversation, thread.lines = subject, fresh.conversation, []
        thread.chosen, thread.device, thread.span = "", "", None


def _wire_documents(wiring: "Wiring") -> None:
    setup, session = wiring.parts.setup, wiring.session
    index = session.index
    listing = [setup.listed, setup.document, setup.said]

    def show(said: str = "") -> Updates:
        names = [(f"{one.title} ({one.kind})", one.id) for one in index.list()]
        return {
            setup.listed: render_documents(index),
            setup.document: gr.Dropdown(names, value=None),
            setup.said: said,
        }

    def trying(act: Callable[..., str]) -> Callable[..., Updates]:
        def run(*inputs: Any) -> Updates:
            try:
                return show(_line(act(*inputs)))
            except UserError as mistake:
                return show(_line(str(mistake), "That did not work: "))

        return run

    def add(uploads: list[str] | str, about: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008 - Gradio's way
        paths = [Path(one) for one in ([uploads] if isinstance(uploads, str) else uploads)]
        return add_documents(
            index, paths, about, lambda done, of: progress(done / max(of, 1), "indexing")
        )

    wiring.parts.views["setup"].select(show, None, listing, **_CHANGING)
    adding = {**_CHANGING, "show_progress": "full"}
    only = wiring.for_engineers
    setup.add.upload(
        only("add documents", trying(add)), [setup.add, setup.about], listing, **adding
    )
    remove = trying(lambda one: remove_document(index, one or ""))
    setup.remove.click(only("remove a document", remove), setup.document, listing, **_CHANGING)
    check = trying(lambda: check_documents(index))
    setup.check.click(only("check documents", check), None, listing, **_CHANGING)
    searching = [setup.find.click, setup.question.submit]
    gr.on(
        searching, lambda text: render_found(index, text), setup.question, setup.found, **_CHANGING
    )


def _wire_plant(wiring: "Wiring") -> None:
    setup = wiring.parts.setup

    def propose(thread: Thread) -> Updates:
        analysis = thread.subject.analysis
        if analysis is None:
            return {
                setup.drafted: gr.Code("# Nothing was seen yet.\n", visible=True),
                setup.draft: gr.DownloadButton(visible=False),
            }
        text = render_draft(draft_plant(analysis.capture), analysis.capture.identities)
        path = Path(setup.draft.GRADIO_CACHE) / f"plant-{time.time_ns()}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return {
            setup.drafted: gr.Code(text, visible=True),
            setup.draft: gr.DownloadButton(value=path, visible=True),
        }

    setup.discover.click(
        wiring.for_engineers("propose a plant.yaml", propose),
        wiring.state,
        [setup.drafted, setup.draft],
        **_READING,
    )


def _wire_adapters(wiring: "Wiring") -> None:
    setup, session = wiring.parts.setup, wiring.session

    def show() -> Updates:
        home = session.settings.home
        names = [one.name for one in list_registered(home)]
        return {
            setup.adapters: render(
                "adapters.html.jinja", rows=describe_all(home), card=session.models.card
            ),
            setup.site: gr.Dropdown(names, value=None),
        }

    def choose(name: str | None) -> Updates:
        if not name:
            return {setup.said: _line("Choose a model first.")}
        try:
            use(session.settings.home, *name.split("/", 1))
        except UserError as mistake:
            return {setup.said: _line(str(mistake), "That did not work: ")}
        text = (
            f"{name} is chosen. It classifies from the next start with --site {name.split('/')[0]}."
        )
        return show() | {setup.said: _line(text)}

    wiring.parts.views["setup"].select(show, None, [setup.adapters, setup.site], **_QUIET)
    setup.use.click(
        wiring.for_engineers("choose a model", choose),
        setup.site,
        [setup.adapters, setup.site, setup.said],
        **_CHANGING,
    )
