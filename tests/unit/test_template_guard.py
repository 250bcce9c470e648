"""The password of the private market page: the function of the template, run by Node.js beside a store of logins."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from typing import Any

import pytest

from sandbox.npm import NodeUnavailable, find_node
from tests.support.template import resources

DOMAIN = "d111111abcdef8.cloudfront.net"
LOGIN = "Basic " + base64.b64encode(b"me:long-random-password").decode()
STORED = hashlib.sha256((DOMAIN + LOGIN).encode()).hexdigest()  # as docs/aws.md has it made
STORE = """
const cf = {kvs: () => ({get: async (key) => {
  if (key !== 'login' || !STORED) throw new Error(`${key} is not there`);
  return STORED;
}})};
"""


def answer(given: str | None, stored: str | None) -> Any:
    """What the function returns for an Authorization header and a stored hash."""
    try:
        node = find_node((20, 0), "tests of the function of CloudFront")
    except NodeUnavailable as error:
        pytest.skip(str(error))
    code = resources("AWS::CloudFront::Function")["SiteGuard"]["FunctionCode"]
    assert "import cf from 'cloudfront';" in code
    code = code.replace("import cf from 'cloudfront';", f"const STORED = {json.dumps(stored)};{STORE}")
    headers = {"authorization": {"value": given}} if given is not None else {}
    event = {"context": {"distributionDomainName": DOMAIN}, "request": {"uri": "/", "headers": headers}}
    program = f"{code}\nconsole.log(JSON.stringify(await handler({json.dumps(event)})));"
    done = subprocess.run(
        [node, "--input-type=module", "-"], input=program, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_the_login_that_was_set_reads_the_page() -> None:
    assert answer(LOGIN, STORED)["uri"] == "/"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param(None, STORED, id="no login"),
        pytest.param("Basic " + base64.b64encode(b"me:guess").decode(), STORED, id="another login"),
        pytest.param(LOGIN, None, id="none was set"),
        pytest.param(LOGIN, hashlib.sha256(LOGIN.encode()).hexdigest(), id="that of another domain"),
        pytest.param("", STORED, id="an empty one"),
    ],
)
def test_anybody_else_is_asked_for_it_and_nothing_is_kept(given: str | None, stored: str | None) -> None:
    refused = answer(given, stored)
    assert refused["statusCode"] == 401
    assert refused["headers"]["www-authenticate"]["value"].startswith("Basic ")
    assert refused["headers"]["cache-control"]["value"] == "no-store"
