"""Progress bars that show themselves to people only."""

from tqdm.auto import tqdm

__all__ = ["progress_bar"]

# Seconds of work that nobody needs a bar for.
DELAY = 0.5
# Without the rate that tqdm adds, it fits narrow terminals too.
FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def progress_bar(iterable=None, *, description, verbose, total=None, initial=0):
    """Return a progress bar with the time left, as wide as the terminal is.

    Parameters
    ----------
    iterable : iterable, default=None
        What to go through under the bar. None leaves it to the caller to ``update`` it.

    description : str
        What is being done.

    verbose : int
        0 for no bar; otherwise a terminal shows one, and a pipe or a file none.

    total : int, default=None
        How many there are; None is the length of `iterable`.

    initial : int, default=0
        How many were done before.

    Returns
    -------
    bar : tqdm.tqdm
        A bar; work that takes no time shows none.

    Examples
    --------
    >>> from skdistill.progress import progress_bar
    >>> list(progress_bar([1, 2], description="counting", verbose=1))
    [1, 2]
    """
    return tqdm(
        iterable,
        desc=description,
        total=total,
        initial=initial,
        # None leaves it to tqdm to see whether anybody watches.
        disable=None if verbose else True,
        delay=DELAY,
        dynamic_ncols=True,
        # Steps of denoising and of refining take turns and differ in cost: only the mean over all
        # of them says what is left.
        smoothing=0,
        bar_format=FORMAT,
    )
