"""The device and precision of a run: resolves `--device`, `--precision` and `--amp` into a `Runtime`."""

import contextlib
import dataclasses
import platform
import resource
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blipbench.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# The largest accepted deviation in the self-check, relative to the largest plain float32 value. bf16 has 8 bits of
# mantissa, fp16 and tf32 have 11, and errors grow over a dozen layers. Float32 noise is about 1e-6.
DEVIATION_BOUNDS = {"fp32": 1e-4, "tf32": 2e-2, "bf16": 1e-1, "fp16": 2e-2}


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The device, the precision and the memory limits of a run.

    `batch_tokens` limits the tokens in one forward pass. `cache_bytes` limits the caches that avoid recomputation: half
    for image tokens, half for text states.
    """

    device: torch.device
    precision: str
    batch_tokens: int
    cache_bytes: int

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]

    @property
    def batches_ahead(self) -> int:
        """Batches to submit before the result of the first is read, so that a GPU computes while results are kept."""
        return 8 if self.device.type == "cuda" else 0

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def describe(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return cpu_name()

    def peak_memory(self) -> dict[str, int]:
        """Peak resident memory of this process and, on a GPU, peak memory that torch allocated, in bytes."""
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
        allocated = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return {"peak_rss_bytes": resident, "peak_device_bytes": allocated}


def upload(array: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """A copy of the array on the device. Does not wait for a GPU, which copies from page-locked memory meanwhile."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Fetch:
    """A tensor on its way to the CPU. `wait` returns it, and waits only for the work before the copy."""

    def __init__(self, tensor: Tensor) -> None:
        self._copy, self._copied = tensor, None
        if tensor.device.type == "cuda":
            self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._copy.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> Tensor:
        if self._copied is not None:
            self._copied.synchronize()
        return self._copy


def use_tf32(use: bool) -> None:
    """Whether float32 products on a GPU are computed in tf32. It holds for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = use


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 products in full float32, even if the run's precision is tf32. Used by the self-check."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextlib.contextmanager
def fixed_shapes() -> Iterator[None]:
    """Allow cuDNN's attention. It plans a kernel for every new shape, in 50 ms and more, so shapes have to recur."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def make_runtime(device: str | None, precision: str, batch_tokens: int | None = None, local_rank: int = 0) -> Runtime:
    """Resolve the flags. If `device` is None, use the GPU of this rank if there is one, or else the CPU."""
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: unknown precision; use one of {', '.join(PRECISIONS)}")
    if device is None:
        device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a device; use cpu, cuda or cuda:N") from error
    if where.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: not supported; use cpu, cuda or cuda:N")
    if where.type == "cuda":
        where = _cuda_device(where, local_rank)
        torch.cuda.set_device(where)
        use_tf32(precision == "tf32")
        torch.backends.cuda.enable_cudnn_sdp(False)  # see fixed_shapes
    elif precision in ("tf32", "fp16"):
        raise UsageError(f"--precision {precision} requires a GPU; use fp32, or bf16 if the processor supports it")
    if where.type == "cuda":
        default_tokens, cache_bytes = 65536, torch.cuda.mem_get_info(where)[0] // 2
    else:
        default_tokens, cache_bytes = 1536, 128 * 2**20
    return Runtime(where, precision, batch_tokens or default_tokens, cache_bytes)


def _cuda_device(device: torch.device, local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: found no usable CUDA GPU (`blipbench doctor` says why); use --device cpu")
    index = local_rank if device.index is None else device.index
    count = torch.cuda.device_count()
    if index >= count:
        raise UsageError(f"--device cuda:{index}: this machine has {count} GPU(s); the highest number is {count - 1}")
    return torch.device("cuda", index)
