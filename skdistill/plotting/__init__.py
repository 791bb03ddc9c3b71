"""Pictures of distilled sets, trees, latents and guided runs, as scikit-learn's displays.

Each display has a ``from_estimator`` that computes what is drawn and a ``plot`` that draws it, into
axes that it is given or new ones. They need matplotlib: ``pip install "skdistill[plot]"``.
"""

from skdistill.plotting.grid import DistilledGrid
from skdistill.plotting.guidance import GuidanceDisplay
from skdistill.plotting.hierarchy import HierarchyDisplay
from skdistill.plotting.latent import LatentDisplay
from skdistill.plotting.recording import GuidedRun, RecordedStep, RecordingGuidance, record_run

__all__ = [
    "DistilledGrid",
    "GuidanceDisplay",
    "GuidedRun",
    "HierarchyDisplay",
    "LatentDisplay",
    "RecordedStep",
    "RecordingGuidance",
    "record_run",
]
