"""Which device trains, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thread_embed_assets.errors import InputError

Wanted = Literal["auto", "cuda", "mps", "cpu"]


@dataclass(frozen=True)
class DeviceChoice:
    """A device that is there.

    Attributes:
        device: ``cuda``, ``mps`` or ``cpu``.
        precision: ``bf16`` (mixed: weights stay fp32) or ``fp32``.
        name: the hardware in words.
    """

    device: Literal["cuda", "mps", "cpu"]
    precision: Literal["bf16", "fp32"]
    name: str


def pick_device(wanted: Wanted = "auto") -> DeviceChoice:
    """The wanted device, or with ``auto`` the best that this machine has.

    bf16 is used on a GPU that computes in it; fp16 is not, because its range makes a contrastive loss overflow.

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
        return DeviceChoice("cpu", "fp32", f"CPU, {torch.get_num_threads()} threads")
    raise _absent(wanted, "there is no such device")


def _absent(wanted: str, problem: str) -> InputError:
    return InputError(f"training device '{wanted}'", problem, "Set the device to 'auto' or 'cpu'")
