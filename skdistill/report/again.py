"""The lines that make a set again."""

import ast
import shlex
from importlib import import_module

from skdistill.cli.distiller import settings_like
from skdistill.distiller import ManifoldGDDistiller

__all__ = ["changed_settings", "import_lines", "python_line", "shell_line"]

# Where what settings are made of comes from.
MODULES = ("skdistill", "skdistill.refining", "sklearn.cluster", "diffusers")

# In the manifest these are as Python writes them, but for names of classes and "passthrough".
WRITTEN_OUT = {"clusterer", "projector", "refiner", "guidance_interval", "class_map"}
WRITTEN_OUT |= {"value_range", "image_shape", "scheduler"}


def changed_settings(settings):
    """Return the settings that are not the distiller's defaults.

    Parameters
    ----------
    settings : dict
        Those of a manifest.

    Returns
    -------
    changed : dict of str to object
        Parameters of :class:`~skdistill.ManifoldGDDistiller`, without `ipc` and `backbone`.
    """
    defaults = ManifoldGDDistiller().get_params(deep=False)
    return {
        name: settings[name]
        for name, default in defaults.items()
        if name in settings
        and name not in ("ipc", "backbone")
        and str(settings[name]) != str(default)
    }


def python_line(run):
    """Return what makes the set again in Python.

    Parameters
    ----------
    run : Run
        A complete run.

    Returns
    -------
    line : str
        One expression of `X` and `y`, the real data. It has no ``random_state`` where the run had
        none, so that its set is another one.
    """
    settings = run.manifest["settings"]
    centroids, samples = (_budget(run, settings[name]) for name in ("centroids", "ipc"))
    arguments = {"ipc": repr(centroids), "backbone": repr(settings["backbone"])}
    for name, value in changed_settings(settings).items():
        written_out = isinstance(value, str) and name in WRITTEN_OUT
        plain = value == "passthrough" or (name == "scheduler" and str(value).isidentifier())
        arguments[name] = value if written_out and not plain else repr(value)
    if run.manifest["random_state"] is not None:
        arguments["random_state"] = repr(run.manifest["random_state"])
    inner = ", ".join(f"{name}={value}" for name, value in arguments.items())
    budget = "" if samples == centroids else f"ipc={samples!r}"
    return f"ManifoldGDDistiller({inner}).fit(X, y).sample({budget})"


def import_lines(line):
    """Return the imports that a line of :func:`python_line` needs.

    Parameters
    ----------
    line : str
        The expression.

    Returns
    -------
    lines : list of str
        One for each module. What is of no module that is known, such as a clusterer of the
        caller's own, is left out.

    Examples
    --------
    >>> from skdistill.report.again import import_lines
    >>> import_lines("ManifoldGDDistiller(ipc=5, clusterer=KMeans()).fit(X, y).sample()")
    ['from skdistill import ManifoldGDDistiller', 'from sklearn.cluster import KMeans']
    """
    try:
        nodes = list(ast.walk(ast.parse(line)))
    except SyntaxError:
        # Something of the caller's own, written as Python does not read it.
        return ["from skdistill import ManifoldGDDistiller"]
    used = sorted({node.id for node in nodes if isinstance(node, ast.Name)} - {"X", "y"})
    found = {}
    for name in used:
        module = next((m for m in MODULES if hasattr(import_module(m), name)), None)
        found.setdefault(module, []).append(name)
    return [f"from {m} import {', '.join(found[m])}" for m in MODULES if m in found]


def shell_line(run, data):
    """Return what makes the set again in a shell.

    Parameters
    ----------
    run : Run
        A complete run.

    data : sequence of str
        The arguments that name the real data.

    Returns
    -------
    line : str
        A command.

    Raises
    ------
    ValueError
        If a setting of the run has no option.
    """
    settings_like(run.path)
    out = f"{run.path}-again"
    return shlex.join(["skdistill", "distill", *data, "--like", str(run.path), "--out", out])


def _budget(run, by_name):
    """Return numbers by class as one number, where they are all the same."""
    numbers = list(by_name.values())
    if len(set(numbers)) == 1:
        return numbers[0]
    return dict(zip(run.classes.tolist(), numbers, strict=True))
