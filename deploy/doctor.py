"""Check a deployed stage: what the function finds from where it runs, and whether the alarms reach anybody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from deploy.cloud import CloudError, client, one_line_errors
from deploy.stage import Stage
from entrypoints.checks import failed, ok, warning

if TYPE_CHECKING:
    from entrypoints.checks import Check

PENDING = "PendingConfirmation"  # in place of the ARN of a subscription


def ask_function(stage: Stage, *, send: bool) -> str:
    """Invoke the function as a doctor and return its answer."""
    event = json.dumps({"job_type": "doctor", "send": send})
    with one_line_errors(f"the function {stage.stack} cannot be invoked: is the stack deployed?"):
        answer: Any = client(stage, "lambda").invoke(FunctionName=stage.stack, Payload=event)
        return str(answer["Payload"].read().decode())


def check_alarm_mail(stage: Stage) -> Check:
    """Say who gets the mails of the alarms, or who has not confirmed the subscription yet."""
    address = stage.values["AlarmEmail"]
    if not address:
        return warning("alarms", "nobody gets a mail when something fails", "set AlarmEmail in the stage's file")
    try:
        found = _subscriptions(stage)
    except CloudError as error:
        return warning("alarms", str(error), "look at the subscriptions of the topic in the console")
    mine = [each["SubscriptionArn"] for each in found if each["Endpoint"] == address]
    if not mine:
        return failed("alarms", f"{address} does not get the mails of the alarms", f"make deploy STAGE={stage.name}")
    if mine[0] == PENDING:
        cure = "open the mail from AWS Notifications, and confirm; after three days make deploy with another address"
        return failed("alarms", f"{address} has not confirmed the subscription to the alarms", cure)
    return ok("alarms", f"{address} gets the mails of the alarms")


def _subscriptions(stage: Stage) -> list[dict[str, str]]:
    with one_line_errors("the subscriptions to the alarms cannot be read"):
        stacks = client(stage, "cloudformation")
        found = stacks.describe_stack_resource(StackName=stage.stack, LogicalResourceId="Alarms")
        topic = found["StackResourceDetail"]["PhysicalResourceId"]
        pages = client(stage, "sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        return [subscription for page in pages for subscription in page["Subscriptions"]]
