"""A line of a job's events, on its way from the Trainer to the client that follows the job."""


class EventLine(str):
    """One NDJSON line, or empty text, which says that the call ends here and the job goes on.

    `num_events` is the number of events up to this line. A line that is shown to present followers only, and
    is not stored, does not count. A further call that names this number goes on after this line.
    """

    num_events: int

    def __new__(cls, text: str, num_events: int = 0) -> "EventLine":
        line = super().__new__(cls, text)
        line.num_events = num_events
        return line

    @property
    def is_pause(self) -> bool:
        return not self
