"""Values as a command line writes them."""

import argparse

ANNEALINGS = ("exponential", "linear", "cosine")


class Collect(argparse.Action):
    """Collect the values of an option that is given more than once, instead of its default's."""

    def __call__(self, parser, namespace, value, option_string=None):
        """Take one more value."""
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [value] if given is self.default else [*given, value])


def count(text):
    """Read a number of things, at least one."""
    return _whole(text, 1)


def seed(text):
    """Read a seed."""
    number = _whole(text, 0)
    if number >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed below 2**32")
    return number


def jobs(text):
    """Read a number of processes, of which negative ones count from all cores."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; -1 takes all cores")
    return number


def number_or_class(text):
    """Read N or CLASS=N."""
    label, equals, number = text.rpartition("=")
    try:
        return (label, int(number)) if equals else int(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor CLASS=N") from error


def class_and_place(text):
    """Read CLASS=NAME, CLASS=INDEX or CLASS=PROMPT."""
    label, equals, place = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not CLASS=NAME")
    return label, int(place) if place.isdecimal() else place


def shape(text):
    """Read HxW or HxWxC."""
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is neither HxW nor HxWxC, such as 28x28")
    return tuple(map(int, parts))


def annealing(text):
    """Read the name of an annealing, or none."""
    if text not in ANNEALINGS and text != "none":
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(ANNEALINGS)} and none")
    return None if text == "none" else text


def _whole(text, smallest):
    try:
        number = int(text)
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {smallest}")
    return number
