"""Training-free dataset distillation with scikit-learn's interface."""

__version__ = "0.1.0"

__all__ = ["__version__"]
