# SPDX-License-Identifier: Apache-2.0
"""Learned quantizers with straight-through gradients.

A quantizer turns a float tensor into *codes* (docs/ops.md). The value of a code is `code * step`; consumers work on
codes, which are exact in bfloat16 up to 8 bits, and hand back the gradient of the loss by the *value*. The quantizer
turns that into gradients of its input, its shift (per channel) and its step (per tensor; LSQ of Esser et al., 2020; for
one bit the elastic binarization of Liu et al., 2022).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from bebert_edge.checkpoints.bert import MINIMUM_STEP

SIGNED = {1: "sign", 2: "int2", 4: "int4", 8: "int8"}
UNSIGNED = {1: "bool", 2: "uint2", 4: "uint4", 8: "uint8"}
BITS = tuple(SIGNED)
PRECISIONS = ("auto", "bf16", "fp32")


def code_type(bits: int, signed: bool) -> str:
    """The name (`docs/ops.md`, "Codes") of the code type with this many bits."""
    return (SIGNED if signed else UNSIGNED)[bits]


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """The lowest and the highest value of a code."""
    if bits == 1:
        return (-1, 1) if signed else (0, 1)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


@functools.cache
def _multiplies_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 products are faster than float32's: whether there are instructions for them."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 has it
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def code_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of codes in training; codes are exact in either, products of bfloat16 are rounded to 8 bits.

    Args:
        precision: "bf16", "fp32", or "auto": bfloat16 where the device has instructions for it.
        device: Where the codes are.
    """
    narrow = _multiplies_bfloat16(device.type) if precision == "auto" else precision == "bf16"
    return torch.bfloat16 if narrow else torch.float32


def _codes(z: Tensor, bits: int, low: int, high: int) -> Tensor:
    # No comparisons: torch does not vectorize them on CPUs, they would take as long as the matrix products.
    if bits == 1 and low < 0:
        return z.ceil().clamp_(0, 1).mul_(2).sub_(1)  # +1 where z > 0
    return z.clamp(low, high).round_()


class _Quantize(torch.autograd.Function):
    """Codes of `x + shift`; its incoming gradient is that of the value `codes * step`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shift: Tensor | None, step: Tensor, bits: int, low: int, high: int, dtype: torch.dtype
    ) -> Tensor:
        z = x * step.reciprocal() if shift is None else (x + shift).mul_(step.reciprocal())
        codes = _codes(z, bits, low, high).to(dtype)
        ctx.save_for_backward(z, codes)
        ctx.low, ctx.high, ctx.has_shift = low, high, shift is not None
        ctx.sign = bits == 1 and low < 0
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        z, codes = ctx.saved_tensors
        g = gradients[0].float()
        g_x: Tensor = torch.ops.aten.hardtanh_backward(g, z, ctx.low, ctx.high)  # g where low < z < high
        g_step = torch.dot(g.reshape(-1), codes.float().reshape(-1))
        # Sign codes: the value is step * sign, so the step's gradient is the sign alone (elastic binarization).
        # Otherwise value = step * round(x / step): its derivative inside the range is round(z) - z.
        if not ctx.sign:
            g_step = g_step - torch.dot(g_x.reshape(-1), z.reshape(-1))
        g_step = g_step / math.sqrt(g.numel() * ctx.high)
        g_shift = g_x.reshape(-1, g_x.shape[-1]).sum(0) if ctx.has_shift else None
        return g_x, g_shift, g_step, None, None, None, None


class _Value(torch.autograd.Function):
    """`codes * step`, passing the value's gradient on as the codes' (the contract of :class:`_Quantize`)."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, step: Tensor) -> Tensor:
        return codes.float() * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], None


class Quantizer(nn.Module):
    """A learned quantizer: one step per tensor and, where `channels` is given, one shift per channel.

    Args:
        bits: Bits of a code: 1, 2, 4 or 8.
        signed: Whether codes are signed; unsigned codes suit probabilities and what follows a ReLU.
        channels: Channels of the last axis, for a shift that is added before quantization; None for no shift.
        precision: Of codes in training, and so of the products that take them: see :func:`code_dtype`.
    """

    def __init__(self, bits: int, signed: bool = True, channels: int | None = None, precision: str = "auto") -> None:
        super().__init__()
        self.bits = bits
        self.signed = signed
        self.precision = precision
        self.low, self.high = code_range(bits, signed)
        self.step = nn.Parameter(torch.tensor(math.nan))
        self.shift = nn.Parameter(torch.zeros(channels)) if channels else None

    @property
    def positive_step(self) -> Tensor:
        """The step as used: float32 scalar, kept off zero."""
        return self.step.detach().clamp(min=MINIMUM_STEP)

    @property
    def inverse_step(self) -> Tensor:
        """`1 / step`, rounded to float32."""
        return self.positive_step.reciprocal()

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Sets the step by one batch: least squares over a grid, or twice the mean magnitude for sign codes."""
        if self.shift is not None:
            x = x + self.shift
        if self.bits == 1 and self.signed:
            self.step.copy_(2 * x.abs().mean())
            return
        largest = x.abs().max().clamp(min=MINIMUM_STEP) / self.high
        candidates = largest * torch.linspace(0.02, 1.0, 50, device=x.device)
        errors = [(_codes(x / s, self.bits, self.low, self.high) * s - x).square().mean() for s in candidates]
        self.step.copy_(candidates[int(torch.stack(errors).argmin())])

    def forward(self, x: Tensor) -> Tensor:
        """Codes of a float tensor: exact small integers, of `code_dtype` in training and float32 in evaluation."""
        if self.training:
            if torch.isnan(self.step):
                self.initialise(x)
            step = self.step.clamp(min=MINIMUM_STEP)
            dtype = code_dtype(self.precision, x.device)
            codes: Tensor = _Quantize.apply(x, self.shift, step, self.bits, self.low, self.high, dtype)
            return codes
        z = (x if self.shift is None else x + self.shift) * self.inverse_step
        return _codes(z, self.bits, self.low, self.high)

    def value(self, codes: Tensor) -> Tensor:
        """The values that codes stand for, as float32."""
        value: Tensor = _Value.apply(codes, self.positive_step)
        return value

    def extra_repr(self) -> str:
        return f"{code_type(self.bits, self.signed)}, shift={self.shift is not None}"
