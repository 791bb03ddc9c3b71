"""What guidance does at each step, to the eights."""

import matplotlib.pyplot as plt
from digits import fitted

from skdistill.plotting import GuidanceDisplay

_, axes = plt.subplots(2, 1, figsize=(7, 5), sharex=True)
GuidanceDisplay.from_estimator(fitted(), label=8, ax=axes)
