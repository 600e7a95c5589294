"""The adapters of sites: found by site and family, checked, chosen, removed.

    home/adapters/SITE/FAMILY/    adapter (or base/, a model that was tuned whole), card.json, SHA256SUMS
    home/adapters/SITE/default    the family that the site uses

A family is what an adapter is for or rests on, by default its base's name. An adapter comes into
its place by one rename when all of it is written, so that nobody ever sees half of one. Its
SHA256SUMS (as ``sha256sum -c`` reads it) tells whether it is still what was put there.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from assistant.llm.adapters import (
    CARD,
    AdapterCard,
    check_adapter,
    check_card,
    list_adapters,
    load_adapter,
    read_card,
)
from assistant.llm.local import LocalLLM
from assistant.llm.remembered import Scorer
from assistant.llm.seq2seq import Seq2SeqLLM, is_seq2seq
from assistant.llm.weights import check_model_folder, check_tensors
from assistant.pocket import POCKET
from traffic.errors import UserError
from traffic.files import SUMS, file_hash, read_text, write_sums, write_text

SHIPPED = "shipped"  # in place of a family: the site uses the model that ships
ROUTED = "FAULTWISE_EXPERTS"  # the kind of adapter that holds several, where PEFT's kinds stand
_DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BY_SITE = "name it SITE, or SITE/FAMILY; `faultwise adapters list` lists them"


@dataclass(frozen=True)
class Registered:
    """An adapter of a site.

    Attributes:
        site: whose it is.
        family: what it is for or rests on.
        path: its folder.
        used: whether the site uses it.
    """

    site: str
    family: str
    path: Path
    used: bool

    @property
    def name(self) -> str:
        """SITE/FAMILY."""
        return f"{self.site}/{self.family}"


def check_name(name: str, what: str) -> str:
    """Return a name that can be a folder's.

    Raises:
        UserError: it cannot.
    """
    if not _NAME.fullmatch(name) or name == SHIPPED:
        raise UserError(
            f"{what} {name!r} cannot name a folder; expected letters, digits, dots, dashes, "
            f"at most 64, and not {SHIPPED!r}; choose another"
        )
    return name


def list_registered(home: Path) -> list[Registered]:
    """The adapters of all sites, by site and family."""
    found = []
    for card in sorted((home / "adapters").glob(f"*/*/{CARD}")):
        folder = card.parent
        if not folder.name.startswith("."):
            site = folder.parent.name
            used = _read_default(home, site) == folder.name
            found.append(Registered(site, folder.name, folder, used))
    return found


def describe_all(home: Path) -> list[list[str]]:
    """A row for the shipped adapter, those by hand in ``home/adapters`` and those of sites: whether
    a site uses it, name, day, threshold, base, folder. What cannot be read says so in its row."""
    registered = list_registered(home)
    rows = [["", one.card.name, *_describe(one.card), str(one.path)] for one in list_adapters(home)]
    for one in registered:
        try:
            said = _describe(read_card(one.path))
        except UserError:
            said = ["card damaged", "", ""]
        rows.append(["*" if one.used else "", one.name, *said, str(one.path)])
    return rows


def _describe(card: AdapterCard) -> list[str]:
    return [card.created, f"{card.threshold:.2f}", card.base]


def find_registered(home: Path, name: str) -> Registered:
    """The adapter of ``SITE/FAMILY``, or the one that ``SITE`` uses.

    Raises:
        UserError: there is none, or the site uses none of several.
    """
    site, _, family = name.partition("/")
    of_site = [one for one in list_registered(home) if one.site == site]
    if not of_site:
        raise UserError(
            f"no adapter {name}: {home / 'adapters'} holds none of site {site}; expected one; "
            f"make it with `faultwise finetune sft --site {site}`"
        )
    chosen = [one for one in of_site if (one.family == family if family else one.used)]
    if not chosen:
        there = ", ".join(one.name for one in of_site)
        raise UserError(
            f"{name} names no adapter; expected one of {there}; choose one with `faultwise adapters use`"
        )
    return chosen[0]


def find_folder(home: Path, name: str) -> Path:
    """The folder of what ``SITE`` uses (the shipped adapter's where it chose that), or of
    ``SITE/FAMILY``.

    Raises:
        UserError: as `find_registered`.
    """
    if "/" not in name and _read_default(home, name) == SHIPPED:
        return POCKET
    return find_registered(home, name).path


def find_in_use(home: Path, site: str) -> Path:
    """The folder of the adapter that a site uses; the shipped one's where it has none yet.

    Raises:
        UserError: the site uses none of several.
    """
    has = any(one.site == site for one in list_registered(home))
    return find_folder(home, site) if has else POCKET


def check_free(home: Path, site: str, family: str) -> None:
    """Check that a site has no adapter of a name.

    Raises:
        UserError: it has one.
    """
    if any((one.site, one.family) == (site, family) for one in list_registered(home)):
        raise UserError(
            f"site {site} has an adapter {family} already; expected another name; "
            "give --family, or --replace it"
        )


def use(home: Path, site: str, family: str) -> None:
    """Make a family what a site uses; ``shipped`` for the model that ships.

    Raises:
        UserError: the site has no such adapter, or it does not fit this release.
    """
    if family != SHIPPED:
        check_registered(find_registered(home, f"{site}/{family}").path)
    elif not (home / "adapters" / site).is_dir():
        raise UserError(f"site {site} has no adapter; expected a site's name; {_BY_SITE}")
    write_text(home / "adapters" / site / _DEFAULT, family + "\n")


def remove(home: Path, name: str) -> Registered:
    """Delete an adapter.

    Args:
        home: the folder of state.
        name: SITE/FAMILY.

    Raises:
        UserError: there is none, or its site uses it.
    """
    one = find_registered(home, name)
    if one.used:
        raise UserError(
            f"site {one.site} uses {one.name}; expected one that is not in use; "
            f"first `faultwise adapters use {one.site} OTHER`, OTHER may be {SHIPPED}"
        )
    # Renamed first: a folder that is half deleted is no adapter.
    gone = one.path.with_name(f".{one.family}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    one.path.rename(gone)
    shutil.rmtree(gone)
    if not any(one.path.parent.glob(f"*/{CARD}")):
        shutil.rmtree(one.path.parent)
    return one


def draft_folder(home: Path, site: str, family: str) -> Path:
    """Where an adapter is written before `register` gives it its place: empty, on the same disk."""
    draft = home / "adapters" / site / f".{family}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def register(draft: Path, site: str, family: str, chosen: bool = True) -> Registered:
    """Put a finished adapter into its place; one of the same name gives way.

    Args:
        draft: the folder from `draft_folder` for this site and family, with weights and card.
        site: whose it is.
        family: its name there.
        chosen: the site uses it from now on.
    """
    write_sums(draft)
    path = draft.with_name(family)
    if path.is_dir():
        old = path.with_name(f".{family}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        draft.rename(path)
        shutil.rmtree(old)
    else:
        draft.rename(path)
    if chosen:
        write_text(path.parent / _DEFAULT, family + "\n")
    return Registered(site, family, path, chosen)


def load_registered(path: Path, base: Path | None = None) -> tuple[Scorer, AdapterCard]:
    """Load what an adapter's folder holds, whatever its base is: a causal model or an
    encoder-decoder; an adapter, several of them routed, or a model that was tuned whole.

    Args:
        path: the folder with its card.
        base: the base model's folder, where it is not where the card says.

    Raises:
        UserError: something is missing, changed or does not fit.
    """
    check_sums(path)
    card = read_card(path)
    folder = base if base is not None else card.find_base(path)
    adapter = path if (path / "adapter_config.json").is_file() else None
    if is_seq2seq(folder):
        check_card(card, folder)
        return Seq2SeqLLM(folder, adapter), card
    if adapter is None and folder.parent == path.resolve():
        check_card(card, folder)
        return LocalLLM(folder), card
    if adapter is not None and is_routed(adapter):
        from assistant.routed import RoutedLLM  # torch, which looking something up spares

        check_card(card, folder)
        return RoutedLLM(folder, adapter), card
    return load_adapter(path, base)


def check_registered(path: Path, base: Path | None = None) -> AdapterCard:
    """Check all that `load_registered` needs without loading it, and return the card.

    Raises:
        UserError: something is missing, changed or does not fit.
    """
    check_sums(path)
    card = read_card(path)
    folder = base if base is not None else card.find_base(path)
    if (path / "adapter_config.json").is_file() or folder.parent != path.resolve():
        return check_adapter(path, base)
    check_card(card, folder)
    check_model_folder(folder)
    check_tensors(folder)
    return card


def check_single(path: Path, base: Path | None = None) -> AdapterCard:
    """Check as `check_registered` what is to be trained further or added up, which experts cannot.

    Raises:
        UserError: the folder holds several experts, or as `check_registered`.
    """
    card = check_registered(path, base)
    refuse_routed(path)
    return card


def refuse_routed(adapter: Path) -> None:
    """Refuse an adapter's folder that holds several experts.

    Raises:
        UserError: it does.
    """
    if is_routed(adapter):
        raise UserError(
            f"{adapter} chooses among experts; expected one adapter to go on from or to add up; "
            "name one of them"
        )


def is_routed(adapter: Path) -> bool:
    """Whether an adapter's folder holds experts and how to choose among them (`assistant.routed`)."""
    file = adapter / "adapter_config.json"
    return file.is_file() and f'"{ROUTED}"' in read_text(file, "an adapter's configuration")


def check_sums(path: Path) -> None:
    """Check that an adapter's files are what was put there, where that was noted.

    Raises:
        UserError: one is missing or changed.
    """
    if not (path / SUMS).is_file():
        return
    for line in read_text(path / SUMS, "lines of sha256sum").splitlines():
        noted, _, name = line.partition("  ")
        file = path / name
        if not name or ".." in Path(name).parts or not file.is_file() or file_hash(file) != noted:
            raise UserError(
                f"{file} is not what {path / SUMS} was written for; expected it unchanged; "
                "train the adapter again, or copy it whole"
            )


def _read_default(home: Path, site: str) -> str:
    file = home / "adapters" / site / _DEFAULT
    return read_text(file, "a family's name").strip() if file.is_file() else ""
