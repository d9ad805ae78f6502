"""Runs the command line, and turns errors into sentences and exit codes."""

import sys
from collections.abc import Sequence

from user_pods_client.cli import exits
from user_pods_client.cli.app import app
from user_pods_client.errors import ClientError


def main(argv: Sequence[str] | None = None) -> None:
    """Always raises SystemExit, with one of `exits.ExitCode`."""
    try:
        app(args=None if argv is None else [*argv], prog_name="user-pods")
    except ClientError as error:
        sys.stderr.write(exits.explanation(error))
        sys.exit(exits.code_of(error))


if __name__ == "__main__":
    main()
