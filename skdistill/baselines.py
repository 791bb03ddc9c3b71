"""Rivals of the distiller, with its fit and sample: what it has to beat.

Real subsets, which pick rows of the data; cluster means, which average them; and settings of the
distiller itself, from decoded centroids to mode guidance. :func:`rivals` makes them all.
"""

import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.cluster import KMeans
from sklearn.utils import check_array, check_consistent_length, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from skdistill.augmentation import check_augmentation
from skdistill.distiller import ManifoldGDDistiller
from skdistill.hierarchy import HierarchicalIPC
from skdistill.matching import match_distribution
from skdistill.pixels import infer_format
from skdistill.students import SMALL
from skdistill.validation import IPC_CONSTRAINT, check_ipc, pick_device

__all__ = [
    "ClusterMeans",
    "DistributionMatching",
    "HerdingSubset",
    "HierarchySubset",
    "KCenterSubset",
    "MedoidSubset",
    "RandomSubset",
    "rivals",
]

VALUES_AT_ONCE = 2**24


class _ClasswiseBaseline(BaseEstimator):
    """Keep the data in `fit`; ask `_make` for the samples of one class after the other."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Keep the data that samples are made from.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Real data of any boolean, integer or floating dtype.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : object
            The fitted baseline.
        """
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self._X, self._y = X, y
        # Drawn once, so that all calls of sample give the same set.
        random_state = check_random_state(getattr(self, "random_state", 0))
        self._root_seed = random_state.randint(np.iinfo(np.int32).max)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags

    def sample(self, ipc=None):
        """Return a small labelled set.

        Parameters
        ----------
        ipc : int or mapping of class to int, default=None
            Samples a class. None takes the `ipc` of the constructor.

        Returns
        -------
        X_syn : ndarray of shape (n_samples, ...)
            In the shape and dtype of a row of `X`, class by class in the order of `classes_`. A
            class with too few rows for `ipc` gives what it has, with a warning.

        y_syn : ndarray of shape (n_samples,)
            Labels.
        """
        samples, counts = [], []
        for _, rows, n, seed in self._by_class(ipc):
            samples.append(self._make(rows, n, seed).reshape(-1, *self._X.shape[1:]))
            counts.append(n)
        return np.concatenate(samples), np.repeat(self.classes_, counts)

    def _by_class(self, ipc):
        """Yield the places of each class in the data, its rows, its budget and its seed."""
        check_is_fitted(self)
        budgets = check_ipc(self.ipc if ipc is None else ipc, self.classes_)
        for code, (label, budget) in enumerate(zip(self.classes_.tolist(), budgets, strict=True)):
            places = np.flatnonzero(self._y == label)
            rows = self._X[places].reshape(len(places), -1)
            n_available = self._n_available(rows)
            if n_available < budget:
                warnings.warn(
                    f"Class {label!r} has rows for {n_available} samples, fewer than "
                    f"ipc={budget}: it gets {n_available}.",
                    stacklevel=3,
                )
            yield places, rows, min(budget, n_available), (self._root_seed, code)

    def _n_available(self, rows):
        return len(np.unique(rows, axis=0))


class _RealSubset(_ClasswiseBaseline):
    """Ask `_choose` for the places of some rows in a class."""

    def select(self, ipc=None):
        """Return which rows `sample` takes.

        Fitted to latents or features, this picks images by them:
        ``images[subset.fit(latents, y).select()]``.

        Parameters
        ----------
        ipc : int or mapping of class to int, default=None
            Rows a class. None takes the `ipc` of the constructor.

        Returns
        -------
        indices : ndarray of shape (n_samples,)
            Rows of the `X` of `fit`, each at most once, class by class in the order of `classes_`.
        """
        indices = []
        for places, rows, n, seed in self._by_class(ipc):
            chosen = self._choose(rows, n, seed)
            indices.append(places[chosen])
        return np.concatenate(indices)

    def _make(self, rows, n, seed):
        return rows[self._choose(rows, n, seed)]


def _squared_distances(rows, point):
    """Return the squared distance of each row to a point.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Of any dtype. Some are made floats at a time, so that images may stay bytes.

    point : ndarray of shape (n_features,)

    Returns
    -------
    distances : ndarray of shape (n_rows,), dtype float64
    """
    point = point.astype(np.float64)
    distances = np.empty(len(rows))
    for batch in gen_batches(len(rows), max(1, VALUES_AT_ONCE // rows.shape[1])):
        deviations = rows[batch] - point
        distances[batch] = np.einsum("ij,ij->i", deviations, deviations)
    return distances


def _farthest_first(rows, chosen, n):
    """Add to chosen rows, one by one, the row that is farthest from them.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    chosen : list of int
        Distinct rows to start with, at least one.

    n : int
        How many to choose in all, no more than there are distinct rows.

    Returns
    -------
    chosen : list of n int
        Distinct rows.
    """
    to_nearest = np.full(len(rows), np.inf)
    for t in range(n):
        if t == len(chosen):
            chosen = [*chosen, int(np.argmax(to_nearest))]
        to_nearest = np.minimum(to_nearest, _squared_distances(rows, rows[chosen[t]]))
    return chosen


class RandomSubset(_RealSubset):
    """Real rows drawn at random without replacement, the same number from each class.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw. A larger `ipc` draws on: its subset holds the smaller one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    HerdingSubset : Real rows whose mean is that of the class.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import RandomSubset
    >>> X, y = np.arange(8).reshape(4, 2), ["a", "b", "b", "a"]
    >>> X_syn, y_syn = RandomSubset(ipc=1, random_state=0).fit(X, y).sample()
    >>> X_syn.shape
    (2, 2)
    >>> print(y_syn)
    ['a' 'b']
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(self, ipc=10, *, random_state=None):
        self.ipc = ipc
        self.random_state = random_state

    def _n_available(self, rows):
        return len(rows)

    def _choose(self, rows, n, seed):
        return np.random.default_rng(seed).permutation(len(rows))[:n]


class HerdingSubset(_RealSubset):
    r"""Real rows picked one by one so that their mean stays near the mean of the class.

    Pick number t is the row not yet taken that brings the mean of the t rows nearest to the mean of
    the class, by the Euclidean distance of the values as they are.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class. A larger number adds to the rows that a smaller one picks.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    RandomSubset : Real rows drawn at random.
    KCenterSubset : Real rows that leave no row of the class far from them.

    Notes
    -----
    Picks of t rows from n of D values take :math:`O(t n D)` time.

    References
    ----------
    M. Welling, "Herding Dynamical Weights to Learn", ICML 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import HerdingSubset
    >>> X, y = np.array([[0], [1], [4], [7], [3]]), np.zeros(5)
    >>> HerdingSubset(ipc=2).fit(X, y).sample()[0]
    array([[3],
           [4]])
    """

    _parameter_constraints: ClassVar[dict] = {"ipc": IPC_CONSTRAINT}

    def __init__(self, ipc=10):
        self.ipc = ipc

    def _n_available(self, rows):
        return len(rows)

    def _choose(self, rows, n, seed):
        mean = rows.mean(axis=0, dtype=np.float64)
        total = np.zeros_like(mean)
        picked = []
        for _ in range(n):
            # The mean of t rows is the class's if the t-th undoes the deviation of those before.
            distances = _squared_distances(rows, mean - total)
            distances[picked] = np.inf
            picked.append(int(np.argmin(distances)))
            total += rows[picked[-1]] - mean
        return picked


class KCenterSubset(_RealSubset):
    r"""Real rows that leave no row of the class far from the nearest of them.

    Greedy farthest-first traversal: the first pick is the row nearest to the mean of the class, and
    each further one the row that is farthest from those picked.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class. A larger number adds to the rows that a smaller one picks.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    MedoidSubset : Real rows in the middle of clusters, which outliers attract less.

    Notes
    -----
    The covering radius, :math:`\max_{x} \min_{s \in S} |x - s|` over the rows x of the class and
    the picks S, is at most twice the smallest that as many rows can have, wherever the traversal
    starts [1]_. Distances are Euclidean, of the values as they are; [2]_ takes those of features,
    which :meth:`select` makes possible. Picks of t rows from n of D values take :math:`O(t n D)`
    time.

    References
    ----------
    .. [1] T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical
       Computer Science 38, 1985.
    .. [2] O. Sener and S. Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
       Approach", ICLR 2018, arXiv:1708.00489.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import KCenterSubset
    >>> X, y = np.array([[0], [1], [4], [7], [3]]), np.zeros(5)
    >>> KCenterSubset(ipc=2).fit(X, y).sample()[0]
    array([[3],
           [7]])
    """

    _parameter_constraints: ClassVar[dict] = {"ipc": IPC_CONSTRAINT}

    def __init__(self, ipc=10):
        self.ipc = ipc

    def _choose(self, rows, n, seed):
        from_mean = _squared_distances(rows, rows.mean(axis=0, dtype=np.float64))
        return _farthest_first(rows, [int(np.argmin(from_mean))], n)


class MedoidSubset(_RealSubset):
    """The real row nearest to each k-means centre of each class.

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

    See Also
    --------
    ClusterMeans : The centres themselves.
    HierarchySubset : The same for the nodes of a hierarchy.

    Notes
    -----
    Rows are distinct: where a row is nearest to two centres, the second one takes the nearest row
    that is left. Distances are Euclidean, of the values as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import MedoidSubset
    >>> X, y = np.array([[0], [2], [3], [17], [18], [20]]), np.zeros(6)
    >>> np.sort(MedoidSubset(ipc=2, random_state=0).fit(X, y).select())
    array([1, 4])
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

    def _choose(self, rows, n, seed):
        taken = np.zeros(len(rows), dtype=bool)
        picked = []
        for center in _kmeans_centers(rows, n, self.n_init, seed):
            distances = _squared_distances(rows, center)
            distances[taken] = np.inf
            picked.append(int(np.argmin(distances)))
            taken |= (rows == rows[picked[-1]]).all(axis=1)
        return picked


class HierarchySubset(_RealSubset):
    """The medoids of the hierarchical coreset of each class, coarse to fine.

    The nodes are those whose centroids the distiller guides to by default: fitted to its latents,
    with its seed, this picks a real row for each of them.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class: the number of leaves of its tree, and of the nodes chosen from it.

    random_state : int, RandomState instance or None, default=None
        Seeds the trees.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    skdistill.HierarchicalIPC : The hierarchy, and how nodes are chosen.
    MedoidSubset : The same for a flat clustering.

    Notes
    -----
    Rows are distinct. In a class so small that nodes would have to share theirs, the rows farthest
    from those that are taken complete it.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import HierarchySubset
    >>> X, y = np.array([[0], [2], [9], [17], [18], [20]]), np.zeros(6)
    >>> HierarchySubset(ipc=2, random_state=0).fit(X, y).sample()[0]
    array([[9],
           [2]])
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(self, ipc=10, *, random_state=None):
        self.ipc = ipc
        self.random_state = random_state

    def _choose(self, rows, n, seed):
        # The same seed for each class, and not that of the class, is what the distiller has.
        root_seed, _ = seed
        hierarchy = HierarchicalIPC(n, prototype="medoid", random_state=root_seed).fit(rows)
        return _farthest_first(rows, list(dict.fromkeys(hierarchy.prototype_indices_.tolist())), n)


def _kmeans_centers(rows, n, n_init, seed):
    """Return n centres of k-means, shape (n, n_features)."""
    seed = np.random.RandomState(seed)
    return KMeans(n, n_init=n_init, random_state=seed).fit(rows).cluster_centers_


class ClusterMeans(_ClasswiseBaseline):
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

    See Also
    --------
    sklearn.cluster.KMeans : What finds the centres.
    MedoidSubset : The real rows nearest to them.

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
        centers = _kmeans_centers(rows, n, self.n_init, seed)
        # A mean is within the range of its rows but for rounding, and the range carries meaning.
        centers = np.clip(centers, rows.min(axis=0), rows.max(axis=0))
        # A cast would truncate integers, and make True of all that is not zero.
        if rows.dtype.kind in "iub":
            centers = np.rint(centers)
        return centers.astype(rows.dtype)


class DistributionMatching(_ClasswiseBaseline):
    r"""Images trained to have the mean features of their class in random networks: DM [1]_.

    The training-based reference: starting from real images, drawn at random, the pixels of each
    class are optimised by :func:`skdistill.matching.match_distribution`.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class.

    steps : int, default=1000
        Updates of each class. The paper takes 20,000.

    batch_size : int, default=128
        Real images an update. The paper takes 256.

    learning_rate : float, default=1.0
        Of gradient descent with a momentum of 0.5 on pixels in [-1, 1].

    augmentation : sequence of str, default=("flip", "crop", "cutout", "scale", "rotate", "color")
        Kinds of change that keep the class, of :func:`skdistill.augmentation.augment`, one of which
        each update takes at random: leave "flip" out for digits.

    depth : int, default=None
        Blocks of the random ConvNets, :func:`skdistill.networks.conv_net`.

    width : int, default=128
        Channels of the random ConvNets.

    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of images that come as flat rows.

    value_range : tuple of float, default=None
        The values of `X` that stand for black and white; None infers them.

    dtype : {"float32", "bfloat16"}, default="float32"
        In what convolutions are computed, by autocast.

    device : str, default="auto"
        Where to compute. "auto" takes "cuda", then "mps", then "cpu".

    random_state : int, RandomState instance or None, default=None
        Seeds the images to start from, the networks, the batches and the changes.

    verbose : int, default=0
        Whether a terminal shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    RandomSubset : Where it starts from.

    References
    ----------
    .. [1] B. Zhao, H. Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
       arXiv:2110.04181.

    Examples
    --------
    >>> from skdistill.baselines import DistributionMatching
    >>> from skdistill.datasets import load_digits_split
    >>> X_train, _, y_train, _ = load_digits_split()
    >>> rival = DistributionMatching(1, steps=5, augmentation=["crop"], width=16, random_state=0)
    >>> X_syn, y_syn = rival.fit(X_train, y_train).sample()
    >>> X_syn.shape
    (10, 8, 8)
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "steps": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "augmentation": ["array-like"],
        "depth": [None, Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [None, "array-like"],
        "value_range": [None, "array-like"],
        "dtype": [StrOptions({"float32", "bfloat16"})],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        ipc=10,
        *,
        steps=1000,
        batch_size=128,
        learning_rate=1.0,
        augmentation=("flip", "crop", "cutout", "scale", "rotate", "color"),
        depth=None,
        width=128,
        image_shape=None,
        value_range=None,
        dtype="float32",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.ipc = ipc
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augmentation = augmentation
        self.depth = depth
        self.width = width
        self.image_shape = image_shape
        self.value_range = value_range
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y):
        """Keep the images that samples are made from.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), (n_samples, height, width, channels) \
                or (n_samples, n_features)
            Real images of any integer or floating dtype; flat rows need `image_shape`.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : DistributionMatching
            The fitted baseline.

        Raises
        ------
        ValueError
            If `X` holds no images, `y` does not fit it, or a kind of change is unknown.
        """
        super().fit(X, y)
        check_augmentation(self.augmentation)
        self._format = infer_format(
            self._X.reshape(len(self._X), -1),
            self._X.shape[1:],
            image_shape=self.image_shape,
            value_range=self.value_range,
        )
        if self._format.image_shape is None:
            raise ValueError(
                f"X has flat rows, its shape is {self._X.shape}; give image_shape=(height, width) "
                "or (height, width, channels)."
            )
        if len(self._format.image_shape) not in (2, 3) or min(self._format.image_shape) < 1:
            raise ValueError(
                "Images must have the shape (height, width) or (height, width, channels), got "
                f"{self._format.image_shape}."
            )
        return self

    def _n_available(self, rows):
        return len(rows)

    def _make(self, rows, n, seed):
        device = pick_device(self.device)
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence(seed).generate_state(1)[0])
        )
        real = torch.from_numpy(self._format.to_backbone(rows)).float().to(device)
        start = torch.randperm(len(real), generator=generator)[:n]
        # A second thread brings nothing at this size: see students.
        limit = 1 if max(self._format.image_shape[:2]) <= SMALL else None
        disable = None if self.verbose else True
        with (
            threadpool_limits(limit, user_api="openmp"),
            tqdm(total=self.steps, desc=f"class {seed[1]}", unit="step", disable=disable) as bar,
        ):
            matched = match_distribution(
                real,
                real[start.to(device)],
                steps=self.steps,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                augmentation=self.augmentation,
                generator=generator,
                depth=self.depth,
                width=self.width,
                dtype=getattr(torch, self.dtype),
                progress=bar.update,
            )
        return self._format.from_backbone(matched.cpu().numpy()).reshape(n, -1)


def rivals(ipc=10, backbone="closed-form", *, random_state=None, **distiller_params):
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

    def distiller(**settings):
        return ManifoldGDDistiller(
            ipc, backbone, random_state=random_state, **{**distiller_params, **settings}
        )

    unguided = {"strength": 0.0, "normal_strength": 0.0}
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
    }
    return {
        "random real": RandomSubset(ipc, random_state=random_state),
        "herding": HerdingSubset(ipc),
        "k-center": KCenterSubset(ipc),
        "k-means medoids": MedoidSubset(ipc, random_state=random_state),
        "hierarchy medoids": HierarchySubset(ipc, random_state=random_state),
        "cluster means": ClusterMeans(ipc, random_state=random_state),
        "decoded centroids": distiller(clusterer=KMeans(), init_noise=0.0, **unguided),
        "D4M": distiller(clusterer=KMeans(), init_noise=0.7, **unguided),
        "unguided": distiller(init_noise=1.0, **unguided),
        "MGD": distiller(**published_mgd),
        "ManifoldGD": distiller(),
    }
