"""Which device trains, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from thread_embed_assets.errors import InputError

Wanted = Literal["auto", "cuda", "mps", "cpu"]


@dataclass(frozen=True)
class DeviceChoice:
    """A device that is there.

    Attributes:
        device: ``cuda``, ``mps`` or ``cpu``.
        precision: ``bf16`` or ``fp32``. Weights stay fp32 in either: bf16 is autocast on a GPU, and on a CPU only what the
            matrix products read.
        name: the hardware in words.
    """

    device: Literal["cuda", "mps", "cpu"]
    precision: Literal["bf16", "fp32"]
    name: str


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
