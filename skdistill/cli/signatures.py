"""The defaults of estimators, which are those of the options.

Help texts show them and should come at once, but the estimators bring PyTorch and diffusers, which
take seconds to import. What stands in a signature can be read without that.
"""

import ast
from importlib.util import find_spec


def defaults_of(module, name):
    """Return the parameters of a class that have defaults, with these, without importing it.

    `module` is where the class is defined. Defaults have to be written out, as scikit-learn has
    them: numbers, text, None and tuples of such.
    """
    source = ast.parse(find_spec(module).loader.get_source(module))
    (kind,) = (node for node in source.body if getattr(node, "name", None) == name)
    (init,) = (node for node in kind.body if getattr(node, "name", None) == "__init__")
    positional = zip(init.args.args[::-1], init.args.defaults[::-1], strict=False)
    keyword = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    return {
        parameter.arg: ast.literal_eval(default)
        for parameter, default in (*positional, *keyword)
        if default is not None
    }
