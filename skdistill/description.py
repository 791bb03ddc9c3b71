"""What a run directory says of the set in it: how it was made, and from what."""

from numbers import Integral

import diffusers
import numpy as np
import sklearn
import torch
from sklearn.metrics import pairwise_distances_argmin

import skdistill
from skdistill.hierarchy import HierarchicalIPC
from skdistill.latents import at_least_float32
from skdistill.names import class_folder

__all__ = ["describe_run"]


def describe_run(distiller, plan):
    """Return what :class:`skdistill.io.RunDirectory` keeps beside the samples.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        Fitted.

    plan : Plan
        Of the set.

    Returns
    -------
    settings : dict
        What decides the set, as JSON can hold it: runs that differ in it are others.

    facts : dict
        What else a reader wants to know: classes, sizes, versions.

    records : list of dict
        A record a sample.

    trees : list of dict or None
        The tree of each class, None where none was grown.
    """
    # Neither do these change the set, nor is an object's address a setting.
    ignored = {"backbone", "batch_size", "compile", "device", "ipc", "local_files_only"}
    ignored |= {"memory", "n_jobs", "random_state", "student", "verbose"}
    classes = distiller.classes_.tolist()
    counts = np.bincount(plan.labels, minlength=len(classes)).tolist()
    n_centers = np.bincount(plan.center_classes, minlength=len(classes)).tolist()
    settings = {
        **{
            name: _plain(value)
            for name, value in distiller.get_params(deep=False).items()
            if name not in ignored
        },
        "backbone": distiller.backbone_.name,
        "backbone_weights": distiller.backbone_.fingerprint,
        "ipc": {str(label): n for label, n in zip(classes, counts, strict=True)},
        # Those of a fit to a smaller ipc are others than the first ones of these.
        "centroids": {str(label): n for label, n in zip(classes, n_centers, strict=True)},
        "seed": distiller.seed_,
        "data": distiller._fingerprint,
    }
    modules = (skdistill, sklearn, torch, diffusers)
    images = distiller._format.image_shape is not None
    names = getattr(distiller, "feature_names_in_", None)
    facts = {
        "classes": [str(label) for label in classes],
        "real_rows": [len(rows) for rows in distiller._rows],
        "random_state": (
            int(distiller.random_state) if isinstance(distiller.random_state, Integral) else None
        ),
        "image_shape": list(map(int, distiller._format.image_shape)) if images else None,
        "value_range": list(map(float, distiller.value_range_)) if images else None,
        "feature_names": None if names is None else names.tolist(),
        "versions": {module.__name__: module.__version__ for module in modules},
    }
    nearest = np.empty(len(plan.centers), dtype=np.int64)
    for k, Z in enumerate(distiller._latents):
        of_class = np.flatnonzero(plan.center_classes == k)
        nearest[of_class] = distiller._rows[k][_nearest(plan.centers[of_class], Z)]
    first = np.searchsorted(plan.center_classes, np.arange(len(classes)))
    records = [
        {
            "file_name": f"{class_folder(classes[k])}/{i:04d}.png",
            "label": str(classes[k]),
            "centroid": int(center - first[k]),
            "level": plan.levels[center],
            "nearest": int(nearest[center]),
        }
        for k, i, center in zip(plan.labels, plan.indices, plan.assigned, strict=True)
    ]
    return settings, facts, records, _describe_trees(distiller, plan)


def _describe_trees(distiller, plan):
    """Return what a run directory says of each class's tree, None where none was grown."""
    if not all(isinstance(clusterer, HierarchicalIPC) for clusterer in plan.clusterers):
        return None
    trees = []
    for label, clusterer, rows, Z in zip(
        distiller.classes_.tolist(),
        plan.clusterers,
        distiller._rows,
        distiller._latents,
        strict=True,
    ):
        (tree,) = clusterer.trees_
        trees.append(
            {
                "label": str(label),
                "children": tree.children.tolist(),
                "size": tree.size.tolist(),
                "sse": tree.sse.tolist(),
                "nearest": rows[_nearest(tree.centers, Z)].tolist(),
                "centroids": clusterer.prototype_nodes_.tolist(),
            }
        )
    return trees


def _nearest(centers, Z):
    """Return the places of the latents nearest to centers."""
    return pairwise_distances_argmin(centers, at_least_float32(Z))


def _plain(value):
    """Return a parameter as JSON can hold it and as it compares between runs."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        # An interval is the same one as a list, a tuple or an array.
        value = tuple(np.asarray(value).tolist())
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
