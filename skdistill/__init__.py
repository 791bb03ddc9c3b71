"""Training-free dataset distillation with scikit-learn's interface."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skdistill.distiller import ManifoldGDDistiller
    from skdistill.hierarchy import HierarchicalIPC
    from skdistill.io import load_distilled
    from skdistill.resampler import ManifoldGDResampler
    from skdistill.tangent import TangentProjector

__version__ = "0.1.0"

__all__ = [
    "HierarchicalIPC",
    "ManifoldGDDistiller",
    "ManifoldGDResampler",
    "TangentProjector",
    "__version__",
    "load_distilled",
]

# They bring scikit-learn, PyTorch and diffusers, seconds that only those wait for who need them.
_MODULES = {
    "HierarchicalIPC": "hierarchy",
    "ManifoldGDDistiller": "distiller",
    "ManifoldGDResampler": "resampler",
    "TangentProjector": "tangent",
    "load_distilled": "io",
}


def __dir__():
    return __all__


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
