"""Labels on a cluster: Parsl holds jobs of SLURM, in which worker processes label, and gives them back when there is nothing to do.

    pip install -e '.[parsl]'
    python train/label_on_slurm.py dft.yaml structures.extxyz -o labels.extxyz --local      # two workers on this machine, to try it
    python train/label_on_slurm.py dft.yaml structures.extxyz -o labels.extxyz              # on the login node, inside tmux or screen

It is `eqpot label` on many machines: every answer is kept in OUT.labels as it comes, and the same command goes on after an interruption. What a cluster
wants to know stands in `JOB` and must be changed; the environment of the driver must be at the same place on the nodes.
"""

import argparse
import os
import sys
from pathlib import Path

from eqpot.active import label, load_oracle, write_labels
from eqpot.cli.console import progress_bar, status
from eqpot.core.errors import EqpotError
from eqpot.data import LabelKeys, read

JOB = {
    "partition": "cpu",
    "account": "my-project",
    "nodes_per_block": 1,
    "max_blocks": 20,
    "walltime": "01:00:00",
    "scheduler_options": "#SBATCH --exclusive",
    "worker_init": f"source {sys.prefix}/bin/activate",
}
"""One job (a block, in Parsl's words); see `parsl.providers.SlurmProvider`."""
WORKERS = 16
"""Labels at a time on a node, with one thread each."""
LONGEST = 3000.0
"""Wall time for one label [s], shorter than the job's."""
DRAIN = 3300
"""Age at which a job takes no more labels [s], so that those at work can end before it does."""


def make_executor(local: bool):
    """Parsl as a `concurrent.futures.Executor`; its log goes to runinfo/."""
    from parsl import Config, HighThroughputExecutor  # pyright: ignore[reportMissingImports]
    from parsl.concurrent import ParslPoolExecutor  # pyright: ignore[reportMissingImports]
    from parsl.launchers import SingleNodeLauncher  # pyright: ignore[reportMissingImports]
    from parsl.providers import LocalProvider, SlurmProvider  # pyright: ignore[reportMissingImports]

    # Parsl starts programs of its own, which it looks for on the path.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if local:
        provider = LocalProvider(init_blocks=1, max_blocks=1)
        pilot = HighThroughputExecutor(label="labels", address="127.0.0.1", max_workers_per_node=2, provider=provider)
        return ParslPoolExecutor(Config(executors=[pilot], strategy="none"))
    provider = SlurmProvider(init_blocks=0, min_blocks=0, launcher=SingleNodeLauncher(), **JOB)
    pilot = HighThroughputExecutor(
        label="labels", max_workers_per_node=WORKERS, heartbeat_period=30, heartbeat_threshold=120, drain_period=DRAIN, provider=provider
    )
    return ParslPoolExecutor(Config(executors=[pilot], strategy="simple", max_idletime=120))


def main() -> None:
    """Read, label, write."""
    parser = argparse.ArgumentParser(description="Label structures on a cluster; see the text of this file.")
    parser.add_argument("oracle", help="gfn2, gfn1, emt, or a YAML file (docs/labelling.md)")
    parser.add_argument("structures", nargs="+", help="extended XYZ files; labels in them are ignored")
    parser.add_argument("-o", "--output", type=Path, required=True, help="extended XYZ file to write")
    parser.add_argument("--local", action="store_true", help="two workers on this machine instead of SLURM")
    given = parser.parse_args()
    output = given.output
    if output.exists():
        raise EqpotError(f"{output}: exists; remove it or use another name")
    oracle, alternatives = load_oracle(given.oracle)
    frames = read(given.structures, keys=LabelKeys.none()).frames
    with make_executor(given.local) as executor, progress_bar("failed") as progress:
        task = progress.add_task(oracle.name, total=len(frames), failed="")
        found = label(
            oracle,
            frames,
            output.with_name(f"{output.name}.labels"),
            executor=executor,
            alternatives=alternatives,
            time_limit_s=LONGEST,
            on_progress=lambda done, total, failed: progress.update(task, completed=done, failed=f"{failed} failed" if failed else ""),
        )
    for failure in found.failures:
        status.print(f"failed: {failure.reason}")
    if len(found.frames):
        write_labels(output, found)
    status.print(f"{found.counts} in {found.seconds:.0f} s: {output if len(found.frames) else 'nothing to write'}")


if __name__ == "__main__":
    try:
        main()
    except EqpotError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}; install the extra: pip install -e '.[parsl]'")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was labelled is kept: the same command goes on")
