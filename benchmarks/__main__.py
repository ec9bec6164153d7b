"""`make bench`: measure, print a table, write `benchmarks/results/latest.json`."""

import argparse
import os


def main() -> None:
    """Set the platform up for measuring, then measure what was asked for."""
    options = _options()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    from benchmarks import measuring

    measuring.run(only=options.only, repeats=options.repeats)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of measurements each")
    parser.add_argument("--only", nargs="*", help="names of scenarios")
    return parser.parse_args()


if __name__ == "__main__":
    main()
