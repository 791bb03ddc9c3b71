"""Principal directions of many weightings of one set of points."""

import numpy as np
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

__all__ = ["weighted_bases"]


def weighted_bases(points, weights, *, n_components, ridge=1e-6):
    r"""Span the principal directions of one set of points under many weightings.

    What :func:`~skdistill.tangent.local_basis` is for many small neighbourhoods, this is for few
    large ones that have their points in common: inner products are taken once for all of them, and
    only the wanted eigenvectors are computed, by Lanczos iteration [1]_.

    With :math:`q_i = \sqrt{w_i}`, :math:`|q| = 1`, and G the Gram matrix of the points about any
    origin, the eigenvectors v of :math:`(I - q q^T) \, \mathrm{diag}(q) \, G \, \mathrm{diag}(q) \,
    (I - q q^T)` give the principal directions as :math:`\sum_i q_i v_i z_i`.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features), float32 or float64
        The points :math:`z_i`, all finite.

    weights : ndarray of shape (n_weightings, n_points)
        Non-negative rows that sum to one.

    n_components : int
        Number of directions wanted, less than `n_points` and than `n_features`.

    ridge : float, default=1e-6
        Directions with no more than this share of the total variance are not spanned.

    Returns
    -------
    means : ndarray of shape (n_weightings, n_features)
        The weighted means.

    bases : ndarray of shape (n_weightings, n_components, n_features)
        Orthonormal rows by falling variance. Rows beyond the rank are zero.

    Notes
    -----
    For n points of D features, time :math:`O(n D \min(n, D))` once and :math:`O(n \min(n, D))` for
    each iteration, of which a weighting needs some tens; memory :math:`O(n D)`.

    References
    ----------
    .. [1] R. B. Lehoucq, D. C. Sorensen, C. Yang, "ARPACK Users' Guide: Solution of Large-Scale
       Eigenvalue Problems with Implicitly Restarted Arnoldi Methods", SIAM, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.principal import weighted_bases
    >>> points = np.diag([3.0, 2.0, 1.0, 1.0])
    >>> weights = np.array([[0.5, 0.5, 0.0, 0.0]])
    >>> means, bases = weighted_bases(points, weights, n_components=1)
    >>> means
    array([[1.5, 1. , 0. , 0. ]])
    >>> np.abs(bases).round(4)
    array([[[0.8321, 0.5547, 0.    , 0.    ]]])
    """
    n_points, n_features = points.shape
    origin = points.mean(axis=0)
    offsets = points - origin
    # Of twice as many points the Gram matrix would be larger than the points, and slower to apply.
    gram = offsets @ offsets.T if n_points <= 2 * n_features else None
    squares = np.einsum("nf,nf->n", offsets, offsets)
    # The same for a weighting whatever other points are there.
    start = offsets @ np.random.default_rng(0).normal(size=n_features).astype(points.dtype)
    epsilon = np.finfo(points.dtype).eps

    means = np.empty((len(weights), n_features), dtype=points.dtype)
    bases = np.zeros((len(weights), n_components, n_features), dtype=points.dtype)
    for i, w in enumerate(weights.astype(points.dtype)):
        q, offset = np.sqrt(w), w @ offsets
        means[i] = origin + offset
        magnitude = w @ squares
        rounding = np.count_nonzero(w) * epsilon * magnitude
        total = magnitude - offset @ offset
        if total <= rounding:
            continue

        def covary(v, q=q):
            v = v.ravel()
            v = q * (v - q * (q @ v))
            v = q * (offsets @ (offsets.T @ v) if gram is None else gram @ v)
            return v - q * (q @ v)

        operator = LinearOperator((n_points, n_points), matvec=covary, dtype=points.dtype)
        try:
            variances, vectors = eigsh(
                operator, n_components, v0=covary(q * start), tol=10 * epsilon
            )
        except ArpackError:
            # Where variances hardly differ, iterations may be more than it allows.
            deviations = q[:, None] * (offsets - offset)
            vectors, singular, _ = np.linalg.svd(deviations, full_matrices=False)
            variances, vectors = singular[:n_components] ** 2, vectors[:, :n_components]
        falling = np.argsort(-variances)
        variances, vectors = variances[falling], vectors[:, falling]
        directions = offsets.T @ (q[:, None] * vectors) - np.outer(offset, q @ vectors)
        directions, _ = np.linalg.qr(directions)
        spanned = (variances > ridge * total) & (variances > rounding)
        bases[i, spanned] = directions.T[spanned]
    return means, bases
