"""Local tangent spaces of the data, and projections onto them."""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.externals.array_api_compat import array_namespace, device, is_numpy_array
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, gen_batches
from sklearn.utils._array_api import get_namespace
from sklearn.utils._chunking import get_chunk_n_rows
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill.array_api import beside, check_same_namespace, on_host
from skdistill.principal import weighted_bases

__all__ = ["TangentProjector", "local_basis", "posterior_weights"]

# Halvings of the logarithm of an inverse temperature: 40 leave less than float32 can tell apart.
N_BISECTIONS = 40
# Neighbours and features above which the wanted eigenvectors alone are less work than all.
WIDE = 128
# All neighbourhoods of as many points are padded to the widest one, which of a point far from all
# others holds all of them.
POINTS_AT_ONCE = 512
# How many times their extent points may be from zero: squares of the distance take ten of float64's
# sixteen digits.
FAR = 1e5


def _float32_or_better(xp, array):
    return array if xp.finfo(array.dtype).bits >= 32 else xp.astype(array, xp.float32)


def local_basis(neighbors, weights=None, *, n_components, ridge=1e-6, gram=None):
    r"""Span the principal directions of many small neighbourhoods at once.

    The rows of a basis are the top eigenvectors of the weighted covariance
    :math:`C = \sum_i w_i (z_i - \mu)(z_i - \mu)^T` with :math:`\mu = \sum_i w_i z_i`. Where there
    are no more neighbours than features, they come from the K x K Gram matrix :math:`\sqrt{w_i w_j}
    \langle z_i - \mu, z_j - \mu \rangle`, whose nonzero eigenvalues are the same, so that nothing
    larger than the smaller side of a neighbourhood is ever decomposed.

    Parameters
    ----------
    neighbors : array of shape (n_points, n_neighbors, n_features)
        The neighbours :math:`z_i` of each point, as a NumPy array or any other array that the array
        API covers (torch tensors, for one), floating. All must be finite.

    weights : array of shape (n_points, n_neighbors), default=None
        Non-negative, scaled here to sum to one. A neighbour of weight zero is as good as absent, so
        that neighbourhoods of different sizes can share an array. None weights all alike.

    n_components : int
        Number of directions wanted.

    ridge : float, default=1e-6
        Directions with no more than this share of the total local variance are not spanned.

    gram : array of shape (n_points, n_neighbors, n_neighbors), default=None
        Inner products :math:`\langle z_i - o, z_j - o \rangle` about any origin `o` of each
        neighbourhood, for callers whose weights change while the neighbours stay. The nearer `o` is
        to the neighbours, the more digits are left in the result. Not needed where there are more
        neighbours than features.

    Returns
    -------
    mean : array of shape (n_points, n_features)
        The weighted means :math:`\mu`.

    basis : array of shape (n_points, n_components, n_features)
        Orthonormal rows by falling variance. Rows beyond the local rank are zero.

    Notes
    -----
    Computed in the dtype of `neighbors`, in float32 where that is narrower. For K neighbours of D
    features and d components, with m the smaller of K and D: time :math:`O(K D m + m^3)` a point
    (:math:`O(K D d + K^3)` with `gram`), memory :math:`O(K D + m^2)`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tangent import local_basis
    >>> neighbors = np.array([[[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]])
    >>> mean, basis = local_basis(neighbors, n_components=2)
    >>> mean
    array([[2., 1.]])
    >>> np.abs(basis)
    array([[[1., 0.],
            [0., 0.]]])
    """
    xp = array_namespace(neighbors)
    z = _float32_or_better(xp, neighbors)
    n_neighbors, n_features = z.shape[1:]
    if weights is None:
        w = xp.ones_like(z[:, :, 0]) / n_neighbors
    else:
        w = xp.astype(weights, z.dtype)
        w = w / xp.sum(w, axis=1, keepdims=True)

    # Differences from a neighbour are exact zeros for duplicates and constant features.
    offsets = z - z[:, :1, :]
    offset = xp.matmul(w[:, None, :], offsets)
    mean = z[:, 0, :] + offset[:, 0, :]
    root_w = xp.sqrt(w)[:, :, None]
    n_spanned = min(n_components, n_neighbors, n_features)
    if n_features < n_neighbors:
        magnitude = xp.sum(w * xp.sum(offsets * offsets, axis=2), axis=1, keepdims=True)
        deviations = root_w * (offsets - offset)
        covariance = xp.matmul(xp.matrix_transpose(deviations), deviations)
        variances, total, directions = _leading(xp, covariance, n_spanned)
    else:
        if gram is None:
            gram = xp.matmul(offsets, xp.matrix_transpose(offsets))
        gram = xp.astype(gram, z.dtype)
        magnitude = xp.sum(w * xp.linalg.diagonal(gram), axis=1, keepdims=True)
        row_mean = xp.matmul(gram, w[:, :, None])
        centred_gram = gram - row_mean - xp.matrix_transpose(row_mean)
        centred_gram = centred_gram + xp.matmul(w[:, None, :], row_mean)
        centred_gram = root_w * centred_gram * xp.matrix_transpose(root_w)
        variances, total, vectors = _leading(xp, centred_gram, n_spanned)
        directions = xp.matmul(xp.matrix_transpose(offsets - offset), root_w * vectors)
        # Orthogonal but for rounding, which weighs most on the directions of least variance.
        directions, _ = xp.linalg.qr(directions)

    # What rounding leaves of a matrix is no direction of the data, however small the ridge.
    rounding = n_neighbors * xp.finfo(z.dtype).eps * magnitude
    spanned = (variances > ridge * total) & (variances > rounding)
    basis = xp.matrix_transpose(directions)
    basis = xp.where(spanned[:, :, None], basis, xp.zeros_like(basis))
    if n_spanned < n_components:
        rest = xp.zeros_like(mean)[:, None, :]
        basis = xp.concat([basis, *[rest] * (n_components - n_spanned)], axis=1)
    return mean, basis


def _leading(xp, matrices, n_components):
    """Return the largest eigenvalues of each matrix, the sum of all, and their eigenvectors."""
    values, vectors = xp.linalg.eigh(matrices)
    first = matrices.shape[-1] - n_components
    total = xp.sum(values, axis=1, keepdims=True)
    return xp.flip(values[:, first:], axis=1), total, xp.flip(vectors[:, :, first:], axis=2)


def posterior_weights(x_t, neighbors, alpha_bar, min_effective, *, present=None):
    r"""Weigh clean neighbours by how likely each of them became the noisy point.

    The weights are :math:`w_i \propto \exp(-\beta |x_t - \sqrt{\bar\alpha} z_i|^2 / (2 (1 -
    \bar\alpha)))`. With :math:`\beta = 1` that is the posterior :math:`p(z_i | x_t)`; where it has
    collapsed onto too few points, :math:`\beta` is lowered until the effective number of points
    :math:`1 / \sum_i w_i^2` is `min_effective`.

    Parameters
    ----------
    x_t : array of shape (n_points, n_features)
        Noisy points :math:`x_t = \sqrt{\bar\alpha} z + \sqrt{1 - \bar\alpha} \epsilon`, as a NumPy
        array or any other array that the array API covers, floating.

    neighbors : array of shape (n_points, n_neighbors, n_features)
        Clean neighbours :math:`z_i` of each point.

    alpha_bar : float
        The noise level :math:`\bar\alpha` in (0, 1], the share of the variance that is signal.

    min_effective : float
        The least effective number of points. It is never above the number of neighbours.

    present : array of shape (n_points, n_neighbors), default=None
        One for a neighbour, zero for padding, which gets no weight. None takes all for neighbours.

    Returns
    -------
    weights : array of shape (n_points, n_neighbors)
        Each row sums to one. Computed in the dtype of `x_t`, in float32 where that is narrower.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tangent import posterior_weights
    >>> x_t, neighbors = np.array([[0.0]]), np.array([[[0.0], [1.0], [-1.0], [9.0]]])
    >>> posterior_weights(x_t, neighbors, alpha_bar=0.5, min_effective=1).round(2)
    array([[0.45, 0.27, 0.27, 0.  ]])
    >>> posterior_weights(x_t, neighbors, alpha_bar=0.99, min_effective=2).round(2)
    array([[0.67, 0.17, 0.17, 0.  ]])
    """
    xp = array_namespace(x_t, neighbors)
    x_t, z = _float32_or_better(xp, x_t), _float32_or_better(xp, neighbors)
    difference = x_t[:, None, :] - alpha_bar**0.5 * z
    squared_distances = xp.sum(difference * difference, axis=2)
    if present is None:
        present = xp.ones_like(squared_distances)
    present = xp.astype(present, squared_distances.dtype)
    return _tempered_weights(xp, squared_distances, present, alpha_bar, min_effective)


def _tempered_weights(xp, squared_distances, present, alpha_bar, min_effective):
    """Turn squared distances at a noise level into tempered weights.

    Parameters
    ----------
    squared_distances : array of shape (n_points, n_neighbors)
    present : array of shape (n_points, n_neighbors), dtype of `squared_distances`
        One where there is a neighbour, zero where there is only padding.
    """
    # A clean point is the limit of ever less noise; tempering makes its weights finite.
    variance = max(1.0 - alpha_bar, float(xp.finfo(squared_distances.dtype).eps))
    farthest = xp.max(squared_distances, axis=1, keepdims=True)
    nearest = xp.min(xp.where(present > 0, squared_distances, farthest), axis=1, keepdims=True)
    energies = (squared_distances - nearest) * present / (2.0 * variance)

    def weights_at(beta):
        weights = present * xp.exp(-beta * energies)
        return weights / xp.sum(weights, axis=1, keepdims=True)

    def broad_enough(weights):
        return 1.0 / xp.sum(weights * weights, axis=1, keepdims=True) >= wanted

    wanted = xp.clip(xp.sum(present, axis=1, keepdims=True), max=float(min_effective))
    # At the lower end all exponents are within 1e-4 of zero: uniform weights, to eight digits.
    low = -xp.log(1e4 * (1.0 + xp.max(energies, axis=1, keepdims=True)))
    high = xp.zeros_like(low)
    for _ in range(N_BISECTIONS):
        middle = 0.5 * (low + high)
        enough = broad_enough(weights_at(xp.exp(middle)))
        low, high = xp.where(enough, middle, low), xp.where(enough, high, middle)
    exact = weights_at(xp.ones_like(low))
    return xp.where(broad_enough(exact), exact, weights_at(xp.exp(low)))


class TangentProjector(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Project onto the tangent spaces of the manifold that reference points lie near.

    Around each point, the top principal directions of its nearest reference points estimate the
    tangent space of the data there. Vectors can be split into their parts along it and normal to
    it, and points put onto the affine plane through the local mean.

    Parameters
    ----------
    n_components : int, default=3
        Dimension d of the tangent spaces.

    n_neighbors : int, default=12
        Number of nearest reference points that make up a neighbourhood. A neighbourhood never has
        fewer than `n_components` + 1 points unless there are no more reference points.

    radius : float, default=None
        Take instead all reference points within this multiple of the distance from the point to
        its `n_neighbors`-th nearest one: 1.0 gives the same neighbourhoods (ties aside), larger
        values wider ones.

    alpha_bar : float, default=None
        Noise level :math:`\bar\alpha` in (0, 1) of the points that are projected, the share of
        their variance that is signal. `X` is then taken for noisy points :math:`x_t =
        \sqrt{\bar\alpha} z + \sqrt{1 - \bar\alpha} \epsilon`: the neighbours are the reference
        points nearest to :math:`x_t / \sqrt{\bar\alpha}`, weighted by
        :func:`~skdistill.tangent.posterior_weights` with an effective number of at least
        `n_components` + 1 points, and the planes are those of the noisy data, through
        :math:`\sqrt{\bar\alpha} \mu`. The reference points are clean.

    ridge : float, default=1e-6
        Directions with no more than this share of the total local variance are not spanned, so
        that duplicates, constant features or few neighbours give a smaller rank.

    Attributes
    ----------
    reference_ : ndarray of shape (n_samples, n_features)
        The reference points, in float32 if they came so, otherwise in float64.

    nearest_neighbors_ : NearestNeighbors or None
        The search structure over `reference_`, less their middle where they lie far from zero; None
        where that is no array of NumPy, and neighbours are found by all distances.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, if `X` had string names.

    See Also
    --------
    sklearn.decomposition.PCA : One plane for all of the data.
    skdistill.tangent.local_basis : The bases of neighbourhoods chosen beforehand, on any arrays.

    Notes
    -----
    The bases are taken from clean neighbours even when they serve noisy points. Noising neighbours
    that were chosen independently of that noise turns their expected covariance C into
    :math:`\bar\alpha C + (1 - \bar\alpha) I`, whose eigenvectors are those of C: clean neighbours
    give the limit of infinitely many noisy copies. Neighbours chosen after noising depend on the
    noise, and their covariance is biased.

    With K neighbours of D features, m being the smaller of the two, a basis costs :math:`O(K D m +
    m^3)` time and :math:`O(K D)` memory beside the neighbour search. Where m exceeds 128, no more
    eigenvectors than wanted are computed, from inner products that the neighbourhoods of a batch
    share, which takes :math:`O(K m)` time a basis. Points are batched within scikit-learn's
    `working_memory`, at most 512 at once, and their neighbourhoods padded to the widest among them;
    :meth:`neighborhoods` alone returns those of all points at once.

    Within ``sklearn.config_context(array_api_dispatch=True)``, arrays may be of another library
    that follows the array API, such as torch tensors on a GPU. All is then computed where they are,
    results are beside them, and each neighbourhood is decomposed by itself, however wide.

    References
    ----------
    A. Roy, S. Lee, S. Chakraborty, V. Lokhande, "ManifoldGD: Training-Free Hierarchical Manifold
    Guidance for Diffusion-Based Dataset Distillation", CVPR 2026, arXiv:2602.23295.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tangent import TangentProjector
    >>> angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    >>> circle = np.column_stack([np.cos(angle), np.sin(angle)])
    >>> projector = TangentProjector(n_components=1, n_neighbors=5).fit(circle)
    >>> projector.project([[1.0, 1.0]], circle[:1]).round(2) + 0.0
    array([[0., 1.]])
    >>> projector.transform([[1.5, 0.0]]).round(2) + 0.0
    array([[1., 0.]])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [None, Interval(Real, 0, None, closed="neither")],
        "alpha_bar": [None, Interval(Real, 0, 1, closed="neither")],
        "ridge": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_components=3, *, n_neighbors=12, radius=None, alpha_bar=None, ridge=1e-6):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.alpha_bar = alpha_bar
        self.ridge = ridge

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Keep the reference points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Reference points.

        y : None
            Ignored.

        Returns
        -------
        self : TangentProjector
            The fitted projector.
        """
        xp, _ = get_namespace(X)
        self.reference_ = validate_data(self, X, dtype=[xp.float64, xp.float32])
        self._origin = self._far_origin()
        searched = is_numpy_array(self.reference_)
        self.nearest_neighbors_ = (
            NearestNeighbors().fit(self._relative(self.reference_)) if searched else None
        )
        return self

    def _far_origin(self):
        """Return the middle of points that lie so far from zero that products lose their digits.

        None for others, of which a shifted copy would be a waste.
        """
        xp = array_namespace(self.reference_)
        low, high = xp.min(self.reference_, axis=0), xp.max(self.reference_, axis=0)
        middle = low + (high - low) / 2
        return middle if xp.max(xp.abs(middle)) > FAR * xp.max(high - low) else None

    def _relative(self, X):
        return X if self._origin is None else X - self._origin

    def transform(self, X):
        """Put each row onto the affine tangent plane at its place.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points.

        Returns
        -------
        X_plane : ndarray of shape (n_points, n_features)
            The local mean plus the tangential part of the deviation from it.
        """
        X = self._validate_points(X, "transform")
        X_plane = array_namespace(X).empty_like(X)
        for rows, _, means, bases in self._tangent_batches(X, [self.radius]):
            X_plane[rows, :] = means + _tangential(X[rows, :] - means, bases)
        return X_plane

    def project(self, V, X):
        """Return the tangential parts of vectors at points.

        Parameters
        ----------
        V : array-like of shape (n_points, n_features)
            Vectors.

        X : array-like of shape (n_points, n_features)
            The points at which they are attached.

        Returns
        -------
        V_tangent : ndarray of shape (n_points, n_features)
            The part of each vector within the tangent space at its point.

        Raises
        ------
        ValueError
            If `V` and `X` differ in shape, or `X` has not the features of `fit`.
        """
        X = self._validate_points(X, "project")
        V = self._validate_vectors(V, X)
        V_tangent = array_namespace(V).empty_like(V)
        for rows, _, _, bases in self._tangent_batches(X, [self.radius]):
            V_tangent[rows, :] = _tangential(V[rows, :], bases)
        return V_tangent

    def normal(self, V, X):
        """Return the normal parts of vectors at points: what :meth:`project` takes away.

        Parameters
        ----------
        V : array-like of shape (n_points, n_features)
            Vectors.

        X : array-like of shape (n_points, n_features)
            The points at which they are attached.

        Returns
        -------
        V_normal : ndarray of shape (n_points, n_features)
            The part of each vector orthogonal to the tangent space at its point.

        Raises
        ------
        ValueError
            If `V` and `X` differ in shape, or `X` has not the features of `fit`.
        """
        V_tangent = self.project(V, X)
        return check_array(V, dtype=V_tangent.dtype) - V_tangent

    def tangent_bases(self, X, *, radius=None):
        """Return the tangent plane at each row.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points.

        radius : float or sequence of float, default=None
            Used in place of the projector's own radius where it is given, as by an annealed one. A
            sequence gives a plane for each of its radii, in less time than one after the other.

        Returns
        -------
        means : ndarray of shape (n_points, n_features) or (n_points, n_radii, n_features)
            Where the planes pass through.

        bases : ndarray of shape (n_points, n_components, n_features) or \
                (n_points, n_radii, n_components, n_features)
            Orthonormal rows by falling variance; rows beyond the local rank are zero.

        Raises
        ------
        ValueError
            If `X` has not the features of `fit`, or `radius` is not positive.
        """
        X = self._validate_points(X, "tangent_bases")
        several = np.iterable(radius)
        radii = [self._radius(r) for r in (radius if several else [radius])]
        if not radii:
            raise ValueError(f"radius={radius!r} must hold at least one positive number.")
        (n_points, n_features), options = X.shape, {"dtype": X.dtype, "device": device(X)}
        empty = array_namespace(X).empty
        means = empty((n_points, len(radii), n_features), **options)
        bases = empty((n_points, len(radii), self.n_components, n_features), **options)
        for rows, j, batch_means, batch_bases in self._tangent_batches(X, radii):
            means[rows, j, :], bases[rows, j, :, :] = batch_means, batch_bases
        return (means, bases) if several else (means[:, 0, :], bases[:, 0, :, :])

    def neighborhoods(self, X, *, radius=None):
        """Return the reference points that make up the neighbourhood of each row.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points.

        radius : float, default=None
            Used in place of the projector's own radius where it is given.

        Returns
        -------
        indices : ndarray of shape (n_points, n_members)
            Rows of `reference_`, nearest first, as many as the largest neighbourhood has.

        weights : ndarray of shape (n_points, n_members)
            Their weights, which sum to one; zero for what is not in the neighbourhood.

        Raises
        ------
        ValueError
            If `X` has not the features of `fit`, or `radius` is not positive.
        """
        X = self._validate_points(X, "neighborhoods")
        indices, weights = self._neighborhoods(X, [self._radius(radius)])
        return indices, weights[:, 0, :]

    def neighbor_distances(self, X):
        """Return the length that radii are multiples of.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points.

        Returns
        -------
        distances : ndarray of shape (n_points,)
            Distance from each row (divided by the square root of `alpha_bar`, where given) to its
            `n_neighbors`-th nearest reference point, or to the farthest if there are fewer.

        Raises
        ------
        ValueError
            If `X` has not the features of `fit`.
        """
        X = self._clean(self._validate_points(X, "neighbor_distances"))
        k = min(self.n_neighbors, self.reference_.shape[0])
        return self._nearest(X, k)[0][:, -1]

    def _validate_points(self, X, method):
        check_is_fitted(self)
        check_same_namespace(X, self, "reference_", method)
        xp, _ = get_namespace(X)
        return validate_data(self, X, dtype=[xp.float64, xp.float32], reset=False)

    def _validate_vectors(self, V, X):
        check_same_namespace(V, self, "reference_", "project")
        xp, _ = get_namespace(V)
        V = check_array(V, dtype=[xp.float64, xp.float32], input_name="V")
        if V.shape != X.shape:
            raise ValueError(f"V and X must have the same shape, got {V.shape} and {X.shape}.")
        return V

    def _radius(self, radius):
        if radius is None:
            return self.radius
        if not (isinstance(radius, Real) and radius > 0):
            raise ValueError(f"radius must be a positive number, got {radius!r}.")
        return radius

    def _clean(self, X):
        """Undo the shrinking of noisy points towards the origin."""
        return X if self.alpha_bar is None else X / self.alpha_bar**0.5

    def _nearest(self, X, k):
        """Return distances to the `k` nearest reference points, and their indices."""
        X = self._relative(X)
        if self.nearest_neighbors_ is not None:
            return self.nearest_neighbors_.kneighbors(X, k)
        reference = self._relative(self.reference_)
        xp, n_points, found = array_namespace(X), X.shape[0], []
        # Distances, the order of them, and what sorting takes.
        row_bytes = 3 * 8 * self.reference_.shape[0]
        for rows in gen_batches(n_points, get_chunk_n_rows(row_bytes, max_n_rows=n_points)):
            distances = euclidean_distances(X[rows, :], reference)
            nearest = xp.argsort(distances, axis=1)[:, :k]
            found.append((xp.take_along_axis(distances, nearest, axis=1), nearest))
        distances, indices = map(xp.concat, zip(*found, strict=True))
        return distances, indices

    def _neighborhoods(self, X, radii):
        """Find neighbourhoods as :meth:`neighborhoods` does, for validated points.

        Parameters
        ----------
        X : array of shape (n_points, n_features)
        radii : list of float or None
            One or more radii, or None alone.

        Returns
        -------
        indices : array of shape (n_points, n_members)
            Rows of `reference_`, nearest first, as many as the largest neighbourhood has.
        weights : array of shape (n_points, n_radii, n_members)
        """
        xp, n_points, n_reference = array_namespace(X), X.shape[0], self.reference_.shape[0]
        n_fewest = min(self.n_components + 1, n_reference)
        n_within = min(self.n_neighbors, n_reference)
        n_members = max(n_within, n_fewest)
        X = self._clean(X)
        distances, indices = self._nearest(X, n_members)
        inside = xp.ones((n_points, len(radii), n_members), dtype=xp.bool, device=device(X))
        if radii != [None]:
            multiples = beside(np.array(radii, dtype=np.float64), X)
            limits = distances[:, n_within - 1, None] * multiples
            while n_members < n_reference and xp.any(distances[:, -1:] <= limits):
                n_members = min(2 * n_members, n_reference)
                distances, indices = self._nearest(X, n_members)
                # Searches of different length round differently, and the member at the limit stays.
                limits = distances[:, n_within - 1, None] * multiples
            inside = distances[:, None, :] <= limits[:, :, None]
            inside[:, :, :n_fewest] = True
            n_members = int(xp.max(xp.count_nonzero(inside, axis=2)))
            distances, indices = distances[:, :n_members], indices[:, :n_members]
            inside = inside[:, :, :n_members]

        present = xp.astype(inside, X.dtype)
        if self.alpha_bar is None:
            return indices, present / xp.sum(present, axis=2, keepdims=True)
        noisy_squared_distances = self.alpha_bar * xp.astype(distances, X.dtype) ** 2
        weights = _tempered_weights(
            xp,
            xp.repeat(noisy_squared_distances, len(radii), axis=0),
            xp.reshape(present, (-1, n_members)),
            self.alpha_bar,
            self.n_components + 1,
        )
        return indices, xp.reshape(weights, present.shape)

    def _tangent_batches(self, X, radii):
        """Yield the rows, place of the radius, means and bases of one batch after the other."""
        for block in gen_batches(X.shape[0], POINTS_AT_ONCE):
            for rows, *tangents in self._tangents_of_block(X[block, :], radii):
                yield slice(block.start + rows.start, block.start + rows.stop), *tangents

    def _tangents_of_block(self, X, radii):
        indices, weights = self._neighborhoods(X, radii)
        shrunk = 1.0 if self.alpha_bar is None else self.alpha_bar**0.5
        xp, n_points = array_namespace(X), X.shape[0]
        used = on_host(xp.any(weights > 0, axis=0))
        sizes = [1 + int(np.flatnonzero(of_radius)[-1]) for of_radius in used]
        wide = []
        if self.nearest_neighbors_ is not None:
            widest = max(WIDE, 8 * self.n_components)
            wide = [j for j, size in enumerate(sizes) if min(size, X.shape[1]) > widest]
        number_bytes = xp.finfo(self.reference_.dtype).bits // 8
        for j in (j for j in range(len(radii)) if j not in wide):
            # local_basis holds three arrays of either kind at its fullest.
            row_bytes = 3 * sizes[j] * (min(sizes[j], X.shape[1]) + X.shape[1]) * number_bytes
            for rows in gen_batches(n_points, get_chunk_n_rows(row_bytes, max_n_rows=n_points)):
                means, bases = local_basis(
                    self.reference_[indices[rows, : sizes[j]]],
                    weights[rows, j, : sizes[j]],
                    n_components=self.n_components,
                    ridge=self.ridge,
                )
                yield rows, j, means * shrunk, bases
        if not wide:
            return
        members, places = np.unique(indices, return_inverse=True)
        places = places.reshape(indices.shape)
        row_bytes = len(members) + (1 + self.n_components) * X.shape[1]
        row_bytes *= len(wide) * number_bytes
        for rows in gen_batches(n_points, get_chunk_n_rows(row_bytes, max_n_rows=n_points)):
            spread = np.zeros((len(places[rows]), len(wide), len(members)), dtype=X.dtype)
            np.put_along_axis(spread, places[rows, None], weights[rows][:, wide], axis=2)
            means, bases = weighted_bases(
                self.reference_[members],
                spread.reshape(-1, len(members)),
                n_components=self.n_components,
                ridge=self.ridge,
            )
            means = means.reshape(len(spread), len(wide), -1) * shrunk
            bases = bases.reshape(*means.shape[:2], *bases.shape[1:])
            for k, j in enumerate(wide):
                yield rows, j, means[:, k], bases[:, k]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _tangential(V, bases):
    """Project vectors (n_points, n_features) onto bases (n_points, n_components, n_features)."""
    xp = array_namespace(bases)
    dtype = xp.result_type(V, bases)
    V, bases = xp.astype(V, dtype, copy=False), xp.astype(bases, dtype, copy=False)
    coordinates = xp.matmul(bases, V[:, :, None])
    return xp.matmul(xp.matrix_transpose(bases), coordinates)[:, :, 0]
