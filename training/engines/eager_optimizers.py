"""Optimizers of torch that import no compiler.

`torch.optim` marks its methods as not to be traced by `torch.compile`, and imports the compiler for that at their first
call: seconds at the start of every run. An engine calls these methods itself, outside of all that is compiled, so the
marks are of no use there. The updates are torch's own, bit for bit.
"""

from __future__ import annotations

import inspect

import torch
from torch.optim import Optimizer


class EagerMethods:
    """Methods of `torch.optim.Optimizer` without the marks for the compiler; a base before an optimizer of torch."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class EagerAdamW(EagerMethods, torch.optim.AdamW):
    """AdamW of torch (Loshchilov & Hutter, arXiv 1711.05101): same arguments, state and updates."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class EagerMuon(EagerMethods, torch.optim.Muon):
    """Muon of torch (Jordan et al. 2024): same arguments, state and updates."""
