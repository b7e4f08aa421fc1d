"""`python -m softac`."""

from softac.cli.main import entry

entry()
