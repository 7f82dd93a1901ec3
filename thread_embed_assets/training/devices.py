"""Which device trains, in which precision, and with how many processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from thread_embed_assets.errors import InputError

Wanted = Literal["auto", "cuda", "mps", "cpu"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class DeviceChoice:
    """A device that is there.

    Attributes:
        device: ``cuda``, ``mps`` or ``cpu``.
        precision: ``bf16`` or ``fp32``. Weights stay fp32 in either: bf16 is autocast.
        name: the hardware in words.
    """

    device: Literal["cuda", "mps", "cpu"]
    precision: Literal["bf16", "fp32"]
    name: str


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, one a GPU; this one is number ``rank`` of ``world``, and number 0 leads."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_this_process(cls) -> Ranks:
        """What a launcher (torchrun, accelerate) has set in the environment; alone without one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def from_leader(self, work: Callable[[], _T]) -> _T:
        """Let the leader do the work alone; all wait for it and get its result, which must be picklable."""
        if self.world == 1:
            return work()
        from accelerate.utils import broadcast_object_list

        result = [work() if self.leads else None]
        broadcast_object_list(result)
        return result[0]  # type: ignore[return-value]

    def any_of(self, mine: bool) -> bool:
        """Whether it is true in one of the processes; all must ask."""
        if self.world == 1:
            return mine
        from accelerate.utils import gather_object

        return any(gather_object([mine]))

    def meet(self, device: str) -> None:
        """Connect the processes; call it once before anything else of them all."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState(cpu=device == "cpu")


def pick_device(wanted: Wanted = "auto") -> DeviceChoice:
    """The wanted device, or with ``auto`` the best that this machine has.

    bf16 is used where the hardware computes in it (three times the speed on a CPU with AVX-512 BF16); fp16 is not, because
    its range makes a contrastive loss overflow.

    Raises:
        InputError: the wanted device is not there, or is no known device.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if cuda else "mps" if mps else "cpu"
    if wanted == "cuda":
        if not cuda:
            built = torch.version.cuda or "no CUDA at all"
            raise _absent("cuda", f"this machine has no usable CUDA GPU (PyTorch {torch.__version__} is built for {built})")
        return DeviceChoice("cuda", "bf16" if torch.cuda.is_bf16_supported() else "fp32", torch.cuda.get_device_name())
    if wanted == "mps":
        if not mps:
            raise _absent("mps", "this machine has no Apple GPU that PyTorch can use")
        return DeviceChoice("mps", "fp32", "Apple GPU")
    if wanted == "cpu":
        return DeviceChoice("cpu", "bf16" if _cpu_has_bf16() else "fp32", f"CPU, {torch.get_num_threads()} threads")
    raise _absent(wanted, "there is no such device")


def holds_activations(device: DeviceChoice, tokens: int, layers: int, size: int) -> bool:
    """Whether half of the device's memory holds what a backward pass through so many tokens needs.

    34 bytes a token, layer and dimension in 16 bits (Korthikanti et al., arXiv 2205.05198, eq. 1, attention's scores left
    out: scaled_dot_product_attention computes them again), twice as many in 32.
    """
    if device.device == "cuda":
        import torch

        memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    width = 1 if device.device == "cuda" and device.precision == "bf16" else 2
    return 34 * width * tokens * layers * size <= memory / 2


@contextmanager
def cpu_products(precision: Literal["bf16", "fp32"]) -> Iterator[None]:
    """Inside, a CPU's fp32 matrix products read bf16 and add up in fp32; a CPU without such instructions ignores it."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "bf16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _cpu_has_bf16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _absent(wanted: str, problem: str) -> InputError:
    return InputError(f"training device '{wanted}'", problem, "Set the device to 'auto' or 'cpu'")
