"""A run's report: Markdown, and one HTML page that holds everything it shows and loads nothing.

The page has no script at all. Its policy forbids loading anything, so that a page passed on by mail
is as offline as the machine that made it.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.detection.aggregate import make_parts
from eval.report.plots import (
    confusion_plots,
    cost_plots,
    curve_plots,
    few_shot_plot,
    interval_plots,
)
from eval.report.tables import ReportTable as Table
from eval.report.tables import (
    comparison_table,
    cost_table,
    data_table,
    label_table,
    score_table,
    setting_table,
)
from eval.results import Labelling, Run
from traffic.errors import UserError

# Of a protocol, what a reader should see before any number.
_SAID = {"question": "asks", "warning": "warning"}
_LABELLINGS: tuple[Labelling, ...] = ("corrected", "published")


@cache
def _environment() -> Environment:
    # Unlike a prompt this is HTML: names of captures and models come from outside and are escaped.
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(run: Run) -> str:
    """The whole report as one HTML page without script, link, font or image from elsewhere."""
    parts = make_parts(run)
    first = parts[0].labelling if parts else "corrected"
    return (
        _environment()
        .get_template("report.jinja")
        .render(
            run=run,
            asked=asked_of(run),
            made=made_of(run),
            wholes=[_whole(run, labelling) for labelling in _LABELLINGS],
            parts=[
                {
                    "part": part,
                    "detail": part.labelling == first,
                    "scores": score_table(part),
                    "intervals": interval_plots(run, part),
                    "costs": cost_plots(run, part),
                    "curves": {
                        kind: curve_plots(part, kind)
                        for kind in ("pr", "reliability", "risk_coverage")
                    },
                    "confusion": confusion_plots(part),
                    "tables": [label_table(part), cost_table(part)],
                }
                for part in parts
            ],
            data=data_table(run),
        )
    )


def _whole(run: Run, labelling: Labelling) -> dict[str, object]:
    """What stands above the parts: all settings beside each other, and models against each
    other."""
    return {
        "labelling": labelling,
        "curve": few_shot_plot(run, labelling),
        "settings": setting_table(run, labelling),
        "comparisons": comparison_table(run, labelling),
    }


def asked_of(run: Run) -> list[tuple[str, str]]:
    """What a reader should know before any number: a name and a text each."""
    said = [
        (word, _plain(run.protocol[key])) for word, key in _SAID.items() if run.protocol.get(key)
    ]
    return [*said, ("command", run.command), ("made", run.created)]


def made_of(run: Run) -> list[tuple[str, str]]:
    """With what a run was made, to be looked up: a name and a text each."""
    machine = run.machine
    knobs = {
        name: value
        for name, value in run.protocol.items()
        if name not in _SAID.values() and value not in ("", [])
    }
    place = f"{machine.system}, {machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB"
    return [
        ("commit", run.commit or "outside a checkout"),
        ("protocol", ", ".join(f"{name}: {_plain(value)}" for name, value in knobs.items())),
        ("seeds", ", ".join(map(str, run.seeds))),
        ("prompts", run.prompt_fingerprint),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("machine", f"{place}, {machine.accelerator}" if machine.accelerator else place),
    ]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_plain(one)}" for name, one in value.items()) + "}"
    return (
        " ".join(map(_plain, value))
        if isinstance(value, (list, tuple))
        else " ".join(str(value).split())
    )


def render_markdown(run: Run) -> str:
    """The tables of a report as Markdown; the plots are on the page only."""
    blocks = [f"# {run.name}"]
    if run.quick:
        blocks.append(
            "**Quick: small budgets. This shows that the harness works, not what models are worth.**"
        )
    blocks += [
        f"- {name}: `{text}`" if name == "command" else f"- {name}: {text}"
        for name, text in [*asked_of(run), *made_of(run)]
    ]
    tables: list[Table | None] = [setting_table(run, labelling) for labelling in _LABELLINGS]
    for part in make_parts(run):
        tables += [score_table(part), label_table(part), cost_table(part)]
    tables += [comparison_table(run, labelling) for labelling in _LABELLINGS]
    text = blocks[0] + "\n\n" + "\n".join(blocks[1:])
    sections = [render_rows(table) for table in [*tables, data_table(run)] if table is not None]
    notes = "\n".join(f"- {note}" for note in run.notes)
    return "\n\n".join(filter(None, [text, *sections, notes])) + "\n"


def render_rows(table: Table, level: int = 2) -> str:
    """A table as Markdown under its title, its notes below."""
    numbers = ["---"] + ["---:"] * (len(table.heads) - 1)
    lines = [_line(table.heads), _line(numbers)]
    for i, row in enumerate(table.rows):
        lines.append(
            _line(
                [
                    f"**{cell}**" if (i, j) in table.best else cell
                    for j, cell in enumerate(_escaped(row))
                ]
            )
        )
    notes = "\n".join(f"- {note}" for note in table.notes)
    return "\n\n".join(filter(None, [f"{'#' * level} {table.title}", "\n".join(lines), notes]))


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("*", "\\*") for cell in cells]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def find_run(name: str, folder: Path) -> Path:
    """Where a run's file is: a path as it stands, otherwise a name in the folder of results.

    Raises:
        UserError: there is no such run; those that there are, are named.
    """
    for path in (Path(name), folder / f"{name}.json"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
    raise UserError(
        f"no results {name} (neither a file nor {folder}/{name}.json); expected a run's file or one of: {known}; "
        "make one by faultwise eval detection"
    )


def write_report(run: Run, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.md`` and ``<name>.html``, each whole or not at all; say where.

    Raises:
        UserError: the folder cannot be written to.
    """
    texts = {
        folder / f"{run.name}.md": render_markdown(run),
        folder / f"{run.name}.html": render_page(run),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            draft = path.with_name(f"{path.name}.tmp")
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); expected a writable folder with room; change --out"
        ) from error
    markdown, page = texts
    return markdown, page
