"""Prints what an installed package requires, without its extras, and torch as PyPI has it: requires.py PACKAGE."""

import importlib.metadata
import sys

from pip._vendor.packaging.requirements import Requirement

for text in importlib.metadata.requires(sys.argv[1]):
    requirement = Requirement(text)
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        requirement.marker = None
        print(str(requirement).replace("+cpu", ""))
