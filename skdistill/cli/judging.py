"""Students that are trained on a set and on its rivals, and tested on what is held out."""

import functools

import numpy as np

from skdistill.baselines import rivals
from skdistill.cli.arguments import backbone_name
from skdistill.cli.distiller import by_label
from skdistill.evaluation import accuracies
from skdistill.matching import DistributionMatching
from skdistill.progress import progress_bar
from skdistill.protocols import PROTOCOLS, judges


def pick_students(options, X, *, value_range, names=None):
    """Return the judges of that name; a ConvNet for images, and a linear one."""
    params = {"device": options.device}
    augmentation = tuple(getattr(options, "augmentation", ()))
    if options.data not in PROTOCOLS:
        params |= {"value_range": value_range, "augmentation": augmentation}
    elif augmentation:
        raise ValueError(
            f"--augmentation cannot be given with {options.data!r}, whose protocol is fixed."
        )
    students = judges(options.data if options.data in PROTOCOLS else None, **params)
    if X.ndim == 2:
        students = {"linear": students["linear"]}
    known = {name.split("-")[0] if "ConvNet" in name else name: name for name in students}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(
            f"--students {unknown[0]} cannot judge DATA={options.data!r}; {', '.join(known)} can."
        )
    chosen = [known[name] for name in names or known if names or not name.startswith("ResNet")]
    return {name: students[name] for name in chosen}


def rival_sets(names, X, y, y_syn, options, value_range=None):
    """Return what makes the sets of rivals, as large as the set with the labels `y_syn`."""
    classes, counts = np.unique(y_syn, return_counts=True)
    ipc = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    class_map = by_label("--class-map", options.class_map, y)
    if "DM" in names and X.ndim == 2:
        raise ValueError("--rivals DM is for images, but the rows of DATA are flat.")

    def make(name, seed):
        if name == "DM":
            kinds = PROTOCOLS.get(options.data, vars(options)).get("augmentation", ())
            rival = DistributionMatching(
                ipc,
                augmentation=kinds,
                value_range=value_range,
                device=options.device,
                random_state=seed,
            )
        else:
            settings = {
                "class_map": class_map,
                "device": options.device,
                "resize": options.resize,
                "value_range": value_range,
            }
            rival = rivals(ipc, backbone_name(options), random_state=seed, **settings)[name]
        return rival.fit(X, y).sample()

    return {name: functools.partial(make, name) for name in names}


def seeds_of(options, n):
    """Return n seeds, none of which another --seed has."""
    return [n * options.seed + i for i in range(n)]


def measure_accuracies(students, sets, test, seeds, options):
    """Return accuracies under a progress bar."""
    total = len(sets) * len(students) * len(seeds)
    with progress_bar(
        description="training students", total=total, verbose=not options.quiet
    ) as bar:
        return accuracies(students, sets, test, seeds, progress=bar.update)
