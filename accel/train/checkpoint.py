"""Checkpoints: tensors as safetensors, progress as JSON in the same file's header; loading one runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from accel.errors import InputError
from accel.files import write_atomic


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, progress: Mapping[str, Any]
) -> None:
    """Replace the checkpoint at `path`; a reader sees the old one or the new one.

    Parameters
    ----------
    path : Path
    model : nn.Module
    optimizer : Optimizer, optional
    progress : mapping of str to JSON values
    """
    tensors = {f"model.{name}": value.detach().clone().contiguous() for name, value in model.state_dict().items()}
    scalars: dict[str, Any] = {}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                name = f"optimizer.{number}.{key}"
                if isinstance(value, Tensor):
                    tensors[name] = value.detach().clone().contiguous()
                else:
                    scalars[name] = value
    # One entry: safetensors writes several in any order, and the same run must give the same bytes.
    write_atomic(path, save(tensors, {"state": json.dumps({"progress": dict(progress), "scalars": scalars})}))


def read_progress(path: Path) -> dict[str, Any]:
    """The progress in a checkpoint; `InputError` if the file is damaged."""
    return dict(_load(path)[1])


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Restore model and optimizer; returns the progress.

    Raises
    ------
    InputError
        The file is damaged, or belongs to another model.
    """
    tensors, progress, scalars = _load(path)
    own = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(own)
    except RuntimeError:
        raise InputError(f"{path}: must be a checkpoint of this model, got another; remove it to start anew") from None
    if optimizer is not None:
        state: dict[int, dict[str, Any]] = {}
        for name, value in {**tensors, **scalars}.items():
            if name.startswith("optimizer."):
                number, key = name.removeprefix("optimizer.").split(".", 1)
                state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return dict(progress)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header, names = file.metadata() or {}, file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        state = json.loads(header["state"])
        return tensors, state["progress"], state["scalars"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: must be a checkpoint, got {error}; remove it to start anew") from None
