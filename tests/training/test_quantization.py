# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bebert_edge.codes import CODE_TYPES
from bebert_edge.reference import quantize, values
from bebert_edge.training import quantization
from bebert_edge.training.quantization import BITS, Quantizer, code_type

KINDS = [(bits, signed) for bits in BITS for signed in (True, False)]


def quantizer(bits, signed, step, shift=None):
    made = Quantizer(bits, signed, channels=None if shift is None else len(shift))
    with torch.no_grad():
        made.step.fill_(step)
        if shift is not None:
            made.shift.copy_(shift)
    return made


@pytest.mark.parametrize(("bits", "signed"), KINDS)
@pytest.mark.parametrize("channels", [1, 7, 64, 65])
def test_codes_equal_the_reference(bits, signed, channels):
    generator = torch.Generator().manual_seed(bits)
    code = CODE_TYPES[code_type(bits, signed)]
    shift = torch.randn(channels, generator=generator) * 0.1
    made = quantizer(bits, signed, 0.3, shift)
    x = torch.randn(33, channels, generator=generator) * 0.3 * code.high
    x[:5] = (torch.arange(5)[:, None] - 2) * 0.15 - shift  # near ties
    inverse = np.full((1, channels), np.float32(1) / np.float32(0.3))
    stored = quantize(x.numpy()[None], shift.numpy()[None], inverse, output_code=code.triple)
    expected = values(stored, code, channels)[0]
    np.testing.assert_array_equal(made.eval()(x).detach().numpy(), expected)


@pytest.mark.parametrize(("bits", "signed"), KINDS)
def test_training_and_evaluation_give_the_same_codes(bits, signed):
    made = quantizer(bits, signed, 0.05, torch.zeros(16))
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.train()(x).float(), made.eval()(x))


@pytest.mark.parametrize(("bits", "signed"), KINDS)
def test_the_gradient_passes_inside_the_range_only(bits, signed):
    made = quantizer(bits, signed, 0.5, torch.zeros(6)).train()
    low, high = made.low * 0.5, made.high * 0.5
    x = torch.tensor([[low - 0.1, low + 0.01, (low + high) / 2 + 0.01, high - 0.01, high + 0.1, high + 9]])
    x.requires_grad_()
    made.value(made(x)).sum().backward()
    inside = torch.tensor([[0.0, 1, 1, 1, 0, 0]])
    assert torch.equal(x.grad, inside)
    assert torch.equal(made.shift.grad, inside[0])


def test_the_step_gradient_is_that_of_lsq():
    made = quantizer(4, True, 0.5).train()
    x = torch.tensor([-9.0, -1.3, 0.1, 0.9, 9.0])
    gradient = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0])
    made.value(made(x)).backward(gradient)
    # Per element: low, round(z) - z, round(z) - z, round(z) - z, high with z = x / 0.5.
    by_hand = 1.0 * -8 + 2.0 * (-3 + 2.6) + -1.0 * (0 - 0.2) + 0.5 * (2 - 1.8) + 3.0 * 7
    assert made.step.grad.item() == pytest.approx(by_hand / math.sqrt(5 * 7), rel=1e-5)


def test_the_step_gradient_of_clipped_values_is_the_derivative():
    # Outside the range the quantizer is differentiable: value = low * step or high * step.
    x = torch.tensor([-30.0, 40.0, 50.0])

    def value(step):
        made = quantizer(4, True, step).eval()
        return made.value(made(x)).sum().item()

    made = quantizer(4, True, 0.5).train()
    made.value(made(x)).sum().backward()
    derivative = (value(0.51) - value(0.49)) / 0.02
    assert made.step.grad.item() * math.sqrt(3 * 7) == pytest.approx(derivative, rel=1e-3)


def test_the_step_gradient_of_sign_codes_is_the_sign():
    made = quantizer(1, True, 0.5).train()
    made.value(made(torch.tensor([-3.0, 0.2, 0.4]))).backward(torch.tensor([1.0, 2.0, 4.0]))
    assert made.step.grad.item() == pytest.approx((-1 + 2 + 4) / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(("bits", "signed"), [(2, True), (4, True), (8, True), (1, False), (4, False)])
def test_the_first_batch_sets_a_step_that_keeps_most_of_the_signal(bits, signed):
    x = torch.randn(100, 32, generator=torch.Generator().manual_seed(0))
    x = x if signed else x.relu()
    made = Quantizer(bits, signed, channels=32).train()
    value = made.value(made(x))
    kept = 1 - ((value - x).square().mean() / x.square().mean()).item()
    assert kept > {1: 0.7, 2: 0.8, 4: 0.98, 8: 0.999}[bits]


def test_a_step_never_becomes_zero():
    made = quantizer(4, True, -1.0).eval()
    assert torch.isfinite(made(torch.tensor([-1.0, 0.0, 1.0]))).all()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True, "sve": False}, torch.bfloat16),
        ({"avx2": True, "avx512_f": True}, torch.float32),
    ],
)
def test_codes_are_bfloat16_where_the_cpu_multiplies_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    quantization._multiplies_bfloat16.cache_clear()
    try:
        assert Quantizer(4).train()(torch.randn(3, 4)).dtype == expected
    finally:
        quantization._multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize(("bits", "signed"), KINDS)
def test_every_precision_gives_the_same_codes(bits, signed):
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    exact, narrow = (Quantizer(bits, signed, precision=precision).train()(x) for precision in ("fp32", "bf16"))
    assert (exact.dtype, narrow.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(exact, narrow.float())
