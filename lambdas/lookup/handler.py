"""The lookup function: answers a Connect flow that asks for references of earlier contacts."""

import gc
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import botocore.session
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes.connect_contact_flow_event import ConnectContactFlowEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from contact_references.aws.ledger import Ledger
from contact_references.lookup.flow import Answer, QuestionError, answer, asks_for_encoding, read_question, refuse
from contact_references.lookup.reader import Reader
from contact_references.model.contact import Instance
from contact_references.model.environment import read_text

logger = Logger()


@cache
def _wire() -> Reader:
    table_name = read_text(os.environ, "TABLE_NAME", example="contact-references")
    # A flow waits for three seconds by default: one repetition fits into them.
    config = Config(
        user_agent="contact-references",
        connect_timeout=1,
        read_timeout=1,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    # Without boto3, which makes the same client: a flow's caller waits while the function starts.
    client: Any = botocore.session.get_session().create_client("dynamodb", config=config)
    return Reader(Ledger(client, table_name))


@logger.inject_lambda_context
def handler(event: Any, context: LambdaContext, *, app: Reader | None = None) -> Answer:  # noqa: ARG001 - Lambda's call
    """Answer a contact flow's Lambda block with a flat map of strings.

    What cannot be answered, because of the block's parameters or because the event is none of a flow, has a sentence as
    `error`. Raises a CaptureError if the ledger cannot be read: then the flow takes the block's error branch, as it
    does when the function cannot be run, and Lambda counts an error. `app` is made from the environment if it is not
    given.
    """
    parameters: Mapping[str, object] = {}
    try:
        parameters, instance, chain = _read_event(event)
        question = read_question(parameters, instance_id=instance.instance_id, chain=chain)
    except QuestionError as error:
        logger.warning("question refused", extra={"reason": str(error)})
        return refuse(error, is_encoded=asks_for_encoding(parameters))
    result = answer(question, app or _wire())
    counts = {name: result[name] for name in ("found", "reference_count", "truncated")}
    asked = "contacts" if question.value is None else "a value"
    logger.info("answered", extra={"instance_id": question.instance_id, "asked_for": asked, **counts})
    return result


def _read_event(event: Any) -> tuple[Mapping[str, object], Instance, tuple[str, ...]]:
    """Return the block's parameters, the flow's instance, and the contacts that its own one continues."""
    flow = ConnectContactFlowEvent(event)
    try:
        contact, parameters = flow.contact_data, dict(flow.parameters or {})
        instance = Instance.from_arn(contact.instance_arn)
        # The contact itself is live, so it is not captured yet.
        earlier = [contact.get(f"{which}ContactId") for which in ("Previous", "Related", "Initial")]
        chain = tuple(name for name in earlier if isinstance(name, str) and name not in ("", contact.get("ContactId")))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise QuestionError("this is no event of a contact flow") from None
    return parameters, instance, chain


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # During Lambda's init, where the processor is fast and a wrong environment stops the first deployment.
    _wire()

gc.freeze()  # what is there now stays, and need not be looked through
gc.enable()
