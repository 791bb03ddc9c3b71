"""The distiller that options describe, and the options that describe a run."""

import ast
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans

from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector
from skdistill.cli.arguments import backbone_name
from skdistill.cli.data import enumerate_labels
from skdistill.cli.settings import SETTINGS
from skdistill.distiller import OWN_CLUSTERER, OWN_PROJECTOR
from skdistill.io import read_manifest
from skdistill.refining import MatchingRefiner

# What of the distiller's parts is an option.
HIERARCHY = ("selection", "start_level", "criterion", "prototype")
TANGENTS = ("n_components", "n_neighbors", "radius")
REFINING = ("steps", "learning_rate")
PARTS = {
    "clusterer": {
        HierarchicalIPC: ({"clusterer": "hierarchy"}, HIERARCHY),
        KMeans: ({"clusterer": "k-means"}, ()),
    },
    "projector": {TangentProjector: ({"projection": True}, TANGENTS)},
    "refiner": {MatchingRefiner: ({"refining": True}, REFINING)},
}
# What a manifest has as Python writes it, and what it has beside the distiller's parameters.
WRITTEN_OUT = (*PARTS, "guidance_interval", "class_map", "value_range", "image_shape")
IDENTITY = {"seed", "data", "backbone_weights", "centroids"}


def make_distiller(options, y):
    """Return the distiller of the options, unfitted, for rows with the labels `y`."""
    params = {name: getattr(options, name) for name in SETTINGS if hasattr(options, name)}
    return ManifoldGDDistiller(
        **params
        | {
            "ipc": _budget(options.ipc, y),
            "backbone": backbone_name(options),
            "clusterer": _clusterer(options),
            "projector": _projector(options),
            "refiner": _refiner(options),
            "class_map": by_label("--class-map", options.class_map, y),
            "random_state": options.seed,
            "verbose": not options.quiet,
        }
    )


def settings_like(run_dir):
    """Return the settings of a run as options by their names, or raise ValueError."""
    manifest = read_manifest(run_dir)
    settings = {k: v for k, v in manifest["settings"].items() if k not in IDENTITY}
    lacking = sorted({"ipc", *WRITTEN_OUT} - settings.keys())
    if lacking:
        raise ValueError(
            f"--like {run_dir} was written by another version: its manifest lacks {lacking[0]!r}."
        )
    for name in WRITTEN_OUT:
        try:
            settings[name] = (_read_part if name in PARTS else _read)(settings[name])
        except (ValueError, SyntaxError) as error:
            raise ValueError(_no_option(run_dir, f"{name}={settings[name]}")) from error
    options = {"seed": manifest.get("random_state")}
    for name, kinds in PARTS.items():
        options |= _options_of(settings.pop(name), kinds, run_dir, name)
    ipc = settings.pop("ipc")
    same = len(set(ipc.values())) == 1
    options["ipc"] = [next(iter(ipc.values()))] if same else [*ipc.items()]
    if settings["class_map"] is not None:
        pairs = settings.pop("class_map").items()
        options["class_map"] = [(str(label), place) for label, place in pairs]
    if not (settings.get("scheduler") or "none").isidentifier():
        raise ValueError(_no_option(run_dir, "a scheduler of its own"))
    strangers = sorted(settings.keys() - SETTINGS.keys())
    if strangers:
        raise ValueError(_no_option(run_dir, f"{strangers[0]}={settings[strangers[0]]!r}"))
    return options | settings


def warn_of_other_data(options, distiller):
    """Warn where DATA, which a distiller was fitted to, is not what --like's run had."""
    if distiller._fingerprint != read_manifest(options.like)["settings"].get("data"):
        _warn(
            options,
            "DATA has other rows or labels (are --test, --image-size and --latents as they were?)",
        )


def warn_of_other_set(options):
    """Warn where a run cannot have given the set of the run that is given to --like."""
    ours, theirs = (read_manifest(run)["settings"] for run in (options.out, options.like))
    if ours["backbone_weights"] != theirs.get("backbone_weights"):
        _warn(options, "the backbone has other weights")
    if ours["ipc"] == theirs["ipc"] and ours["centroids"] != theirs.get("centroids"):
        _warn(options, "it was sampled with another ipc than it was fitted to")


def _budget(given, y):
    """Return the ipc of a number and exceptions from it, as collected from the command line."""
    numbers = [value for value in given if not isinstance(value, tuple)]
    exceptions = by_label("--ipc", [value for value in given if isinstance(value, tuple)], y)
    if exceptions is None:
        return numbers[-1]
    if numbers:
        return dict.fromkeys(np.unique(y).tolist(), numbers[-1]) | exceptions
    return exceptions


def by_label(option, pairs, y):
    """Return pairs whose first is the text of a label as a mapping from labels, None of none."""
    if not pairs:
        return None
    labels = {str(label): label for label in np.unique(y).tolist()}
    for text, value in pairs:
        if text not in labels:
            raise ValueError(
                f"{option} {text}={value} is for no class of DATA, which has "
                f"{enumerate_labels(list(labels.values()))}."
            )
    return {labels[text]: value for text, value in pairs}


def _clusterer(options):
    """Return the clusterer of the options, None for the distiller's own."""
    params = {name: getattr(options, name) for name in HIERARCHY}
    defaults = OWN_CLUSTERER.get_params()
    changed = [name for name in HIERARCHY if params[name] != defaults[name]]
    if options.clusterer == "hierarchy":
        return clone(OWN_CLUSTERER).set_params(**params) if changed else None
    if changed:
        raise ValueError(f"{_flag(changed[0])} needs --clusterer hierarchy.")
    return KMeans()


def _projector(options):
    """Return the projector of the options, None for the distiller's own."""
    return _optional_part(options, OWN_PROJECTOR, TANGENTS, "projection")


def _refiner(options):
    """Return the refiner of the options, None for the distiller's own."""
    refiner = _optional_part(options, MatchingRefiner(), REFINING, "refining", "refiner-")
    if isinstance(refiner, MatchingRefiner) and backbone_name(options) == "closed-form":
        raise ValueError(
            "--refiner-steps and --refiner-learning-rate are for pretrained backbones, but the "
            "closed form moves its samples to support points; leave them out."
        )
    return refiner


def _optional_part(options, own, names, switch, prefix=""):
    """Return a part of the distiller, None for its own; it is left out where its switch is off."""
    params = {name: getattr(options, name) for name in names}
    defaults = own.get_params()
    changed = [name for name in names if params[name] != defaults[name]]
    if getattr(options, switch):
        return clone(own).set_params(**params) if changed else None
    if changed:
        raise ValueError(f"{_flag(prefix + changed[0])} cannot be given with --no-{switch}.")
    return "passthrough"


def _read(text):
    """Return what a setting is that the manifest has as Python writes it."""
    return ast.literal_eval(text) if isinstance(text, str) else text


def _read_part(text):
    """Return the name of an estimator as Python writes it, and the parameters it changes."""
    if text is None or text == "passthrough":
        return text
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("It is no estimator.")
    return node.func.id, {k.arg: ast.literal_eval(k.value) for k in node.keywords}


def _options_of(part, kinds, run_dir, setting):
    """Return the options that make a part of a run's distiller."""
    if part is None:
        return {}
    if part == "passthrough":
        ((switch, _),) = kinds.values()
        return dict.fromkeys(switch, False)
    estimator, params = part
    for kind, (options, names) in kinds.items():
        if kind.__name__ == estimator:
            # The distiller sets the budget.
            strangers = params.keys() - {*names, "ipc", "n_clusters"}
            if strangers:
                estimator = f"{estimator}({min(strangers)}={params[min(strangers)]!r})"
                break
            # What is not written is the estimator's default, which the option's need not be.
            params = kind().get_params() | params
            return options | {name: params[name] for name in names}
    raise ValueError(_no_option(run_dir, f"{setting}={estimator}"))


def _warn(options, difference):
    warnings.warn(f"Not the set of {options.like}: {difference}.", stacklevel=2)


def _no_option(run_dir, setting):
    return f"--like {run_dir} has {setting}, for which there is no option; use Python for it."


def _flag(name):
    return f"--{name.replace('_', '-')}"
