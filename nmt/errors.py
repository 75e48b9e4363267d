"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: bad input, a wrong setting, a missing file.

    The command line prints `message` (and `hint`, how to fix it) without a traceback and exits with code 2.
    Messages name the file, the line (counted from 1) and the key or text in question.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint
