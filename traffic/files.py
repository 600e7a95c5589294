"""Files of all packages: strict forms, writes that are whole or not at all, one owner of a folder."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from traffic.errors import UserError

Form = TypeVar("Form")
SUMS = "SHA256SUMS"
MOST_NAMED = 5  # mistakes of one file; more are counted
# libyaml where it is built in: it reads the same, ten times as fast.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Strict(BaseModel):
    """A form that knows all its keys: text from outside holds these and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_text(path: Path, expected: str) -> str:
    """Read UTF-8 text.

    Args:
        path: the file.
        expected: what it should be, "a recipe"; stands in the message.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(
            f"{path} cannot be read ({reason}); expected {expected}; check the path"
        ) from error


def parse_yaml(text: str) -> Any:
    """What YAML says, in plain values alone.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, Loader=_YAML_LOADER)  # noqa: S506, both loaders are safe


def read_yaml(path: Path, form: type[Form], expected: str) -> Form:
    """Read YAML of a strict form: a model, or a list or dict of some.

    Raises:
        UserError: it cannot be read, is not YAML, or has other keys or values; all are named.
    """
    text = read_text(path, expected)
    try:
        return TypeAdapter(form).validate_python(parse_yaml(text))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not YAML ({reason}); expected {expected}; correct it"
        ) from error
    except ValidationError as error:
        raise UserError(
            f"{path}: {say_mistakes(error)}; expected {expected}; correct it"
        ) from error


def read_json(path: Path, form: type[Form], expected: str) -> Form:
    """Read JSON of a strict form.

    Raises:
        UserError: it cannot be read, is not JSON, or has other keys or values; all are named.
    """
    try:
        return TypeAdapter(form).validate_json(read_text(path, expected))
    except ValidationError as error:
        raise UserError(
            f"{path}: {say_mistakes(error)}; expected {expected}; correct it"
        ) from error


def say_mistakes(error: ValidationError) -> str:
    """The mistakes of a form, each with its key: "rate: Input should be greater than 0"."""
    problems = [
        f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_url=False, include_input=False)
    ]
    more = len(problems) - MOST_NAMED
    return "; ".join(problems[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its final name, then put it there: a reader or a crash never sees half.

    Yields:
        The draft to write; it is gone where writing failed.

    Raises:
        UserError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); "
            "expected a folder of yours with room; give another"
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over every file below a folder, as ``sha256sum -c`` reads it."""
    files = sorted(one for one in folder.rglob("*") if one.is_file() and one.name != SUMS)
    lines = [f"{file_hash(one)}  {one.relative_to(folder).as_posix()}\n" for one in files]
    write_text(folder / SUMS, "".join(lines))


def own_folder(folder: Path, what: str) -> FileLock:
    """Become the one owner of a folder, until the returned lock is released or the process ends.

    Args:
        folder: made where it is missing; gets the files ``lock`` and ``owner``.
        what: names it in the message, "the knowledge base".

    Raises:
        UserError: another process owns it (which is named), or it cannot be written.
    """
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        owner = f"{os.getpid()} ({' '.join(sys.argv)[:200]})"
        (folder / "owner").write_text(owner, encoding="utf-8")
    except Timeout as error:
        # Beside the lock, since opening the lock empties it.
        owner = (
            (folder / "owner").read_text(encoding="utf-8") if (folder / "owner").exists() else ""
        )
        raise UserError(
            f"{what} {folder} is in use by process {owner or 'unknown'}; "
            "expected one process at a time; end that one first"
        ) from error
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); expected a folder of yours; give another"
        ) from error
    return lock
