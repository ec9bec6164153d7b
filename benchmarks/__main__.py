"""`make bench`: measure the platform beside bare Celery, print tables, keep the figures.

The figures go to `benchmarks/results/latest.json`; with --write-docs to `docs/benchmarks.md` too.
"""

import argparse
import os
import shlex
import sys

FEWEST_FOR_DOCS = 5
MILLION = 1_000_000


def main() -> None:
    """Set the platform up for measuring, then measure what was asked for."""
    options = _options(sys.argv[1:])
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    from benchmarks import session

    if options.redraw:
        session.redraw()
        return
    session.run(
        session.Wish(
            only=frozenset(options.only or ()),
            repeats=options.repeats,
            history=options.runs if options.history or "history" in (options.only or ()) else 0,
            write_docs=options.write_docs,
            command=_command(sys.argv[1:]),
        )
    )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds of each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only these")
    parser.add_argument("--history", action="store_true", help="also with a long history; long")
    parser.add_argument(
        "--runs", type=int, default=MILLION, metavar="N", help="how long a history is"
    )
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument(
        "--redraw", action="store_true", help="write docs/benchmarks.md from the last figures"
    )
    options = parser.parse_args(arguments)
    if options.write_docs and (options.only or options.repeats < FEWEST_FOR_DOCS):
        parser.error(
            f"--write-docs wants everything measured, in {FEWEST_FOR_DOCS} rounds or more: "
            "leave out --only and --repeats"
        )
    return options


def _command(arguments: list[str]) -> str:
    given = shlex.join(arguments)
    return f'make bench ARGS="{given}"' if given else "make bench"


if __name__ == "__main__":
    main()
