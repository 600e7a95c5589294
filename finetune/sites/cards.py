"""From trained weights to a site's adapter: how they are loaded, laid down, and named on a card."""

import json
import math
import os
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assistant.llm.adapters import prompt_fingerprint
from assistant.llm.local import LocalLLM
from assistant.llm.remembered import Scorer
from assistant.llm.seq2seq import Seq2SeqLLM, is_seq2seq
from assistant.llm.weights import fingerprint_weights
from finetune.bases import WHOLE, Method
from finetune.sft import Tuned
from traffic.files import write_text
from traffic.labels import LABELS

TUNED = "tuned.json"  # beside weights that are not in their place yet


def write_tuned(tuned: Tuned, folder: Path) -> None:
    """Note how a training went beside its weights."""
    write_text(folder / TUNED, json.dumps(asdict(tuned)))


def read_tuned(folder: Path) -> Tuned:
    """What `write_tuned` noted."""
    return Tuned(**json.loads((folder / TUNED).read_text(encoding="utf-8")))


def load_tuned(base: Path, trained: Path, method: Method) -> Scorer:
    """Load trained weights as serving will."""
    folder, adapter = (trained, None) if method in WHOLE else (base, trained)
    return Seq2SeqLLM(folder, adapter) if is_seq2seq(base) else LocalLLM(folder, adapter)


def place_weights(trained: Path, draft: Path, base: Path, method: Method) -> dict[str, Any]:
    """Copy trained weights to an adapter's draft.

    Args:
        trained: their folder.
        draft: as `assistant.registry.draft_folder` made it.
        base: what they were trained on.
        method: whether they are a model of their own.

    Returns:
        What a card says whoever made it: the base, prompts, labels and the day.
    """
    whole = method in WHOLE
    target = draft / "base" if whole else draft
    shutil.copytree(trained, target, dirs_exist_ok=True)
    (target / TUNED).unlink()
    return {
        "base": "base" if whole else relative_base(base, draft),
        "base_fingerprint": fingerprint_weights(target if whole else base),
        "begun_from": fingerprint_weights(base) if whole else "",
        "prompt_fingerprint": prompt_fingerprint(),
        "labels": LABELS,
        "created": today(),
    }


def relative_base(base: Path, adapter: Path) -> str:
    """A base's folder as a card names it."""
    return os.path.relpath(base.resolve(), adapter.resolve())


def name_base(base: Path) -> str:
    """A base in a command, without a path of this machine; a folder called "base" says its parent.

    >>> name_base(Path("/srv/pocket/base")), name_base(Path("/srv/smollm2"))
    ('pocket/base', 'smollm2')
    """
    folder = base.resolve()
    return f"{folder.parent.name}/base" if folder.name == "base" else folder.name


def round_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Measures as a card holds them: those that are numbers."""
    return {name: round(value, 4) for name, value in metrics.items() if math.isfinite(value)}


def today() -> str:
    """The day of a card, UTC."""
    return datetime.now(UTC).date().isoformat()


def list_options(given: Any, usual: Any, names: tuple[str, ...]) -> list[str]:
    """The options of a command that differ from the usual ones, as they are typed.

    >>> from finetune.sft import Knobs
    >>> list_options(Knobs(seed=3), Knobs(), ("epochs", "seed"))
    ['--seed 3']
    """
    return [
        f"--{name.replace('_', '-')} {getattr(given, name)}"
        for name in names
        if getattr(given, name) != getattr(usual, name)
    ]
