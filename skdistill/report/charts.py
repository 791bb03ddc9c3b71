"""Where the marks of the report's charts go."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Axis", "Node", "TreeLayout", "accuracy_axis", "histogram", "lay_out_tree"]

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 25, 50)
MOST_TICKS = 5
N_BINS = 32

# Pixels of a tree's drawing: between two leaves, between two levels, beside and above them.
LEAF_PITCH = 46
LEVEL_PITCH = 70
MARGIN_LEFT = 74
MARGIN = 28


@dataclass(frozen=True)
class Axis:
    """An axis of per cent.

    Attributes
    ----------
    low : float
        Where it begins.

    high : float
        Where it ends.

    ticks : list of float
        What is written at it.
    """

    low: float
    high: float
    ticks: list

    def place(self, value):
        """Return where a value is.

        Parameters
        ----------
        value : float
            In per cent.

        Returns
        -------
        place : float
            0 for the beginning of the axis, 100 for its end, and no less or more.
        """
        return float(np.clip(100 * (value - self.low) / (self.high - self.low), 0, 100))


def accuracy_axis(values):
    """Return an axis that holds accuracies.

    Parameters
    ----------
    values : sequence of float
        In per cent.

    Returns
    -------
    axis : Axis
        From round number to round number, within 0 and 100.

    Examples
    --------
    >>> from skdistill.report.charts import accuracy_axis
    >>> accuracy_axis([87.2, 99.6]).ticks
    [85.0, 90.0, 95.0, 100.0]
    """
    low, high = min(values), max(values)
    step = next(
        step for step in STEPS if (high - low) / step <= MOST_TICKS - 2 or step == STEPS[-1]
    )
    first, last = np.floor(low / step), np.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    ticks = [float(round(step * i, 1)) for i in range(int(first), int(last) + 1)]
    ticks = [tick for tick in ticks if 0 <= tick <= 100]
    return Axis(ticks[0], ticks[-1], ticks)


def histogram(*samples):
    """Return histograms over the same bins.

    Parameters
    ----------
    *samples : ndarray of shape (n,)
        Numbers of at least 0.

    Returns
    -------
    shares : list of list of float
        For each, the share of its numbers in each of 32 equal bins from 0; the last one also has
        what is beyond it.

    end : float
        Where the last bin ends: at 1.1 times the 99th percentile of all, as one number far away
        would leave no room for the others.
    """
    end = 1.1 * float(np.quantile(np.concatenate(samples), 0.99)) or 1.0
    edges = np.linspace(0, end, N_BINS + 1)
    shares = [
        (np.histogram(np.minimum(sample, end), edges)[0] / len(sample)).tolist()
        for sample in samples
    ]
    return shares, end


@dataclass(frozen=True)
class Node:
    """A node of a drawn tree.

    Attributes
    ----------
    number : int
        Its place in the tree's arrays.

    x : float
        Pixels from the left.

    y : float
        Pixels from the top.

    size : int
        Number of its real rows.

    centroid : int or None
        Which of the class's centroids it is.
    """

    number: int
    x: float
    y: float
    size: int
    centroid: int | None


@dataclass(frozen=True)
class TreeLayout:
    """A drawn tree.

    Attributes
    ----------
    width : int
        Pixels.

    height : int
        Pixels.

    nodes : list of Node
        In the tree's order.

    links : list of tuple of float
        (x, y, child x, child y) of each pair of parent and child.

    levels : list of float
        The y of each level.
    """

    width: int
    height: int
    nodes: list
    links: list
    levels: list


def lay_out_tree(tree):
    """Place the nodes of a tree, the root on top and a line a level.

    Parameters
    ----------
    tree : dict
        As in a run directory's trees.json.

    Returns
    -------
    layout : TreeLayout
        Where its nodes go.
    """
    children = np.asarray(tree["children"])
    n_nodes = len(children)
    depth = np.zeros(n_nodes, dtype=int)
    for node, (a, b) in enumerate(children):
        if a != -1:
            depth[[a, b]] = depth[node] + 1
    x, n_leaves, stack = np.zeros(n_nodes), 0, [0]
    while stack:
        node = stack.pop()
        if children[node, 0] == -1:
            x[node] = n_leaves
            n_leaves += 1
        else:
            stack += children[node, ::-1].tolist()
    # Descendants have larger numbers.
    for node in range(n_nodes - 1, -1, -1):
        if children[node, 0] != -1:
            x[node] = x[children[node]].mean()
    left = MARGIN_LEFT + LEAF_PITCH * x
    levels = [MARGIN + LEVEL_PITCH * level for level in range(depth.max() + 1)]
    top = np.array(levels)[depth]
    places = {node: i for i, node in enumerate(tree["centroids"])}
    return TreeLayout(
        width=int(left.max()) + MARGIN,
        height=levels[-1] + LEVEL_PITCH - MARGIN,
        nodes=[
            Node(node, float(left[node]), float(top[node]), tree["size"][node], places.get(node))
            for node in range(n_nodes)
        ],
        links=[
            (float(left[node]), float(top[node]), float(left[child]), float(top[child]))
            for node in range(n_nodes)
            for child in children[node]
            if child != -1
        ],
        levels=levels,
    )
