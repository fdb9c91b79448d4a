#!/usr/bin/env python3
"""Writes the chart's pod as a manifest for `podman kube play`: the DaemonSet's template as a Pod, and its ConfigMaps and
Secrets.

    python3 tests/chart/pod.py [--name NAME] [--image IMAGE] [--secret NAME=DIRECTORY]… [--config-map NAME=DIRECTORY]…
                               [--no-secrets] [--no-checks] [--seccomp FILE] [VALUES.yaml]… > pod.yaml
    podman kube play --seccomp-profile-root DIRECTORY_OF_FILE pod.yaml

Security context, arguments, mounts and health checks are the chart's own. Changed is what only a kubelet knows: the
downward API, ports by name, several sources of one volume. Added is the host's sysfs, because podman hides
`/sys/dev/block` from containers; no kubelet does. Secrets and ConfigMaps that the values name but the chart does not
make come from directories, a key for each file.

`--no-secrets` makes ConfigMaps of Secrets that are mounted, for podman before 4.4, which mounts none. `--no-checks`
leaves health checks out, for images without `curl` and a shell: podman asks with these from inside. `--seccomp` writes
the default profile of this host's podman, with the calls that `BPF` and `PERFMON` are for: podman has them since 5.2,
containerd since 1.7.
"""

import argparse
import base64
import json
import socket
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "helm"))
sys.dont_write_bytecode = True


def merged(one, other):
    """Two mappings of values, as Helm puts them over each other."""
    both = dict(one)
    for key, value in other.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def secret(name, data):
    """A Secret with its data in base64: not every version of podman takes `stringData`."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def from_directory(text):
    name, _, directory = text.partition("=")
    return name, {path.name: path.read_text() for path in sorted(Path(directory).iterdir()) if path.is_file()}


# What the downward API would say of a pod that has no node.
FIELDS = {
    "status.hostIP": "127.0.0.1",
    "spec.nodeName": socket.gethostname(),
    "metadata.namespace": "default",
    "metadata.uid": "00000000-0000-4000-8000-000000000000",
}


def pod(template, name, maps):
    """A Pod of a DaemonSet's template; `maps` has the ConfigMaps, to which one is added for each volume of several."""
    spec = template["spec"]
    for container in spec["containers"]:
        for variable in container.get("env", []):
            field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            if field:
                del variable["valueFrom"]
                variable["value"] = {**FIELDS, "metadata.name": name}[field]
        # podman would publish them, which it refuses to do in the host's network.
        ports = {port["name"]: port["containerPort"] for port in container.pop("ports", [])}
        for check in ("startupProbe", "livenessProbe", "readinessProbe"):
            handler = container.get(check, {}).get("httpGet") or container.get(check, {}).get("tcpSocket")
            if handler:
                handler["port"] = ports[handler["port"]]
    for volume in spec["volumes"]:
        if "projected" in volume:
            together = {}
            for source in volume.pop("projected")["sources"]:
                together.update(maps[source["configMap"]["name"]])
            maps[f"{name}-{volume['name']}-together"] = together
            volume["configMap"] = {"name": f"{name}-{volume['name']}-together"}
    # There is nobody to ask about these.
    for key in (
        "serviceAccountName",
        "priorityClassName",
        "imagePullSecrets",
        "nodeSelector",
        "affinity",
        "tolerations",
    ):
        spec.pop(key, None)
    metadata = {
        "name": name,
        "labels": template["metadata"]["labels"],
        "annotations": template["metadata"].get("annotations", {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def on_podman(own):
    """Adds the host's sysfs in the place of the container's own, from which podman takes `/sys/dev/block`."""
    spec, container = own["spec"], own["spec"]["containers"][0]
    container["args"].append("--path.sysfs=/host/sys")
    # Not `/sys` as a whole: what is mounted below it, tracefs too, could be written to although it is read-only.
    for part in ("block", "dev", "devices", "kernel/btf", "kernel/tracing"):
        name = "sys-" + part.replace("/", "-")
        container["volumeMounts"].append({"name": name, "mountPath": f"/host/sys/{part}", "readOnly": True})
        spec["volumes"].append({"name": name, "hostPath": {"path": f"/sys/{part}", "type": "Directory"}})


def seccomp(own, file):
    """Writes a profile as newer runtimes have it, and has the pod use it."""
    profile = json.loads(Path("/usr/share/containers/seccomp.json").read_text())
    for call, capability in (("bpf", "BPF"), ("perf_event_open", "PERFMON")):
        added = own["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]
        if capability in added:
            profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"] != [call]]
            for rule in profile["syscalls"]:
                if call in rule["names"]:
                    rule["names"].remove(call)
            profile["syscalls"].append({"names": [call], "action": "SCMP_ACT_ALLOW", "args": []})
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    file.write_text(json.dumps(profile))
    own["metadata"]["annotations"]["seccomp.security.alpha.kubernetes.io/pod"] = f"localhost/{file.name}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("values", nargs="*", type=Path)
    parser.add_argument("--name", default="tapster")
    parser.add_argument("--image")
    parser.add_argument("--secret", action="append", default=[], type=from_directory)
    parser.add_argument("--config-map", action="append", default=[], type=from_directory)
    parser.add_argument("--no-secrets", action="store_true")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--seccomp", type=Path)
    arguments = parser.parse_args()
    import render

    values = {}
    for path in arguments.values:
        values = merged(values, yaml.safe_load(path.read_text()) or {})
    if arguments.image:
        values = merged({"image": {"repository": "replaced"}}, values)
    with render.load() as chart:
        made = [
            yaml.safe_load(text)
            for text in render.documents(render.templates(chart, values, arguments.name, "default"))
        ]
    template = next(one for one in made if one["kind"] == "DaemonSet")["spec"]["template"]
    if arguments.image:
        template["spec"]["containers"][0]["image"] = arguments.image
    secrets, maps = dict(arguments.secret), dict(arguments.config_map)
    for one in made:
        if one["kind"] == "Secret":
            secrets[one["metadata"]["name"]] = one["stringData"]
        elif one["kind"] == "ConfigMap":
            maps[one["metadata"]["name"]] = one["data"]
    own = pod(template, arguments.name, maps)
    if arguments.no_secrets:
        for volume in own["spec"]["volumes"]:
            name = volume.pop("secret", {}).get("secretName")
            if name:
                maps[name] = secrets[name]
                volume["configMap"] = {"name": name}
    on_podman(own)
    if arguments.no_checks:
        for check in ("startupProbe", "livenessProbe", "readinessProbe"):
            own["spec"]["containers"][0].pop(check, None)
    if arguments.seccomp:
        seccomp(own, arguments.seccomp)
    volumes = own["spec"]["volumes"]
    mounted = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    used = [config_map(name, maps[name]) for name in sorted(mounted)]
    of_maps = {name for name in secrets if name in mounted}
    used += [secret(name, data) for name, data in secrets.items() if name not in of_maps]
    sys.stdout.write(yaml.safe_dump_all([*used, own], sort_keys=False))


if __name__ == "__main__":
    main()
