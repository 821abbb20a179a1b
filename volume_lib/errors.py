"""The one error that a user's input can cause."""


class InputError(ValueError):
    """Something the user wrote, named or placed is wrong.

    The message is one line that names the file, key or argument and says what would be right.
    The command line prints it as it is and ends with exit code 2; notebooks show it as the
    last line of their traceback.
    """
