"""Errors. Each message says what to do, or shows the output of the program that failed."""


class DevclusterError(Exception):
    """Base: the command line prints it and exits with 1."""


class BuildFailed(DevclusterError):
    """A tool could not be compiled; holds the compiler's last lines."""


class ProcessDied(DevclusterError):
    """A component exited on its own; holds the last lines of its log."""


class NotReady(DevclusterError):
    """A component runs but did not get ready within its time; holds the last lines of its log."""
