"""Many sites, one adapter: adapters travel, traffic does not (A6, A17).

    site:    adapter ─▶ weights, configuration and card ─▶ SHA256SUMS ─▶ signed   `adapters export`
    anyone:  packets ─▶ trusted? whole? of one base? ─▶ merged exactly ─▶ card     `finetune federate`

A packet is a folder that travels on a stick. SHA256SUMS names each of its files, and SHA256SUMS.sig
is its Ed25519 signature (RFC 8032) by the site's key: who takes it gives the public keys that he
trusts, and nothing of a packet is read before its signature holds. The texts that an adapter
learned from, and what was usual at its site, stay where they are. What an adapter itself tells of
them is measured by ``python -m eval.research.federate``.
"""

import base64
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from assistant.llm.adapters import CARD, read_card, write_card
from assistant.registry import (
    Registered,
    check_free,
    check_name,
    check_single,
    check_sums,
    draft_folder,
    find_registered,
    list_registered,
    register,
)
from finetune.sites.cards import relative_base
from finetune.sites.merge import How, merge
from traffic.errors import UserError
from traffic.files import SUMS, read_text, write_sums, write_text

SIGNATURE = f"{SUMS}.sig"
FAMILY = "federated"
# A packet's files, and no others: kept texts and what was usual are the site's own.
_WEIGHTS = ("adapter_config.json", "adapter_model.safetensors")
_FILES = {*_WEIGHTS, CARD, SUMS, SIGNATURE}


@dataclass(frozen=True)
class Packet:
    """An exported adapter.

    Attributes:
        folder: of its files.
        public_key: what others need to trust it.
        new_key: the key was made for it.
    """

    folder: Path
    public_key: Path
    new_key: bool


def export_adapter(home: Path, name: str, key: Path, out: Path) -> Packet:
    """Write a site's adapter, signed, into a folder that can travel.

    Args:
        home: the folder of state.
        name: SITE/FAMILY, or SITE for the one that it uses.
        key: the site's private key; made, readable by its owner alone, where it is missing. The
            public one lies beside it as ``KEY.pub``.
        out: a folder that does not exist yet.

    Raises:
        UserError: the adapter is missing, changed or no single adapter, the key is no such key, or
            the folder is there.
    """
    one = find_registered(home, name)
    card = check_single(one.path)
    if not (one.path / _WEIGHTS[0]).is_file():
        raise UserError(
            f"{one.name} is a model that was tuned whole; expected an adapter; leave it out"
        )
    if out.exists():
        raise UserError(f"{out} is there already; expected a new folder; give another --out")
    private, made = _load_or_make_key(key)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for file in _WEIGHTS:
        shutil.copyfile(one.path / file, draft / file)
    # Whoever takes it has the base somewhere else; its fingerprint on the card is what counts.
    write_card(card.model_copy(update={"base": "base", "name": one.name}), draft)
    write_sums(draft)
    signed = base64.b64encode(private.sign((draft / SUMS).read_bytes())).decode()
    write_text(draft / SIGNATURE, signed + "\n")
    draft.rename(out)
    return Packet(out, _public_file(key), made)


def federate(
    home: Path,
    packets: Sequence[Path],
    trusted: Sequence[Path],
    base: Path,
    site: str,
    family: str = FAMILY,
    how: How = "cat",
    weights: Sequence[float] = (),
    data: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Registered:
    """Take adapters of several sites and merge them into one.

    Each is registered under its own site too, which does not use it; nothing is registered unless
    all of them hold.

    Args:
        home: the folder of state.
        packets: folders that `export_adapter` wrote.
        trusted: public keys of the sites.
        base: the base that all of them belong to.
        site: whose the result is.
        family: its name there.
        how: exactly, or as small as its largest part, see `finetune.sites.merge`.
        weights: of each, by default equal and 1 together.
        data: labelled captures to calibrate on, which none of them learned from.
        progress: of the reading of captures.

    Raises:
        UserError: a packet is not signed by a trusted key, changed, of another base or release, two
            are of one name, or as `finetune.sites.merge.merge`.
    """
    check_name(site, "site")
    check_free(home, site, check_name(family, "family"))
    if len(packets) < 2:
        raise UserError(
            f"{len(packets)} packet; expected two or more to merge; `faultwise adapters use` takes "
            "one that is alone"
        )
    keys = [_load_public_key(path) for path in trusted]
    names = [check_packet(packet, keys, base) for packet in packets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{twice.pop()} came twice; expected each adapter once; leave one out")
    registered = {one.name: one for one in list_registered(home)}
    for packet, name in zip(packets, names, strict=True):
        if name in registered and not _is_same(registered[name].path, packet):
            raise UserError(
                f"{name} is registered here with other weights; expected one adapter of a name; "
                "remove the older one with `faultwise adapters remove`"
            )
    for packet, name in zip(packets, names, strict=True):
        if name not in registered:
            _take(home, packet, name, base)
    return merge(home, names, site, family, how, weights, data, progress)


def check_packet(packet: Path, keys: Sequence[Ed25519PublicKey], base: Path) -> str:
    """SITE/FAMILY of a packet that a trusted key signed, whole and of a base.

    Raises:
        UserError: it is not.
    """
    noted = packet / SUMS
    if not noted.is_file() or not (packet / SIGNATURE).is_file():
        raise UserError(
            f"{packet} holds no {SUMS} with its {SIGNATURE}; expected a folder that `faultwise adapters "
            "export` wrote; ask its site for one"
        )
    if not any(_holds(key, noted, packet / SIGNATURE) for key in keys):
        raise UserError(
            f"{packet / SIGNATURE} is by none of the {len(keys)} trusted keys, or {SUMS} was changed; "
            "expected the signature of a site that you trust; get its public key by a way you trust, "
            "and give it as --trust"
        )
    if extra := sorted({one.name for one in packet.iterdir()} - _FILES):
        raise UserError(
            f"{packet / extra[0]} is not part of a packet; expected {', '.join(sorted(_FILES))}; "
            "delete it"
        )
    listed = {line.partition("  ")[2] for line in read_text(noted, "sums").splitlines()}
    if listed != {*_WEIGHTS, CARD}:
        raise UserError(
            f"{noted} names {', '.join(sorted(listed)) or 'nothing'}; expected weights, "
            "configuration and card; ask its site to export it again"
        )
    check_sums(packet)
    card = check_single(packet, base)
    site, _, family = card.name.partition("/")
    check_name(site, "site")
    check_name(family, "family")
    return card.name


def _take(home: Path, packet: Path, name: str, base: Path) -> None:
    """Register a packet's adapter; its site goes on with what it uses."""
    site, _, family = name.partition("/")
    draft = draft_folder(home, site, family)
    for file in _WEIGHTS:
        shutil.copyfile(packet / file, draft / file)
    card = read_card(packet)
    write_card(card.model_copy(update={"base": relative_base(base, draft)}), draft)
    register(draft, site, family, chosen=False)


def _is_same(registered: Path, packet: Path) -> bool:
    """Whether an adapter's weights are those of a packet."""
    file = _WEIGHTS[1]
    there = registered / file
    return there.is_file() and there.read_bytes() == (packet / file).read_bytes()


# ---- Keys ----


def _load_or_make_key(path: Path) -> tuple[Ed25519PrivateKey, bool]:
    if path.exists():
        return _load_private_key(path), False
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    write_text(_public_file(path), public.decode())
    return key, True


def _public_file(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def _load_private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def _load_public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def _no_key(path: Path, kind: str) -> UserError:
    return UserError(
        f"{path} is no {kind} key; expected Ed25519 in PEM, without a password; `faultwise adapters "
        "export --key` makes a pair"
    )


def _holds(key: Ed25519PublicKey, signed: Path, signature: Path) -> bool:
    try:
        key.verify(base64.b64decode(signature.read_bytes()), signed.read_bytes())
    except (InvalidSignature, ValueError):
        return False
    return True
