"""Renders the chart in helm/tapster as `helm template` does, with Helm's own library (`pip install helm-python-sdk`)."""

import contextlib
import os
from pathlib import Path

import helm_python

CHART = Path(__file__).resolve().parent / "tapster"

# The order in which Helm installs what this chart has.
ORDER = [
    "Namespace",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "Service",
    "DaemonSet",
    "Pod",
    "PodMonitor",
    "ServiceMonitor",
    "PrometheusRule",
]


@contextlib.contextmanager
def quiet():
    """Helm logs, past Python, that it follows symbolic links; that is what they are for."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def load(chart=CHART):
    """The chart: a directory or an archive."""
    with quiet():
        return helm_python.Chart.load(str(chart))


def templates(chart, values, name="tapster", namespace="tapster", **options):
    """Texts of all templates by their path in the chart. Wrong values raise `helm_python.HelmError`."""
    with quiet():
        found = chart.render(values, name=name, namespace=namespace, **options)
    return {path.split("/", 1)[1]: text for path, text in found.items()}


def documents(found, tests=False):
    """The YAML documents of all templates, as texts, in the order in which they are installed."""
    all_texts = []
    for path, text in sorted(found.items()):
        if path.endswith(".txt") or ("/tests/" in path and not tests):
            continue
        all_texts += [part.strip("\n") + "\n" for part in text.split("\n---\n") if part.strip(" \n-")]

    def rank(text):
        kind = next(line[6:] for line in text.splitlines() if line.startswith("kind: "))
        return ORDER.index(kind)

    return sorted(all_texts, key=rank)
