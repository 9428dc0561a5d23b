"""The errors of a capture, one class for each reaction they ask for.

    CaptureError
    ├── PermanentError       to the dead-letter queue at once; a redrive brings it back after a fix
    │   └── RefusedError           Connect refuses the request's parameters
    ├── RetriableError       back to the queue; a later delivery may succeed
    │   ├── ThrottledError         the service refuses the rate
    │   └── ContactNotFoundError   Connect does not know the contact, or not yet
    └── ConfigurationError   no contact's fault: loud, and back to the queue

None of them ever carries a reference's value or another piece of personal data: `error` and `reason` reach
logs and the attributes of dead letters.
"""


class CaptureError(Exception):
    """A contact was not captured.

    `error` is a short code to count and search by (`InvalidEvent`, `ThrottlingException`); `reason` is a
    sentence for the person who looks.
    """

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(f"{error}: {reason}")
        self.error = error
        self.reason = reason


class PermanentError(CaptureError):
    """No delivery of this message can succeed as things are: unusable, foreign or refused."""


class RefusedError(PermanentError):
    """Connect refuses the request as it is: for the contact, or for a type of references."""


class RetriableError(CaptureError):
    """This delivery failed and a later one may not: throttled, unavailable, out of time, overtaken."""


class ThrottledError(RetriableError):
    """The service refuses the call because of its rate."""


class ContactNotFoundError(RetriableError):
    """Connect does not know the contact, or not yet: permanent once its event is old."""


class ConfigurationError(CaptureError):
    """The deployment is wrong, not the contact: access denied, a missing table, bucket or key."""
