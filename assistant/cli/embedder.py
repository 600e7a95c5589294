"""``faultwise finetune embedder``: the sentence model of a plant's own documents."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.options import narrate, with_settings

if TYPE_CHECKING:
    from assistant.settings import Settings


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
