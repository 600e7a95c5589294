"""``faultwise finetune sft`` and ``faultwise adapters``: models of a site, made and kept."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, narrate_stages, print_json, with_settings
from assistant.cli.research import finetune
from traffic.errors import UserError

if TYPE_CHECKING:
    from assistant.settings import Settings

# Written out, since finetune.bases and finetune.examples import torch.
Method = Literal["lora", "dora", "qlora", "full"]
Target = Literal["joint", "separate", "detection", "class", "direction"]


@finetune.command()
@with_settings("home")
def sft(
    base: Annotated[
        Path, typer.Option(help="A model's folder: Llama, Qwen, GPT-2, BLOOM, T5.", metavar="DIR")
    ],
    data: Annotated[list[Path], typer.Option(help="Labelled captures.", metavar="FOLDER")],
    site: Annotated[str, typer.Option(help="The site that the adapter is for.", metavar="NAME")],
    settings: "Settings",
    family: Annotated[
        str, typer.Option(help="Its name at the site.", show_default="the base's", metavar="NAME")
    ] = "",
    method: Annotated[Method, typer.Option(help="What is trained.")] = "lora",
    qlora: Annotated[
        bool, typer.Option("--qlora", help="As --method qlora: the base in four bits.")
    ] = False,
    target: Annotated[
        Target,
        typer.Option(
            help="Detection, class and direction in one answer or one by one; a single one is for comparison."
        ),
    ] = "joint",
    phases: Annotated[
        str, typer.Option(help="Kinds of captures one after the other: general,iiot.")
    ] = "",
    plants: Annotated[
        int,
        typer.Option(
            min=0,
            help="Simulated plants beside them, so that no label is forgotten; a minute each two.",
        ),
    ] = 16,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A capture that is only measured, as unseen.")
    ] = None,
    begin: Annotated[
        Path | None, typer.Option(help="An adapter to go on from.", show_default="a new one")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="32 for small bases, 8 for billions.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Readings at most.")] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Texts a step.")] = 64,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-8, help="The highest.", show_default="by size and method")
    ] = None,
    per_label: Annotated[
        int, typer.Option(min=1, help="Texts of each label; eight times as many normal ones.")
    ] = 1500,
    max_minutes: Annotated[float, typer.Option(min=0.01, help="Of training, at most.")] = 60.0,
    patience: Annotated[
        int, typer.Option(min=1, help="Looks at held-out captures without a gain before the end.")
    ] = 3,
    packing: Annotated[
        bool | None,
        typer.Option(
            "--packing/--no-packing", help="Several texts in a row.", show_default="on a GPU only"
        ),
    ] = None,
    seed: int = 0,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Keeps stages of a killed run.", metavar="FOLDER", show_default="in --home"
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="An adapter of this name gives way.")
    ] = False,
) -> None:
    """Tune an adapter for a site on its labelled captures; `classify --site` uses it from then on."""
    from finetune.sft import Knobs
    from finetune.site import Order, make_site_adapter, render_made

    chosen: Method = "qlora" if qlora else method
    knobs = Knobs(
        chosen, target, rank, epochs, batch, learning_rate, max_minutes, patience, packing, seed
    )
    kinds = tuple(name.strip() for name in phases.split(",") if name.strip())
    parts = (kinds, plants, per_label, tuple(exclude or ()), begin, replace)
    order = Order(base, tuple(data), site, family, *parts)
    with narrate_stages() as progress:
        made = make_site_adapter(order, knobs, settings.home, work, progress)
    typer.echo(render_made(made))


@finetune.command()
@with_settings("home", "plant")
def refresh(
    quiet: Annotated[
        Path,
        typer.Option(help="A capture in which nothing was wrong, an hour or more.", metavar="PATH"),
    ],
    site: Annotated[str, typer.Option(help="The site whose alarms it fits.", metavar="NAME")],
    settings: "Settings",
    false_share: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Of quiet windows, those that may be alarmed.")
    ] = 0.005,
) -> None:
    """Fit a site's alarms to its own quiet time, a bound for each role; the weights stay."""
    from assistant.session import read_plant
    from finetune.quiet import refresh_from_quiet, render_quieted

    with narrate("scoring") as progress:
        plant = read_plant(settings)
        made = refresh_from_quiet(quiet, site, settings.home, plant, false_share, progress)
    typer.echo(render_quieted(made))


@finetune.command("base")
def convert(
    source: Annotated[Path, typer.Argument(help="A .gguf file, or a model's folder.")],
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet.", metavar="DIR")],
    layers: Annotated[
        int | None, typer.Option(min=1, help="Keep its first layers alone.", show_default="all")
    ] = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat/--no-chat", help="Keep its chat template; without, prompts are a third as long."
        ),
    ] = True,
) -> None:
    """Turn a GGUF, or a larger model, into a base's folder that can be tuned."""
    from finetune.convert import make_base

    with narrate_stages() as progress:
        made = make_base(source, out, layers, chat, partial(progress, "converting"))
    typer.echo(f"wrote {made}; `faultwise finetune sft --base {made}` tunes it")


@finetune.command()
@with_settings("home")
def embedder(
    out: Annotated[Path, typer.Option(help="Folder of the tuned model, a new one.", metavar="DIR")],
    settings: "Settings",
    base: Annotated[
        Path | None,
        typer.Option(
            help="The model to begin with.", show_default="the packaged one", metavar="DIR"
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 100,
    batch: Annotated[int, typer.Option(min=2, help="Questions a step.")] = 16,
    seed: Annotated[int, typer.Option(help="Of questions and training.")] = 0,
) -> None:
    """Tune the sentence model on the knowledge base; it is kept only where it finds more on
    documents that were held out."""
    from assistant.session import open_knowledge
    from finetune.embedder import tune_embedder
    from knowledge_base.embeddings import packaged_model

    with open_knowledge(settings) as index:
        chunks = list(index.chunks())
    base = base or packaged_model()
    with narrate("tuning") as progress:
        tuned = tune_embedder(chunks, base, out, steps, batch, seed=seed, progress=progress)
    typer.echo(
        f"Recall@5 on {tuned.held_out} questions of held-out documents: {tuned.before:.3f} before, "
        f"{tuned.after:.3f} after {steps} steps on {tuned.trained} questions"
    )
    if tuned.folder is None:
        typer.echo("it finds no more than before: nothing was kept")
    else:
        typer.echo(f"kept in {out}; set FAULTWISE_EMBEDDER={out} and run `faultwise kb rebuild`")


# ---- adapters ----

adapters_app = typer.Typer(
    help="Adapters of sites, and their cards: data, split, seed, metrics.", no_args_is_help=True
)

Which = Annotated[str, typer.Argument(help="SITE/FAMILY.", metavar="SITE/FAMILY")]


@adapters_app.command("list")
@with_settings("home")
def list_all(settings: "Settings") -> None:
    """List the shipped adapter and those of this home; * marks what a site uses."""
    from assistant.registry import describe_all
    from assistant.report import render_table

    heads = ["", "name", "created", "alarms from", "base", "folder"]
    typer.echo(render_table(heads, describe_all(settings.home)))


@adapters_app.command("show")
@with_settings("home")
def show_adapter(
    adapter: Annotated[str, typer.Argument(help="SITE, SITE/FAMILY, or an adapter's folder.")],
    settings: "Settings",
) -> None:
    """Print an adapter's card."""
    from assistant.llm.adapters import read_card
    from assistant.registry import find_folder

    folder = Path(adapter)
    if not folder.is_dir():
        folder = find_folder(settings.home, adapter)
    print_json(read_card(folder).model_dump(mode="json"))


@adapters_app.command("use")
@with_settings("home")
def use_adapter(
    site: Annotated[str, typer.Argument(metavar="SITE")],
    family: Annotated[
        str, typer.Argument(help="One of the site's, or `shipped`.", metavar="FAMILY")
    ],
    settings: "Settings",
) -> None:
    """Choose which of its adapters a site uses."""
    from assistant.registry import use

    use(settings.home, site, family)
    typer.echo(f"site {site} uses {family}")


@adapters_app.command("merge")
@with_settings("home")
def merge_adapters(
    adapters: Annotated[
        list[str],
        typer.Argument(
            help="Several of one base; a single one is merged into it.", metavar="SITE/FAMILY..."
        ),
    ],
    site: Annotated[str, typer.Option(help="The site that gets the result.", metavar="NAME")],
    family: Annotated[str, typer.Option(help="Its name there.", metavar="NAME")],
    settings: "Settings",
    how: Annotated[
        Literal["cat", "svd"],
        typer.Option(help="Exactly, ranks add up; or as small as the largest, nearly."),
    ] = "cat",
    weights: Annotated[
        str, typer.Option(help="Of each: 0.7,0.3.", show_default="equal, 1 together")
    ] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled captures to calibrate several on.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Merge adapters into one, or an adapter into its base; `adapters use` chooses the result."""
    from finetune.merge import merge

    with narrate("merging") as progress:
        shares = [parse_weight(word) for word in weights.split(",")] if weights else []
        made = merge(settings.home, adapters, site, family, how, shares, data or (), progress)
    typer.echo(f"{made.name}; `faultwise adapters use {site} {family}` makes {site} use it")


def parse_weight(word: str) -> float:
    """A weight of --weights.

    Raises:
        UserError: it is no number.
    """
    try:
        return float(word)
    except ValueError as error:
        raise UserError(
            f"weight {word!r} is no number; expected as 0.7,0.3; correct --weights"
        ) from error


@adapters_app.command("remove")
@with_settings("home")
def remove_adapter(adapter: Which, settings: "Settings") -> None:
    """Delete an adapter; one that its site uses is refused."""
    from assistant.registry import remove

    gone = remove(settings.home, adapter)
    typer.echo(f"removed {gone.name}")
