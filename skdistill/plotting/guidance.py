"""What guidance does at each step."""

import numpy as np

from skdistill.plotting.canvas import COLORS, GREY, as_text, load_pyplot, new_axes
from skdistill.plotting.fitted import check_distiller
from skdistill.plotting.recording import run_of

__all__ = ["GuidanceDisplay"]


class GuidanceDisplay:
    """The pull of the guidance and the distance to the centroid, step by step.

    The upper axes show how far the guidance would move the clean predictions towards their
    centroids, how far it does move them, which is the part within the tangent space, and what the
    projection takes away. The lower axes show the distance of the clean predictions to their
    centroids before and after the correction, and the radius of the neighbourhoods that the tangent
    spaces come from. Lines are medians over the samples, bands reach from quartile to quartile.
    The guided steps are shaded.

    Use :meth:`from_estimator` to make one; what it computes is stored as attributes.

    Parameters
    ----------
    run : GuidedRun
        What was recorded.

    Attributes
    ----------
    axes_ : ndarray of two matplotlib Axes
        Upper and lower.

    figure_ : matplotlib Figure
        Their figure.

    curves_ : dict of str to ndarray of shape (n_steps, n_samples)
        What the lines are medians of: "mode_pull", "tangential_pull", "removed_pull",
        "distance_before", "distance_after" and, where neighbourhoods have a radius, "radius". Pulls
        and radius are NaN at steps that are not guided.

    lines_ : dict of str to matplotlib Line2D
        The lines, by the names in `curves_`.

    bands_ : dict of str to matplotlib PolyCollection
        The bands, likewise.

    stop_step_ : int or None
        The first step after the guided ones; None where the last step is guided or none is.

    See Also
    --------
    LatentDisplay : Where the steps lead to.
    RecordingGuidance : How a run is recorded.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> from skdistill.plotting import GuidanceDisplay
    >>> distiller = ManifoldGDDistiller(ipc=4, random_state=0)
    >>> distiller = distiller.fit(*load_iris(return_X_y=True))
    >>> display = GuidanceDisplay.from_estimator(distiller, label=2)
    >>> display.stop_step_
    25
    """

    def __init__(self, run):
        self.run = run

    @classmethod
    def from_estimator(cls, distiller, *, label=None, run=None, ax=None):
        """Draw how the samples of a class of a fitted distiller were guided.

        Parameters
        ----------
        distiller : ManifoldGDDistiller
            Fitted.

        label : object, default=None
            The class; None is that of `run`, or the first of ``classes_``.

        run : GuidedRun, default=None
            The samples; None generates them with :func:`record_run`.

        ax : matplotlib Axes or two of them, default=None
            Where to draw. One makes room for two; None makes a figure. The legend lies beside it:
            a figure of several needs ``layout="constrained"`` to make room.

        Returns
        -------
        display : GuidanceDisplay
            The drawn display.
        """
        load_pyplot(cls)
        check_distiller(distiller)
        return cls(run_of(distiller, label, run)).plot(ax)

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or two of them, default=None
            Where to draw. One makes room for two; None makes a figure. The legend lies beside it:
            a figure of several needs ``layout="constrained"`` to make room.

        Returns
        -------
        self : GuidanceDisplay
            With the attributes of what was drawn.
        """
        run = self.run
        if len(run.guided) == 0:
            raise ValueError(
                "run has no steps to draw; the distiller's init_noise must leave some, as the "
                "default of 1.0 does."
            )
        self.axes_ = _two_axes(load_pyplot(type(self)), ax)
        self.figure_ = self.axes_[0].figure
        # Where nothing pulls, a line at zero would look like a pull that has become small.
        pulling = np.where(run.guided, 1.0, np.nan)[:, None]
        self.curves_ = {
            "mode_pull": run.mode_pull * pulling,
            "tangential_pull": run.tangential_pull * pulling,
            "removed_pull": run.removed_pull * pulling,
            "distance_before": np.linalg.norm(run.predictions - run.centroids, axis=2),
            "distance_after": np.linalg.norm(run.corrected - run.centroids, axis=2),
        }
        if not np.isnan(run.radius).all():
            self.curves_["radius"] = run.radius
        self.lines_, self.bands_ = {}, {}
        upper, lower = self.axes_
        # Broad, so that it is seen where its tangential part is all of it.
        self._plot_curve(upper, "mode_pull", "pull to the centroid", "vermilion", "-", 3.5)
        self._plot_curve(upper, "tangential_pull", "its tangential part", "blue", "-")
        self._plot_curve(upper, "removed_pull", "removed by projection", "orange", "--")
        self._plot_curve(lower, "distance_before", "prediction", "vermilion", "-")
        self._plot_curve(lower, "distance_after", "corrected prediction", "blue", "--")
        if "radius" in self.curves_:
            self._plot_curve(lower, "radius", "radius of neighbourhood", "green", "-.")

        self.stop_step_ = None
        n_steps, guided = len(run.guided), np.flatnonzero(run.guided)
        if len(guided):
            for axes in self.axes_:
                axes.axvspan(guided[0] - 0.5, guided[-1] + 0.5, color=GREY, alpha=0.12, linewidth=0)
            if guided[-1] + 1 < n_steps:
                self.stop_step_ = int(guided[-1]) + 1
                self._mark_stop(late=self.stop_step_ > 0.7 * n_steps)
        upper.set_title(f"class {as_text(run.label)}", loc="left")
        upper.set(ylabel="size of the pull", ylim=(0, None))
        lower.set(ylabel="distance to the centroid", ylim=(0, None))
        lower.set_xlabel("denoising step, from noise to sample")
        for axes in self.axes_:
            axes.set_xlim(-0.5, n_steps - 0.5)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return self

    def _mark_stop(self, late):
        """Draw where the guidance stops, the words on the side that has more room."""
        for axes in self.axes_:
            axes.axvline(self.stop_step_ - 0.5, color=GREY, linewidth=1.0)
        upper = self.axes_[0]
        upper.annotate(
            f"guidance stops\nat step {self.stop_step_}",
            (self.stop_step_ - 0.5, 1.0),
            (-5 if late else 5, -2),
            xycoords=upper.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            color=GREY,
        )

    def _plot_curve(self, axes, name, label, color, style, width=1.5):
        """Draw the median over the samples and a band between the quartiles."""
        values = self.curves_[name]
        steps = np.arange(len(values))
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1)
        color = COLORS[color]
        (self.lines_[name],) = axes.plot(
            steps, median, style, color=color, linewidth=width, label=label
        )
        self.bands_[name] = axes.fill_between(
            steps, low, high, color=color, alpha=0.15, linewidth=0
        )


def _two_axes(pyplot, ax):
    """Return the axes to draw into, as an array of two."""
    given = np.ravel(new_axes(pyplot, ax, (7.6, 5.4), n_rows=2))
    if len(given) == 1:
        given[0].set_axis_off()
        lower = given[0].inset_axes([0.0, 0.0, 1.0, 0.46])
        upper = given[0].inset_axes([0.0, 0.54, 1.0, 0.46], sharex=lower)
        upper.tick_params(labelbottom=False)
        return np.array([upper, lower])
    if len(given) != 2:
        raise ValueError(f"ax holds {len(given)} axes; it must be one or two.")
    return given
