"""The lines that make a set again."""

import shlex

from skdistill.distiller import ManifoldGDDistiller

__all__ = ["changed_settings", "python_line", "shell_line"]

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
    """
    out = f"{run.path}-again"
    return shlex.join(["skdistill", "distill", *data, "--like", str(run.path), "--out", out])


def _budget(run, by_name):
    """Return numbers by class as one number, where they are all the same."""
    numbers = list(by_name.values())
    if len(set(numbers)) == 1:
        return numbers[0]
    return dict(zip(run.classes.tolist(), numbers, strict=True))
