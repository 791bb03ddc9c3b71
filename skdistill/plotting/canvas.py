"""What the displays share on matplotlib's side."""

from skdistill.pictures import caption

__all__ = ["COLORS", "GREY", "as_text", "load_pyplot", "new_axes"]

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision. Yellow
# is left out, which is too pale for lines on white.
COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
}
GREY = "#6E6E6E"
# Inches around what is drawn.
MARGIN = 0.1


def as_text(label):
    """Return a label as one line of a figure.

    Parameters
    ----------
    label : object
        Of any kind that has a text.

    Returns
    -------
    text : str
        As :func:`skdistill.pictures.caption` makes it, with no mathematics for matplotlib in it.
    """
    return caption(label).replace("$", r"\$")


def load_pyplot(display):
    """Import matplotlib, which nothing but the displays needs.

    Parameters
    ----------
    display : type
        The display that needs it.

    Returns
    -------
    pyplot : module
        ``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{display.__name__} needs matplotlib; install it with pip install 'skdistill[plot]'."
        ) from error
    return pyplot


def new_axes(pyplot, ax, size, n_rows=1):
    """Return the axes to draw into.

    Parameters
    ----------
    pyplot : module
        From :func:`load_pyplot`.

    ax : matplotlib Axes, array of them or None
        Those that the caller gave.

    size : tuple of float
        Width and height in inches of the figure that is made where there are none.

    n_rows : int, default=1
        How many axes above each other it has.

    Returns
    -------
    ax : matplotlib Axes, or array of them
        Given or new.
    """
    if ax is not None:
        return ax
    figure, ax = pyplot.subplots(n_rows, sharex=True, figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=MARGIN, h_pad=MARGIN)
    return ax
