"""`python -m examples.self_healing_deployment [--bad]`: release a version, or take it back."""

import sys
from pathlib import Path

from examples.running import ended, on_the_platform, parser_of, started
from examples.self_healing_deployment.targets import running


def main() -> int:
    """Release version v2; return 0 if it ended as was to be expected."""
    parser = parser_of(
        "examples.self_healing_deployment", "Release a version, or have it taken back."
    )
    parser.add_argument(
        "--bad", action="store_true", help="one in three requests to the version fails"
    )
    is_bad: bool = parser.parse_args().bad
    return on_the_platform(lambda: _release(is_bad=is_bad))


def _release(*, is_bad: bool) -> int:
    with running(*(["v2"] if is_bad else [])) as cluster:
        given = {"version": "v2", "cluster_url": cluster.url}
        run = ended(started(Path(__file__).parent, given, by="command:self-healing-deployment"))
        for name, version in cluster.versions.items():
            print(f"  {name:<4} {version.requests} requests, {version.errors} errors")
        print(f"  stable: {cluster.stable}")
    return 0 if run.state == ("COMPENSATED" if is_bad else "COMPLETED") else 1


if __name__ == "__main__":
    sys.exit(main())
