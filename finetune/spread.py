"""Tune in several processes or on several machines (A6): `finetune sft --spread FILE.yaml`.

    texts, knobs ─▶ work/spread/ ─▶ accelerate launch ─▶ process 0 … n ─▶ weights ─▶ calibration …
                                    each reads its share of a batch

A step reads the same texts as in one process, so the loss is the same; ``FILE`` is an accelerate
configuration, `finetune/recipes/` has some. Only the training is spread: captures are read and
weights are calibrated once, by the command itself.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pandas as pd
import torch
from accelerate.commands.config.config_args import load_config_from_file

from assistant.offline import go_offline
from finetune.pace import find_checkpoint
from finetune.sft import Knobs, Tuned, train
from finetune.sites.cards import TUNED, read_tuned, write_tuned
from traffic.errors import UserError
from traffic.files import write_text

_TEXTS, _HELD_OUT = "texts.parquet", "held-out.parquet"
_JOB, _DONE, _REFUSED = "job.json", "done.json", "refused.txt"
_LOOK_S = 0.5
_TAIL = 2000  # characters of what failed that are shown


def check_spread(file: Path, batch: int) -> int:
    """How many processes an accelerate configuration starts.

    Raises:
        UserError: it is none, needs a library that is not there, or a batch cannot be shared out
            evenly.
    """
    try:
        config = load_config_from_file(str(file))
        kind, count = str(getattr(config.distributed_type, "value", "")), int(config.num_processes)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file} is no configuration of accelerate ({str(error).splitlines()[0][:200]}); expected "
            "YAML as in finetune/recipes/ddp-cpu.yaml; correct it"
        ) from error
    if count < 1 or batch % count:
        raise UserError(
            f"{file} starts {count} processes for batches of {batch}; expected a batch that can be shared "
            "out evenly; change --batch"
        )
    if kind == "DEEPSPEED" and find_spec("deepspeed") is None:
        raise UserError(
            f"{file} asks for DeepSpeed, which is not installed; expected it beside this project; "
            "`pip install deepspeed`, or choose another file"
        )
    if kind in ("FSDP", "DEEPSPEED") and not torch.cuda.is_available():
        raise UserError(
            f"{file} asks for {kind}, which accelerate has for GPUs only, and this machine shows none; "
            "expected one; choose finetune/recipes/ddp-cpu.yaml"
        )
    return count


def train_spread(
    file: Path,
    base: Path,
    texts: pd.DataFrame,
    out: Path,
    work: Path,
    knobs: Knobs,
    held_out: pd.DataFrame | None = None,
    begin: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Tune a base as `finetune.sft.train` does, in processes that accelerate starts.

    Args:
        file: accelerate's configuration.
        base, texts, out, work, knobs, held_out, begin, progress: as `finetune.sft.train` has them.

    Raises:
        UserError: the configuration does not fit, or a process failed; its last words are shown.
    """
    check_spread(file, knobs.batch)
    find_checkpoint(work)  # deletes what is half written before several look at it
    said = {
        "base": str(base), "out": str(out), "work": str(work), "knobs": asdict(knobs),
        "begin": None if begin is None else str(begin), "parent": os.getpid(),
    }  # fmt: skip
    job = _write_job(work / "spread", said, texts, held_out)
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    command = [*launcher, "--config_file", str(file), "--module", "finetune.spread", str(job)]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    with TemporaryFile("w+") as said_by_them:
        running = subprocess.Popen(  # noqa: S603  our own module, by a list of arguments
            command, stdout=said_by_them, stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip
        try:
            while running.poll() is None:
                time.sleep(_LOOK_S)
                _tell(job / _DONE, progress)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
        if (job / _REFUSED).is_file():
            raise UserError((job / _REFUSED).read_text(encoding="utf-8"))
        if running.returncode:
            said_by_them.seek(0)
            raise UserError(
                f"training in several processes ended with {running.returncode}; expected it to end well; "
                f"their last words: {said_by_them.read()[-_TAIL:]}"
            )
    tuned = read_tuned(out)
    (out / TUNED).unlink()  # the caller notes it
    return tuned


def _write_job(
    job: Path, said: Mapping[str, object], texts: pd.DataFrame, held_out: pd.DataFrame | None
) -> Path:
    """The folder from which every process reads what to do, without what an earlier job left."""
    job.mkdir(parents=True, exist_ok=True)
    for stale in (_HELD_OUT, _DONE, _REFUSED):
        (job / stale).unlink(missing_ok=True)
    texts.to_parquet(job / _TEXTS, index=False)
    if held_out is not None:
        held_out.to_parquet(job / _HELD_OUT, index=False)
    write_text(job / _JOB, json.dumps(said))
    return job


def _tell(file: Path, progress: Callable[[int, int], None] | None) -> None:
    if progress is not None and file.is_file():
        done, of = json.loads(file.read_text(encoding="utf-8"))
        progress(done, of)


# ---- In each process ----


def run(job: Path) -> None:
    """Do a process's part of a job; the first one writes what came of it."""
    go_offline()
    given: dict[str, Any] = json.loads((job / _JOB).read_text(encoding="utf-8"))
    first = os.environ.get("RANK", "0") == "0"

    def tell(done: int, of: int) -> None:
        try:
            os.kill(given["parent"], 0)
        except ProcessLookupError:  # killed: nobody would take what comes
            sys.exit(1)
        if first:
            write_text(job / _DONE, json.dumps([done, of]))

    # On another machine the number of a process means nothing.
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    held_out, begin = job / _HELD_OUT, given["begin"]
    base, out, work = (Path(given[name]) for name in ("base", "out", "work"))
    try:
        tuned = train(
            base,
            pd.read_parquet(job / _TEXTS),
            out,
            work,
            Knobs(**given["knobs"]),
            pd.read_parquet(held_out) if held_out.is_file() else None,
            Path(begin) if begin else None,
            tell if alone else None,
        )
    except UserError as mistake:
        write_text(job / _REFUSED, str(mistake))
        sys.exit(1)
    if first:
        write_tuned(tuned, out)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
