"""``faultwise finetune sft``, ``base`` and ``embedder``: models of a site, made."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli.options import narrate, narrate_stages, with_settings
from assistant.cli.research import finetune
from assistant.cli.tuning.options import (
    Epochs,
    Excluded,
    LearningRate,
    MaxMinutes,
    PerLabel,
    Replace,
    TextsAStep,
    Work,
)

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
    exclude: Excluded = None,
    begin: Annotated[
        Path | None, typer.Option(help="An adapter to go on from.", show_default="a new one")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="32 for small bases, 8 for billions.")] = 32,
    epochs: Epochs = 3,
    batch: TextsAStep = 64,
    learning_rate: LearningRate = None,
    per_label: PerLabel = 1500,
    max_minutes: MaxMinutes = 60.0,
    patience: Annotated[
        int, typer.Option(min=1, help="Looks at held-out captures without a gain before the end.")
    ] = 3,
    packing: Annotated[
        bool | None,
        typer.Option(
            "--packing/--no-packing", help="Several texts in a row.", show_default="on a GPU only"
        ),
    ] = None,
    spread: Annotated[
        Path | None,
        typer.Option(
            help="An accelerate configuration: several processes, as finetune/recipes/ddp-cpu.yaml.",
            metavar="F.yaml",
        ),
    ] = None,
    seed: int = 0,
    work: Work = None,
    replace: Replace = False,
) -> None:
    """Tune an adapter for a site on its labelled captures; `classify --site` uses it from then on."""
    from finetune.sft import Knobs
    from finetune.sites.adapter import Order, make_site_adapter, render_made

    chosen: Method = "qlora" if qlora else method
    knobs = Knobs(
        chosen, target, rank, epochs, batch, learning_rate, max_minutes, patience, packing, seed
    )
    kinds = tuple(name.strip() for name in phases.split(",") if name.strip())
    parts = (kinds, plants, per_label, tuple(exclude or ()), begin, replace)
    order = Order(base, tuple(data), site, family, *parts, spread=spread)
    with narrate_stages() as progress:
        made = make_site_adapter(order, knobs, settings.home, work, progress)
    typer.echo(render_made(made))


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
