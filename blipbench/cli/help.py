"""The help of every command: options under headings, and two examples at the end.

A command is made with `click.command(cls=Command, epilog=examples(...))`. Which heading an option comes under is stated
here by its name, since the same name means the same in every command.
"""

import click

HEADINGS: dict[str, tuple[str, ...]] = {
    "Model": ("ckpt", "captioner", "filter", "model", "captioner-model", "filter-model", "init", "bert", "vit"),
    "Data": ("data", "images", "train-images", "tasks-dir", "split", "limit", "deep"),
    "Settings": (
        *("k-test", "rerank", "mode", "set", "layout"),
        *("prompt", "top-p", "top-k", "repetition-penalty", "max-length", "min-length"),
    ),
    "Computing": ("device", "precision", "amp", "batch-tokens", "workers", "seed"),
    "Output": ("out", "resume", "fresh", "on-error", "examples", "plot", "json"),
}


def examples(*lines: str) -> str:
    """An epilog that click prints line by line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


class Command(click.Command):
    """A command whose help shows its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (row := option.get_help_record(ctx)) is not None:
                rows.setdefault(heading_of(option), []).append(row)
        for heading in (*HEADINGS, "Other options"):
            if heading in rows:
                with formatter.section(heading):
                    formatter.write_dl(rows[heading])


def heading_of(option: click.Parameter) -> str:
    flag = option.opts[0].removeprefix("--")
    return next((heading for heading, flags in HEADINGS.items() if flag in flags), "Other options")
