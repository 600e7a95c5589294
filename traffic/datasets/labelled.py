"""Labelled captures: found in folders, read or simulated as windows with their labels.

A capture is one unit wherever data are split. Every form in which captures and their truth lie in a
folder is one row of ``FORMS``: how its files are told from others, and how they are read.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from traffic.datasets.formats import FORMS, Form, Marked, label_flows
from traffic.datasets.labelling import SHOWN_BY_TROUBLE, label_windows
from traffic.errors import UserError
from traffic.labels import UNKNOWN
from traffic.plant import Plant
from traffic.samples import make_samples
from traffic.simulation.simulate import simulate
from traffic.windows import Windows, make_windows

log = logging.getLogger(__name__)

# Files whose name says nothing, in folders whose name does; Zeek's own folder in IoT-23 says
# nothing either.
_PLAIN_FILES = ("conn.log.labeled", "conn.log", "capture.pcap")
_PLAIN_FOLDERS = ("bro", "zeek")
_CAPTURES = (".pcap", ".pcapng", ".cap")


@dataclass(frozen=True)
class Labelled:
    """The windows of one capture with their truth; windows whose truth is unknown are left out.

    Attributes:
        name: names the capture in a model's card; nothing is ever read from it.
        windows: ``table`` holds ``label`` and ``direction``.
        unknown: how many windows were left out.
        plant: the inventory, where it is known.
    """

    name: str
    windows: Windows
    unknown: int
    plant: Plant | None = None


def find_labelled(folder: Path) -> list[Path]:
    """Every labelled capture below a folder, sorted; those without truth are named in the log.

    Raises:
        UserError: there is none, or two have one name.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in files if _form_of(path)]
    if not found:
        forms = "; ".join(f"{form.name}: {form.files}" for form in FORMS)
        raise UserError(
            f"{folder} holds no labelled capture ({len(files)} files searched); expected any of {forms}; check --data"
        )
    used = {path.parent for path in found}
    pcaps = [path for path in files if path.suffix in _CAPTURES]
    if rest := [str(path) for path in pcaps if path.parent not in used]:
        log.warning("%d captures have no truth and are left out: %s", len(rest), ", ".join(rest))
    names = Counter(map(name_capture, found))
    if twice := [path for path in found if names[name_capture(path)] > 1]:
        raise UserError(
            f"{twice[0]} and {twice[1]} are both called {name_capture(twice[0])}; "
            "expected a name of its own for each capture; rename a folder or a file"
        )
    return found


def load_labelled(path: Path, corrected: bool = True) -> Labelled:
    """Read a labelled capture.

    Args:
        path: one of those that ``find_labelled`` finds.
        corrected: apply ``traffic/corrections``; otherwise published labels count as published.

    Raises:
        UserError: it has no truth beside it, or it or its truth cannot be read.
    """
    return _label(name_capture(path), load_marked(path), corrected)


def load_marked(path: Path) -> Marked:
    """Read a labelled capture's flows and its truth, without windows.

    Raises:
        UserError: as `load_labelled`.
    """
    form = _form_of(path)
    if form is None:
        forms = "; ".join(f"{form.name}: {form.files}" for form in FORMS)
        raise UserError(
            f"{path} has no truth that is known; expected any of {forms}; write its intervals in a CSV"
        )
    return form.load(path)


def name_capture(path: Path) -> str:
    """The name of a capture: its file's, or its folder's where all files of its form have one name.

    >>> name_capture(Path("iot23/34-1/conn.log.labeled")), name_capture(Path("plant/line3.pcap"))
    ('34-1', 'line3')
    """
    if path.name not in _PLAIN_FILES:
        return path.stem
    return path.parent.parent.name if path.parent.name in _PLAIN_FOLDERS else path.parent.name


def simulate_labelled(
    seed: int,
    devices: int,
    hours: float,
    scenarios: Sequence[str] | None = None,
    flavour: str | None = None,
    view: str | None = None,
) -> Labelled:
    """A simulated plant's windows, by the arguments of ``simulate``; each seed is a capture."""
    made = simulate(seed, devices, hours, scenarios, flavour=flavour, view=view)
    # Flows carry the labels of attacks; the interval counts only for what opens no flow.
    faults = made.truth[made.truth["label"].isin(SHOWN_BY_TROUBLE)]
    marked = Marked(made.capture, made.capture.flows["label"], faults)
    return replace(_label(f"simulated-{seed}", marked), plant=made.plant)


def _form_of(path: Path) -> Form | None:
    return next((form for form in FORMS if form.fits(path)), None)


def _label(name: str, marked: Marked, corrected: bool = True) -> Labelled:
    flow_labels = marked.labels
    if flow_labels is None:
        flow_labels = label_flows(marked.capture.flows, corrected)
    samples = make_samples(marked.capture, marked.plant)
    windows = label_windows(make_windows(samples), marked.capture, flow_labels, marked.intervals)
    known = (windows.table["label"] != UNKNOWN).to_numpy()
    return Labelled(name, windows.take(known), int((~known).sum()), marked.plant)
