"""Documents that code can check: what is generated is current, links resolve, commands exist.

``make docs`` writes anew what is generated.
"""

import html
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from assistant.cli.main import app
from eval.report.tables import ReportTable, render_table
from eval.research.claims import read_runs
from eval.research.summary import make_model_table

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ROOT / "docs" / "commands.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def command_reference() -> str:
    """The command line as Markdown, by typer's own generator."""
    words = ["assistant.cli.main", "utils", "docs", "--name", "faultwise", "--title", "Commands"]
    done = subprocess.run(
        [sys.executable, "-m", "typer", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return html.unescape(done.stdout).rstrip() + "\n"


def commands(group: typer.Typer, before: str = "faultwise") -> set[str]:
    own = {
        f"{before} {c.name or c.callback.__name__}" for c in group.registered_commands if c.callback
    }
    return own.union(
        *(commands(sub.typer_instance, f"{before} {sub.name}") for sub in group.registered_groups)
    )


def with_worth(readme: str) -> str:
    """The README with its table of what the shipped model is worth on captures that nobody had seen."""
    run = read_runs(ROOT / "results").newest("leave-one-capture-out")
    assert run is not None
    table = make_model_table([run])
    rows = table.rows
    heads = ("captures that no model has seen", *(table.heads[column] for column in (2, 3, 5)))
    short = ReportTable("", heads, tuple((row[1], row[2], row[3], row[5]) for row in rows))
    before, rest = readme.split("<!-- worth -->")
    after = rest.split("<!-- end of worth -->")[1]
    return (
        f"{before}<!-- worth -->\n\n{render_table(short).strip()}\n\n<!-- end of worth -->{after}"
    )


def test_the_readme_says_what_the_results_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_worth(readme) == readme, "run: make docs"


def test_the_command_reference_is_what_the_command_line_says() -> None:
    assert COMMANDS.read_text(encoding="utf-8") == command_reference(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_link_and_file_of_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = commands(app)
    groups = {" ".join(name.split()[:2]) for name in known}
    for words in re.findall(
        r"faultwise ((?:[a-z]+ ?)+)", "\n".join(re.findall(r"`([^`]+)`", text))
    ):
        named = " ".join(f"faultwise {words}".split()[:3])
        assert named in known or " ".join(named.split()[:2]) in known | groups, (
            f"{page.name}: {named}"
        )
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    packages = "traffic|prompts|knowledge_base|assistant|finetune|eval|tests"
    for file in re.findall(rf"`((?:{packages})/[a-z_0-9/.-]+\.[a-z]+)`", text):
        assert (ROOT / file).is_file(), f"{page.name} names {file}"


def test_the_architecture_lists_every_folder_of_code() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z_/]+)/` \|", text, flags=re.MULTILINE))
    folders = {
        str(path.parent.relative_to(ROOT)) for top in listed for path in ROOT.glob(f"{top}/**/*.py")
    }
    folders = {folder for folder in folders if not folder.startswith(".")}
    assert folders <= listed, folders - listed
    assert all((ROOT / folder).is_dir() for folder in listed)


def test_the_architecture_draws_the_layers_that_are_enforced() -> None:
    text = " ".join((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        assert f"{contract['name']} {' > '.join(contract['layers'])}" in text


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert 5_000 < len((ROOT / "README.md").read_bytes()) < 8_200


if __name__ == "__main__":
    COMMANDS.write_text(command_reference(), encoding="utf-8")
    README = ROOT / "README.md"
    README.write_text(with_worth(README.read_text(encoding="utf-8")), encoding="utf-8")
