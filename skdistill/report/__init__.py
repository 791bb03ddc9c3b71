"""A run directory as one page: what was distilled and how, what it is worth, how to make it again.

The page is one HTML file that loads nothing: pictures, style and script are part of it. What it
says of accuracies is what the command line measured and left in the run directory; what it says of
copies is measured when the real data are given.
"""

from skdistill.report.page import write_report

__all__ = ["write_report"]
