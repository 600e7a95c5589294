"""What a tab has to be sent: the parts that show something else than before."""

from collections.abc import Callable
from typing import Any

import gradio as gr
import pandas as pd

from assistant.app.layout import Parts
from assistant.app.thread import Thread, render_thread
from assistant.app.views.alarms import render_alarm, render_alarms
from assistant.app.views.bar import render_bar
from assistant.app.views.device import make_curves, render_device, render_partners
from assistant.app.views.documents import render_document
from assistant.app.views.plant import render_plant
from assistant.session import Session

Updates = dict[Any, Any]
_SHORT_S = 900.0


class Painter:
    """Turns the state of a tab into updates of its components."""

    def __init__(self, parts: Parts, session: Session, operators: int = 1) -> None:
        """Begin.

        Args:
            parts: of the page.
            session: holds the history and the knowledge base.
            operators: how many share the alarms.
        """
        self._parts, self._session, self._operators = parts, session, operators

    def nothing(self) -> Updates:
        """No change; Gradio does not take an empty dict for one."""
        return {self._parts.bar: gr.skip()}

    def paint(self, thread: Thread) -> Updates:
        """The components that change, with their new values."""
        parts, history, subject = self._parts, self._session.history, thread.subject
        now = (id(subject), *subject.version(history))
        updates = self.nothing()

        def put(part: Any, key: object, make: Callable[[], Any]) -> None:
            """Make a part where what it depends on changed; send it where it came out otherwise."""
            name = part._id
            if thread.shown.get((name, "key")) == key:
                return
            thread.shown[name, "key"] = key
            value = make()
            if thread.shown.get((name, "value")) != value:
                thread.shown[name, "value"] = value
                updates[part] = value

        put(parts.bar, now, lambda: render_bar(subject, history, thread.who))
        listed = (now, thread.chosen, thread.wanted)

        def list_alarms() -> str:
            return render_alarms(subject, history, thread.chosen, thread.wanted, self._operators)

        put(parts.alarms.rows, listed, list_alarms)
        put(parts.alarms.one, listed[:2], lambda: render_alarm(subject, history, thread.chosen))
        put(parts.plant, now, lambda: render_plant(subject, history))
        said = (len(thread.lines), thread.asked, id(thread.conversation), id(subject))
        put(parts.chat.lines, said, lambda: render_thread(thread, history))
        index = self._session.index
        put(parts.setup.passage, thread.cited, lambda: render_document(index, *thread.cited))
        if thread.view == "device":
            self._paint_device(thread, put, updates)
        if thread.shown.get("view") != thread.view:
            thread.shown["view"] = thread.view
            updates[parts.tabs] = gr.Tabs(selected=thread.view)
        return updates

    def _paint_device(
        self,
        thread: Thread,
        put: Callable[[Any, object, Callable[[], Any]], None],
        updates: Updates,
    ) -> None:
        device, subject, history = self._parts.device, thread.subject, self._session.history
        picture = subject.picture()
        analysis = picture.analysis
        if not thread.device and picture.devices:
            thread.device = picture.devices[0].address  # the worst
        now = (id(analysis), thread.device)
        put(device.head, now, lambda: render_device(subject, history, thread.device))
        put(device.foot, now, lambda: render_partners(subject, history, thread.device))
        key = (*now, thread.span)
        if thread.shown.get("curves") == key:
            return
        thread.shown["curves"] = key
        names = [(_title(one.name, one.address), one.address) for one in picture.devices]
        known = any(address == thread.device for _, address in names)
        updates[device.picker] = gr.Dropdown(names, value=thread.device if known else None)
        updates[device.whole] = gr.Button(visible=thread.span is not None)
        if analysis is None:
            return
        zone = subject.plant.time_zone or "UTC"
        curves = make_curves(analysis, thread.device, zone, thread.span)
        for part, table in (
            (device.rates, curves.rates),
            (device.delays, curves.delays),
            (device.troubles, curves.troubles),
        ):
            updates[part] = gr.LinePlot(
                table, visible=has_line(table), x_axis_format=_clock_of(table)
            )


def has_line(table: pd.DataFrame) -> bool:
    """Whether two points that follow each other are there: points alone are not drawn."""
    there = table["value"].notna().groupby(table["kind"])
    return bool((there.shift(1, fill_value=False) & table["value"].notna()).any())


def _clock_of(table: pd.DataFrame) -> str:
    """How moments of a plot are written: marks that lie closer than a minute would say the same
    minute twice."""
    span = table["time"].max() - table["time"].min()
    return "%H:%M" if span >= pd.Timedelta(seconds=_SHORT_S) else "%H:%M:%S"


def _title(name: str, address: str) -> str:
    return name if name == address else f"{name} ({address})"
