"""The commands ``nas`` and ``nas-search``.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 ``nas
doctor`` found something broken, 2 a mistake that the message explains, 130 interrupted by Ctrl-C,
143 by SIGTERM. What a command needs is imported inside it, so that ``nas --help`` and ``nas list``
answer at once and load neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.benchmark import bench
from nas.cli.catalogue import catalogue, schema
from nas.cli.compare import EXAMPLES as COMPARE_EXAMPLES
from nas.cli.compare import compare
from nas.cli.data import EXAMPLES as DATA_EXAMPLES
from nas.cli.data import data
from nas.cli.design import EXAMPLES as DESIGN_EXAMPLES
from nas.cli.design import design
from nas.cli.doctor import EXAMPLES as DOCTOR_EXAMPLES
from nas.cli.doctor import doctor
from nas.cli.export import EXAMPLES as EXPORT_EXAMPLES
from nas.cli.export import export
from nas.cli.fit import FIT_EXAMPLES, PREDICT_EXAMPLES, SUGGEST_EXAMPLES, fit, predict, suggest
from nas.cli.latency import EXAMPLES as LATENCY_EXAMPLES
from nas.cli.latency import latency
from nas.cli.rank import EXAMPLES as RANK_EXAMPLES
from nas.cli.rank import rank
from nas.cli.report import EXAMPLES as REPORT_EXAMPLES
from nas.cli.report import report
from nas.cli.score import EXAMPLES as SCORE_EXAMPLES
from nas.cli.score import score
from nas.cli.search import EXAMPLES, search
from nas.cli.train import TRAIN_EXAMPLES, VERIFY_EXAMPLES, train, verify

_SETTINGS = {"help_option_names": ["-h", "--help"]}

# pretty_exceptions: a bug should show Python's own traceback, which people can search for
app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
    help="Zero-shot neural architecture search: find a good network, then train that one.",
)
search_app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=_SETTINGS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from nas.environment import version

        typer.echo(f"nas {version('nas-search') or '(not installed)'}")
        raise typer.Exit


@app.callback()
def _nas(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Find a good network, then train that one."""


app.command("search", epilog=EXAMPLES, no_args_is_help=True)(search)
app.command("list")(catalogue)
app.command("score", epilog=SCORE_EXAMPLES, no_args_is_help=True)(score)
app.command("rank", epilog=RANK_EXAMPLES, no_args_is_help=True)(rank)
app.command("fit", epilog=FIT_EXAMPLES, no_args_is_help=True)(fit)
app.command("predict", epilog=PREDICT_EXAMPLES, no_args_is_help=True)(predict)
app.command("suggest", epilog=SUGGEST_EXAMPLES, no_args_is_help=True)(suggest)
app.command("design", epilog=DESIGN_EXAMPLES, no_args_is_help=True)(design)
app.command("train", epilog=TRAIN_EXAMPLES, no_args_is_help=True)(train)
app.command("verify", epilog=VERIFY_EXAMPLES, no_args_is_help=True)(verify)
app.command("export", epilog=EXPORT_EXAMPLES, no_args_is_help=True)(export)
app.command("report", epilog=REPORT_EXAMPLES, no_args_is_help=True)(report)
app.command("compare", epilog=COMPARE_EXAMPLES, no_args_is_help=True)(compare)
app.command("data", epilog=DATA_EXAMPLES)(data)
app.command("latency", epilog=LATENCY_EXAMPLES, no_args_is_help=True)(latency)
app.command("doctor", epilog=DOCTOR_EXAMPLES)(doctor)
app.command("schema")(schema)
app.add_typer(bench, name="bench")
search_app.command(epilog=EXAMPLES, no_args_is_help=True)(search)


def main() -> None:
    """Run ``nas``."""
    app(prog_name="nas")


def main_search() -> None:
    """Run ``nas-search``."""
    search_app(prog_name="nas-search")
