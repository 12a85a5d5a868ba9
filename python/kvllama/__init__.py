"""Runs of kvllama in Python: start the command, load what it wrote.

>>> import kvllama
>>> kvllama.run(["exp", "--policy", "random", "--ratio", "0.5", "--out", "results/half"])  # doctest: +SKIP
>>> run = kvllama.load("results/half")  # doctest: +SKIP
>>> run.trials.groupby("condition")["mean_score"].mean()  # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "binary", "load", "run"]


def binary() -> str:
    """The path of the `kvllama` command: the one in this environment, else the first on PATH."""
    name = "kvllama.exe" if os.name == "nt" else "kvllama"
    here = Path(sysconfig.get_path("scripts")) / name
    found = str(here) if here.is_file() else shutil.which(name)
    if found is None:
        raise FileNotFoundError("the kvllama command is neither in this environment nor on PATH")
    return found


def run(arguments: Sequence[str | os.PathLike], **options: Any) -> subprocess.CompletedProcess:
    """Runs `kvllama` with these arguments and waits for it; `options` go to `subprocess.run`.

    Raises `subprocess.CalledProcessError` if it fails (exit code 1), refuses its input (2) or is interrupted (130),
    unless `check=False` is given.

    >>> print(run(["--version"], capture_output=True, text=True).stdout.split()[0])
    kvllama
    """
    return subprocess.run([binary(), *map(os.fspath, arguments)], **{"check": True, **options})


@dataclass(frozen=True)
class Run:
    """A run: its rows as DataFrames with typed columns (docs/export.md), and its manifest."""

    #: One row per trial: the columns of trials.csv.
    trials: pd.DataFrame
    #: One row per trial and instruction, with the axes of the condition and the reason of the rule's verdict.
    instructions: pd.DataFrame
    #: The content of manifest.json.
    manifest: dict


def load(directory: str | os.PathLike) -> Run:
    """Loads a run directory, also while the run goes on. Needs pandas and pyarrow (`pip install kvllama[pandas]`)."""
    import pandas as pd

    directory = Path(directory)
    with tempfile.TemporaryDirectory() as place:
        arguments = ["export", directory, "--to", "parquet", "--out", place]
        done = run(arguments, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr.removeprefix("error: ").strip())
        trials, instructions = (pd.read_parquet(Path(place) / f"{name}.parquet") for name in ("trials", "instructions"))
    return Run(trials, instructions, json.loads((directory / "manifest.json").read_text("utf-8")))
