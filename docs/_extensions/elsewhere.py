"""References to other projects, by the addresses that their pages are known to have.

intersphinx would fetch their inventories at every build, which then fails where there is no
network and whenever one of them cannot be reached.
"""

from docutils import nodes

ADDRESSES = {
    "diffusers": "https://huggingface.co/docs/diffusers/index",
    "imblearn": "https://imbalanced-learn.org/stable/references/generated/{0}.html",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{0}.html",
    "json": "https://docs.python.org/3/library/{0}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{0}.html",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{0}.html",
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{0}.html",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{0}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{0}.html",
}
GLOSSARY = "https://scikit-learn.org/stable/glossary.html#term-{0}"


def resolve(app, env, node, content):
    """Return a link for what is documented elsewhere, None for the rest."""
    target = node["reftarget"]
    if node.get("refdomain") == "py":
        address = ADDRESSES.get(target.split(".")[0])
    else:
        address = GLOSSARY if node.get("reftype") == "term" else None
    if address is None:
        return None
    return nodes.reference("", "", content, refuri=address.format(target), internal=False)


def setup(app):
    """Tell Sphinx to ask for what it does not find itself."""
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
