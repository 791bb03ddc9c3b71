"""Training-free dataset distillation with scikit-learn's interface."""

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
