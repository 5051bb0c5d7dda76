"""Speed that changes no number: memory that stays, casts that are made once, products in the order oneDNN reads.

Nothing here is needed to understand the loop, and everything that calls it works without.
"""

import contextlib
import copy
import ctypes
import functools
import platform
from collections.abc import Iterator

import torch

from symbiosis.models.devices import resolved_precision

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # mallopt's parameters, as in <malloc.h>


@contextlib.contextmanager
def malloc_without_trim() -> Iterator[None]:
    """Inside, memory that is freed stays with the process; at the end it goes back to the system.

    A training step frees and asks for a gigabyte (gradients, casts of weights), and memory that comes fresh from the
    system is cleared page by page first: a fifth of a step at pythia-160m's size. glibc only; elsewhere nothing.
    """
    libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if libc:
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        if libc:
            libc.mallopt(MMAP_MAX, 65536)  # what glibc comes with, and where its own adaptation ends
            libc.mallopt(MMAP_THRESHOLD, 2**25)
            libc.mallopt(TRIM_THRESHOLD, 2**26)
            libc.malloc_trim(0)


def cast_linears(model, precision: str, *, keep_head_fp32: bool = False):
    """For scoring under bf16: the model with its linear layers cast once, instead of by autocast in every batch.

    Numbers are autocast's to the bit; with `keep_head_fp32` the output embedding stays as it is and gives fp32 logits,
    under autocast, too. Other weights are shared; the copies take 2 bytes per linear weight. fp32: the model itself.
    """
    if resolved_precision(precision, model.device) != "bf16":
        return model
    low = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # new modules around the same weights
    head = low.get_output_embeddings() if keep_head_fp32 else None
    for layer in [m for m in low.modules() if isinstance(m, torch.nn.Linear) and m is not head]:
        for name, p in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, torch.nn.Parameter(p.detach().bfloat16(), requires_grad=False))
    if keep_head_fp32:
        low.set_output_embeddings(Fp32Head(head))
    return low


class Fp32Head(torch.nn.Module):
    """An output embedding that autocast leaves alone: its logits are fp32."""

    def __init__(self, layer: torch.nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.layer(hidden.float())


@contextlib.contextmanager
def weights_as(model, dtype: torch.dtype) -> Iterator[None]:
    """The model with its weights rounded to `dtype` till the end of the block, then the very same ones as before.

    Autocast would round them anew at every step, as inference keeps no copy of them; this one is made once.
    """
    parameters = list(model.parameters())
    before = [p.data for p in parameters]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for p in parameters:
                p.data = p.data.to(dtype)
        yield
    finally:
        with torch.inference_mode(False):
            for p, data in zip(parameters, before, strict=True):
                p.data = data


@contextlib.contextmanager
def packed(model) -> Iterator[None]:
    """A CPU multiplies by copies of the bf16 weights till the end of the block, in the order that oneDNN reads.

    A plain product brings its weights into that order every time: a quarter of its work at 32 rows, 4 tenths at 8. The
    products are the same, to the bit where we measured. The copies take as much memory as the linear layers' weights,
    and time that some 15 steps of 32 rows win back; no gradients pass them. fp32 weights are left alone, and so are
    CPUs without bf16.
    """
    layers = [m for m in model.modules() if _gains(m)] if can_pack() else []
    try:
        for layer in layers:
            layer.forward = functools.partial(_multiply, _reorder(layer.weight), layer.bias)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)  # the class' own shows again


def _gains(module) -> bool:
    """Whether it is a plain linear layer of bf16 on a CPU, with no forward of its own, as hooks give it, to be lost."""
    plain = type(module) is torch.nn.Linear and "forward" not in vars(module)
    return plain and module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu"


def can_pack() -> bool:
    """Whether this CPU multiplies bf16 and this torch still has oneDNN's products, which are private to it."""
    ones = torch.ones(2, 2, dtype=torch.bfloat16)
    try:
        fast = torch.backends.mkldnn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return fast and torch.equal(_multiply(_reorder(ones), ones[0], ones), 3 * ones)
    except (AttributeError, RuntimeError):
        return False


def _reorder(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _multiply(weight: torch.Tensor, bias: torch.Tensor | None, inputs: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
