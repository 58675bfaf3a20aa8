"""The errors of backups, as one tree. Their messages are for the operator, and no client ever reads them.

BackupError
  BackupRefused     nothing was written: another backup is at this place, or the bucket is not empty
  BackupMissing     there is no complete backup at this place
  BackupDamaged     bytes of the backup are missing or are not those that were written
"""


class BackupError(Exception):
    """A backup or a restore did not succeed. `args[0]` is the message."""


class BackupRefused(BackupError):
    pass


class BackupMissing(BackupError):
    pass


class BackupDamaged(BackupError):
    pass
