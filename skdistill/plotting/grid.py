"""The distilled set at a glance, with the real rows that it is nearest to."""

import numpy as np
from sklearn.metrics import pairwise_distances_argmin

from skdistill.pixels import infer_value_range
from skdistill.plotting.canvas import GREY, as_text, load_pyplot, new_axes
from skdistill.plotting.fitted import FittedData, check_distiller, standardised, to_pictures

__all__ = ["DistilledGrid"]

GAP = 0.08
CLASS_GAP = 0.25
# Standard deviations at which the colours of a table end.
FARTHEST = 3.0
MOST_NAMED_FEATURES = 32


class DistilledGrid:
    """Synthetic samples class by class, beside the real rows that they are nearest to.

    Images make a row a class, with the nearest real image under each one. Tables make a heat map of
    standardised features with a row a sample, grouped by class, and the nearest real rows to the
    right of it.

    Use :meth:`from_estimator` or :meth:`from_arrays` to make one; what they compute is stored as
    attributes.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, height, width), (n_samples, height, width, channels) or \
            (n_samples, n_features)
        Images of dtype uint8, or rows of a table in standard deviations.

    labels : ndarray of shape (n_samples,)
        Their classes.

    nearest : ndarray of the shape of `samples`, default=None
        The nearest real row to each, drawn likewise.

    nearest_indices : ndarray of shape (n_samples,), default=None
        Where those are in the real data.

    feature_names : list of str, default=None
        Names of the features of a table.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What it was drawn into.

    figure_ : matplotlib Figure
        Its figure.

    images_ : list of matplotlib AxesImage
        Of images, one a sample and one a nearest image, in the order of the rows. Of a table, the
        heat map and that of the nearest rows.

    colorbar_ : matplotlib Colorbar or None
        The scale of a table.

    See Also
    --------
    HierarchyDisplay : The tree of a class.
    LatentDisplay : A class in latent space.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> from skdistill.plotting import DistilledGrid
    >>> X, y = load_iris(return_X_y=True)
    >>> distiller = ManifoldGDDistiller(ipc=4, random_state=0).fit(X, y)
    >>> display = DistilledGrid.from_estimator(distiller, X, y)
    >>> display.samples.shape, len(display.images_)
    ((12, 4), 2)
    """

    def __init__(self, samples, labels, *, nearest=None, nearest_indices=None, feature_names=None):
        self.samples = samples
        self.labels = labels
        self.nearest = nearest
        self.nearest_indices = nearest_indices
        self.feature_names = feature_names

    @classmethod
    def from_estimator(cls, distiller, X=None, y=None, *, samples=None, max_per_class=20, ax=None):
        """Draw the set of a fitted distiller.

        Parameters
        ----------
        distiller : ManifoldGDDistiller
            Fitted.

        X : array-like of the shape that `fit` saw, default=None
            The rows of `fit`. With them, the one nearest to each sample in latent space, of those
            of its class, is drawn beside it.

        y : array-like of shape (n_samples,), default=None
            Their labels.

        samples : tuple of (X_syn, y_syn), default=None
            What ``distiller.sample()`` returned; None calls it.

        max_per_class : int, default=20
            Samples of a class that are drawn, the first ones.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : DistilledGrid
            The drawn display.
        """
        load_pyplot(cls)
        check_distiller(distiller)
        samples = distiller.sample() if samples is None else samples
        X_syn, y_syn = _checked_pair(*samples, ("samples[0]", "samples[1]"))
        data = FittedData(distiller, X_syn)
        nearest = None
        if X is not None:
            X, y = _checked_pair(X, y, ("X", "y"))
            nearest = _nearest_of_class(data.encode(X_syn), y_syn, data.latents_of(y), y)
        display = cls._from_rows(
            X_syn,
            y_syn,
            X,
            nearest,
            image_shape=data.image_shape,
            value_range=distiller.value_range_,
            feature_names=getattr(distiller, "feature_names_in_", None),
        )
        return display.plot(ax, max_per_class=max_per_class)

    @classmethod
    def from_arrays(
        cls,
        X_syn,
        y_syn,
        X=None,
        y=None,
        *,
        image_shape=None,
        value_range=None,
        feature_names=None,
        max_per_class=20,
        ax=None,
    ):
        """Draw any labelled set, such as one that :func:`skdistill.load_distilled` returned.

        Parameters
        ----------
        X_syn : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Rows of a table, or images.

        y_syn : array-like of shape (n_samples,)
            Their labels.

        X : array-like of the shape of `X_syn` but for its length, default=None
            Real rows. With them, the one nearest to each sample, of those of its class, is drawn
            beside it: nearest in pixels, or in standardised features.

        y : array-like, default=None
            Their labels.

        image_shape : tuple of int, default=None
            (height, width) or (height, width, channels) of images that come as flat rows.

        value_range : tuple of float, default=None
            The values that stand for black and white; None infers them from `X`, or from `X_syn`
            where there is none.

        feature_names : list of str, default=None
            Names of the features of a table; None numbers them.

        max_per_class : int, default=20
            Samples of a class that are drawn, the first ones.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : DistilledGrid
            The drawn display.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skdistill.plotting import DistilledGrid
        >>> from skdistill.subsets import HerdingSubset
        >>> X, y = load_iris(return_X_y=True)
        >>> X_syn, y_syn = HerdingSubset(ipc=2).fit(X, y).sample()
        >>> display = DistilledGrid.from_arrays(X_syn, y_syn, X, y)
        >>> bool((X[display.nearest_indices] == X_syn).all())
        True
        """
        load_pyplot(cls)
        X_syn, y_syn = _checked_pair(X_syn, y_syn, ("X_syn", "y_syn"))
        if image_shape is None and X_syn.ndim > 2:
            image_shape = X_syn.shape[1:]
        nearest = None
        if X is not None:
            X, y = _checked_pair(X, y, ("X", "y"))
            if X.shape[1:] != X_syn.shape[1:]:
                raise ValueError(
                    f"A row of X has the shape {X.shape[1:]}; it must be that of a row of X_syn, "
                    f"{X_syn.shape[1:]}."
                )
            real, synthetic = (A.reshape(len(A), -1).astype(np.float64) for A in (X, X_syn))
            if image_shape is None:
                real, synthetic = standardised(real, real), standardised(synthetic, real)
            nearest = _nearest_of_class(synthetic, y_syn, real, y)
        display = cls._from_rows(
            X_syn,
            y_syn,
            X,
            nearest,
            image_shape=image_shape,
            value_range=value_range,
            feature_names=feature_names,
        )
        return display.plot(ax, max_per_class=max_per_class)

    @classmethod
    def _from_rows(cls, X_syn, y_syn, X, nearest, *, image_shape, value_range, feature_names):
        """Return the display of rows in the caller's terms, `nearest` being places in `X`."""
        real = X_syn if X is None else X
        if image_shape is None:

            def drawn(rows):
                return standardised(rows, real)

        else:
            if value_range is None:
                value_range = infer_value_range(real)

            def drawn(rows):
                return to_pictures(rows, image_shape, value_range)

        return cls(
            drawn(X_syn),
            y_syn,
            nearest=None if nearest is None else drawn(X[nearest]),
            nearest_indices=nearest,
            feature_names=feature_names,
        )

    def plot(self, ax=None, *, max_per_class=20):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        max_per_class : int, default=20
            Samples of a class that are drawn, the first ones.

        Returns
        -------
        self : DistilledGrid
            With the attributes of what was drawn.
        """
        pyplot = load_pyplot(type(self))
        if max_per_class < 1:
            raise ValueError(f"max_per_class={max_per_class!r} must be at least 1.")
        classes = np.unique(self.labels)
        groups = [np.flatnonzero(self.labels == label)[:max_per_class] for label in classes]
        draw = self._plot_images if self.samples.ndim > 2 else self._plot_table
        draw(pyplot, ax, [as_text(label) for label in classes], groups)
        return self

    def _plot_images(self, pyplot, ax, names, groups):
        """Draw a row a class, and the nearest images under it."""
        rows = [(self.samples, None)]
        if self.nearest is not None:
            rows.append((self.nearest, "nearest real"))
        height = self.samples.shape[1] / self.samples.shape[2]
        pitch = height + GAP
        class_pitch = len(rows) * pitch + (CLASS_GAP if len(rows) > 1 else 0.0)
        width = max(map(len, groups)) * (1.0 + GAP) - GAP
        bottom = (len(groups) - 1) * class_pitch + len(rows) * pitch - GAP
        inches = np.clip(min(8.0 / width, 10.0 / bottom), 0.4, 0.6)
        self.ax_ = new_axes(
            pyplot, ax, (inches * width + _label_inches(names), inches * bottom + 0.3)
        )
        self.figure_, self.colorbar_, self.images_ = self.ax_.figure, None, []
        places = []
        for k, (name, group) in enumerate(zip(names, groups, strict=True)):
            for row, (pictures, row_name) in enumerate(rows):
                top = k * class_pitch + row * pitch
                places.append((top + height / 2, row_name or name))
                for column, picture in enumerate(pictures[group]):
                    left = column * (1.0 + GAP)
                    extent = (left, left + 1.0, top + height, top)
                    self.images_.append(
                        self.ax_.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent)
                    )
        self.ax_.set(xlim=(0, width), ylim=(bottom, 0), xticks=[])
        self.ax_.set_yticks(*zip(*places, strict=True))
        for row, label in enumerate(self.ax_.get_yticklabels()):
            if rows[row % len(rows)][1] is not None:
                label.set(color=GREY, size="small")
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)

    def _plot_table(self, pyplot, ax, names, groups):
        """Draw a heat map of the samples, and one of the nearest rows beside it."""
        order = np.concatenate(groups)
        parts = [("synthetic", self.samples[order])]
        if self.nearest is not None:
            parts.append(("nearest real", self.nearest[order]))
        n_features = self.samples.shape[1]
        lefts = np.arange(len(parts)) * (n_features + max(0.5, 0.05 * n_features))
        width = lefts[-1] + n_features
        cell = np.clip(3.2 / n_features, 0.12, 0.5), np.clip(6.0 / len(order), 0.08, 0.35)
        size = (cell[0] * width + _label_inches(names) + 1.0, max(cell[1] * len(order), 1.8) + 1.6)
        self.ax_ = new_axes(pyplot, ax, size)
        self.figure_, self.images_ = self.ax_.figure, []

        largest = max(np.abs(part).max() for _, part in parts)
        # Where nothing varies, all is zero, and a scale still needs two ends.
        limit = min(FARTHEST, largest) or 1.0
        colors = {"cmap": "PuOr", "vmin": -limit, "vmax": limit, "aspect": "auto"}
        ends = np.cumsum([len(group) for group in groups])
        above = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
        for left, (title, part) in zip(lefts, parts, strict=True):
            extent = (left, left + n_features, len(order), 0)
            self.images_.append(self.ax_.imshow(part, extent=extent, **colors))
            self.ax_.hlines(ends[:-1], left, left + n_features, colors="white", linewidth=2.5)
            self.ax_.annotate(title, (left + n_features / 2, 0), (0, 5), **above)
        self.ax_.set(xlim=(0, width), ylim=(len(order), 0), ylabel="class")
        self.ax_.set_yticks(ends - np.diff(ends, prepend=0) / 2, names)
        self._name_features(lefts)
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)
        self.colorbar_ = self.figure_.colorbar(
            self.images_[0],
            ax=self.ax_,
            label="standard deviations\nfrom the mean",
            extend="both" if largest > limit else "neither",
        )

    def _name_features(self, lefts):
        """Label the columns of each heat map, by number where they have no names."""
        n_features = self.samples.shape[1]
        if n_features > MOST_NAMED_FEATURES:
            self.ax_.set(xticks=[], xlabel="feature")
            return
        names = self.feature_names
        style = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        if names is None:
            names, style = range(n_features), {}
            self.ax_.set_xlabel("feature")
        ticks = np.add.outer(lefts, np.arange(n_features) + 0.5).ravel()
        names = [str(name).replace("$", r"\$") for name in names]
        self.ax_.set_xticks(ticks, names * len(lefts), **style)


def _label_inches(names):
    """Return the room that the names of classes need beside the samples."""
    return max(1.4, 0.4 + 0.09 * max(map(len, names)))


def _checked_pair(X, y, names):
    """Return rows and labels as arrays of equal length."""
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim < 2 or y.shape != X.shape[:1]:
        raise ValueError(
            f"{names[0]} has the shape {X.shape} and {names[1]} {y.shape}; they must be rows and "
            "one label a row."
        )
    return X, y


def _nearest_of_class(Z_syn, y_syn, Z, y):
    """Return the place in `Z` of the row of the same class that is nearest to each of `Z_syn`."""
    nearest = np.empty(len(Z_syn), dtype=np.int64)
    for label in np.unique(y_syn):
        rows, of_class = np.flatnonzero(y == label), np.flatnonzero(y_syn == label)
        if len(rows) == 0:
            raise ValueError(
                f"{label.tolist()!r} is the label of a sample, but of no row of y: there is no "
                "real row to compare with."
            )
        nearest[of_class] = rows[pairwise_distances_argmin(Z_syn[of_class], Z[rows])]
    return nearest
