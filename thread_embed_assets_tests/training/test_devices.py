from __future__ import annotations

import pytest
import torch

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.devices import pick_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Test GPU")
    return monkeypatch


def test_a_bare_machine_trains_on_the_cpu_in_fp32(machine: pytest.MonkeyPatch) -> None:
    assert (pick_device("auto").device, pick_device("auto").precision) == ("cpu", "fp32")


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
