"""What an AWS call's failure means for the contact at hand: the SDK's errors, translated once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from contact_references.model.errors import (
    CaptureError,
    ConfigurationError,
    PermanentError,
    RetriableError,
    ThrottledError,
)

_THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TooManyRequestsException",
}
_PASSING = {"RequestTimeout", "RequestTimeoutException", "TransactionInProgressException"}


@contextmanager
def translated_errors(operation: str, reactions: Mapping[str, type[CaptureError]]) -> Iterator[None]:
    """Raise the SDK's errors within as the package's own.

    `reactions` maps the operation's own error codes to their classes. Beyond them, throttling, timeouts, 5xx
    answers and whatever goes wrong on the network are retriable; all else, access denied above all, is
    nobody's contact's fault. The SDK's messages are left out: they may quote what was sent.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = reactions.get(code)
        if kind is None:
            is_throttled = code in _THROTTLED or status == 429
            is_passing = code in _PASSING or status >= 500
            kind = ThrottledError if is_throttled else RetriableError if is_passing else ConfigurationError
        raise kind(code or str(status), f"{operation} answered {status} {code}".rstrip()) from None
    except ParamValidationError:
        raise PermanentError("ParamValidationError", f"{operation} cannot be asked for this") from None
    except ResponseParserError:
        raise RetriableError("ResponseParserError", f"{operation} answered what cannot be read") from None
    except BotoCoreError as error:
        name = type(error).__name__
        is_passing = not isinstance(error, NoCredentialsError | CredentialRetrievalError)
        kind = RetriableError if is_passing else ConfigurationError
        raise kind(name, f"{operation} failed: {name}") from None
