from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.devices import DeviceChoice, cpu_products, holds_activations, pick_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Test GPU")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return monkeypatch


def test_a_bare_machine_trains_on_the_cpu_in_fp32(machine: pytest.MonkeyPatch) -> None:
    assert (pick_device("auto").device, pick_device("auto").precision) == ("cpu", "fp32")


@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_cpu_with_bf16_instructions_uses_them(machine: pytest.MonkeyPatch, instructions: str) -> None:
    machine.setattr(torch.cpu, instructions, lambda: True)
    assert (pick_device("cpu").device, pick_device("cpu").precision) == ("cpu", "bf16")


def test_memory_decides_how_many_activations_it_holds(machine: pytest.MonkeyPatch) -> None:
    """34 bytes a token, layer and dimension on a GPU in bf16, 68 in fp32; half of the memory may be taken."""
    gpu, cpu = DeviceChoice("cuda", "bf16", "Test GPU"), DeviceChoice("cpu", "fp32", "test")
    machine.setattr(torch.cuda, "current_device", lambda: 0)
    machine.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=2 * 34 * 1000 * 6 * 384))
    assert holds_activations(gpu, 1000, 6, 384) and not holds_activations(gpu, 1001, 6, 384)
    machine.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2 * 68 * 1000 * 6, "SC_PAGE_SIZE": 384}.__getitem__)
    assert holds_activations(cpu, 1000, 6, 384) and not holds_activations(cpu, 1001, 6, 384)


def test_the_products_of_a_cpu_are_set_and_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), cpu_products("bf16"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    with cpu_products("fp32"):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_cuda_comes_first_and_uses_bf16_where_it_can(machine: pytest.MonkeyPatch, has_bf16: bool, precision: str) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.backends.mps, "is_available", lambda: True)
    machine.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    choice = pick_device("auto")
    assert (choice.device, choice.precision, choice.name) == ("cuda", precision, "Test GPU")
    assert pick_device("cpu").device == "cpu"
    assert pick_device("mps").precision == "fp32"


@pytest.mark.parametrize(
    ("wanted", "problem"), [("cuda", "no usable CUDA GPU"), ("mps", "Apple"), ("tpu", "no such device")]
)
def test_an_absent_device_is_an_error_and_no_silent_cpu(machine: pytest.MonkeyPatch, wanted: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        pick_device(wanted)  # type: ignore[arg-type]
