"""Types of command line arguments, for argparse."""


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def minutes(text: str) -> float:
    """A length of time above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def share(text: str) -> float:
    """A number in [0, 1)."""
    number = float(text)
    if not 0 <= number < 1:
        raise ValueError
    return number
