"""Why a pull stopped, in words a person can act on."""


class PullError(Exception):
    """A pull that cannot go on; nothing of it is delivered.

    Attributes:
        message: What is wrong.
        remedy: What to do.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        # What Stripe or Postgres says may come without a full stop.
        self.message = message if message.endswith((".", "!", "?", ":")) else f"{message}."
        self.remedy = remedy
        super().__init__(f"{self.message} {remedy}".strip())


class SetUpWrong(PullError):
    """The request makes no sense or is incomplete: a key, a file, a setting."""
