"""Settings: folders and models, from ``FAULTWISE_*`` variables, overruled by options.

Only the command line and the app read settings; everything below takes arguments.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from assistant.pocket import POCKET
from traffic.errors import UserError


def _default_home() -> Path:
    """The XDG base directory for data (specifications.freedesktop.org/basedir)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "faultwise"


def _networks(value: object) -> tuple[str, ...]:
    """``"10.1.0.0/16, 172.20.0.0/14"`` from the environment, a list from the command line."""
    parts = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    return tuple(str(ipaddress.ip_network(str(part).strip(), strict=False)) for part in parts)


def _sources(value: object) -> tuple[str, ...]:
    """``"plc-1=a.log, b.log"`` from the environment, a list from the command line."""
    parts = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    return tuple(str(part).strip() for part in parts)


class Settings(BaseSettings):
    """Where faultwise keeps its state and which models it uses.

    Attributes:
        home: folder of the knowledge base, the history and the site's adapters.
        adapter: folder of the adapter that classifies, with its card; the shipped pocket model's by
            default.
        site: the site whose adapter classifies, or SITE/FAMILY; it goes before ``adapter``.
        model: folder of the adapter's base model, where it is not where the card says.
        writer: folder of an instruct model that words the answers; none by default.
        remote_url: an OpenAI-compatible server on the plant's network that writes the answers; none
            by default.
        remote_model: the name by which that server knows its model; "default" where none is given.
        free_prose: whether a writer words the facts in sentences of its own, each checked; by default
            it only puts them in order, so that every word shown is a fact's.
        plant: inventory of devices, ``plant.yaml``.
        local: networks (CIDR) whose addresses are devices, beside the private ranges.
        logs: logs of devices, ``PATH`` or ``DEVICE=PATH`` each.
        readings: tables of sensor readings, likewise.
        examples: whether the shipped manuals and incidents may be cited; by default until the
            plant has documents of its own.
        embedder: folder of the sentence model of the knowledge base, for documents in languages
            that the packaged one does not read; after a change `kb rebuild` makes the vectors anew.
        published: a Qdrant server on the plant's network (http://HOST:6333) whose published
            knowledge base is read in the place of the home's.
        published_key: its API key, where it wants one.
    """

    model_config = SettingsConfigDict(env_prefix="FAULTWISE_", extra="forbid", frozen=True)

    home: Path = Field(default_factory=_default_home)
    adapter: Path = POCKET
    site: str = ""
    model: Path | None = None
    writer: Path | None = None
    remote_url: str | None = None
    remote_model: str = ""
    free_prose: bool = False
    plant: Path | None = None
    local: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ()
    logs: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_sources)] = ()
    readings: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_sources)] = ()
    examples: bool | None = None
    embedder: Path | None = None
    published: str = ""
    published_key: str = ""


def read_settings(**options: object) -> Settings:
    """Read the environment; an option that was given (is neither None nor empty) overrules it.

    Raises:
        UserError: a value that cannot be what it should be, with its name.
    """
    given: dict[str, Any] = {
        name: value for name, value in options.items() if value not in (None, [], ())
    }
    try:
        return Settings(**given)
    except ValidationError as mistake:
        first = mistake.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise UserError(
            f"setting {name} is {first['input']!r}: {first['msg']}; "
            f"correct --{name} or FAULTWISE_{name.upper()}"
        ) from mistake
