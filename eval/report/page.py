"""A run's report: Markdown, and one HTML page that holds everything it shows and loads nothing.

The page has no script at all. Its policy forbids loading anything, so that a page passed on by mail
is as offline as the machine that made it.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.detection.aggregate import make_parts
from eval.report.plots import make_plots, make_setting_plot
from eval.report.tables import (
    ReportTable,
    comparison_table,
    cost_table,
    data_table,
    label_table,
    render_table,
    score_table,
    setting_table,
)
from eval.results import Labelling, Run
from traffic.errors import UserError
from traffic.files import write_text

# Of a protocol, what a reader should see before any number: its name here, and its key there.
_FIRST = {"question": "asks", "warning": "warning"}
_LABELLINGS: tuple[Labelling, ...] = ("corrected", "published")
_QUICK = "Quick: small budgets. This shows that the harness works, not what models are worth."


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
    parts: list[dict[str, Any]] = []
    for part in make_parts(run):
        # Curves of the first labelling only: those of the other look alike and weigh as much.
        detail = not parts or part.labelling == parts[0]["part"].labelling
        tables = [label_table(part), cost_table(part)]
        plots = make_plots(run, part, detail)
        parts.append({"part": part, "scores": score_table(part), "plots": plots, "tables": tables})
    wholes = [
        {
            "labelling": labelling,
            "plot": make_setting_plot(run, labelling),
            "settings": setting_table(run, labelling),
            "comparisons": comparison_table(run, labelling),
        }
        for labelling in _LABELLINGS
    ]
    template = _environment().get_template("report.jinja")
    return template.render(
        run=run,
        quick=_QUICK if run.quick else "",
        purpose=list_purpose(run),
        origin=list_origin(run),
        wholes=wholes,
        parts=parts,
        data=data_table(run),
    )


def list_purpose(run: Run) -> list[tuple[str, str]]:
    """What a reader should know before any number: a name and a text each."""
    known = [(name, run.protocol.get(key)) for name, key in _FIRST.items()]
    texts = [(name, _render_value(value)) for name, value in known if value]
    return [*texts, ("command", run.command), ("made", run.created)]


def list_origin(run: Run) -> list[tuple[str, str]]:
    """With what a run was made, to be looked up: a name and a text each."""
    machine = run.machine
    knobs = [
        f"{name}: {_render_value(value)}"
        for name, value in run.protocol.items()
        if name not in _FIRST.values() and value not in ("", [])
    ]
    place = [machine.system, machine.cpu, f"{machine.cores} cores"]
    place += [f"{machine.memory_bytes / 1e9:.0f} GB", machine.accelerator]
    return [
        ("commit", run.commit or "outside a checkout"),
        ("protocol", ", ".join(knobs)),
        ("seeds", ", ".join(map(str, run.seeds))),
        ("prompts", run.prompt_fingerprint),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("machine", ", ".join(filter(None, place))),
    ]


def _render_value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_render_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_render_value, value))
    return " ".join(str(value).split())


def render_markdown(run: Run) -> str:
    """The tables of a report as Markdown; the plots are on the page only."""
    head = [f"# {run.name}"] + ([f"**{_QUICK}**"] if run.quick else [])
    facts = [
        f"- {name}: `{text}`" if name == "command" else f"- {name}: {text}"
        for name, text in [*list_purpose(run), *list_origin(run)]
    ]
    tables: list[ReportTable | None] = [setting_table(run, labelling) for labelling in _LABELLINGS]
    for part in make_parts(run):
        tables += [score_table(part), label_table(part), cost_table(part)]
    tables += [comparison_table(run, labelling) for labelling in _LABELLINGS]
    sections = [render_table(table) for table in [*tables, data_table(run)] if table]
    notes = "\n".join(f"- {note}" for note in run.notes)
    return "\n\n".join(filter(None, [*head, "\n".join(facts), *sections, notes])) + "\n"


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
        f"no results {name} (neither a file nor {folder}/{name}.json); "
        f"expected a run's file or one of: {known}; make one by faultwise eval detection"
    )


def write_report(run: Run, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.md`` and ``<name>.html``, each whole or not at all; returns where.

    Raises:
        UserError: the folder cannot be written to.
    """
    markdown, page = folder / f"{run.name}.md", folder / f"{run.name}.html"
    write_text(markdown, render_markdown(run))
    write_text(page, render_page(run))
    return markdown, page
