"""What the distiller has to beat: rivals with its fit and sample.

:func:`rivals` makes them all: real subsets, cluster means, and settings of the distiller itself,
from decoded centroids to mode guidance.
"""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import Interval

from skdistill.classwise import ClasswiseBaseline
from skdistill.distiller import ManifoldGDDistiller
from skdistill.subsets import (
    HerdingSubset,
    HierarchySubset,
    KCenterSubset,
    MedoidSubset,
    RandomSubset,
    kmeans_centers,
)
from skdistill.validation import IPC_CONSTRAINT

__all__ = ["ClusterMeans", "rivals"]


class ClusterMeans(ClasswiseBaseline):
    """The k-means centres of each class, in the space of the rows themselves.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class: the number of clusters.

    n_init : int, default=10
        Number of k-means runs, of which the best is taken.

    random_state : int, RandomState instance or None, default=None
        Seeds k-means.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    sklearn.cluster.KMeans : What finds the centres.
    skdistill.subsets.MedoidSubset : The real rows nearest to them.

    Notes
    -----
    Centres are rounded where the rows are integers or booleans. They are no real rows: a centre of
    many images is a blurred one.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import ClusterMeans
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.zeros(4)
    >>> np.sort(ClusterMeans(ipc=2, random_state=0).fit(X, y).sample()[0], axis=0)
    array([[0.5],
           [8.5]])
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, ipc=10, *, n_init=10, random_state=None):
        self.ipc = ipc
        self.n_init = n_init
        self.random_state = random_state

    def _make(self, rows, n, seed):
        centers = kmeans_centers(rows, n, self.n_init, seed)
        # A mean is within the range of its rows but for rounding, and the range carries meaning.
        centers = np.clip(centers, rows.min(axis=0), rows.max(axis=0))
        # A cast would truncate integers, and make True of all that is not zero.
        if rows.dtype.kind in "iub":
            centers = np.rint(centers)
        return centers.astype(rows.dtype)


def rivals(
    ipc=10, backbone="closed-form", *, diffusion=True, random_state=None, **distiller_params
):
    """Make one of each rival that needs no training, and the distiller, for a table of them.

    - "random real", "herding", "k-center", "k-means medoids", "hierarchy medoids": real rows,
      picked by the values as they are.
    - "cluster means": k-means centres of the values as they are.
    - "decoded centroids": k-means centres of the latents, decoded.
    - "D4M": k-means centres of the latents, noised and denoised [1]_. Its ``init_noise=0.7`` is
      the strength that the authors' published script for ImageNet sets; they condition on class
      names, where this conditions on what the backbone takes, and learn from soft labels.
    - "unguided": the diffusion model alone.
    - "MGD": mode guidance [2]_ as published: k-means, no projection, DDPM, the pull scaled by
      0.1 sigma_t, not clipped, over the first half of the run.
    - "ManifoldGD": the distiller with its defaults [3]_.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class.

    backbone : str, path-like or backbone, default="closed-form"
        Of all that need one, see :class:`~skdistill.ManifoldGDDistiller`.

    diffusion : bool, default=True
        Whether to make those that need a diffusion model, from "decoded centroids" on: the others
        are a matter of seconds.

    random_state : int, RandomState instance or None, default=None
        Seeds each of them.

    **distiller_params
        Further parameters of all distillers, such as `value_range`, `resize` or `device`. Those
        that make a rival what it is stay as above: a `strength` reaches "ManifoldGD" only.

    Returns
    -------
    estimators : dict of str to estimator
        Unfitted, each with ``fit(X, y)`` and ``sample(ipc=None)``, in the order above.

    Raises
    ------
    TypeError
        If the distiller has no parameter of such a name.

    References
    ----------
    .. [1] Su et al. "D^4M: Dataset Distillation via Disentangled Diffusion Model." CVPR 2024,
       arXiv:2407.15138.
    .. [2] Chan-Santiago et al. "MGD3: Mode-Guided Dataset Distillation using Diffusion Models."
       ICML 2025, arXiv:2505.18963.
    .. [3] Roy, Lee, Chakraborty, Lokhande. "ManifoldGD: Training-Free Hierarchical Manifold
       Guidance for Diffusion-Based Dataset Distillation." CVPR 2026, arXiv:2602.23295.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill.baselines import rivals
    >>> X, y = load_iris(return_X_y=True)
    >>> for name, rival in rivals(ipc=2, random_state=0, num_inference_steps=10).items():
    ...     X_syn, y_syn = rival.fit(X, y).sample()
    ...     print(f"{name}: {len(X_syn)}")
    random real: 6
    herding: 6
    k-center: 6
    k-means medoids: 6
    hierarchy medoids: 6
    cluster means: 6
    decoded centroids: 6
    D4M: 6
    unguided: 6
    MGD: 6
    ManifoldGD: 6
    """
    made = {
        "random real": RandomSubset(ipc, random_state=random_state),
        "herding": HerdingSubset(ipc),
        "k-center": KCenterSubset(ipc),
        "k-means medoids": MedoidSubset(ipc, random_state=random_state),
        "hierarchy medoids": HierarchySubset(ipc, random_state=random_state),
        "cluster means": ClusterMeans(ipc, random_state=random_state),
    }
    if not diffusion:
        return made

    def distiller(**settings):
        return ManifoldGDDistiller(
            ipc, backbone, random_state=random_state, **{**distiller_params, **settings}
        )

    unguided = {"strength": 0.0, "normal_strength": 0.0, "refiner": "passthrough"}
    published_mgd = {
        "clusterer": KMeans(),
        "projector": "passthrough",
        "strength": 0.1,
        "kernel": "rbf",
        "bandwidth": 1.0,
        "normal_strength": 0.0,
        "guidance_interval": (0.0, 0.5),
        "guidance_form": "paper",
        "clip_guidance": False,
        "scheduler": "DDPMScheduler",
        "init_noise": 1.0,
        "refiner": "passthrough",
    }
    return made | {
        "decoded centroids": distiller(clusterer=KMeans(), init_noise=0.0, **unguided),
        "D4M": distiller(clusterer=KMeans(), init_noise=0.7, **unguided),
        "unguided": distiller(init_noise=1.0, **unguided),
        "MGD": distiller(**published_mgd),
        "ManifoldGD": distiller(),
    }
