"""Renders the Helm chart with each set of values into FOLDER, and checks that its schema refuses what is wrong.

Usage: helm.py CHART FOLDER
"""

import sys
from pathlib import Path

import helm_python

MINIMAL = {}
FULL = {
    "image": {"repository": "registry.example.com/shoreguard", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": 3,
    "minAvailable": 2,
    "database": {"caConfigMap": "database-ca"},
    "publicUrl": "https://sg.example.com",
    "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
    "drainSeconds": 3600,
    "config": {"SHOREGUARD_TELEMETRY_LOG_LEVEL": "warn"},
    "configSecrets": ["shoreguard-oidc"],
    "service": {"type": "LoadBalancer", "annotations": {"a.example.com/b": "c"}},
    "metrics": {"podMonitor": True},
    "networkPolicy": {"callers": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "platform"},
}
BEHIND_A_PROXY = {
    "tls": {"secretName": "", "allowPlaintext": True},
    "replicas": 1,
    "networkPolicy": {"monitoring": []},
}
ACCEPTED = {"minimal": MINIMAL, "full": FULL, "behind-a-proxy": BEHIND_A_PROXY}

REFUSED = [
    {"replica": 2},
    {"replicas": 0},
    {"replicas": "2"},
    {"image": {"repository": ""}},
    {"image": {"digest": "sha256:abc"}},
    {"database": {"url": "postgres://..."}},
    {"database": {"urlSecret": {"name": ""}}},
    {"masterKey": {"value": "00"}},
    {"tls": {"secretName": ""}},
    {"publicUrl": "http://sg.example.com"},
    {"trustedProxies": ["0.0.0.0/0"]},
    {"config": {"SHOREGUARD_KEYS_MASTER_KEY": "00"}},
    {"config": {"SHOREGUARD_KEYS_OLDER_MASTER_KEYS": "00"}},
    {"config": {"SHOREGUARD_SERVER_DRAIN_SECONDS": "3600"}},
    {"config": {"SHOREGUARD_SERVER_ALLOW_PLAINTEXT": "true"}},
    {"config": {"SHOREGUARD_TELEMETRY_METRICS_LISTEN": "127.0.0.1:9464"}},
    {"drainSeconds": 0},
    {"config": {"LOG_LEVEL": "warn"}},
    {"config": {"SHOREGUARD_LIMITS_BCRYPT_COST": 12}},
    {"service": {"port": 0}},
]

PATHS = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def main() -> None:
    chart_folder, out = sys.argv[1], Path(sys.argv[2])
    found = helm_python.lint(chart_folder)
    faults = [m for m in found.get("messages", []) if m.get("severity", 0) not in (0, 1, "INFO")]
    assert not faults, faults
    with helm_python.Chart.load(chart_folder) as chart:
        for name, values in ACCEPTED.items():
            chart.validate_schema(values)
            folder = out / name
            folder.mkdir(parents=True, exist_ok=True)
            for template, text in chart.render(values, name="sg", namespace="agents").items():
                if text.strip() and not template.endswith(".tpl"):
                    (folder / Path(template).name).write_text(text)
            deployment = (folder / "deployment.yaml").read_text()
            for probe, path in PATHS.items():
                assert f"{path}, port: metrics" in deployment.split(f"{probe}:")[1].split("periodSeconds")[0], probe
        monitor = (out / "full" / "podmonitor.yaml").read_text()
        # Without it, the job is the name of the object, which no alert has.
        assert "jobLabel: app.kubernetes.io/name" in monitor, monitor
        for name in ACCEPTED:
            # Who is not named reads no metrics: a rule without peers would allow every address.
            policy = (out / name / "networkpolicy.yaml").read_text().split("egress:")[0]
            rule = "- ports: [{port: metrics, protocol: TCP}]"
            is_named = name != "behind-a-proxy"
            assert (f"{rule}\n      from:\n        - " in policy, rule in policy) == (is_named, is_named), policy
        for name, drain in (("minimal", 30), ("full", 3600)):
            deployment = (out / name / "deployment.yaml").read_text()
            # A pod is not killed while it drains, and takes connections until nodes know that it stops.
            for line in (
                f'SHOREGUARD_SERVER_DRAIN_SECONDS, value: "{drain}"',
                f"terminationGracePeriodSeconds: {drain + 30}\n",
                "preStop:\n              sleep: {seconds: 5}\n",
            ):
                assert line in deployment, (name, line)
        for values in REFUSED:
            try:
                chart.validate_schema(values)
            except helm_python.HelmError:
                continue
            raise AssertionError(f"the schema accepts {values}")
    print(f"{len(ACCEPTED)} sets of values rendered, {len(REFUSED)} refused")


main()
