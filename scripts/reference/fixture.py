"""Writes the files of a fixture, or verifies them: what scores.py, variants.py and chats.py do at their end."""

import argparse

import numpy as np
from make_fixture import TOLERANCE


def main(description, folder, make):
    """Makes the files, by name a text or a tensor, and keeps them in `folder`; with --check compares them with what is there."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="verify the files that are there, write nothing")
    arguments = parser.parse_args()
    files = make()
    if not arguments.check:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.iterdir():
            stale.unlink()
    elif files.keys() != (there := {path.name for path in folder.iterdir()}):
        raise SystemExit(f"{folder} holds other files than are made: {sorted(files.keys() ^ there)}")
    for name, made in files.items():
        path = folder / name
        if not arguments.check:
            path.write_text(made) if name.endswith(".json") else np.save(path, made.numpy().astype(np.float32))
        elif name.endswith(".json"):
            if path.read_text() != made:
                raise SystemExit(f"{path} is not what this script makes")
        elif np.abs(np.load(path) - made.numpy()).max() > TOLERANCE:
            raise SystemExit(f"{path} is not what this script makes")
    if arguments.check:
        print(f"{folder}: all {len(files)} files are reproduced")
