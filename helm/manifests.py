#!/usr/bin/env python3
"""Writes helm/manifests: what the chart makes of some values, for those who do without Helm.

python3 helm/manifests.py            # write them
python3 helm/manifests.py --check    # say whether they are as they would be written
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
import render  # noqa: E402, after what keeps it from leaving files here

HERE = Path(__file__).resolve().parent / "manifests"

# To be replaced by whoever uses them.
IMAGE = {"registry": "registry.example.com", "repository": "tapster"}

# Older ones do not know a field by which mounts are read-only all the way down.
KUBERNETES = "1.31"

HEAD = """\
# {what}
# For Kubernetes {kubernetes} and later.
#
# Written by helm/manifests.py from the chart in helm/tapster; change values there. Put your image in the place of
# `registry.example.com/tapster`, then: kubectl apply -f {name}
apiVersion: v1
kind: Namespace
metadata:
  name: tapster
  labels:
    # Pods mount directories of the host and add capabilities; they are not privileged.
    pod-security.kubernetes.io/enforce: privileged
"""

MANIFESTS = {
    "tapster.yaml": ("tapster on every node, with the shipped probes, at port 18277 of each pod.", {}),
    "tapster-tls.yaml": (
        "The same with HTTPS, by a certificate in the Secret `tapster-tls` (cert-manager makes one), and for scrapes\n"
        "# with a client certificate of the authority in its `ca.crt` only.",
        {
            "web": {
                "tls": {
                    "enabled": True,
                    "existingSecret": "tapster-tls",
                    "clientAuthType": "RequireAndVerifyClientCert",
                }
            }
        },
    ),
    "tapster-otlp.yaml": (
        "tapster on every node, which pushes to an OpenTelemetry Collector on the same node and serves health checks only.",
        {"prometheus": {"enabled": False}, "otlp": {"enabled": True}, "service": {"enabled": False}},
    ),
}


def manifest(chart, name):
    """The text of a manifest."""
    what, values = MANIFESTS[name]
    values = {"image": IMAGE, "kubeVersion": KUBERNETES, **values}
    texts = [HEAD.format(what=what, name=name, kubernetes=KUBERNETES)] + render.documents(
        render.templates(chart, values)
    )
    # These speak of Helm, which has no part in it.
    helm = ("helm.sh/chart: ", "app.kubernetes.io/managed-by: ")
    lines = [line for line in "---\n".join(texts).splitlines() if not line.strip().startswith(helm)]
    return "\n".join(lines) + "\n"


def main():
    chart = render.load()
    wrong = []
    for name in MANIFESTS:
        path, new = HERE / name, manifest(chart, name)
        if path.is_file() and path.read_text() == new:
            continue
        if "--check" in sys.argv[1:]:
            wrong.append(f"helm/manifests/{name} is not what the chart makes: python3 helm/manifests.py writes it")
        else:
            HERE.mkdir(exist_ok=True)
            path.write_text(new)
    for path in sorted(HERE.glob("*.yaml")):
        if path.name not in MANIFESTS:
            wrong.append(f"helm/manifests/{path.name} is made by nothing")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
