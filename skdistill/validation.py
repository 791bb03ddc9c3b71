"""Checks of parameters that several estimators share."""

from collections.abc import Mapping
from numbers import Integral

import torch
from sklearn.utils._param_validation import Interval

__all__ = ["IPC_CONSTRAINT", "check_class_map", "check_ipc", "has_bfloat16", "pick_device"]

IPC_CONSTRAINT = [Interval(Integral, 1, None, closed="left"), Mapping]


def check_class_map(class_map, classes):
    """Check that a map from classes to a model's own has each class and no other.

    Parameters
    ----------
    class_map : mapping or None
        The map; None has nothing to be checked.

    classes : ndarray of shape (n_classes,)
        The labels.

    Raises
    ------
    ValueError
        If it lacks a class or names a stranger.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.validation import check_class_map
    >>> check_class_map({"a": 7}, np.array(["a", "b"]))
    Traceback (most recent call last):
        ...
    ValueError: class_map says nothing of the class 'b' of y.
    """
    if class_map is None:
        return
    labels = classes.tolist()
    known = set(labels)
    for label in class_map:
        if label not in known:
            raise ValueError(f"class_map names {label!r}, which is not in y; y has {labels}.")
    for label in labels:
        if label not in class_map:
            raise ValueError(f"class_map says nothing of the class {label!r} of y.")


def check_ipc(ipc, classes):
    """Return the number of samples that each class is to have.

    Parameters
    ----------
    ipc : int or mapping of class to int
        The same for all classes, or one for each.

    classes : ndarray of shape (n_classes,)
        The labels.

    Returns
    -------
    budgets : list of int
        In the order of `classes`.

    Raises
    ------
    ValueError
        If a mapping lacks a class or names a stranger, or a number is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.validation import check_ipc
    >>> check_ipc({"a": 1, "b": 20}, np.array(["a", "b"]))
    [1, 20]
    """
    labels = classes.tolist()
    if not isinstance(ipc, Mapping):
        ipc = dict.fromkeys(labels, ipc)
    elif set(ipc) != set(labels):
        raise ValueError(f"ipc={ipc!r} must name each class of y and no other; y has {labels}.")
    for label in labels:
        n = ipc[label]
        if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
            raise ValueError(
                f"ipc must be an integer of at least 1 a class, got {n!r} for the class {label!r}."
            )
    return [int(ipc[label]) for label in labels]


def pick_device(device):
    """Return a device by its name.

    Parameters
    ----------
    device : str or torch.device
        "auto" takes "cuda", then "mps", then "cpu".

    Returns
    -------
    device : torch.device
        Where to compute.

    Raises
    ------
    ValueError
        If there is no such device.

    Examples
    --------
    >>> from skdistill.validation import pick_device
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} is not there; 'auto', 'cpu', 'cuda' and 'mps' are the usual ones. "
            f"{str(error).splitlines()[0]}"
        ) from error
    return picked


def has_bfloat16(device):
    """Return whether a device multiplies in bfloat16 itself.

    Many a CPU emulates it, and takes many times as long as in float32.

    Parameters
    ----------
    device : torch.device
        Where to compute.

    Returns
    -------
    has_bfloat16 : bool
        False on a CPU for which oneDNN has no kernels in bfloat16.

    Examples
    --------
    >>> import torch
    >>> from skdistill.validation import has_bfloat16
    >>> has_bfloat16(torch.device("cuda"))
    True
    """
    if device.type != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
