"""Runs the command line, and turns errors into sentences and exit codes."""

import sys
from collections.abc import Sequence

from user_pods_client.cli import exits
from user_pods_client.cli.commands import build_for
from user_pods_client.cli.text import is_utf8
from user_pods_client.errors import ClientError


def main(argv: Sequence[str] | None = None) -> None:
    """Always raises SystemExit, with one of `exits.ExitCode`."""
    arguments = sys.argv[1:] if argv is None else [*argv]
    try:
        for each in arguments:
            if not is_utf8(each):
                raise exits.BadArgument(f"the argument {each} has bytes that are not UTF-8")
        build_for(arguments)(args=arguments, prog_name="user-pods")
    except ClientError as error:
        sys.stderr.write(exits.explanation(error))
        sys.exit(exits.code_of(error))


if __name__ == "__main__":
    main()
