"""The command line: `python -m suite run --minutes 60 --seed 1`, `python -m suite check HISTORY`."""

import argparse
import pathlib
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))

from . import run as runs  # noqa: E402  the path to tests/lib must stand before


def main():
    parser = argparse.ArgumentParser(prog="suite", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="a run with faults")
    one.add_argument("--minutes", type=float, default=60)
    one.add_argument("--seed", type=int)
    one.add_argument("--kinds", help="only these faults, with commas")
    one.add_argument("--dir", help="where everything is kept; it must not exist")
    one.add_argument("--workers", type=int, default=3)
    one.add_argument("--lanes", type=int, default=2, help="faults at the same time")
    one.add_argument("--keep", action="store_true", help="keep the store and the workers' files")
    again = commands.add_parser("check", help="check a history again")
    again.add_argument("history")
    args = parser.parse_args()
    if args.command == "check":
        return bool(runs.judge(args.history, "of the history"))
    # As after Ctrl-C, nothing is left mounted or running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    seed = runs.new_seed() if args.seed is None else args.seed
    directory = args.dir or str(pathlib.Path(tempfile.mkdtemp(prefix="trough-chaos-", dir="/var/tmp")) / f"seed-{seed}")
    print(f"seed {seed}, in {directory}", flush=True)
    return bool(
        runs.run(
            directory,
            seed,
            args.minutes,
            kinds=args.kinds and args.kinds.split(","),
            keep=args.keep,
            workers=args.workers,
            lanes=args.lanes,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
