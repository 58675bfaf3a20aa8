"""The errors that a caller can get, as one tree.

    TigerError
      InvalidApiKey            no such key, revoked, expired, malformed
      ModelReadOnly            a base model cannot be changed or trained
      NotFound
        ModelNotFound          unknown, or another user's: the answer is the same
        RevisionNotFound
        JobNotFound
        KeyNotFound            unknown, or another user's: the answer is the same
        FileNotFound           unknown, or another user's: the answer is the same
      Conflict
        NameTaken
        ModelInUse             delete while a job of the model has not ended
        IdempotencyConflict    a reused Idempotency-Key with another body
        TrainingCancelled      a training was cancelled while its request waited for it
      InvalidRequest
        ContextLengthExceeded
        NoLearningSignal       every group has equal rewards, or only responses without tokens differ
        ModelUnusable          its weights give no finite numbers
        TrainingDiverged       the numbers of a training exceed their bounds; it made no revision
      RequestTimeout           the body did not arrive in time
      RequestTooLarge
      UnsupportedEncoding      the body is compressed
      QuotaExceeded            as many models, keys, files or trainings as the user may have
        TokenBudgetExceeded    the tokens of a period are used up; it says when the next one begins
      RateLimited              too much at once; it says when to try again
      TrainingFailed           a training ended without a revision
      Superseded               another cluster has taken over the bucket; this one changes nothing
      Unavailable              storage or the model's replicas cannot be reached

The classes have data and no logic. `args` holds all of the data, so that pickling keeps it between Ray
processes. `api.errors` is the one place that turns errors into HTTP. Clients read the messages, so a message
contains no path, bucket name, key or prompt. Messages that several files raise are constants here.
"""

INTERNAL_ERROR = "internal error"
NO_SUCH_FILE = "there is no such file"
NO_SUCH_KEY = "there is no such key"
NO_SUCH_MODEL = "there is no such model"
NO_SUCH_ROUTE = "there is no such route"
UNREACHABLE = "the service cannot be reached at the moment; try again"


class TigerError(Exception):
    """An error of a caller. `message` is for the client; `param` is the path of the wrong field, or None."""

    code = "internal_error"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)

    @property
    def message(self) -> str:
        return self.args[0]

    @property
    def param(self) -> str | None:
        return self.args[1]

    def __str__(self) -> str:
        return self.message


class InvalidApiKey(TigerError):
    code = "invalid_api_key"


class ModelReadOnly(TigerError):
    code = "model_read_only"


class NotFound(TigerError):
    pass


class RouteNotFound(NotFound):
    """The route does not exist for this user, whose answer is that of any unknown route."""

    code = "route_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class RevisionNotFound(NotFound):
    code = "revision_not_found"


class JobNotFound(NotFound):
    code = "job_not_found"


class KeyNotFound(NotFound):
    code = "key_not_found"


class FileNotFound(NotFound):
    code = "file_not_found"


class Conflict(TigerError):
    pass


class NameTaken(Conflict):
    code = "name_taken"


class ModelInUse(Conflict):
    code = "model_in_use"


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"


class TrainingCancelled(Conflict):
    code = "training_cancelled"


class InvalidRequest(TigerError):
    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class NoLearningSignal(InvalidRequest):
    code = "no_learning_signal"


class ModelUnusable(InvalidRequest):
    code = "model_unusable"


class TrainingDiverged(InvalidRequest):
    code = "training_diverged"


class RequestTimeout(TigerError):
    code = "request_timeout"


class RequestTooLarge(TigerError):
    code = "request_too_large"


class UnsupportedEncoding(TigerError):
    code = "unsupported_encoding"


class QuotaExceeded(TigerError):
    code = "quota_exceeded"


class PassingLimit(TigerError):
    """A limit is reached. `retry_after_s`: whole seconds after which the same request may succeed."""

    def __init__(self, message: str, param: str | None = None, retry_after_s: int = 1) -> None:
        Exception.__init__(self, message, param, retry_after_s)

    @property
    def retry_after_s(self) -> int:
        return self.args[2]


class TokenBudgetExceeded(PassingLimit, QuotaExceeded):
    code = "quota_exceeded"


class RateLimited(PassingLimit):
    code = "rate_limited"


class TrainingFailed(TigerError):
    code = "training_failed"


class Unavailable(TigerError):
    code = "unavailable"


class Superseded(TigerError):
    """A later leader exists. It is no `Unavailable`, because a repetition in this process never helps."""

    code = "unavailable"
