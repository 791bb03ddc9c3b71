"""Put a report's parts together."""

import base64
import hashlib
import math
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from skdistill.atomic import write_atomically
from skdistill.io import fingerprint
from skdistill.metrics import copying
from skdistill.report.again import changed_settings, import_lines, python_line, shell_line
from skdistill.report.charts import accuracy_axis, histogram, lay_out_tree
from skdistill.report.pictures import pictures_of_rows, read_picture
from skdistill.report.run import read_run

__all__ = ["write_report"]

# What a page can hold and a reader can read.
MOST_CLASSES = 100
MOST_OF_A_CLASS = 20
MOST_PAIRS = 24
MOST_FEATURES = 12

# Names of the judged set and of all real data in what the command line measured: evaluate calls it
# SET, and may have a rival of the other name.
OWN = ("SET", "ManifoldGD")
ALL = "all training data"

# What each figure of skdistill.metrics.compare_sets is called, and how it is read.
FIGURES = {
    "fid": ("FID", "lower is nearer"),
    "mean_distance": ("distance of means", "lower is nearer"),
    "mean_cosine": ("cosine of means", "higher is nearer"),
    "mmd": ("MMD", "lower is nearer"),
    "representativeness": ("representativeness", "higher is better"),
    "diversity": ("diversity", "higher is better"),
    "coverage": ("coverage", "higher is better"),
    "density": ("density", "1 is like the data"),
    "nearest_real_ratio": ("nearest-real ratio", "0 for copies"),
    "copied_share": ("copied share", "0.05 if drawn anew"),
    "embedded_nearest_real_ratio": ("… of features", "0 for copies"),
    "embedded_copied_share": ("… of features", "0.05 if drawn anew"),
}


def write_report(run_dir, out=None, *, X=None, y=None, data=("DATA",)):
    """Write a run directory's report.

    Parameters
    ----------
    run_dir : str or path-like
        A complete run, that ``sample(out_dir=...)`` or ``skdistill distill`` wrote.

    out : str or path-like, default=None
        The HTML file to write; None is ``report.html`` in the run directory.

    X : array-like of the shape that `fit` saw, default=None
        The real rows that were distilled. With them the report shows the real row nearest to each
        sample, how near those are, and real images in the trees.

    y : array-like of shape (n_samples,), default=None
        Their labels.

    data : sequence of str, default=("DATA",)
        What names the real data on the command line, for the line that makes the set again.

    Returns
    -------
    out : Path
        The file that was written.

    Raises
    ------
    ValueError
        If `run_dir` is no complete run, a file of it is damaged, or `X` and `y` are not what was
        distilled.

    OSError
        If a file cannot be read, or the report cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> from skdistill.report import write_report
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run_dir = Path(folder) / "iris"
    ...     samples = ManifoldGDDistiller(ipc=2, random_state=0).fit(X, y).sample(out_dir=run_dir)
    ...     write_report(run_dir, X=X, y=y).name
    'report.html'
    """
    run = read_run(run_dir)
    real = None if X is None else _RealRows(run, X, y)
    python, shell, no_shell = python_line(run), None, None
    try:
        shell = shell_line(run, data)
    except ValueError as error:
        no_shell = str(error)
    html = _render(
        run=run,
        settings=_settings(run),
        rows=_sample_table(run) if run.files is None else None,
        classes=_classes(run, real),
        scores=_scores(run),
        figures=_figures(run),
        copies=None if real is None else _copies(run, real),
        features=_feature_names(run),
        python=python,
        imports=import_lines(python),
        shell=shell,
        no_shell=no_shell,
        reproducible=run.manifest["random_state"] is not None,
    )
    out = run.path / "report.html" if out is None else Path(out)
    # Names may hold halves of surrogate pairs, which no encoding has.
    write_atomically(out, html.encode("utf-8", "xmlcharrefreplace"))
    return out


class _RealRows:
    """The rows that a run was distilled from."""

    def __init__(self, run, X, y):
        self.X, self.y = np.asarray(X), np.asarray(y)
        self.flat = self.X.reshape(len(self.X), math.prod(self.X.shape[1:]))
        # Places, since arrays of Python's strings give those and others NumPy's.
        classes, self.labels = np.unique(self.y, return_inverse=True)
        source = run.manifest["settings"]["data"]
        if len(self.X) == 0 or fingerprint(self.flat, classes, self.labels) != source:
            raise ValueError(
                f"X and y, {len(self.X)} rows, are not the {sum(run.manifest['real_rows'])} rows "
                f"that {str(run.path)!r} was distilled from: their fingerprint differs. The same "
                "data, held-out share and image size are needed; a run from image files (paths, "
                "or --latents) has a report without them only."
            )
        self._run = run

    def pictures(self, rows):
        """Return the pictures of some rows, None for tables."""
        facts = self._run.manifest
        if facts["image_shape"] is None:
            return None
        return pictures_of_rows(self.X[rows], facts["image_shape"], facts["value_range"])


def _render(**contents):
    """Fill the template in."""
    here = files("skdistill.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "-" if value is None else f"{value:.3g}"
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        style=Markup(style),
        script=Markup(script),
        script_digest=digest,
        most_classes=MOST_CLASSES,
        most_of_a_class=MOST_OF_A_CLASS,
        figure_names=FIGURES,
        **contents,
    )


def _settings(run):
    """Return name, value and whether it was changed of each setting, changed ones first."""
    settings = run.manifest["settings"]
    changed = changed_settings(settings)
    elsewhere = {"ipc", "centroids", "seed", "data", "backbone", "backbone_weights"}
    named = [
        {"name": name, "value": value, "changed": name in changed}
        for name, value in settings.items()
        if name not in elsewhere
    ]
    return sorted(named, key=lambda setting: not setting["changed"])


def _classes(run, real):
    """Return what is shown of each class: its pictures and its tree."""
    shown = []
    for k, name in enumerate(run.names[:MOST_CLASSES]):
        rows = run.rows_of(k)
        pictures = None
        if run.files is not None:
            pictures = [read_picture(run.files[i]) for i in rows[:MOST_OF_A_CLASS]]
        shown.append(
            {
                "name": name,
                "n_samples": len(rows),
                "n_real": run.manifest["real_rows"][k],
                "pictures": pictures,
                "tree": None if run.trees is None else _tree(run, real, k, rows),
            }
        )
    return shown


def _tree(run, real, k, rows):
    """Return a class's tree, and the picture of each node that has one."""
    tree = run.trees[k]
    layout = lay_out_tree(tree)
    pictures = {}
    if run.files is not None:
        if real is not None:
            plain = [node.number for node in layout.nodes if node.centroid is None]
            nearest = np.array(tree["nearest"], dtype=int)[plain]
            pictures = dict(zip(plain, real.pictures(nearest), strict=True))
        for node in layout.nodes:
            # There may be fewer samples than centroids.
            if node.centroid is not None and node.centroid < len(rows):
                pictures[node.number] = read_picture(run.files[rows[node.centroid]])
    return {"layout": layout, "pictures": pictures, "n_centroids": len(tree["centroids"])}


def _feature_names(run):
    """Return the names of a table's features, those of scikit-learn where it has none."""
    return run.manifest["feature_names"] or [f"x{i}" for i in range(run.X[0].size)]


def _sample_table(run):
    """Return label and values of the first rows of each class."""
    return [
        {"name": name, "values": run.X[i].ravel()[:MOST_FEATURES].tolist()}
        for k, name in enumerate(run.names[:MOST_CLASSES])
        for i in run.rows_of(k)[:MOST_OF_A_CLASS]
    ]


def _scores(run):
    """Return the accuracies that were measured, a table for each student of each measurement."""
    return [
        _students(measured) for measured in (run.evaluation, run.scores) if measured is not None
    ]


def _students(measured):
    """Return one measurement's tables."""
    sizes, by_set = measured["n_training"], measured["scores"]
    own = next(name for name in OWN if name in by_set)
    tables = []
    for student in by_set[own]:
        percent = {name: 100 * np.array(scores[student]) for name, scores in by_set.items()}
        # A deviation needs two seeds.
        spread = {
            name: values.std(ddof=1) if len(values) > 1 else None
            for name, values in percent.items()
        }
        axis = accuracy_axis(
            [
                end
                for name, values in percent.items()
                for end in (*values, *(values.mean() + np.array([-1, 1]) * (spread[name] or 0)))
            ]
        )
        tables.append(
            {
                "student": student,
                "axis": axis,
                "n_seeds": len(percent[own]),
                "rows": [
                    {
                        "name": "this set" if name == own else name,
                        "kind": {own: "own", ALL: "all"}.get(name, "rival"),
                        "n": sizes.get(name, sizes[own]),
                        "mean": values.mean(),
                        "deviation": spread[name],
                        "seeds": [axis.place(value) for value in values],
                    }
                    for name, values in percent.items()
                ],
            }
        )
    return {"command": measured["command"], "n_test": measured["n_test"], "tables": tables}


def _figures(run):
    """Return the figures that ``skdistill evaluate`` measured, by set and by class."""
    if run.evaluation is None:
        return None
    figures = run.evaluation["figures"]
    return {
        "space": run.evaluation["features"],
        "names": list(figures["SET"]["overall"]),
        "by_set": {
            "this set" if name == "SET" else name: of_set["overall"]
            for name, of_set in figures.items()
        },
        "by_class": figures["SET"]["by_class"],
    }


def _copies(run, real):
    """Return how near the samples are to real rows, and the nearest pairs."""
    check = copying(real.flat, run.X.reshape(len(run.X), -1), random_state=0)
    usual = float(np.median(check.real_distances))
    # Where most real rows have duplicates, distances have no unit but their own.
    unit = usual or 1.0
    shares, end = histogram(check.distances / unit, check.real_distances / unit)
    closest = np.argsort(check.distances, kind="stable")[:MOST_PAIRS]
    labels = dict(zip(run.classes.tolist(), run.names, strict=True))
    pictures = real.pictures(check.indices[closest])
    pairs = []
    for i, place in enumerate(closest):
        nearest = check.indices[place]
        pairs.append(
            {
                "name": labels[run.y[place].item()],
                "real_name": run.names[real.labels[nearest]],
                "row": int(nearest),
                "distance": float(check.distances[place] / unit),
                "values": run.X[place].ravel()[:MOST_FEATURES].tolist(),
                "real_values": real.flat[nearest][:MOST_FEATURES].tolist(),
                "pictures": None
                if pictures is None
                else (read_picture(run.files[place]), pictures[i]),
            }
        )
    return {
        "share": check.copied_share,
        "ratio": check.ratio if usual else None,
        "in_units": usual > 0,
        "shares": shares,
        "highest": max(max(share) for share in shares),
        "end": end,
        "pairs": pairs,
    }
