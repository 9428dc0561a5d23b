"""What an operator is told when a command cannot do what was asked: a sentence that says what to do."""

from collections.abc import Mapping

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as SdkConnectionError

from contact_references.model.errors import CaptureError

_EXPIRED = {
    "RequestExpired",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
}
_NO_CREDENTIALS = "there are no AWS credentials: sign in, or name a profile with --profile"
_SENTENCES: Mapping[type[BotoCoreError], str] = {
    NoCredentialsError: _NO_CREDENTIALS,
    TokenRetrievalError: _NO_CREDENTIALS,
    SSOError: "the AWS session has expired: sign in again with `aws sso login`",
    CredentialRetrievalError: _NO_CREDENTIALS,
    PartialCredentialsError: "the AWS credentials are incomplete: sign in, or name a profile with --profile",
    ConfigParseError: "the AWS configuration file cannot be read: mend ~/.aws/config",
    InvalidRegionError: "there is no such AWS Region: give one such as us-east-1 with --region",
    NoRegionError: "there is no AWS Region: name one with --region, or in the profile",
    ProfileNotFound: "there is no such AWS profile: `aws configure list-profiles` names those that there are",
    SdkConnectionError: "AWS cannot be reached: is the network up, and the Region right?",
    HTTPClientError: "AWS does not answer: is the network up, and the Region right?",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "KMS.AccessDeniedException"}
"""The codes of errors by which AWS says that a role may not do something."""
_THROTTLED = {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}


class OpsError(Exception):
    """The command cannot do what was asked; the message says all that a person needs."""


def explain(error: OpsError | CaptureError | BotoCoreError | ClientError) -> str:
    """Return a failure as a sentence; nothing that AWS quotes of a request is in it.

    >>> explain(OpsError("give a date such as 2026-10-01"))
    'give a date such as 2026-10-01'
    >>> explain(NoCredentialsError())
    'there are no AWS credentials: sign in, or name a profile with --profile'
    """
    if isinstance(error, OpsError):
        return str(error)
    if isinstance(error, CaptureError):
        return f"{error.reason} ({error.error})"
    if isinstance(error, ClientError):
        return _explain_refusal(error)
    for kind, sentence in _SENTENCES.items():
        if isinstance(error, kind):
            return sentence
    return f"the AWS SDK failed: {type(error).__name__}"


def _explain_refusal(error: ClientError) -> str:
    code = error.response.get("Error", {}).get("Code", "")
    if code in _EXPIRED:
        return f"AWS does not take the credentials any more ({code}): sign in again"
    if code in DENIED:
        return f"your AWS role may not do this: {error.operation_name} is denied; ask for that right"
    if code in _THROTTLED:
        return f"AWS throttles {error.operation_name}: try again in a minute"
    return f"AWS refuses {error.operation_name}: {code}"
