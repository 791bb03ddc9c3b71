"""The tree of a class, with a picture of each leaf."""

import numpy as np
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils.validation import check_is_fitted

from skdistill.pixels import infer_value_range
from skdistill.plotting.canvas import GREY, as_text, load_pyplot, new_axes
from skdistill.plotting.fitted import FittedData, check_distiller, place_of, to_pictures

__all__ = ["HierarchyDisplay"]

# Of the distance between two leaves.
PICTURE_WIDTH = 0.86
# Leaves that there is room for even where there are fewer, so that pictures stay small.
FEWEST_PLACES = 4
MARK_SIZE = 150
MARK_COLORS = "viridis"
# Share of these colours from which on black is read better on them than white.
LIGHT_FROM = 0.6


class HierarchyDisplay:
    """The divisive tree of a class as a dendrogram over pictures of its leaves.

    A node stands at the sum of squared errors that its split took apart, as in
    ``HierarchicalIPC.linkage_``; leaves stand at zero. Discs mark the nodes that are prototypes,
    each with its level, the root being 0. Under each leaf are its picture, framed where the leaf is
    a prototype, and the number of its rows. Tables have no pictures.

    Use :meth:`from_estimator` to make one; what it computes is stored as attributes.

    Parameters
    ----------
    tree : DivisiveTree
        The tree.

    prototype_nodes : ndarray of shape (n_prototypes,)
        Nodes that are prototypes.

    pictures : ndarray of shape (n_leaves, height, width) or (n_leaves, height, width, channels), \
            default=None
        Of dtype uint8, a picture of each of ``tree.leaves``; None where there are none.

    label : object, default=None
        The class, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The dendrogram's.

    strip_ax_ : matplotlib Axes
        An inset below it that holds what is under the leaves; a unit is the distance between two
        leaves.

    axes_ : ndarray of two matplotlib Axes
        Both.

    figure_ : matplotlib Figure
        Their figure.

    positions_ : ndarray of shape (n_nodes, 2)
        Where each node of the tree is, in the dendrogram's coordinates.

    links_ : matplotlib LineCollection
        A bracket for each inner node, ascending.

    marks_ : matplotlib PathCollection
        The discs, in the order of `prototype_nodes`.

    images_ : list of matplotlib AxesImage
        The pictures, in the order of ``tree.leaves``.

    See Also
    --------
    skdistill.HierarchicalIPC : Grows the trees.
    LatentDisplay : The leaves as regions of latent space.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import HierarchicalIPC
    >>> from skdistill.plotting import HierarchyDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> hierarchy = HierarchicalIPC(ipc=5, random_state=0).fit(X, y)
    >>> display = HierarchyDisplay.from_estimator(hierarchy, X, label=2)
    >>> display.positions_.shape
    (9, 2)
    """

    def __init__(self, tree, prototype_nodes, *, pictures=None, label=None):
        self.tree = tree
        self.prototype_nodes = prototype_nodes
        self.pictures = pictures
        self.label = label

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, label=None, images=None, picture="centroid", ax=None
    ):
        """Draw the tree of one class.

        Parameters
        ----------
        estimator : HierarchicalIPC or ManifoldGDDistiller
            Fitted. A distiller's clusterer must be a :class:`~skdistill.HierarchicalIPC`.

        X : array-like of the shape that `fit` saw
            The rows of `fit`.

        y : array-like of shape (n_samples,), default=None
            Their labels, which a distiller needs.

        label : object, default=None
            The class; None is the first of ``classes_``.

        images : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels), default=None
            An image for each row of `X`, for leaves of a :class:`~skdistill.HierarchicalIPC`, whose
            rows are flat or features of images. A distiller knows its images.

        picture : {"centroid", "nearest"}, default="centroid"
            What stands for a leaf: its centre, decoded by a distiller's backbone and otherwise the
            mean of its images; or the image of the row nearest to its centre.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. Leave room below them for the pictures.

        Returns
        -------
        display : HierarchyDisplay
            The drawn display.
        """
        load_pyplot(cls)
        if picture not in ("centroid", "nearest"):
            raise ValueError(f"picture={picture!r} must be 'centroid' or 'nearest'.")
        X = np.asarray(X)
        check_is_fitted(estimator)
        if hasattr(estimator, "trees_"):
            parts = _of_hierarchy(estimator, X, label, images, picture)
        elif images is not None:
            raise ValueError("images is for a HierarchicalIPC; with a distiller they are X itself.")
        else:
            parts = _of_distiller(estimator, X, y, label, picture)
        return cls(**parts).plot(ax)

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        self : HierarchyDisplay
            With the attributes of what was drawn.
        """
        pyplot = load_pyplot(type(self))
        from matplotlib.collections import LineCollection
        from matplotlib.lines import Line2D

        tree, leaves = self.tree, self.tree.leaves
        n_leaves = len(leaves)
        inches = np.clip(9.0 / n_leaves, 0.34, 0.8)
        picture_height = 0.0
        if self.pictures is not None:
            picture_height = PICTURE_WIDTH * self.pictures.shape[1] / self.pictures.shape[2]
        places = max(n_leaves, FEWEST_PLACES)
        self.ax_ = new_axes(pyplot, ax, (inches * places + 1.2, 4.2 + inches * picture_height))
        self.figure_ = self.ax_.figure
        self.positions_ = _positions(tree)
        x, height = self.positions_.T
        inner = np.flatnonzero(tree.children[:, 0] != -1)
        brackets = [
            [(x[a], height[a]), (x[a], height[i]), (x[b], height[i]), (x[b], height[b])]
            for i, (a, b) in zip(inner, tree.children[inner], strict=True)
        ]
        self.links_ = LineCollection(brackets, colors=GREY, linewidths=1.2, zorder=1)
        self.ax_.add_collection(self.links_)

        nodes = self.prototype_nodes
        levels = tree.depth[nodes]
        deepest = max(1, tree.depth.max())
        self.marks_ = self.ax_.scatter(
            *self.positions_[nodes].T,
            s=MARK_SIZE,
            c=levels,
            cmap=MARK_COLORS,
            vmin=0,
            vmax=deepest,
            edgecolors="white",
            zorder=2,
            clip_on=False,
        )
        for node, level in zip(nodes, levels, strict=True):
            self.ax_.text(
                *self.positions_[node],
                str(level),
                color="white" if level < LIGHT_FROM * deepest else "black",
                size=8,
                ha="center",
                va="center_baseline",
                zorder=3,
            )
        # Splits deep in a tree take little apart; on a linear scale they would lie on each other.
        self.ax_.set_yscale("function", functions=(_signed_root, _signed_square))
        top = height.max() or 1.0
        margin = (places + 0.2) / 2
        self.ax_.set(
            xlim=((n_leaves - 1) / 2 - margin, (n_leaves - 1) / 2 + margin),
            ylim=(_signed_square(-0.06) * top, _signed_square(1.06) * top),
            xticks=[],
            ylabel="sum of squared errors",
        )
        if n_leaves == 1:
            self.ax_.set_yticks([0])
        if self.label is not None:
            self.ax_.set_title(f"class {as_text(self.label)}", loc="left")
        self.ax_.spines[["top", "right", "bottom"]].set_visible(False)
        disc = {"marker": "o", "linestyle": "", "markersize": 10, "color": GREY}
        self.ax_.legend(
            handles=[Line2D([], [], label="prototype, level", **disc)],
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderpad=0,
            borderaxespad=0.4,
            handletextpad=0.2,
            frameon=False,
        )
        self._plot_strip(picture_height)
        self.axes_ = np.array([self.ax_, self.strip_ax_])
        return self

    def _plot_strip(self, picture_height):
        """Draw what is under the leaves."""
        from matplotlib.patches import Rectangle

        # As much room as its width can ask for: the equal aspect then cuts it to what it needs, and
        # leaves the width alone.
        self.strip_ax_ = strip = self.ax_.inset_axes([0, -50, 1, 50], sharex=self.ax_)
        strip.set_axis_off()
        strip.set_anchor("N")
        limits, half = self.ax_.get_xlim(), PICTURE_WIDTH / 2
        below = {"textcoords": "offset points", "va": "top"}
        self.images_ = []
        for i, leaf in enumerate(self.tree.leaves):
            x = self.positions_[leaf, 0]
            if self.pictures is not None:
                extent = (x - half, x + half, -picture_height, 0)
                self.images_.append(
                    strip.imshow(self.pictures[i], cmap="gray", vmin=0, vmax=255, extent=extent)
                )
                if leaf in self.prototype_nodes:
                    color = self.marks_.to_rgba(self.tree.depth[leaf])
                    frame = {"fill": False, "edgecolor": color, "linewidth": 2}
                    corner = (x - half, -picture_height)
                    strip.add_patch(Rectangle(corner, PICTURE_WIDTH, picture_height, **frame))
            strip.annotate(
                str(self.tree.size[leaf]), (x, -picture_height), (0, -4), ha="center", **below
            )
        strip.annotate(
            "rows", (limits[0], -picture_height), (-2, -4), ha="right", color=GREY, **below
        )
        # Without pictures there is only text, but no axes can be without height.
        strip.set(xlim=limits, ylim=(-picture_height or -0.01, 0), aspect="equal")


def _of_hierarchy(hierarchy, X, label, images, picture):
    """Return what a display is made of, for one tree of a fitted HierarchicalIPC."""
    k = place_of(label, hierarchy.classes_)
    tree = hierarchy.trees_[k]
    n_rows = sum(len(tree.order) for tree in hierarchy.trees_)
    for name, rows in (("X", X), ("images", images)):
        if rows is not None and len(rows) != n_rows:
            raise ValueError(
                f"{name} has {len(rows)} rows; it must have one for each of the {n_rows} rows that "
                "the hierarchy was fitted to."
            )
    pictures = None
    if images is not None:
        images = np.asarray(images)
        if picture == "nearest":
            shown = images[_nearest_members(tree, X)]
        else:
            shown = np.stack([images[tree.members(leaf)].mean(axis=0) for leaf in tree.leaves])
        pictures = to_pictures(shown, images.shape[1:], infer_value_range(images))
    of_class = hierarchy.prototype_classes_ == hierarchy.classes_[k]
    return {
        "tree": tree,
        "prototype_nodes": hierarchy.prototype_nodes_[of_class],
        "pictures": pictures,
        # The only class is either known or, of a fit without labels, none.
        "label": hierarchy.classes_.tolist()[k] if len(hierarchy.classes_) > 1 else None,
    }


def _of_distiller(distiller, X, y, label, picture):
    """Return what a display is made of, for the clusterer of one class of a fitted distiller."""
    check_distiller(distiller)
    k = place_of(label, distiller.classes_)
    clusterer = distiller.clusterers_[k]
    if not hasattr(clusterer, "trees_"):
        raise ValueError(
            f"clusterer={clusterer!r} grows no tree; HierarchicalIPC, the default, does."
        )
    if y is None:
        raise ValueError("y=None must be the labels that the distiller was fitted to.")
    data = FittedData(distiller, X)
    rows = data.rows_of_classes(y)[k]
    tree, latents = clusterer.trees_[0], distiller.projectors_[k].reference_
    pictures = None
    if data.image_shape is not None:
        if picture == "nearest":
            shown = X[rows[_nearest_members(tree, latents)]]
        else:
            shown = data.decode(tree.centers[tree.leaves].astype(latents.dtype))
        pictures = data.pictures(shown)
    return {
        "tree": tree,
        "prototype_nodes": clusterer.prototype_nodes_,
        "pictures": pictures,
        "label": distiller.classes_.tolist()[k],
    }


def _nearest_members(tree, X):
    """Return the row of each leaf that is nearest to its centre."""
    nearest = []
    for leaf in tree.leaves:
        members = tree.members(leaf)
        nearest.extend(members[pairwise_distances_argmin(tree.centers[[leaf]], X[members])])
    return np.array(nearest)


def _positions(tree):
    """Return where the nodes of a dendrogram are, (n_nodes, 2), leaves one apart at zero."""
    leaves = tree.leaves
    positions = np.zeros((len(tree.sse), 2))
    # The rows of a subtree lie side by side in the tree's order, so its leaves do too.
    positions[leaves[np.argsort(tree.start[leaves])], 0] = np.arange(len(leaves))
    for node in np.flatnonzero(tree.children[:, 0] != -1)[::-1]:
        a, b = tree.children[node]
        positions[node] = positions[[a, b], 0].mean(), tree.sse[node]
    return positions


def _signed_root(x):
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed_square(x):
    return np.sign(x) * np.square(x)
