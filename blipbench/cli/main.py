"""The command line: the group of all commands. Each command parses, calls one function, and prints.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 1 failed, incomplete or suspect; 2 wrong usage;
70 an internal error.
"""

from typing import Any

import click

from blipbench import __version__
from blipbench.cli.ask import ask
from blipbench.cli.capfilt import capfilt
from blipbench.cli.caption import caption
from blipbench.cli.ckpt import ckpt
from blipbench.cli.data import data
from blipbench.cli.doctor import doctor
from blipbench.cli.errors import explained
from blipbench.cli.help import Group, examples
from blipbench.cli.interrupt import stoppable
from blipbench.cli.list import list_command
from blipbench.cli.match import match
from blipbench.cli.profile import profile
from blipbench.cli.run import run
from blipbench.cli.score import score
from blipbench.cli.show import show
from blipbench.cli.table import table
from blipbench.cli.train import train


class Program(Group):
    """Prints every error as a message with an exit code, never as a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with explained(debug=False):  # --help and --version print already here
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable(self, ctx), explained(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@click.group(
    cls=Program,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "BLIPBENCH",
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
    epilog=examples(
        "blipbench run retrieval_coco --ckpt model_base_retrieval_coco.pth --data DIR",
        "blipbench list",
    ),
)
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Measure BLIP on the standard vision-language benchmarks."""


COMMANDS = (run, profile, score, table, list_command, show, caption, ask, match, train, capfilt, data, ckpt, doctor)
for command in COMMANDS:
    main.add_command(command)
