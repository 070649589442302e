# SPDX-License-Identifier: Apache-2.0
"""Straight-through gradients against finite differences of what they are the exact gradients of.

That function agrees with the quantizer at one point, and has its rounding errors there as constants.
"""

import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_edge.kept_weights import WEIGHT_TYPES
from bebert_edge.training.kept import kept_rows
from bebert_edge.training.modules import BinaryEmbedding, BinaryLinear, binarize_rows, binary_linear, ternarize_rows
from bebert_edge.training.quantization import BITS, Quantizer

KINDS = [(bits, signed) for bits in BITS for signed in (True, False)]


def differences(function, x):
    """Central differences of a scalar function of a float64 tensor; exact for functions linear in each element."""
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        offset = torch.zeros_like(x).view(-1)
        offset[i] = 1e-3
        offset = offset.view_as(x)
        gradient.view(-1)[i] = (function(x + offset) - function(x - offset)) / 2e-3
    return gradient


def quantizer(bits, signed, step, shift, precision="fp32"):
    made = Quantizer(bits, signed, len(shift), precision).train()
    with torch.no_grad():
        made.step.fill_(step)
        made.shift.copy_(shift)
    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("bits", "signed"), KINDS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.floats(0.01, 3), rows=st.integers(1, 4), spread=st.floats(0.3, 2))
def test_of_a_quantizer(bits, signed, precision, seed, step, rows, spread):
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(3, generator=generator) * step
    made = quantizer(bits, signed, step, shift, precision)
    x = torch.randn(rows, 3, generator=generator) * spread * made.high * step
    g = torch.randn(rows, 3, generator=generator).bfloat16().float()
    leaf = x.clone().requires_grad_()
    codes = made(leaf)
    made.value(codes).backward(g)

    step, codes, shift, x = made.step.detach().double(), codes.detach().double(), shift.double(), x.double()
    z = (x + shift) / step
    inside = (z > made.low) & (z < made.high)

    def surrogate(x, shift, s):
        if bits == 1 and signed:  # elastic binarization: the step scales a sign, whose gradient is that of a clip
            return torch.where(inside, (x + shift) - z * step + s * codes, s * codes)
        return torch.where(inside, s * ((x + shift) / s + (codes - z)), s * codes)  # LSQ

    def loss(x, shift, s):
        return (surrogate(x, shift, s) * g).sum()

    torch.testing.assert_close(surrogate(x, shift, step), codes * step)
    scale = 1 / math.sqrt(x.numel() * made.high)  # LSQ, section 2.2
    for found, expected in (
        (leaf.grad, differences(lambda x: loss(x, shift, step), x)),
        (made.shift.grad, differences(lambda shift: loss(x, shift, step), shift)),
        (made.step.grad, differences(lambda s: loss(x, shift, s), step) * scale),
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4 * made.high * scale)


@pytest.mark.parametrize("kind", ["binary", "ternary", "int8", "float16"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), outputs=st.integers(1, 4), rows=st.integers(1, 5))
def test_of_a_linear_layer_with_row_scales(kind, seed, outputs, rows):
    torch.manual_seed(seed)
    layer = BinaryLinear(6, outputs)
    layer.setup(quantizer(8, True, 0.1, torch.zeros(6)))
    layer.ternary, layer.kept = kind == "ternary", kind if kind in WEIGHT_TYPES else None
    x = torch.randn(rows, 6, requires_grad=True)
    g = torch.randn(rows, outputs)
    y = layer(x)
    y.backward(g)

    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    latent = layer.weight.detach()
    rows_of = {"binary": binarize_rows, "ternary": ternarize_rows}.get(kind, lambda latent: kept_rows(latent, kind))
    codes, scale = rows_of(latent)

    def centred(weight):
        return weight if layer.kept else weight - weight.mean(1, keepdim=True)

    error = codes * scale[:, None] - centred(weight)
    values = layer.quantizer.value(layer.quantizer(x)).detach().double()

    def surrogate(weight, values, bias):
        return values @ (centred(weight) + error).t() + bias

    def loss(weight, values, bias):
        return (surrogate(weight, values, bias) * g).sum()

    torch.testing.assert_close(surrogate(weight, values, bias), y.detach().double(), rtol=1e-4, atol=1e-5)
    for found, expected in (
        (layer.weight.grad, differences(lambda weight: loss(weight, values, bias), weight)),
        (layer.bias.grad, differences(lambda bias: loss(weight, values, bias), bias)),
        (x.grad, differences(lambda values: loss(weight, values, bias), values)),  # all of x is inside the range
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ternary", [False, True])
def test_of_an_embedding_with_row_scales(ternary):
    torch.manual_seed(0)
    table = BinaryEmbedding(5, 6).train()
    table.ternary = ternary
    ids = torch.tensor([[1, 3, 3], [4, 1, 3]])
    g = torch.randn(2, 3, 6)
    y = table(ids)
    y.backward(g)

    weight = table.weight.detach().double()
    signs, scale = (ternarize_rows if ternary else binarize_rows)(table.weight.detach())
    torch.testing.assert_close(y.detach(), (signs * scale[:, None])[ids])
    expected = differences(lambda w: ((w - w.mean(1, keepdim=True))[ids] * g).sum(), weight)
    torch.testing.assert_close(table.weight.grad.to_dense().double(), expected)


def test_layers_of_one_product_equal_layers_alone():
    torch.manual_seed(0)
    source = quantizer(4, True, 0.3, torch.zeros(6))
    layers = [BinaryLinear(6, outputs) for outputs in (2, 3, 1)]
    for layer in layers:
        layer.setup(source, shared=True)
        layer.train()
    codes = source(torch.randn(2, 5, 6)).detach().requires_grad_()
    together = binary_linear(codes, source.positive_step, layers)
    alone = [layer(codes) for layer in layers]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)
    inputs = [codes, *(p for layer in layers for p in layer.parameters())]
    gradients = [torch.autograd.grad(sum((y**2).sum() for y in outputs), inputs) for outputs in (together, alone)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
