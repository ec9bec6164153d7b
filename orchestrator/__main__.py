"""`python -m orchestrator`: run the platform, end a killed one, or be one of its processes."""

import argparse
import os
import sys

from django.core.management import CommandError

from orchestrator import env as environment
from orchestrator import programs
from orchestrator.embedded import EmbeddedError


def main() -> int:
    """Parse the command line and do what it says."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    wanted = _parser().parse_args()
    env = environment.read()
    try:
        match wanted.program:
            case "up" | "down" | "setup":
                return _launch(env, wanted)
            case "web":
                programs.web(env, _place_of(env, wanted.socket))
            case "beat":
                programs.beat()
            case "engine":
                programs.engine(env)
            case "worker":
                programs.worker(env, wanted.environment, wanted.name)
            case "flower":
                programs.flower(env)
    except (EmbeddedError, CommandError) as error:
        sys.exit(str(error))
    return 0


def _launch(env: environment.Env, wanted: argparse.Namespace) -> int:
    """Be the launcher, which no other program loads."""
    from orchestrator import launcher

    try:
        match wanted.program:
            case "up":
                return launcher.up(env, once=wanted.once)
            case "down":
                launcher.down(env, remove=wanted.remove)
            case "setup":
                launcher.prepare()
    except launcher.LaunchError as error:
        sys.exit(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator", description=__doc__)
    programs = parser.add_subparsers(dest="program", required=True)
    up = programs.add_parser("up", help="run the whole platform in the foreground")
    up.add_argument("--once", action="store_true", help="stop after the main example")
    down = programs.add_parser("down", help="end what a killed platform left running")
    down.add_argument("--remove", action="store_true", help="delete its data as well")
    programs.add_parser("setup", help="bring schema, first account and examples up to date")
    web = programs.add_parser("web", help="be the process web")
    web.add_argument("--socket", type=int, metavar="N", help="an open file that listens already")
    for name in ("beat", "engine", "flower"):
        programs.add_parser(name, help=f"be the process {name}")
    worker = programs.add_parser("worker", help="be the worker of one environment")
    worker.add_argument("environment")
    worker.add_argument("--name", default="", help="tells it from others of its environment here")
    return parser


def _place_of(env: environment.Env, inherited: int | None) -> str:
    """Return where the web server listens: at what the launcher holds, or at the settings'."""
    from orchestrator.launcher import FIRST_PORT

    if inherited is not None:
        return f"fd://{inherited}"
    host = f"[{env.web_host}]" if ":" in env.web_host else env.web_host
    return f"{host}:{env.web_port or FIRST_PORT}"


if __name__ == "__main__":
    sys.exit(main())
