"""The help of every command: options under headings, and two examples at the end.

A command is made with `click.command(cls=Command, epilog=examples(...))`, a group with `click.group(cls=Group, ...)`.
Which heading an option comes under is stated here by its name, since the same name means the same in every command.
"""

import click

HEADINGS: dict[str, tuple[str, ...]] = {
    "Model": ("ckpt", "captioner", "filter", "model", "captioner-model", "filter-model", "init", "bert", "vit"),
    "Data": ("data", "images", "train-images", "tasks-dir", "split", "limit", "deep"),
    "Settings": (
        *("k-test", "rerank", "mode", "set", "layout"),
        *("prompt", "top-p", "top-k", "repetition-penalty", "max-length", "min-length"),
        *("verify", "part", "way", "image-size", "batch", "tokens", "texts-per-image", "seconds"),
    ),
    "Computing": ("device", "precision", "amp", "batch-tokens", "workers", "compile", "attention", "seed"),
    "Output": (
        *("out", "resume", "fresh", "on-error", "examples", "kernels", "plot", "trace", "pytest-benchmark", "json"),
    ),
}


def examples(real: str, shapes: str) -> str:
    """An epilog of two command lines. The last one works without a download, after `data make shapes --out data`."""
    return f"Examples:\n  {real}\n  {shapes}\n"


class _WithExamples(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog)  # as it is: click would indent it and break its lines


class Group(_WithExamples, click.Group):
    """A group of commands whose help ends with examples."""


class Command(_WithExamples):
    """A command whose help shows its options under headings and ends with examples."""

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
