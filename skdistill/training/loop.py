"""A training loop that can be killed: it goes on from its last checkpoint to the same weights."""

import copy
import time

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from skdistill.atomic import write_atomically
from skdistill.progress import progress_bar
from skdistill.validation import has_bfloat16

__all__ = ["set_seed", "train"]

EMA_DECAY = 0.9995
WARMUP_STEPS = 100
# How many times its first value the loss may be.
DIVERGED = 10
# The share of the steps in which the learning rate falls.
COOLDOWN = 0.3


def set_seed(*seed):
    """Set PyTorch's random state by a tuple of integers.

    Parameters
    ----------
    *seed : int
        Other tuples give independent streams.
    """
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def train(model, loss, steps, seed, checkpoint, *, run, learning_rate, checkpoint_every, verbose):
    """Train a network, from its last checkpoint where there is one.

    Parameters
    ----------
    model : torch.nn.Module
        Where to begin; trained in place; in bfloat16 autocast where the device has it.

    loss : callable
        Draws a batch and returns the loss of `model` on it, a scalar tensor.

    steps : int
        Updates by AdamW.

    seed : tuple of int
        Every step has its own random stream, made from this and its number, so that a run that
        goes on draws what it would have drawn.

    checkpoint : Path
        A .safetensors file that is replaced whole.

    run : str
        What tells this run from others. It is kept in the checkpoint.

    learning_rate : float
        At its peak: it rises over the first steps and falls to zero over the last 30%.

    checkpoint_every : int
        Steps between checkpoints.

    verbose : int
        0 for silence; otherwise a terminal shows a progress bar.

    Returns
    -------
    average : torch.nn.Module
        A copy of `model` that holds the exponential moving average of its weights.

    log : dict
        The curve of the loss, at most 100 means of consecutive steps, and the seconds it took.

    Raises
    ------
    FloatingPointError
        If the loss is no longer finite, or many times what it was in the first step; the last
        checkpoint stays as it was.

    ValueError
        If the checkpoint is damaged, or of another run.

    OSError
        If a checkpoint cannot be written; it names the file, and the last one stays as it was.
    """
    parameters = list(model.parameters())
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.99), fused=True)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    losses = torch.zeros(steps, device=device)
    done, seconds = 0, 0.0
    if checkpoint.exists():
        try:
            done, seconds = _load(checkpoint, run, model, average, optimizer, losses)
        except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"The checkpoint {str(checkpoint)!r} is damaged or of another version ({error}); "
                "remove it, and the same call trains this part anew."
            ) from error
    started = time.monotonic() - seconds
    bar = progress_bar(description=checkpoint.stem, total=steps, initial=done, verbose=verbose)
    with bar:
        for step in range(done, steps):
            set_seed(*seed, step + 1)
            optimizer.param_groups[0]["lr"] = learning_rate * _rate(step, steps)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                value = loss()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            for mean, parameter in zip(average.parameters(), parameters, strict=True):
                mean.lerp_(parameter.detach(), 1 - decay)
            losses[step] = value.detach()
            bar.update()
            if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
                recent = losses[max(0, step + 1 - checkpoint_every) : step + 1].mean().item()
                # The first loss is that of a network that knows nothing; NaN is not below it.
                if not recent <= DIVERGED * losses[0].item():
                    raise FloatingPointError(
                        f"The {checkpoint.stem} diverged before step {step + 1}; try a smaller "
                        f"learning_rate than {learning_rate}."
                    )
                bar.set_postfix(loss=f"{recent:.4f}")
                seconds = time.monotonic() - started
                progress = {"run": run, "step": str(step + 1), "seconds": str(seconds)}
                _save(checkpoint, progress, model, average, optimizer, losses)
    windows = np.array_split(losses.cpu().numpy(), min(steps, 100))
    curve = [float(f"{window.mean():.5g}") for window in windows]
    return average, {"loss": curve, "seconds": round(seconds, 1)}


def _rate(step, steps):
    """Return the share of the learning rate at a step: a short rise, a plateau, a fall to zero."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (COOLDOWN * steps))


def _save(path, progress, model, average, optimizer, losses):
    tensors = {"losses": losses}
    for prefix, module in ("model", model), ("average", average):
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    write_atomically(path, save(tensors, progress))


def _load(path, run, model, average, optimizer, losses):
    parts = {"model": {}, "average": {}, "optimizer": {}}
    with safe_open(path, "pt", device=str(losses.device)) as stored:
        metadata = stored.metadata()
        if metadata["run"] != run:
            raise ValueError(
                f"The checkpoint {str(path)!r} is of another run, which went on in this folder at "
                "the same time; remove it, and the same call trains this part anew."
            )
        losses.copy_(stored.get_tensor("losses"))
        for key in stored.keys():  # noqa: SIM118  (it is not a mapping)
            prefix, _, name = key.partition(".")
            if prefix == "optimizer":
                index, _, name = name.partition(".")
                parts[prefix].setdefault(int(index), {})[name] = stored.get_tensor(key)
            elif prefix in parts:
                parts[prefix][name] = stored.get_tensor(key)
    model.load_state_dict(parts["model"])
    average.load_state_dict(parts["average"])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": parts["optimizer"], "param_groups": groups})
    return int(metadata["step"]), float(metadata["seconds"])
