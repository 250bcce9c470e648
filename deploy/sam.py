"""Hand a stage to the AWS SAM CLI: its parameters in a file that keeps every character, and its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from deploy.stage import PROJECT, Stage
from deploy.template import ROOT

FOLDER = ROOT / "build" / "deploy"


def write_parameters(name: str, values: Mapping[str, str], folder: Path = FOLDER) -> Path:
    """Write the file for ``sam deploy --parameter-overrides file://…``, which no shell reads, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    text = yaml.safe_dump(dict(values), default_style='"', width=10_000)
    path.write_text(text, encoding="ascii")
    return path


def options(stack: str, region: str | None, folder: Path = FOLDER) -> str:
    """Return what names the stack on the command line of SAM.

    The file of options is empty: a ``samconfig.toml`` in the folder of the project would add its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "samconfig.toml").write_text("version = 0.1\n", encoding="ascii")
    return f"--stack-name {stack} --config-file build/deploy/samconfig.toml" + (f" --region {region}" if region else "")


def tags(stage: Stage) -> str:
    """Return the tags of the stack, which CloudFormation adds to everything in it."""
    return f"project={PROJECT} stage={stage.name}"
