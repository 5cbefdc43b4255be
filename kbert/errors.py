"""What the user can mend: the one error, and the one warning; and the end that others ask for."""


class InputError(ValueError):
    """A file, setting or folder that the user gave cannot be used.

    The message names it and says what was expected, what came and what to do. The command
    line prints it without a traceback and exits with code 2.
    """


class InputWarning(UserWarning):
    """What the user gave is used, but not as it may be thought: texts that were cut.

    The command line prints it in one line.
    """


class Terminated(BaseException):
    """SIGTERM came, the machine is wanted back; what is needed to go on has been saved."""
