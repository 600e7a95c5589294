"""The run's folder: every fit is written when it ends, so a run that is killed goes on and counts
nothing twice.

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

from eval.detection.fit import Fit, Fitted
from eval.detection.predictions import Judged, read_judged, write_judged
from eval.results import Row
from traffic.errors import UserError

_FITS = "fits.jsonl"


class Ledger(contextlib.AbstractContextManager["Ledger"]):
    """Fits that ended, on disk. One run at a time may hold a folder.

    Attributes:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        """Open a run's folder, and read what is there.

        Raises:
            UserError: it cannot be made, or another process holds it.
        """
        self.folder = folder
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
        write_fit(self.folder, fit, fitted)
        self.remember(fitted.row)

    def remember(self, row: Row) -> None:
        """Take note of a fit that another process wrote."""
        self._rows[_fit_of(row)] = row

    def judged(self, fit: Fit) -> Judged:
        """What a fit that ended said."""
        return read_judged(_path(self.folder, fit))

    def _read(self) -> None:
        """Keep whole lines; what a kill cut short goes, so that the next line begins where one
        should."""
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
            if _path(self.folder, _fit_of(row)).is_file():
                self.remember(row)
        self._file.truncate(whole)


def write_fit(folder: Path, fit: Fit, fitted: Fitted) -> None:
    """Write a fit that ended to a run's folder, from whichever process made it; one line is one
    write."""
    write_judged(fitted.judged, _path(folder, fit))
    line = fitted.row.model_dump_json().encode() + b"\n"
    file = os.open(folder / _FITS, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def _fit_of(row: Row) -> Fit:
    return Fit(row.model, row.fold, row.setting, row.labelling, row.seed)


def _path(folder: Path, fit: Fit) -> Path:
    key = "\n".join([fit.model, fit.fold, fit.setting, fit.labelling, str(fit.seed)])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _open(folder: Path) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _FITS).open("a+b")
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
