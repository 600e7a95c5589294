"""Protocols: what is trained on, what is tested, and what is varied, as small versioned YAML files.

What a file leaves out has the value that stands here. `eval.folds` makes folds of a protocol.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.results import Labelling
from traffic.errors import UserError

__all__ = ["PROTOCOLS", "Protocol", "read_protocol"]

_FOLDER = Path(__file__).with_name("protocols")
PROTOCOLS: tuple[str, ...] = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

Split = Literal["windows", "time", "captures", "networks", "shots", "label", "device", "dead-service", "drift"]


class Protocol(BaseModel):
    """One protocol. Amounts that are lists become settings: each value is fitted and scored apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    name: str
    asks: str = Field(description="the question it answers, in a sentence")
    warning: str = Field("", description="what its numbers must not be taken for")
    split: Split = Field(description="how training and testing are parted")
    folds: int = Field(0, ge=0, description="captures are dealt to so many folds; 0: each capture alone")
    seeds: int = Field(3, ge=1, description="fits of each model on each fold")
    labellings: tuple[Labelling, ...] = ("published", "corrected")
    normal_windows: int = Field(ge=2, description="most normal windows of a training set")
    label_windows: int = Field(ge=1, description="most windows of any other label")
    test_share: float = Field(0.3, gt=0, lt=1, description="of the windows (random) or of the time (temporal)")
    alarm: Literal["anomaly", "attack"] = Field("anomaly", description="what the binary measures look for")
    zeroed: tuple[bool, ...] = Field((False,), description="whether the service classes are hidden")
    noise: tuple[float, ...] = Field((0.0,), description="share of the training stretches with a wrong label")
    shots: tuple[int, ...] = Field((0,), description="labelled windows of the new site, or confirmed ones of a device")
    shot_share: float = Field(0.2, gt=0, lt=1, description="of the training set, by repeating shots")
    most_repeats: int = Field(20, ge=1, description="of one shot")
    shuffled: bool = Field(False, description="training labels change places: every model must fall to chance")
    models: tuple[str, ...] = Field((), description="which models by default; all where empty")
    against: tuple[str, ...] = Field((), description="models that every other is tested against, in pairs")
    incident_seeds: int = Field(1, ge=0, description="seeds whose verdicts are made into incidents")
    resamples: int = Field(1000, ge=100, description="of the bootstrap")


def read_protocol(name: str, quick: bool = False) -> Protocol:
    """Read a protocol that ships.

    Args:
        name: one of PROTOCOLS.
        quick: apply what its section ``quick`` changes.

    Raises:
        UserError: there is none of this name, or its file is no protocol.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no protocol is called {name}; expected one of {', '.join(PROTOCOLS)}; correct --protocol")
    path = _FOLDER / f"{name}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    changes = content.pop("quick", {})
    try:
        return Protocol.model_validate(content | (changes if quick else {}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UserError(
            f"{path} is no protocol ({'.'.join(map(str, first['loc']))}: {first['msg']}); expected the knobs of "
            "eval.detection.splits.Protocol; correct the file"
        ) from error
