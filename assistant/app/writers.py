"""Who wrote to whom, and who may: an engineer confirms writers, and plant.yaml keeps them.

requests of the capture ─▶ who wrote ─▶ form ─▶ plant.yaml, changed in place ─▶ judged anew
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.app.paint import Updates
from assistant.app.subject import Subject
from assistant.app.thread import Thread
from assistant.app.views.markup import render, safe
from assistant.audit import append_audit
from assistant.history import History
from traffic.errors import UserError
from traffic.files import read_text, write_text
from traffic.plant import parse_plant
from traffic.plant_edit import allow_writers

if TYPE_CHECKING:
    from assistant.app.page import Wiring

_CHANGING: dict[str, Any] = {
    "show_progress": "hidden", "api_visibility": "private", "concurrency_id": "desk",
    "concurrency_limit": 1,
}  # fmt: skip
_BETWEEN = " > "  # no address holds it


@dataclass(frozen=True)
class Writer:
    """Who wrote to a device, and whether plant.yaml allows it.

    Attributes:
        client, server: their addresses.
        writes: how many commands that write.
        since_s: the first of them, seconds since the epoch.
        standing: ``allowed``, ``not allowed``, ``nobody is named`` for the device, or ``unknown``
            where plant.yaml does not name the device.
    """

    client: str
    server: str
    writes: int
    since_s: float
    standing: str


def find_writers(subject: Subject) -> list[Writer]:
    """Who wrote to whom in what was seen, by device."""
    analysis, plant = subject.analysis, subject.plant
    if analysis is None:
        return []
    known = {one.address for one in plant.devices}
    each = analysis.view.writes.groupby(["server", "client"], sort=True)
    rows = each.agg(writes=("count", "sum"), since_s=("since_s", "min")).reset_index()

    def stand(client: str, server: str) -> str:
        if server not in known:
            return "unknown"
        allowed = plant.allowed_writers.get(server)
        return (
            "nobody is named"
            if allowed is None
            else ("allowed" if client in allowed else "not allowed")
        )

    return [
        Writer(client, server, int(row.writes), float(row.since_s), stand(client, server))
        for row in rows.itertuples()
        for client, server in [(str(row.client), str(row.server))]
    ]


def confirm_writers(
    subject: Subject, path: Path | None, chosen: Sequence[str], who: str, history: History
) -> str:
    """Write to plant.yaml that writers are allowed, and judge by it; says what was done.

    Args:
        subject: what is shown; it is judged anew.
        path: of plant.yaml; None where the server was started without one.
        chosen: "client > server", addresses.
        who: the engineer.
        history: holds the audit log.
    Raises:
        UserError: nothing is chosen or none of it was seen, or plant.yaml cannot be changed.
    """
    if path is None:
        raise UserError(
            "no plant.yaml is in use; expected one that can be changed; start the server with --plant"
        )
    pairs = [
        one for one in find_writers(subject) if f"{one.client}{_BETWEEN}{one.server}" in chosen
    ]
    if not pairs:
        raise UserError("no writer is chosen; expected one or more that were seen; tick them")
    text = read_text(path, "a plant.yaml")
    names = {one.address: one.name for one in parse_plant(text, path.name).devices}
    allowed: dict[str, list[str]] = {}
    for one in pairs:
        allowed.setdefault(one.server, []).append(names.get(one.client, one.client))
    changed = allow_writers(text, path.name, allowed)
    plant = parse_plant(changed, path.name)
    try:
        write_text(path, changed)
    except OSError as error:
        raise UserError(
            f"{path.name} cannot be written ({error.strerror}); expected a file that the server may change; "
            "check its rights"
        ) from error
    with history.change() as connection:
        for server, clients in allowed.items():
            append_audit(connection, who, "allow_writers", server, time.time(), writers=clients)
    subject.use_plant(plant)
    devices = ", ".join(names[one] for one in allowed)
    return f"{path.name} names the writers of {devices}: whoever else writes there is an incident."


def wire_writers(wiring: "Wiring") -> None:
    """Connect the form."""
    setup, session = wiring.parts.setup, wiring.session
    path, history = session.settings.plant, session.history

    def show(thread: Thread | None, said: str | None = None) -> Updates:
        subject = thread.subject if thread else wiring.subject
        rows, names = find_writers(subject), subject.plant.name_of
        choices = [
            (f"{names(one.client)} → {names(one.server)}", f"{one.client}{_BETWEEN}{one.server}")
            for one in rows
            if one.standing in ("nobody is named", "not allowed")
        ]
        clock = subject.clock(history)
        shown = render("writers.html.jinja", rows=rows, names=names, clock=clock, path=path)
        updates: Updates = {
            setup.written: shown,
            setup.writers: gr.CheckboxGroup(choices, value=[], visible=bool(choices)),
            setup.allow: gr.Button(visible=bool(choices)),
        }
        return updates if said is None else updates | {setup.said: said}

    def allow(thread: Thread | None, chosen: list[str] | None) -> Updates:
        if thread is None:
            return show(None)
        try:
            text = confirm_writers(thread.subject, path, chosen or [], thread.who, history)
        except UserError as mistake:
            text = f"That did not work: {mistake}"
        return show(thread, f'<p class="said" role="status">{safe(text)}</p>')

    listing = [setup.written, setup.writers, setup.allow]
    wiring.parts.views["setup"].select(show, wiring.state, listing, **_CHANGING)
    setup.allow.click(
        wiring.for_engineers("allow writers", allow),
        [wiring.state, setup.writers],
        [*listing, setup.said],
        **_CHANGING,
    )
