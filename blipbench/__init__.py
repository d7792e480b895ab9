"""blipbench measures BLIP, and models that do BLIP's jobs, on the standard vision-language benchmarks."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("blipbench")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
