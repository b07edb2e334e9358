"""The guide: one Markdown page a topic, which `jobfac help TOPIC` prints."""

from importlib.resources import files

TOPICS = (
    "definitions", "parameters", "programs", "sql", "schedules", "sequences", "output", "secrets", "notifications",
    "monitoring", "duty", "history", "bulk", "http", "tsql", "guarantees", "security", "operating", "deploying",
    "sqlserver", "agent",
    "troubleshooting", "glossary", "reference", "settings",
)  # fmt: skip
"""The topics in the order in which a new user reads them."""


def page(topic: str) -> str:
    """The Markdown text of a topic's page; its first line is ``# Topic: what the page is for``."""
    return (files("jobfac.guide") / f"{topic}.md").read_text(encoding="utf-8")


def summary(topic: str) -> str:
    """What a topic's page is for, in a few words."""
    return page(topic).partition("\n")[0].partition(": ")[2]


def example(name: str) -> str:
    """A file that `jobfac init` writes."""
    return (files("jobfac.guide") / "first" / name).read_text(encoding="utf-8")
