"""A class in two dimensions of its latent space."""

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from skdistill.plotting.canvas import COLORS, GREY, as_text, load_pyplot, new_axes
from skdistill.plotting.fitted import check_distiller, place_of
from skdistill.plotting.recording import run_of

__all__ = ["LatentDisplay"]

# After these the colours of regions repeat; their hulls still tell them apart.
REGION_COLORS = ("blue", "orange", "green", "purple", "sky", "vermilion")


class LatentDisplay:
    """A class in the two principal directions of its real latents.

    Real latents are coloured by the region they are in, a leaf of the class's tree or a cluster of
    another clusterer, and a line goes around each region. Diamonds are the IPC centroids, stars the
    synthetic samples, and a grey line ties each one to the centroid that it was pulled towards. The
    black line to a star is the way its clean prediction went from the first step to the last, drawn
    through while it was guided and dotted where it was not; where samples were refined, its last
    piece is the way that refining moved them.

    Use :meth:`from_estimator` to make one; what it computes is stored as attributes.

    Parameters
    ----------
    real : ndarray of shape (n_real, 2)
        Real latents.

    centroids : ndarray of shape (n_centroids, 2)
        IPC centroids.

    synthetic : ndarray of shape (n_samples, 2)
        Synthetic samples.

    assigned : ndarray of shape (n_samples, 2), default=None
        The centroid of each one; None leaves the ties away.

    regions : ndarray of shape (n_real,), default=None
        The region of each real latent, from 0; None where there are none.

    trajectories : ndarray of shape (n_steps, n_samples, 2), default=None
        Clean predictions after each step, corrected where the step was guided.

    guided : ndarray of shape (n_steps,), dtype bool, default=None
        Which steps were guided.

    explained : ndarray of shape (2,), default=None
        Share of the variance of the real latents along either direction.

    label : object, default=None
        The class, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What it was drawn into.

    figure_ : matplotlib Figure
        Its figure.

    real_ : matplotlib PathCollection
        The real latents.

    hulls_ : list of matplotlib Polygon
        The lines around the regions that three latents or more span.

    centroids_ : matplotlib PathCollection
        The diamonds.

    synthetic_ : matplotlib PathCollection
        The stars.

    ties_ : matplotlib LineCollection or None
        The grey lines, one a sample.

    trajectories_ : list of matplotlib Line2D
        The ways, one a stretch of steps that were all guided or all not, sample after sample.

    See Also
    --------
    HierarchyDisplay : The tree whose leaves are the regions.
    GuidanceDisplay : What guidance does at each step.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> from skdistill.plotting import LatentDisplay
    >>> distiller = ManifoldGDDistiller(ipc=4, random_state=0)
    >>> distiller = distiller.fit(*load_iris(return_X_y=True))
    >>> display = LatentDisplay.from_estimator(distiller, label=2)
    >>> display.synthetic.shape
    (4, 2)
    """

    def __init__(
        self,
        real,
        centroids,
        synthetic,
        *,
        assigned=None,
        regions=None,
        trajectories=None,
        guided=None,
        explained=None,
        label=None,
    ):
        self.real = real
        self.centroids = centroids
        self.synthetic = synthetic
        self.assigned = assigned
        self.regions = regions
        self.trajectories = trajectories
        self.guided = guided
        self.explained = explained
        self.label = label

    @classmethod
    def from_estimator(cls, distiller, *, label=None, run=None, trajectories=True, ax=None):
        """Draw a class of a fitted distiller.

        Parameters
        ----------
        distiller : ManifoldGDDistiller
            Fitted.

        label : object, default=None
            The class; None is that of `run`, or the first of ``classes_``.

        run : GuidedRun, default=None
            The samples; None generates them with :func:`record_run`.

        trajectories : bool, default=True
            Whether to draw the ways to the samples.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. The legend lies beside it:
            a figure of several needs ``layout="constrained"`` to make room.

        Returns
        -------
        display : LatentDisplay
            The drawn display.
        """
        load_pyplot(cls)
        check_distiller(distiller)
        run = run_of(distiller, label, run)
        k = place_of(run.label, distiller.classes_)
        latents = distiller.projectors_[k].reference_
        plane = _PrincipalPlane(latents)
        return cls(
            plane(latents),
            plane(distiller.cluster_centers_[distiller.centroid_classes_ == k]),
            plane(run.latents),
            assigned=plane(run.centroids),
            regions=_regions(distiller.clusterers_[k], len(latents)),
            trajectories=plane(run.corrected) if trajectories else None,
            guided=run.guided,
            explained=plane.explained,
            label=run.label,
        ).plot(ax)

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. The legend lies beside it:
            a figure of several needs ``layout="constrained"`` to make room.

        Returns
        -------
        self : LatentDisplay
            With the attributes of what was drawn.
        """
        pyplot = load_pyplot(type(self))
        from matplotlib.collections import LineCollection

        self.ax_ = ax = new_axes(pyplot, ax, self._figure_size())
        self.figure_, self.ties_, self.hulls_, self.trajectories_ = ax.figure, None, [], []
        colors = GREY
        if self.regions is not None:
            colors = [_region_color(region) for region in self.regions]
            for region in np.unique(self.regions):
                self._plot_hull(self.real[self.regions == region], _region_color(region))
        self.real_ = ax.scatter(*self.real.T, s=14, c=colors, alpha=0.7, linewidths=0, zorder=2)
        if self.assigned is not None:
            ties = np.stack([self.assigned, self.synthetic], axis=1)
            self.ties_ = LineCollection(ties, colors=GREY, linewidths=0.8, zorder=3)
            ax.add_collection(self.ties_)
        if self.trajectories is not None and len(self.trajectories):
            self._plot_trajectories()
        self.centroids_ = ax.scatter(
            *self.centroids.T,
            s=52,
            marker="D",
            c="white",
            edgecolors="black",
            linewidths=1.3,
            zorder=5,
        )
        self.synthetic_ = ax.scatter(
            *self.synthetic.T,
            s=130,
            marker="*",
            c="black",
            edgecolors="white",
            linewidths=0.8,
            zorder=6,
        )
        shares = ["", ""]
        if self.explained is not None:
            shares = [f" ({share:.0%} of variance)" for share in self.explained]
        ax.set(xlabel=f"first direction{shares[0]}", ylabel=f"second direction{shares[1]}")
        ax.set_aspect("equal")
        # A number that does not depend on the size, which layouts know only after the labels.
        ax.locator_params(nbins=6)
        if self.label is not None:
            ax.set_title(f"class {as_text(self.label)}", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(
            handles=self._legend(),
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
        )
        return self

    def _figure_size(self):
        """Return inches that leave little room around axes of equal scales."""
        drawn = [self.real, self.centroids, self.synthetic]
        if self.trajectories is not None:
            drawn.append(self.trajectories.reshape(-1, 2))
        width, height = np.ptp(np.concatenate(drawn), axis=0)
        return 7.6, np.clip(4.8 * height / (width or 1.0), 2.6, 6.0) + 0.8

    def _legend(self):
        """Return what the legend explains: what was drawn, in grey where colours differ."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles = [Line2D([], [], marker="o", linestyle="", ms=4, color=GREY, label="real")]
        if self.hulls_:
            handles.append(Patch(facecolor=f"{GREY}1A", edgecolor=GREY, label="region"))
        for artist, label in ((self.centroids_, "IPC centroid"), (self.synthetic_, "synthetic")):
            artist.set_label(label)
            handles.append(artist)
        if self.ties_ is not None:
            handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="to its centroid"))
        if self.trajectories_:
            for guided in np.unique(self.guided)[::-1]:
                label = "guided prediction" if guided else "unguided prediction"
                style = {"color": "black", "linewidth": 0.9, "linestyle": _style(guided)}
                handles.append(Line2D([], [], label=label, **style))
        return handles

    def _plot_hull(self, points, color):
        """Draw a line around points, where they span an area."""
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:
            return
        self.hulls_ += self.ax_.fill(
            *corners.T, facecolor=color + "1A", edgecolor=color, linewidth=1.0, zorder=1
        )

    def _plot_trajectories(self):
        """Draw the ways of the clean predictions to the samples."""
        ways = np.concatenate([self.trajectories, self.synthetic[None]])
        first = np.flatnonzero(np.diff(self.guided, prepend=~self.guided[0]))
        # The line to a point is drawn as the step that made the point was.
        ends = [*(first[1:] - 1), len(ways) - 1]
        for i in range(ways.shape[1]):
            start = 0
            for step, end in zip(first, ends, strict=True):
                self.trajectories_ += self.ax_.plot(
                    *ways[start : end + 1, i].T,
                    _style(self.guided[step]),
                    color="black",
                    linewidth=0.9,
                    zorder=4,
                )
                start = end


def _region_color(region):
    return COLORS[REGION_COLORS[region % len(REGION_COLORS)]]


def _style(guided):
    return "-" if guided else ":"


class _PrincipalPlane:
    """The plane of the two principal directions of points, of shape (n_points, n_features)."""

    def __init__(self, points):
        self.mean = points.mean(axis=0)
        _, scales, directions = np.linalg.svd(points - self.mean, full_matrices=False)
        # Points of one feature, or a single one, have fewer directions.
        self.directions = np.zeros((2, points.shape[1]), dtype=points.dtype)
        self.directions[: len(directions[:2])] = directions[:2]
        variances = np.zeros(2)
        variances[: len(scales[:2])] = scales[:2] ** 2
        self.explained = variances / (np.sum(scales**2) or 1.0)

    def __call__(self, points):
        return (points - self.mean) @ self.directions.T


def _regions(clusterer, n_rows):
    """Return the leaf or cluster of each row that a clusterer was fitted to, None if it has none.

    Leaves are numbered from left to right, so that neighbours in the tree get different colours.
    """
    if not hasattr(clusterer, "trees_"):
        return getattr(clusterer, "labels_", None)
    tree = clusterer.trees_[0]
    regions = np.empty(n_rows, dtype=np.int64)
    for region, leaf in enumerate(tree.leaves[np.argsort(tree.start[tree.leaves])]):
        regions[tree.members(leaf)] = region
    return regions
