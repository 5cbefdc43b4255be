"""The one error that the user can mend: what was expected, what came, what to do."""


class InputError(ValueError):
    """A file, setting or folder that the user gave cannot be used.

    The message names it and says what was expected, what came and what to do. The command
    line prints it without a traceback and exits with code 2.
    """
