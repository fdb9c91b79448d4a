#!/usr/bin/env python3
"""Checks the chart in helm/tapster: what it makes of the values in `values`, that it refuses those in `wrong`, that
nothing written from it is old. It needs `helm-python-sdk`, `kubernetes-validate` and `pyyaml`. Says what is wrong, one
sentence a line, and ends with status 1.

    python3 tests/chart/check.py [--root DIRECTORY] [--flags FILE] [--tapster BINARY]

FILE holds the output of `tapster --help`: containers then have flags of it only. With BINARY, the rules of the chart are compared
with those of `tapster rules`.
"""

import argparse
import copy
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
# Of Kubernetes; the newest that the schemas know is added.
VERSIONS = ["1.25", "1.29", "1.31", "1.33"]
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])
OPERATOR = "monitoring.coreos.com/v1"
# Nothing else is made. No kind of RBAC is among them.
KINDS = {
    "ConfigMap",
    "DaemonSet",
    "NetworkPolicy",
    "Pod",
    "PodMonitor",
    "PrometheusRule",
    "Secret",
    "Service",
    "ServiceAccount",
    "ServiceMonitor",
}
SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance"}

sys.dont_write_bytecode = True
problems = []


def wrong(sentence):
    """Notes what is wrong, once."""
    if sentence not in problems:
        problems.append(sentence)


def expect(condition, sentence):
    if not condition:
        wrong(sentence)


# --- YAML ---


class Loader(yaml.SafeLoader):
    """YAML in which a key stands once."""


def mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"keys {sorted(twice)} stand twice, at line {node.start_mark.line + 1}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def read(text):
    return yaml.load(text, Loader=Loader)


class Rendered:
    """What the chart makes of some values."""

    def __init__(self, case, texts):
        self.case, self.texts, self.objects = case, texts, []
        for path, text in texts.items():
            if path.endswith(".txt"):
                continue
            for number, line in enumerate(text.splitlines(), 1):
                # A line that is nothing but indentation is an empty one of a text.
                if line.strip() and line != line.rstrip():
                    wrong(f"{case}: {path}: line {number} of what is made ends with a space")
            for part in re.split(r"(?m)^---$", text):
                try:
                    one = read(part)
                except yaml.YAMLError as error:
                    wrong(f"{case}: {path} is no YAML: {error}")
                    continue
                if one is not None:
                    self.objects.append(one)

    def of(self, kind):
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind):
        found = self.of(kind)
        if len(found) != 1:
            raise AssertionError(f"{self.case}: {len(found)} objects of the kind {kind}, not one")
        return found[0]

    @property
    def names(self):
        return {(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in self.objects}

    @property
    def template(self):
        return self.one("DaemonSet")["spec"]["template"]

    @property
    def pod(self):
        return self.template["spec"]

    @property
    def container(self):
        return self.pod["containers"][0]

    @property
    def args(self):
        return self.container["args"]

    def volume(self, name):
        found = [volume for volume in self.pod["volumes"] if volume["name"] == name]
        return found[0] if found else None

    def mount(self, name):
        found = [mount for mount in self.container["volumeMounts"] if mount["name"] == name]
        return found[0] if found else None

    def env(self, name):
        found = [variable for variable in self.container["env"] if variable["name"] == name]
        return found[0] if found else None


# --- Schemas of the Prometheus Operator's objects, as far as the chart goes ---

TEXT = {"type": "string"}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
LABELS = {"type": "object", "additionalProperties": TEXT}


def closed(properties, required=()):
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": list(required)}


REFERENCE = closed({"name": TEXT, "key": TEXT, "optional": {"type": "boolean"}}, ["key"])
SOURCE = closed({"secret": REFERENCE, "configMap": REFERENCE})
RELABELING = closed(
    {
        "sourceLabels": {"type": "array", "items": TEXT},
        "separator": TEXT,
        "targetLabel": TEXT,
        "regex": TEXT,
        "modulus": {"type": "integer"},
        "replacement": TEXT,
        "action": TEXT,
    }
)
ENDPOINT = closed(
    {
        "port": TEXT,
        "path": TEXT,
        "scheme": {"enum": ["http", "https"]},
        "interval": DURATION,
        "scrapeTimeout": DURATION,
        "tlsConfig": closed(
            {
                "ca": SOURCE,
                "cert": SOURCE,
                "keySecret": REFERENCE,
                "serverName": TEXT,
                "insecureSkipVerify": {"type": "boolean"},
                "minVersion": TEXT,
                "maxVersion": TEXT,
            }
        ),
        "basicAuth": closed({"username": REFERENCE, "password": REFERENCE}, ["username", "password"]),
        "honorLabels": {"type": "boolean"},
        "relabelings": {"type": "array", "items": RELABELING},
        "metricRelabelings": {"type": "array", "items": RELABELING},
    },
    ["port", "path", "scheme"],
)


def monitor(endpoints):
    return closed(
        {
            "jobLabel": TEXT,
            "selector": closed({"matchLabels": LABELS}, ["matchLabels"]),
            endpoints: {"type": "array", "minItems": 1, "items": ENDPOINT},
            "scrapeProtocols": {
                "type": "array",
                "items": {
                    "enum": [
                        "PrometheusProto",
                        "OpenMetricsText0.0.1",
                        "OpenMetricsText1.0.0",
                        "PrometheusText0.0.4",
                        "PrometheusText1.0.0",
                    ]
                },
            },
            "scrapeNativeHistograms": {"type": "boolean"},
            "scrapeClassicHistograms": {"type": "boolean"},
        },
        ["selector", endpoints],
    )


RULE = {
    **closed(
        {
            "alert": TEXT,
            "record": TEXT,
            "expr": {"type": ["string", "integer"]},
            "for": DURATION,
            "keep_firing_for": DURATION,
            "labels": LABELS,
            "annotations": LABELS,
        },
        ["expr"],
    ),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}
METADATA = closed(
    {"name": TEXT, "namespace": TEXT, "labels": LABELS, "annotations": LABELS}, ["name", "namespace", "labels"]
)
OPERATORS = {
    "PodMonitor": monitor("podMetricsEndpoints"),
    "ServiceMonitor": monitor("endpoints"),
    "PrometheusRule": closed(
        {
            "groups": {
                "type": "array",
                "minItems": 1,
                "items": closed(
                    {
                        "name": {"type": "string", "minLength": 1},
                        "interval": DURATION,
                        "limit": {"type": "integer"},
                        "query_offset": DURATION,
                        "labels": LABELS,
                        "rules": {"type": "array", "items": RULE},
                    },
                    ["name", "rules"],
                ),
            }
        },
        ["groups"],
    ),
}


def place(error):
    return ".".join(str(part) for part in error.absolute_path) or "the object"


def validate_object(case, one, version):
    """Checks an object against the API of a version of Kubernetes."""
    kind = one["kind"]
    name = f"{case}: {kind} {one['metadata']['name']}"
    expect(kind in KINDS, f"{name} is of a kind that the chart has no business with")
    if one["apiVersion"] == OPERATOR:
        for error in jsonschema.Draft7Validator(OPERATORS[kind]).iter_errors(one["spec"]):
            wrong(f"{name}: spec.{place(error)}: {error.message}")
        for error in jsonschema.Draft7Validator(METADATA).iter_errors(one["metadata"]):
            wrong(f"{name}: metadata.{place(error)}: {error.message}")
        return
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        wrong(f"{name}, for Kubernetes {version}: {place(error)}: {error.message}")
    except kubernetes_validate.SchemaNotFoundError as error:
        wrong(f"{name}: {error.message}")


# --- What holds for all values ---


def container_is_safe(where, container, is_root):
    """Every field stands, whatever the values are."""
    context = container.get("securityContext", {})
    for key, value in {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": not is_root,
    }.items():
        expect(context.get(key) is value, f"{where}: securityContext.{key} is {context.get(key)}, not {value}")
    expect(
        (context.get("runAsUser") == 0) == is_root, f"{where}: securityContext.runAsUser is {context.get('runAsUser')}"
    )
    expect(context.get("capabilities", {}).get("drop") == ["ALL"], f"{where}: not all capabilities are dropped")
    expect("procMount" not in context, f"{where}: securityContext.procMount is set")
    expect(context.get("seccompProfile", {}).get("type"), f"{where}: there is no seccompProfile")


def pod_is_safe(case, values, rendered):
    pod, where = rendered.pod, f"{case}: DaemonSet"
    containers = pod["containers"] + pod.get("initContainers", [])
    expect(len(containers) == 1, f"{where}: there are {len(containers)} containers, not one")
    for container in containers:
        container_is_safe(where, container, is_root=True)
        added = container["securityContext"]["capabilities"].get("add", [])
        default = {"BPF": True, "PERFMON": True}
        wanted = sorted(name for name, is_on in {**default, **values.get("capabilities", {})}.items() if is_on)
        expect(sorted(added) == wanted, f"{where}: the capabilities {sorted(added)} are added, not {wanted}")
        expect(
            container["securityContext"]["seccompProfile"]["type"]
            == values.get("seccompProfile", {}).get("type", "RuntimeDefault"),
            f"{where}: another seccompProfile than the values say",
        )
        for mount in container["volumeMounts"]:
            is_host = "hostPath" in (
                rendered.volume(mount["name"]) or wrong(f"{where}: no volume {mount['name']}") or {}
            )
            if is_host and mount["name"] != "mapper":
                expect(mount.get("readOnly") is True, f"{where}: {mount['mountPath']} of the host is not read-only")
            expect(
                mount.get("mountPropagation") != "Bidirectional",
                f"{where}: {mount['mountPath']} hands mounts to the host",
            )
            expect("subPath" not in mount, f"{where}: {mount['mountPath']} has a subPath, so changes would not arrive")
            if "recursiveReadOnly" in mount:
                expect(
                    "mountPropagation" not in mount,
                    f"{where}: {mount['mountPath']}: recursiveReadOnly and mountPropagation exclude each other",
                )
    # What is mounted below a directory is not read-only with it: these have nothing below, or are read-only all the way.
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    allowed = {
        "/sys/kernel/tracing",
        "/sys/fs/cgroup",
        "/proc",
        "/var/log/containers",
        "/dev/mapper/control",
        "/run/udev/data",
        "/etc/machine-id",
    }
    expect(paths <= allowed, f"{where}: {sorted(paths - allowed)} of the host is mounted")
    mounted = {mount["name"] for mount in containers[0]["volumeMounts"]}
    for volume in pod["volumes"]:
        expect(volume["name"] in mounted, f"{where}: the volume {volume['name']} is mounted nowhere")
    targets = [mount["mountPath"] for mount in containers[0]["volumeMounts"]]
    expect(len(targets) == len(set(targets)), f"{where}: two mounts are at the same place")
    for key in ("hostPID", "hostNetwork"):
        expect(pod.get(key) is values.get(key, False), f"{where}: {key} is {pod.get(key)}")
    expect(not pod.get("hostIPC"), f"{where}: hostIPC is set")
    expect(pod.get("automountServiceAccountToken") is False, f"{where}: a token of the API is mounted")
    for account in rendered.of("ServiceAccount"):
        expect(account.get("automountServiceAccountToken") is False, f"{case}: the service account's token is mounted")
    for test in rendered.of("Pod"):
        expect(
            test["spec"].get("automountServiceAccountToken") is False, f"{case}: the test's pod has a token of the API"
        )
        for container in test["spec"]["containers"]:
            container_is_safe(f"{case}: the test's pod", container, is_root=False)


def labels_hold(case, values, rendered):
    daemonset = rendered.one("DaemonSet")
    selector = daemonset["spec"]["selector"]
    expect(
        set(selector) == {"matchLabels"} and set(selector["matchLabels"]) == SELECTOR,
        f"{case}: the DaemonSet selects by {selector}, which can never change again",
    )
    selectors = [("DaemonSet", selector["matchLabels"])]
    selectors += [("Service", one["spec"]["selector"]) for one in rendered.of("Service")]
    selectors += [("NetworkPolicy", one["spec"]["podSelector"]["matchLabels"]) for one in rendered.of("NetworkPolicy")]
    selectors += [("PodMonitor", one["spec"]["selector"]["matchLabels"]) for one in rendered.of("PodMonitor")]
    for kind, wanted in selectors:
        expect(
            wanted.items() <= rendered.template["metadata"]["labels"].items(),
            f"{case}: the {kind} does not select the pods",
        )
        for test in rendered.of("Pod"):
            expect(
                not wanted.items() <= test["metadata"]["labels"].items(), f"{case}: the {kind} selects the test's pod"
            )
    for one in rendered.of("ServiceMonitor"):
        wanted = one["spec"]["selector"]["matchLabels"]
        expect(
            wanted.items() <= rendered.one("Service")["metadata"]["labels"].items(),
            f"{case}: the ServiceMonitor does not select the Service",
        )
    for one in rendered.objects:
        labels = one["metadata"]["labels"]
        name = f"{case}: {one['kind']} {one['metadata']['name']}"
        expect(len(one["metadata"]["name"]) <= 63, f"{name}: the name is too long")
        if one["kind"] == "Pod":
            continue
        for label in SELECTOR | {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}:
            expect(labels.get(label), f"{name} has no label {label}")
        expect(values.get("commonLabels", {}).items() <= labels.items(), f"{name} does not have the common labels")
    expect(
        "helm.sh/chart" not in rendered.template["metadata"]["labels"],
        f"{case}: a new chart alone would replace all pods",
    )


def checks_hold(case, values, rendered):
    """Health checks are such as the kubelet can make."""
    web = values.get("web", {})
    tls = web.get("tls", {})
    needs = tls.get("clientAuthType") in ("RequireAnyClientCert", "RequireAndVerifyClientCert")
    has_port = web.get("enabled", True)
    for name, path in (("startupProbe", "/-/healthy"), ("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready")):
        check = rendered.container.get(name)
        if not has_port or not values.get(name, {}).get("enabled", True):
            expect(check is None, f"{case}: there is a {name}")
        elif check is None:
            wrong(f"{case}: there is no {name}")
        elif needs or web.get("basicAuth", {}).get("enabled"):
            expect(
                "httpGet" not in check and check.get("tcpSocket") == {"port": "metrics"},
                f"{case}: the {name} cannot succeed",
            )
        else:
            scheme = "HTTPS" if tls.get("enabled") else "HTTP"
            expect(
                check.get("httpGet") == {"path": path, "port": "metrics", "scheme": scheme},
                f"{case}: the {name} is {check}",
            )
    expect(("ports" in rendered.container) == has_port, f"{case}: the port is not as the values say")


def options(args):
    return [argument.split("=", 1)[0] for argument in args]


def flags_hold(case, rendered, known):
    names = options(rendered.args)
    for name in set(names):
        expect(name == "--web.listen-address" or names.count(name) == 1, f"{case}: the flag {name} is given twice")
        expect(known is None or name in known, f"{case}: tapster has no flag {name}")


def files_are_there(case, rendered):
    """Files that flags name are below a mount, and a Secret or ConfigMap of the chart has them."""
    mounts = {mount["mountPath"]: mount["name"] for mount in rendered.container["volumeMounts"]}
    own = {
        (one["kind"], one["metadata"]["name"]): one
        for one in rendered.objects
        if one["kind"] in ("Secret", "ConfigMap")
    }
    prefix = rendered.one("DaemonSet")["metadata"]["name"] + "-"
    named = [argument.split("=", 1)[1] for argument in rendered.args if "=/etc/" in argument or "=/host/" in argument]
    for secret in rendered.of("Secret"):
        named += re.findall(r"file: (\S+)", secret["stringData"]["web.yml"])
    for path in named:
        below = [
            target
            for target in mounts
            if path == target or path.startswith(target + "/") or target.startswith(path + "/")
        ]
        if not below:
            wrong(f"{case}: nothing is mounted where {path} should be")
            continue
        volume = rendered.volume(mounts[below[0]])
        secret, config = volume.get("secret", {}).get("secretName"), volume.get("configMap", {}).get("name")
        for kind, name, key in (("Secret", secret, "stringData"), ("ConfigMap", config, "data")):
            if name and name.startswith(prefix):
                found = own.get((kind, name))
                if found is None:
                    wrong(f"{case}: the volume {volume['name']} is of a {kind} {name} that is not made")
                elif path != below[0]:
                    expect(path[len(below[0]) + 1 :] in found[key], f"{case}: the {kind} {name} has no {path}")


# --- Rules and dashboards ---


def command_of(own, groups):
    """The flags of `tapster rules` that are the same as these values."""
    flags = []
    for name, value in own.get("thresholds", {}).items():
        flags.append(f"--set={name}={value}")
    for key, flag in (
        ("selector", "--selector"),
        ("clusterLabel", "--cluster-label"),
        ("runbookUrl", "--runbook-url"),
        ("job", "--job"),
        ("nodes", "--nodes"),
    ):
        flags.append(f"{flag}={own.get(key, '')}")
    if own.get("classicHistograms"):
        flags.append("--classic-histograms")
    return flags + [f"--group={name}" for name in groups]


def rules_hold(root, case, values, rendered, tapster):
    """The rules are those of the files, or with the command at hand those that it prints for the same settings."""
    own = values["prometheusRule"]
    defaults = read((root / "helm/tapster/values.yaml").read_text())["prometheusRule"]["groups"]
    on = {**defaults, **own.get("groups", {})}
    paths = sorted((root / "config/rules").glob("**/*.yaml"), key=lambda path: path.name)
    files = [read(path.read_text()) for path in paths if path.parent.name != "templates"]
    groups = [copy.deepcopy(group) for file in files for group in file["groups"]]
    expect(
        {group["name"] for group in groups} == set(defaults),
        "helm/tapster/values.yaml: prometheusRule.groups are not those of config/rules",
    )
    wanted = [group for group in groups if on[group["name"]]]
    is_set = {"thresholds", "selector", "clusterLabel", "job", "nodes", "classicHistograms"} & set(own)
    if tapster:
        command = [tapster, "rules", *command_of(own, [group["name"] for group in wanted])]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            return wrong(f"{case}: `tapster rules` refuses these settings: {made.stderr.strip()}")
        wanted = read(made.stdout)["groups"]
    elif is_set:
        return
    for group in wanted:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["labels"] = {**own.get("alertLabels", {}), **rule.get("labels", {})}
                if own.get("runbookUrl"):
                    anchor = "#" + rule["annotations"]["runbook"].split("#")[1]
                    # Texts that several rules share are one object here.
                    rule["annotations"] = {**rule["annotations"], "runbook_url": own["runbookUrl"] + anchor}
    found = rendered.one("PrometheusRule")["spec"]["groups"]
    expect(
        [group["name"] for group in found] == [group["name"] for group in wanted],
        f"{case}: groups of rules are not those asked for",
    )
    for ours, theirs in zip(wanted, found):
        expect(
            {**ours, "rules": None} == {**theirs, "rules": None},
            f"{case}: the group {ours['name']} is not as `tapster rules` has it",
        )
        expect(
            len(ours["rules"]) == len(theirs["rules"]),
            f"{case}: the group {ours['name']} has another number of rules than `tapster rules`",
        )
        for one, other in zip(ours["rules"], theirs["rules"]):
            name = one.get("alert") or one.get("record")
            expect(isinstance(other["expr"], str), f"{case}: {name} is no text, which the operator wants")
            expect(one == other, f"{case}: the rule {name} is not as `tapster rules` has it")


def dashboards_hold(root, case, values, rendered):
    own = values["dashboards"]
    found = {}
    for one in rendered.of("ConfigMap"):
        if "-dashboard-" in one["metadata"]["name"]:
            found.update(one["data"])
            label = (own.get("label", "grafana_dashboard"), own.get("labelValue", "1"))
            expect(
                label in one["metadata"]["labels"].items(), f"{case}: {one['metadata']['name']} has no label {label[0]}"
            )
            folder = own.get("folder", "tapster")
            annotations = one["metadata"].get("annotations", {})
            expect(
                annotations.get(own.get("folderAnnotation", "grafana_folder")) == (folder or None),
                f"{case}: {one['metadata']['name']} is in no folder",
            )
            expect(
                one["metadata"]["namespace"] == own.get("namespace", "space"),
                f"{case}: {one['metadata']['name']} is in the wrong namespace",
            )
    wanted = {path.name: path.read_text() for path in (root / "dashboards").glob("*.json")}
    for variable, address in (
        ("runbook", values.get("prometheusRule", {}).get("runbookUrl")),
        ("node_dashboard", own.get("nodeDashboard")),
    ):
        for name, text in wanted.items():
            constants = [one for one in json.loads(text)["templating"]["list"] if one["name"] == variable]
            expect(len(constants) == 1, f"{name} has no {variable}")
            if address:
                wanted[name] = text.replace(json.dumps(constants[0]["query"]), json.dumps(address))
    expect(set(found) == set(wanted), f"{case}: the dashboards are {sorted(found)}, not {sorted(wanted)}")
    for name, text in wanted.items():
        expect(found.get(name) == text, f"{case}: {name} is not the file as it stands in dashboards/")


# --- What some values are for ---


def case_default(rendered):
    expect(
        rendered.names
        == {
            ("ServiceAccount", "space", "name-tapster"),
            ("ConfigMap", "space", "name-tapster-probes"),
            ("Service", "space", "name-tapster"),
            ("DaemonSet", "space", "name-tapster"),
            ("Pod", "space", "name-tapster-test"),
        },
        f"default: other objects than those known: {sorted(rendered.names)}",
    )
    expect(
        rendered.container["image"]
        == "registry.example.com/tapster:" + rendered.template["metadata"]["labels"]["app.kubernetes.io/version"],
        f"default: the image is {rendered.container['image']}",
    )
    expect("--config.auto-reload" in rendered.args, "default: files are not read again")
    expect(
        "checksum/config" not in rendered.template["metadata"]["annotations"],
        "default: a changed probe would replace all pods",
    )
    expect(rendered.pod["tolerations"] == [{"operator": "Exists"}], "default: some node may have no pod")
    expect(
        read(rendered.one("ConfigMap")["data"]["library.yaml"]) == {"library": True},
        "default: the shipped probes are not asked for",
    )
    expect("secret" not in json.dumps(rendered.pod), "default: a Secret is needed")
    for name in ("cgroup", "proc"):
        expect(
            rendered.mount(name).get("recursiveReadOnly") == "IfPossible",
            f"default: what is below {name} can be written to",
        )
    expect(
        rendered.one("Service")["spec"]["clusterIP"] == "None", "default: the Service hides the pods behind one address"
    )


def case_host(rendered):
    expect(
        rendered.pod["hostPID"] is True and rendered.mount("proc") is None,
        "host: /proc is mounted although the container has it",
    )
    expect("--path.procfs=/host/proc" not in rendered.args, "host: --path.procfs points to nothing")
    listens = [argument for argument in rendered.args if argument.startswith("--web.listen-address")]
    expect(
        listens == ["--web.listen-address=$(HOST_IP):19955", "--web.listen-address=[::1]:19955"],
        f"host: it listens at {listens}",
    )
    expect(rendered.env("HOST_IP"), "host: $(HOST_IP) is not there")
    expect(
        rendered.container["image"] == "registry.example.com/monitoring/tapster:1.0",
        f"host: the image is {rendered.container['image']}",
    )
    test = rendered.one("Pod")["spec"]["containers"][0]["env"][0]["value"]
    expect(test == "http://probes-of-kernels.space.svc:19955/kernel/metrics", f"host: the test asks {test}")


def web_config(rendered):
    return read(rendered.one("Secret")["stringData"]["web.yml"])


def case_tls_auth(rendered):
    config = web_config(rendered)
    expect(
        config["tls_server_config"]
        == {
            "cert_file": "/etc/tapster/tls/cert.pem",
            "key_file": "/etc/tapster/tls/key.pem",
            "client_auth_type": "NoClientCert",
            "min_version": "TLS13",
        },
        f"tls-auth: {config}",
    )
    expect(list(config["basic_auth_users"]) == ["prometheus"], f"tls-auth: {config}")
    endpoint = rendered.one("ServiceMonitor")["spec"]["endpoints"][0]
    expect(
        endpoint["scheme"] == "https"
        and endpoint["tlsConfig"]["serverName"] == "tapster"
        and endpoint["basicAuth"]["password"]["name"] == "scrape",
        f"tls-auth: the scrape is {endpoint}",
    )
    expect(
        rendered.container["image"].startswith("registry.example.com/tapster@sha256:0123"),
        "tls-auth: the image is not that of the digest",
    )
    expect(not rendered.of("Pod"), "tls-auth: the test's pod has no password")


def case_auth(rendered):
    endpoint = rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"][0]
    expect(
        endpoint["scheme"] == "http" and "tlsConfig" not in endpoint and endpoint["basicAuth"],
        f"auth: the scrape is {endpoint}",
    )
    expect("tls_server_config" not in web_config(rendered) and rendered.volume("tls") is None, "auth: there is TLS")


def case_mtls(rendered):
    config = web_config(rendered)["tls_server_config"]
    expect(config["client_ca_file"] == "/etc/tapster/client-ca/authorities.pem", f"mtls: {config}")
    expect(rendered.volume("client-ca")["secret"]["secretName"] == "client-ca", "mtls: the authorities are not mounted")
    expect(not rendered.of("Pod"), "mtls: the test's pod has no certificate")


def case_mtls_if_given(rendered):
    expect(
        rendered.volume("client-ca")["configMap"]["name"] == "client-ca",
        "mtls-if-given: the authorities are not mounted",
    )
    test = rendered.one("Pod")["spec"]["containers"][0]
    expect(
        "--no-check-certificate" in test["args"][0] and test["env"][0]["value"].startswith("https://"),
        "mtls-if-given: the test does not speak TLS",
    )


def case_web_config(rendered):
    expect(not rendered.of("Secret"), "web-config: a Secret is made beside that of the values")
    expect(
        "--web.config.file=/etc/tapster/web/config.yaml" in rendered.args
        and rendered.volume("web")["secret"]["secretName"] == "own-web",
        "web-config: the Secret is not used",
    )


def case_otlp(rendered):
    expect("--exporters=otlp" in rendered.args and not rendered.of("Service"), "otlp: metrics are served")
    expect(
        "--otlp.resource=k8s.cluster.name=production,note=100 %25%2C all of it" in rendered.args,
        f"otlp: {rendered.args}",
    )
    expect(
        rendered.env("OTEL_EXPORTER_OTLP_HEADERS")["valueFrom"]["secretKeyRef"] == {"name": "otlp", "key": "all"},
        "otlp: headers are not from the Secret",
    )
    expect(
        rendered.env("K8S_NODE_NAME")["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName",
        "otlp: the node is not named",
    )
    spec = rendered.one("NetworkPolicy")["spec"]
    expect(spec["ingress"] == [] and len(spec["egress"]) == 2, f"otlp: the policy is {spec}")
    expect(not any(option.startswith("--web.") for option in options(rendered.args)), "otlp: there are flags of a port")


def case_otlp_beside(rendered):
    expect("--exporters=prometheus,otlp" in rendered.args, "otlp-beside: metrics are not served")
    expect(
        "--otlp.endpoint" not in options(rendered.args), "otlp-beside: there are two endpoints, which tapster refuses"
    )
    expect(
        rendered.env("OTEL_EXPORTER_OTLP_HEADERS")["value"] == "x-scope-orgid=a%2Cb",
        "otlp-beside: headers are written wrong",
    )
    names = [variable["name"] for variable in rendered.container["env"]]
    expect(names.index("HOST_IP") == 0, "otlp-beside: $(HOST_IP) is not known where it is used")


def case_monitoring(rendered):
    spec = rendered.one("PodMonitor")["spec"]
    expect(
        spec["podMetricsEndpoints"][0]["relabelings"][0]["targetLabel"] == "instance",
        "monitoring: instance is not the node",
    )
    expect("honorLabels" not in spec["podMetricsEndpoints"][0], "monitoring: labels of the target lose unasked")
    expect(
        spec["scrapeNativeHistograms"] is True and spec["scrapeProtocols"][0] == "PrometheusProto",
        "monitoring: native histograms are not kept",
    )
    policy = rendered.one("NetworkPolicy")["spec"]
    expect(policy["egress"] == [] and policy["ingress"][0]["from"], f"monitoring: the policy is {policy}")


def case_service_monitor(rendered):
    spec = rendered.one("ServiceMonitor")["spec"]
    expect(
        spec["scrapeNativeHistograms"] is False and spec["scrapeClassicHistograms"] is False,
        "service-monitor: false is taken for nothing said",
    )
    expect(
        len(spec["endpoints"][0]["relabelings"]) == 1, "service-monitor: instance is the node although it should not be"
    )
    expect(spec["endpoints"][0]["honorLabels"] is True, "service-monitor: labels of the target win although they should not")
    policy = rendered.one("NetworkPolicy")["spec"]
    expect(
        policy["egress"][1]
        == {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        f"service-monitor: {policy}",
    )


def case_probes(rendered):
    data = rendered.one("ConfigMap")["data"]
    values = read((HERE / "values/probes.yaml").read_text())["probes"]
    asked = {"library": ["block_io", "ext4"], "overrides": values["overrides"]}
    expect(read(data["library.yaml"]) == asked, "probes: the library is not as asked for")
    expect(read(data["execs.yaml"]) == values["custom"]["execs"], "probes: a mapping is not written as it was given")
    expect(data["as_text.yaml"] == values["custom"]["as_text"], "probes: a text is not written as it was given")
    sources = [source["configMap"]["name"] for source in rendered.volume("probes")["projected"]["sources"]]
    expect(sources == ["name-tapster-probes", "more-probes"], f"probes: files come from {sources}")
    expect("--config.auto-reload" not in rendered.args, "probes: files are read again")
    expect(
        "checksum/config" in rendered.template["metadata"]["annotations"],
        "probes: a changed probe would not replace the pods",
    )
    expect(
        rendered.one("ServiceAccount")["metadata"]["name"] == "kernel" == rendered.pod["serviceAccountName"],
        "probes: another service account",
    )
    context = rendered.container["securityContext"]
    expect(
        context["appArmorProfile"] == {"type": "Localhost", "localhostProfile": "tapster"},
        "probes: another AppArmor profile",
    )


def case_reload(rendered):
    expect(
        not rendered.of("ConfigMap") and rendered.volume("probes")["configMap"]["name"] == "more-probes",
        "reload: another ConfigMap is used",
    )
    expect("--config.auto-reload-interval=2m" in rendered.args, "reload: the interval is another")


def case_lvm(rendered):
    expect("--path.devfs=/host/dev" in rendered.args and rendered.mount("mapper"), "lvm: the device is not there")
    udev = rendered.mount("udev")
    expect(
        udev["mountPath"] == "/run/udev/data" and udev["readOnly"] and rendered.volume("udev"),
        "lvm: what udev knows is not there",
    )
    annotations = rendered.template["metadata"]["annotations"]
    expect(
        annotations.get("container.apparmor.security.beta.kubernetes.io/tapster") == "unconfined",
        "lvm: AppArmor is not as old versions have it",
    )


def case_off(rendered):
    expect({kind for kind, _, _ in rendered.names} == {"ConfigMap", "DaemonSet"}, f"off: {sorted(rendered.names)}")
    expect(rendered.pod["serviceAccountName"] == "default", "off: a service account that is not made")
    expect(
        [volume["name"] for volume in rendered.pod["volumes"]] == ["probes"], "off: something of the host is mounted"
    )


# --- The chart as a whole ---


def leaves(values, path=()):
    """Paths of all values: of what is no mapping, or of mappings that are empty."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def get(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return None, False
        values = values[key]
    return values, True


def without(values, path):
    values = copy.deepcopy(values)
    parent, _ = get(values, path[:-1])
    del parent[path[-1]]
    return values


def without_words(schema):
    """A schema without descriptions and defaults."""
    if isinstance(schema, dict):
        named = {"description", "default"}
        return {key: without_words(value) for key, value in schema.items() if key not in named or isinstance(value, dict)}
    return [without_words(item) for item in schema] if isinstance(schema, list) else schema


def schema_holds(chart_directory):
    """The schema has what values.yaml has, and nothing else; all of it is closed, and says what it is."""
    schema = json.loads((chart_directory / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    values = read((chart_directory / "values.yaml").read_text())

    def compare(value, part, path):
        described = "description" in part
        if "properties" not in part or path in ("resources", "updateStrategy", "appArmorProfile", "seLinuxOptions"):
            expect(described, f"values.schema.json: {path} has no description")
            return
        expect(part.get("additionalProperties") is False, f"values.schema.json: {path or 'the top'} takes anything")
        names = set(part["properties"]) - ({"global"} if not path else set())
        expect(
            names == set(value),
            f"values.schema.json: {path or 'the top'} differs from values.yaml in {sorted(names ^ set(value))}",
        )
        for name in names & set(value):
            if not described or "properties" in part["properties"][name]:
                compare(value[name], part["properties"][name], f"{path}.{name}".lstrip("."))

    compare(values, schema, "")
    # What tapster takes is what the chart takes, but for words about it.
    own = json.loads((HERE.parent.parent / "config/tapster.schema.json").read_text())
    here = schema["properties"]["probes"]["properties"]["overrides"]
    expect(
        without_words(own["properties"]["overrides"]) == without_words(here),
        "values.schema.json: probes.overrides differs from config/tapster.schema.json",
    )


def every_value_is_tried(render, chart, chart_directory, cases):
    """Each value is set in some file of values, and what is made is another without it."""
    defaults = read((chart_directory / "values.yaml").read_text())
    for path in leaves(defaults):
        # These are handed on as they are, so one part of them stands for all.
        whole = path[:1] if path[0] in ("resources", "updateStrategy", "nodeSelector") else path
        users = [(case, values) for case, values in cases.items() if get(values, whole)[1]]
        if not users:
            wrong(f"values: no file sets {'.'.join(path)}")
            continue
        for case, values in users:
            try:
                before = render.templates(chart, values, "name", "space")
                after = render.templates(chart, without(values, whole), "name", "space")
            except Exception:  # Without it the values do not go together: so it has an effect.
                break
            if before != after:
                break
        else:
            wrong(f"values: {'.'.join(path)} changes nothing in what is made of {', '.join(case for case, _ in users)}")


def names_are_stable(render, chart_directory, chart):
    """An upgrade, and another version of the chart, make the same objects with the same selectors."""
    values = {
        "image": {"repository": "r"},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "web": {"tls": {"enabled": True, "existingSecret": "s"}},
    }
    first = Rendered("install", render.templates(chart, values, "name", "space", is_install=True, revision=1))
    second = Rendered(
        "upgrade", render.templates(chart, values, "name", "space", is_upgrade=True, is_install=False, revision=7)
    )
    expect(first.objects == second.objects, "An upgrade with the same values makes other objects")
    with tempfile.TemporaryDirectory() as directory:
        later = Path(directory) / "tapster"
        shutil.copytree(chart_directory, later)
        file = later / "Chart.yaml"
        text = re.sub(
            r"(?m)^version: .*",
            "version: 9.9.9+build",
            re.sub(r"(?m)^appVersion: .*", 'appVersion: "8.8.8"', file.read_text()),
        )
        file.write_text(text)
        with render.load(later) as other:
            third = Rendered("a later chart", render.templates(other, values, "name", "space"))
    expect(first.names == third.names, "A later version of the chart gives objects other names")
    selectors = [
        [
            one["spec"].get("selector")
            for one in sorted(made.objects, key=lambda one: (one["kind"], one["metadata"]["name"]))
            if "spec" in one
        ]
        for made in (first, third)
    ]
    expect(selectors[0] == selectors[1], "A later version of the chart selects by other labels")
    for name in ("a" * 53, "tapster", "x-tapster-" + "y" * 40):
        for one in Rendered("long names", render.templates(chart, values, name, "space")).objects:
            expect(
                len(one["metadata"]["name"]) <= 63
                and re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"]),
                f"The name of the {one['kind']} {one['metadata']['name']} is wrong",
            )


def package_is_whole(render, root, chart, values):
    """An archive holds the rules and dashboards themselves, and makes the same."""
    with tempfile.TemporaryDirectory() as directory:
        with render.quiet():
            archive = chart.save(directory)
        names = set(tarfile.open(archive).getnames())
        for folder, pattern in (("config/rules", "*.yaml"), ("dashboards", "*.json")):
            for path in (root / folder).glob(pattern):
                expect(f"tapster/{Path(folder).name}/{path.name}" in names, f"The packaged chart has no {path.name}")
        extra = [name for name in names if name.startswith("tapster/dashboards/") and not name.endswith(".json")]
        expect(not extra, f"The packaged chart has {extra}")
        with render.load(archive) as packed:
            expect(
                render.templates(packed, values) == render.templates(chart, values),
                "The packaged chart makes something else than the directory",
            )


def refusals(render, helm, root, chart):
    """Wrong values are refused, with their path."""
    count = 0
    for file in sorted((HERE / "wrong").glob("*.yaml")):
        first, name = file.read_text().splitlines()[0], f"wrong/{file.name}"
        if not first.startswith("# refused: "):
            wrong(f"{name} does not begin with what is said of it")
            continue
        wanted, values = first[len("# refused: ") :], read(file.read_text())
        count += 1
        try:
            render.templates(chart, values)
            wrong(f"{name} is taken; it should be refused with: {wanted}")
        except helm.HelmError as error:
            expect(wanted in str(error), f"{name} is refused without `{wanted}`: {' '.join(str(error).split())}")
        # `helm lint` says only what the schema knows.
        if wanted.startswith("/") or wanted.startswith("at '"):
            with render.quiet():
                report = helm.lint(str(root / "helm/tapster"), values)
            expect(report["errors"] and wanted in " ".join(report["errors"]), f"{name}: lint does not say `{wanted}`")
    return count


def lint(render, helm, root, case, values, versions):
    for version in versions:
        with render.quiet():
            report = helm.lint(
                str(root / "helm/tapster"), values, strict=True, kube_version=f"v{version}.0", namespace="space"
            )
        for message in report["messages"]:
            # An icon is recommended; there is none.
            if message["severity"] > 1:
                wrong(f"{case}: lint: {message['path']}: {message['error']}")
        for error in report["errors"]:
            wrong(f"{case}: lint: {error}")


def is_current(root):
    for script in ("readme.py", "manifests.py"):
        done = subprocess.run([sys.executable, root / "helm" / script, "--check"], capture_output=True, text=True)
        if done.returncode != 0:
            for line in (done.stderr + done.stdout).strip().splitlines():
                wrong(line)
    manifests = sorted((root / "helm/manifests").glob("*.yaml"))
    expect(manifests, "helm/manifests is empty")
    for path in manifests:
        for one in filter(None, yaml.load_all(path.read_text(), Loader=Loader)):
            try:
                kubernetes_validate.validate(one, NEWEST, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong(f"{path.name}: {one['kind']}: {place(error)}: {error.message}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=HERE.parents[1])
    parser.add_argument("--flags", type=Path)
    parser.add_argument("--tapster", type=Path)
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    sys.path.insert(0, str(root / "helm"))
    import helm_python as helm
    import render

    known = None
    if arguments.flags:
        known = set(re.findall(r"(?m)^\s+(?:-\w, )?(--[a-z][a-z0-9.-]*)", arguments.flags.read_text()))
    directory = root / "helm/tapster"
    versions = VERSIONS + [NEWEST]
    checked = 0
    cases = {path.stem: read(path.read_text()) for path in sorted((HERE / "values").glob("*.yaml"))}
    with render.load(directory) as chart:
        for case, values in cases.items():
            try:
                rendered = Rendered(case, render.templates(chart, values, "name", "space"))
                for check in (pod_is_safe, labels_hold, checks_hold):
                    check(case, values, rendered)
                flags_hold(case, rendered, known)
                files_are_there(case, rendered)
                if values.get("prometheusRule", {}).get("enabled"):
                    rules_hold(root, case, values, rendered, arguments.tapster)
                if values.get("dashboards", {}).get("enabled"):
                    dashboards_hold(root, case, values, rendered)
                own = globals().get("case_" + case.replace("-", "_"))
                if own:
                    own(rendered)
                for version in versions:
                    made = Rendered(case, render.templates(chart, {"kubeVersion": version, **values}, "name", "space"))
                    for one in made.objects:
                        validate_object(case, one, version)
                        checked += 1
                # A release and a namespace whose names YAML takes for something else.
                for one in Rendered(case, render.templates(chart, values, "on", "123")).objects:
                    validate_object(case, one, NEWEST)
                lint(render, helm, root, case, values, versions)
            except (helm.HelmError, AssertionError, KeyError, IndexError, TypeError) as error:
                wrong(f"{case}: {type(error).__name__}: {' '.join(str(error).split())}")
        schema_holds(directory)
        refused = refusals(render, helm, root, chart)
        for check, more in (
            (every_value_is_tried, (chart, directory, cases)),
            (names_are_stable, (directory, chart)),
            (package_is_whole, (root, chart, cases["monitoring"])),
        ):
            try:
                check(render, *more)
            except helm.HelmError as error:
                wrong(f"{check.__name__}: {' '.join(str(error).split())}")
    is_current(root)
    if problems:
        raise SystemExit("\n".join(problems))
    print(
        f"{len(cases)} sets of values, {checked} objects against Kubernetes {', '.join(versions)}, {refused} sets refused"
    )


if __name__ == "__main__":
    main()
