"""The `eqpot` command.

Faults of the input end in one line on standard error and exit code 1, wrong usage in code 2, an interrupt in 130; `--debug` shows the traceback.
"""

import functools
import importlib.metadata
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from eqpot.cli.active import active
from eqpot.cli.calibrate import calibrate
from eqpot.cli.config import config
from eqpot.cli.evaluate import evaluate
from eqpot.cli.fit import fit
from eqpot.cli.generate import generate
from eqpot.cli.inspect import inspect
from eqpot.cli.label import label
from eqpot.cli.learning_curve import learning_curve
from eqpot.cli.md import md
from eqpot.cli.neb import neb
from eqpot.cli.novelty import novelty
from eqpot.cli.prepare import prepare
from eqpot.cli.relax import relax
from eqpot.core.cache import use_compilation_cache
from eqpot.core.errors import EqpotError

app = typer.Typer(
    name="eqpot",
    help="Equivariant interatomic potentials with honest uncertainty: inspect data, fit, evaluate, run dynamics, relax.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with faults turned into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            _fail("interrupted; what was finished is saved", 130)
        except (EqpotError, OSError, MemoryError) as error:
            if "--debug" in sys.argv:
                raise
            _fail(" ".join(str(error).split()) or type(error).__name__, 1)

    return run


def _fail(message: str, code: int) -> NoReturn:
    print(f"eqpot: {message}", file=sys.stderr)
    sys.exit(code)


for verb in (inspect, prepare, fit, learning_curve, evaluate, calibrate, novelty, md, relax, neb, generate, label, active, config):
    app.command()(guarded(verb))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"eqpot {importlib.metadata.version('eqpot')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Equivariant interatomic potentials with honest uncertainty: inspect data, fit, evaluate, run dynamics, relax."""
    del debug, version


def _terminate(number: int, frame: Any) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGTERM, _terminate)  # a scheduler's signal is an interrupt: state is saved before the end
    use_compilation_cache()
    app()


if __name__ == "__main__":
    main()
