"""Results as text: JSON for scripts, tables and markdown for people.

Nothing here computes; it only words what the tables and records already hold.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from assistant.detection.incidents import Incident
from assistant.diagnosis import Diagnosis
from assistant.diagnosis.playbook import read_playbook
from assistant.diagnosis.proof import Recount
from assistant.facts.moments import Clock
from knowledge_base.retriever import Passage
from traffic.labels import LABELS
from traffic.samples import COLUMNS
from traffic.windows import Windows


def clock(seconds: float) -> str:
    """A moment as a table shows it, UTC.

    >>> clock(1545466950.0)
    '2018-12-22 08:22:30'
    """
    return Clock().show(seconds).removesuffix(" UTC")


def plain(value: Any) -> Any:
    """Reduce records and numpy numbers to what JSON can say; an unknown number becomes null.

    >>> plain((1, float("nan"), {"a": (2,)}))
    [1, None, {'a': [2]}]
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def render_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Align columns by their widest cell; the header stands even where there are no rows.

    >>> print(render_table(["device", "n"], [["plc-1", 3]]))
    device  n
    plc-1   3
    """
    cells = [list(headers), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(headers))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def verdict_lines(verdicts: pd.DataFrame) -> Iterator[str]:
    """One JSON object per window: device, start_s, end_s, label, probability, abstained,
    probabilities; its site first, where the table has one."""
    known = ("site", "device", "start_s", "end_s", "label", "probability", "abstained")
    columns = [name for name in known if name in verdicts]
    for row in verdicts.to_dict("records"):
        said = {name: row[name] for name in columns}
        chances = {label: round(float(row[f"p_{label}"]), 6) for label in LABELS}
        said["probability"] = round(float(said["probability"]), 6)
        yield json.dumps(plain(said | {"probabilities": chances}))


def verdict_csv(verdicts: pd.DataFrame, header: bool = True) -> str:
    """The whole table, with a column of probability per label."""
    return verdicts.to_csv(index=False, header=header, lineterminator="\n")


def verdict_table(verdicts: pd.DataFrame) -> str:
    """One line per window; where the model abstains, its best guess with a question mark."""
    rows = []
    for row in verdicts.itertuples():
        label = f"{row.label}{' ?' if row.abstained else ''}"
        of_site = [row.site] if "site" in verdicts else []
        rows.append([*of_site, row.device, clock(row.start_s), label, f"{row.probability:.2f}"])
    heads = ["site"] if "site" in verdicts else []
    return render_table([*heads, "device", "start (UTC)", "label", "probability"], rows)


def incident_table(
    incidents: Sequence[Incident], judged: str, shown: Clock, name_of: Callable[[str], str]
) -> str:
    """One line per incident, in words, with its start on the plant's clock, then what else was judged."""
    headers = ["id", "severity", "what", "device", "role", "start", "duration"]
    rows = []
    for one in incidents:
        what = [one.id, one.severity, read_playbook(one.label).short, name_of(one.device)]
        rows.append([*what, one.role, shown.show(one.start_s), f"{one.end_s - one.start_s:.0f} s"])
    return "\n".join([*([render_table(headers, rows)] if rows else []), judged])


def render_diagnosis(diagnosis: Diagnosis, form: str, long: bool = False) -> str:
    """A diagnosis as ``text``, ``md`` or ``json``; ``long`` with all that the short answer leaves
    out."""
    text = diagnosis.long if long else diagnosis.text
    if form == "json":
        return json.dumps(plain(diagnosis.to_dict() | {"text": text}), indent=2, ensure_ascii=False)
    return text if form == "md" else without_marks(text)


def without_marks(markdown: str) -> str:
    """Markdown as a terminal shows it best: lists stay, the marks for bold go.

    >>> without_marks("**Healthy:** 2 * 3 ** 2")
    'Healthy: 2 * 3 ** 2'
    """
    return re.sub(r"\*\*(.+?)\*\*", r"\1", markdown)


def passages_json(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """What ``kb search --format json`` promises: document, section, page, text, score; about,
    example; start and end, the characters of the section's or page's text."""
    names = ("document", "section", "page", "text", "score", "about", "example", "start", "end")
    return [{name: getattr(one, name) for name in names} for one in passages]


def passage_text(passage: Passage) -> str:
    """A passage under the line that says where it stands."""
    page = f"page {passage.page}" if passage.page else ""
    place = ", ".join(filter(None, [passage.section, page]))
    document = f"{passage.document} (example)" if passage.example else passage.document
    where = " · ".join(filter(None, [document, place, f"{passage.score:.3f}"]))
    return f"{where}\n{passage.text.strip()}"


def say_missing(codes: Sequence[str]) -> str:
    """That no document holds the codes that were asked for; "" where there are none."""
    return f"no document holds {' or '.join(codes)}" if codes else ""


_PIECE_WINDOWS = 20_000
_TOTALS = [
    "out_pkts", "in_pkts", "out_bytes", "in_bytes", "unanswered_out", "refused_out",
    "retransmissions",
]  # fmt: skip


def window_table(windows: Windows) -> str:
    """One line per window with what a person looks at first: totals over its six samples."""
    totals = windows.values(_TOTALS).sum(axis=1)  # (windows, totals)
    peers = windows.values(["peers"]).max(axis=(1, 2))
    rows = (
        [row.device, clock(row.start_s), *(f"{value:.0f}" for value in total), f"{most:.0f}"]
        for row, total, most in zip(windows.table.itertuples(), totals, peers, strict=True)
    )
    return render_table(["device", "start (UTC)", *_TOTALS, "peers"], rows)


def window_tables(windows: Iterable[Windows]) -> Iterator[pd.DataFrame]:
    """``window_samples`` of many windows in pieces of bounded size, at least one; ``window`` counts
    on."""
    done = 0
    for some in windows:
        for start in range(0, max(len(some), 1), _PIECE_WINDOWS):
            piece = some.take(np.arange(start, min(start + _PIECE_WINDOWS, len(some))))
            yield window_samples(piece).assign(window=lambda table: table["window"] + done)  # noqa: B023
            done += len(piece)


def window_samples(windows: Windows) -> pd.DataFrame:
    """Every window's samples, one under the other; ``table[COLUMNS].to_numpy().reshape(-1, 6, n)``
    gives them back.

    Returns:
        Shape (n_windows * 6, n_columns + 5): ``window``, ``sample`` (0 to 5), ``device``,
        ``start_s``, ``end_s`` of the window, then ``traffic.samples.COLUMNS``.
    """
    values = windows.values(list(COLUMNS))
    n, length, width = values.shape
    table = windows.table.loc[windows.table.index.repeat(length)].reset_index(drop=True)
    table.insert(0, "window", np.repeat(np.arange(n), length))
    table.insert(1, "sample", np.tile(np.arange(length), n))
    samples = pd.DataFrame(values.reshape(n * length, width), columns=list(COLUMNS))
    return pd.concat([table, samples], axis=1)


def render_recounts(recounts: Sequence[Recount]) -> str:
    """Facts with where they are in the packets, a paragraph each."""
    return "\n\n".join("\n".join(_say_recount(one)) for one in recounts)


def _say_recount(one: Recount) -> Iterator[str]:
    proof = one.fact.proof
    yield f"{one.fact.id}: {one.fact.text}"
    if proof is not None:
        yield f"  display filter: {proof.filter}"
        if proof.decode_as:
            yield f"  decode as:      {proof.decode_as}"
        if proof.frames:
            yield f"  frames:         {', '.join(map(str, proof.frames))}"
    if one.frames is None:
        yield f"  not checked:    {one.reason}"
    elif one.agrees is None:
        yield f"  tshark:         {one.frames:,} frames, those counted among them"
    else:
        counted = proof.count if proof else 0
        says = "as counted" if one.agrees else f"but {counted:,} were counted (copies are left out)"
        yield f"  tshark:         {one.frames:,} frames, {says}"
