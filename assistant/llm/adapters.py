"""Adapter cards: what an adapter was trained on and for, so that it is never used on anything else.

A card lies beside the adapter's weights as card.json. Verdicts of an adapter on a base or on
prompts that it was not trained with look as sure as good ones, so both are pinned by fingerprints
and a card that does not fit is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.llm.local import LocalLLM
from assistant.llm.weights import (
    check_adapter_folder,
    check_model_folder,
    check_tensors,
    fingerprint_weights,
)
from assistant.pocket import POCKET
from prompts.messages import ANSWERS, classification, classification_prompt
from prompts.window_text import fingerprint
from traffic.errors import UserError
from traffic.labels import LABELS

CARD = "card.json"


@dataclass(frozen=True)
class Bounds:
    """What a card says of how scores become verdicts.

    Attributes:
        temperature: above 1 where the model was too sure.
        prior_shift: nats that normal gains over every anomaly, since anomalies are rare in service.
        alarm: a window is anomalous from this P(anomalous) on.
        name: its label is named from this share of P(anomalous) on.
        episode: the shift is dropped from this mean P(anomalous) of a device's last minutes on.
    """

    temperature: float = 1.0
    prior_shift: float = 0.0
    alarm: float = 0.5
    name: float = 0.0
    episode: float = 1.0


class AdapterCard(BaseModel):
    """What made an adapter, what it needs and how good it is. A file from outside: nothing extra
    passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base: str = Field(description="the base model's folder, relative to the adapter's")
    base_fingerprint: str
    begun_from: str = Field(
        default="", description="fingerprint of the base whose weights the base began with"
    )
    prompt_fingerprint: str
    labels: tuple[str, ...]
    temperature: float = Field(gt=0)
    prior_shift: float = Field(
        default=0.0, description="nats that normal gains: plants are quieter than captures"
    )
    threshold: float = Field(ge=0, le=1, description="anomalous from this probability on")
    name_threshold: float = Field(
        default=0.0, ge=0, le=1, description="named from this share of that probability on"
    )
    episode_threshold: float = Field(
        default=1.0, ge=0, description="no shift from this mean probability of some minutes on"
    )
    role_thresholds: Mapping[str, float] = Field(
        default={},
        description="that probability for devices of a role, from a site's quiet time; '' for the rest",
    )
    data: tuple[str, ...] = Field(description="captures and simulations it was trained on")
    split: Mapping[str, tuple[str, ...]] = Field(description="captures held out, by purpose")
    seed: int
    metrics: Mapping[str, float]
    made_by: str = Field(description="the command that made it")
    created: str

    def find_base(self, folder: Path) -> Path:
        """The base model's folder, as seen from the folder of this card."""
        return (folder / self.base).resolve()

    @property
    def bounds(self) -> Bounds:
        """How scores become verdicts."""
        return Bounds(
            temperature=self.temperature,
            prior_shift=self.prior_shift,
            alarm=self.threshold,
            name=self.name_threshold,
            episode=self.episode_threshold,
        )


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder and its card."""

    path: Path
    card: AdapterCard


def read_card(path: Path) -> AdapterCard:
    """Read the card of an adapter's folder.

    Raises:
        UserError: there is none, or it is not a card.
    """
    file = path / CARD
    if not file.is_file():
        raise UserError(
            f"no adapter card {file}; expected one beside the adapter's weights; give an adapter's folder"
        )
    try:
        return AdapterCard.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = _first_error(error)
        raise UserError(
            f"{file} is no adapter card ({reason}); expected the form that training writes; train again"
        ) from error


def write_card(card: AdapterCard, path: Path) -> None:
    """Write a card into an adapter's folder."""
    (path / CARD).write_text(
        json.dumps(card.model_dump(), indent=1, default=list) + "\n", encoding="utf-8"
    )


def check_card(card: AdapterCard, base: Path | None = None) -> None:
    """Check that an adapter fits this release's prompts and labels and, where given, its base
    model.

    Raises:
        UserError: it was trained with other prompts, labels or base weights.
    """
    remedy = "train it again, or use the release it was made with"
    if card.prompt_fingerprint != prompt_fingerprint():
        made, now = card.prompt_fingerprint, prompt_fingerprint()
        raise UserError(
            f"adapter {card.name} was trained on prompts {made}; this release makes {now}; {remedy}"
        )
    if card.labels != LABELS:
        raise UserError(
            f"adapter {card.name} knows {len(card.labels)} labels; expected {', '.join(LABELS)}; {remedy}"
        )
    if base is not None and card.base_fingerprint != fingerprint_weights(base):
        raise UserError(
            f"adapter {card.name} was trained on other weights than {base} holds; expected its own base; {remedy}"
        )


def load_adapter(path: Path = POCKET, base: Path | None = None) -> tuple[LocalLLM, AdapterCard]:
    """Load an adapter merged into its base, after checking that they and this release fit together.

    Args:
        path: the adapter's folder with its card; the shipped pocket model's where left out.
        base: the base model's folder, where it is not where the card says.

    Raises:
        UserError: something is missing or does not fit.
    """
    card, folder = _read_fitting(path, base)
    return LocalLLM(folder, path), card


def check_adapter(path: Path = POCKET, base: Path | None = None) -> AdapterCard:
    """Check all that `load_adapter` needs, down to truncated files, and return the card; nothing is
    computed, so torch is not imported.

    Raises:
        UserError: something is missing, damaged or does not fit.
    """
    card, folder = _read_fitting(path, base)
    check_model_folder(folder)
    check_adapter_folder(path)
    for part in (folder, path):
        check_tensors(part)
    return card


def _read_fitting(path: Path, base: Path | None) -> tuple[AdapterCard, Path]:
    card = read_card(path)
    folder = base if base is not None else card.find_base(path)
    check_card(card, folder)
    return card, folder


def list_adapters(home: Path) -> list[Adapter]:
    """The shipped adapter, where there is one, then those in ``home/adapters``, by name.

    Raises:
        UserError: a card cannot be read.
    """
    folders = [POCKET, *sorted((home / "adapters").glob("*/"))]
    return [Adapter(folder, read_card(folder)) for folder in folders if (folder / CARD).is_file()]


def prompt_fingerprint() -> str:
    """A hash of every character that frames a window's text, and of how the text itself is made."""
    framing = [fingerprint(), classification_prompt("\0"), classification("\0"), ANSWERS]
    return hashlib.sha256(json.dumps(framing).encode()).hexdigest()[:16]


def _first_error(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'file'}: {first['msg']}"[:200]
