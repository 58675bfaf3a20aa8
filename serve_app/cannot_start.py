"""The error of a replica that knows why it cannot start. `/readyz` shows its message to everybody."""


class CannotStart(Exception):
    """A replica cannot start. The message names a setting, and no path, key or bucket name."""
