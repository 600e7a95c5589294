"""The run's folder: every fit is written when it ends, so a run that is killed goes on and counts nothing twice.

fits.jsonl          one row of results a line, appended
<key>.npz           what the row was made of; written before its line
"""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from eval.fits import Fit, Fitted
from eval.judged import Judged, read_judged, write_judged
from eval.results import Row
from traffic.errors import UserError

__all__ = ["Ledger"]


class Ledger(contextlib.AbstractContextManager["Ledger"]):
    """Fits that ended, on disk. One process at a time may hold a run's folder."""

    def __init__(self, folder: Path) -> None:
        """Open a run's folder, and read what is there.

        Raises:
            UserError: it cannot be made, or another process holds it.
        """
        self._folder = folder
        self._file = _open(folder)
        self._rows: dict[Fit, Row] = {}
        self._read()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def rows(self) -> dict[Fit, Row]:
        """Every fit that ended, once."""
        return dict(self._rows)

    def add(self, fit: Fit, fitted: Fitted) -> None:
        """Write a fit that ended; when this returns it is on disk."""
        write_judged(fitted.judged, self._path(fit))
        self._file.write(fitted.row.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._rows[fit] = fitted.row

    def judged(self, fit: Fit) -> Judged:
        """What a fit that ended said."""
        return read_judged(self._path(fit))

    def _read(self) -> None:
        """Keep whole lines; what a kill cut short goes, so that the next line begins where one should."""
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                row = Row.model_validate_json(line)
            except ValidationError:
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            fit = Fit(row.model, row.fold, row.setting, row.labelling, row.seed)
            if self._path(fit).is_file():
                self._rows[fit] = row
        self._file.truncate(whole)
        self._file.seek(whole)

    def _path(self, fit: Fit) -> Path:
        key = "\n".join([fit.model, fit.fold, fit.setting, fit.labelling, str(fit.seed)])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _open(folder: Path) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "fits.jsonl").open("a+b")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); expected a writable folder; change --out"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(
            f"{folder} belongs to a run that goes on; expected one run of a name at a time; wait, or give another --out"
        ) from error
    return file
