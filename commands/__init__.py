"""The commands of the command line, one module per group; importing the package adds them to ``app``.

A command builds an event, calls :func:`lambda_main.handler` as AWS does, and shows the result as text or as JSON. Most
imports wait for the command that needs them, so that help starts at once.

To add a command: write it in a module of its own, under ``@command``, and import that module below. The help lists
the commands in this order. What several of them need is in ``options``, ``events``, ``output`` and ``signals``.
"""

# ruff: noqa: F401, I001 - each import adds commands, in the order of the help

from commands import jobs
from commands import sandbox
from commands import scheduler
from commands import report
from commands import status
from commands import show
from commands import site
from commands import doctor
from commands import export
from commands import symbols
