"""Between NumPy and the arrays of other libraries, which may be on other devices."""

import numpy as np
from sklearn import get_config
from sklearn.externals.array_api_compat import array_namespace, device, to_device
from sklearn.utils._array_api import _max_precision_float_dtype, get_namespace_and_device

__all__ = ["beside", "check_same_namespace", "on_host"]


def on_host(array):
    """Return an array as NumPy's.

    Parameters
    ----------
    array : array
        Of NumPy, or of another library and on any device.

    Returns
    -------
    array : ndarray
        With the same values and of the same dtype; itself where it is NumPy's.

    Examples
    --------
    >>> import torch
    >>> from skdistill.array_api import on_host
    >>> on_host(torch.tensor([1.5, 2.0]))
    array([1.5, 2. ], dtype=float32)
    """
    return array if isinstance(array, np.ndarray) else np.asarray(to_device(array, "cpu"))


def beside(array, other):
    """Return an array of NumPy in another one's library, on its device.

    Parameters
    ----------
    array : ndarray
        Numbers or truth values.

    other : array
        Of NumPy, or of another library and on any device.

    Returns
    -------
    array : array
        With the same values and of the same dtype, float64 as float32 where the device has no
        float64; itself where `other` is NumPy's.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skdistill.array_api import beside
    >>> beside(np.array([2, 3]), torch.zeros(1))
    tensor([2, 3])
    """
    if isinstance(other, np.ndarray):
        return array
    xp, place = array_namespace(other), device(other)
    if array.dtype == np.float64 and _max_precision_float_dtype(xp, place) == xp.float32:
        array = array.astype(np.float32)
    # A copy, since some libraries would share the memory of the host.
    return xp.asarray(np.ascontiguousarray(array), device=place, copy=True)


def check_same_namespace(X, estimator, attribute, method):
    """Raise ValueError if rows are not of the library and on the device of those of fit.

    Parameters
    ----------
    X : array-like
        Rows.

    estimator : estimator
        Fitted.

    attribute : str
        Name of an array that it learned.

    method : str
        Name of its method that was called.
    """
    if not get_config()["array_api_dispatch"]:
        return
    (xp, _, place), (fit_xp, _, fit_place) = map(
        get_namespace_and_device, (X, getattr(estimator, attribute))
    )
    # Lists and sparse matrices have no device, and become arrays of NumPy.
    if xp is not fit_xp or (place is not None and place != fit_place):
        found, expected = (module.__name__.rpartition(".")[2] for module in (xp, fit_xp))
        raise ValueError(
            f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace "
            f"and the same device as those passed to fit(), {expected} on {fit_place}; got {found} "
            f"on {place}."
        )
