"""Oracles that misbehave on purpose; in a module of their own, so that worker processes can import them."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from ase.calculators.emt import EMT

from eqpot.graph import Labels, Structure
from eqpot.oracles import Oracle

HELIUM, POISON, HANGS, NOT_A_NUMBER, HARD, NO_SPACE = 2, 10, 18, 36, 54, 86
STUCK = 0.5


def nap(folder):
    """Seconds that the programs of a hanging label sleep: by them they are found in the list of processes."""
    return f"1000.{crc32(str(folder).encode())}"


def atom(x, number=HELIUM):
    """One atom; its energy is x [eV]."""
    return Structure([number], [[float(x), 0, 0]])


def stuck(x):
    """An atom that one iteration leaves 20 eV too high, as in another electronic state."""
    return Structure([HELIUM], [[float(x), STUCK, 0]])


@dataclass(frozen=True, eq=False)
class Fake(Oracle):
    """The energy is x of the first atom. What it computed stands in `folder`/computed, a line per structure."""

    folder: str = ""
    iterations: int = 1
    seconds: float = 0.0
    hangs: bool = True
    kill_at: float = -1.0
    victim: str = "server"

    @property
    def name(self):
        return "fake"

    @property
    def settings(self):
        return {"oracle": "fake", "scf": {"iterations": self.iterations}}

    @property
    def aids(self):
        return ("scf.iterations",)

    def compute(self, structure):
        number, x = int(structure.numbers[0]), float(structure.positions[0, 0])
        time.sleep(self.seconds)
        if x == self.kill_at and not (Path(self.folder) / "killed").exists():
            (Path(self.folder) / "killed").touch()
            os.kill({"server": os.getpid(), "guard": os.getppid(), "asker": int(sys.argv[1])}[self.victim], signal.SIGKILL)
            time.sleep(60)
        if number == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == HANGS and self.hangs:
            tempfile.mkdtemp(prefix=nap(self.folder))
            subprocess.Popen(["sh", "-c", f"trap '' TERM; sleep {nap(self.folder)}; true"])
            subprocess.run(["sleep", nap(self.folder)], process_group=0)
        if number == NO_SPACE and not (Path(self.folder) / "freed").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "wavefunctions")
        with (Path(self.folder) / "computed").open("a") as file:
            file.write(f"{x} {Path.cwd()}\n")
        if number == HARD and self.iterations < 2:
            raise RuntimeError("SCF not converged")
        x += 20.0 * (self.iterations < 2 and structure.positions[0, 1] == STUCK)
        return Labels(energy=np.nan if number == NOT_A_NUMBER else x, forces=np.zeros((len(structure), 3)))


class SlowEMT(EMT):
    """EMT that takes its time."""

    def calculate(self, *args, **kwargs):
        time.sleep(0.2)
        super().calculate(*args, **kwargs)


def computed(folder):
    """x of all that was computed, in order."""
    file = Path(folder) / "computed"
    return [float(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []


def processes(*words):
    """Running processes whose command has all the words."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if entry.name.isdigit() and all(word.encode() in command for word in words):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(*words, within_s=10.0):
    """Whether no such process is left before the time is over."""
    deadline = time.monotonic() + within_s
    while processes(*words) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes(*words)


def until(condition, within_s=60.0):
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def lines(store):
    """Whole lines in a store on disk."""
    file = Path(store) / "labels.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0
