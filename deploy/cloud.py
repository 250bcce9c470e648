"""What a deployment asks of AWS, with errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from deploy.stage import Stage
from domain.errors import StockTrackerError
from entrypoints.telemetry import namespace

ANSWER_SECONDS = 320  # the function has 300
# The first creation failed, so nothing has ever run there: CloudFormation keeps such a stack only to be looked at.
NEVER_CREATED = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")


class CloudError(StockTrackerError):
    """AWS refused something, or lacks what a deployment needs."""


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Raise a CloudError for what AWS refuses, or for credentials or a region that this machine lacks."""
    try:
        yield
    except NoRegionError:
        raise CloudError(f"{what}: no region is set: set Region in the stage's file, or AWS_DEFAULT_REGION") from None
    except (BotoCoreError, ClientError) as error:
        raise CloudError(f"{what}: {str(error).splitlines()[0]}") from None


def client(stage: Stage, service: str) -> Any:
    """Return a client in the stage's region."""
    limits = Config(connect_timeout=10, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 3})
    if service == "lambda":
        limits = limits.merge(Config(retries={"total_max_attempts": 1}))  # a second call would be a second invocation
    return boto3.client(service, region_name=stage.region, config=limits)


def is_absent(error: ClientError) -> bool:
    """Whether AWS says that something does not exist."""
    code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
    return code in ("ParameterNotFound", "ResourceNotFoundException") or (
        code == "ValidationError" and "does not exist" in said
    )


def stack_status(stage: Stage) -> str | None:
    """Return the status of the stage's stack; None if there is no stack."""
    with one_line_errors(f"the stack {stage.stack} cannot be read"):
        try:
            found = client(stage, "cloudformation").describe_stacks(StackName=stage.stack)["Stacks"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
    return str(found[0]["StackStatus"])


def remove_failed_stack(stage: Stage) -> None:
    """Remove a stack whose first creation failed: CloudFormation would refuse to create it again."""
    if (status := stack_status(stage)) not in NEVER_CREATED:
        return
    print(f"Removing {stage.stack}, whose first deployment failed ({status})")
    with one_line_errors(f"the stack {stage.stack} cannot be removed"):
        stacks = client(stage, "cloudformation")
        stacks.delete_stack(StackName=stage.stack)
        stacks.get_waiter("stack_delete_complete").wait(StackName=stage.stack)


def start_clock(stage: Stage) -> None:
    """Count the hours without a run, and those with old prices, from now on.

    Two alarms go off when no good run was told for longer than a long weekend, and a new stack has had none.
    """
    values = {"RunSucceeded": 1, "FreshnessSessions": 0}
    data = [
        {"MetricName": name, "Value": value, "Dimensions": [{"Name": "job", "Value": "daily_update"}]}
        for name, value in values.items()
    ]
    with one_line_errors("the alarms' first values cannot be written"):
        client(stage, "cloudwatch").put_metric_data(Namespace=namespace(stage.stack), MetricData=data)
