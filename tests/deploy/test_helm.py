"""The Helm chart, rendered by Helm itself and held against the schemas of Kubernetes, for every example of values."""

import functools
import json
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from service import config

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/dragoman"
EXAMPLES = sorted((ROOT / "deploy/helm/examples").glob("*.yaml"))
VERSIONS = ("1.27", "1.30", kubernetes_validate.latest_version())
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
Resources = dict[str, dict[str, Any]]


def render(values: dict[str, Any]) -> Resources:
    """Return what Helm makes of the values, by kind; a second ConfigMap is the dashboard."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name="demo", namespace="prod")
    texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
    found: Resources = {}
    for resource in (one for text in texts for one in yaml.safe_load_all(text) if one):
        dashboard = resource["metadata"]["name"].endswith("-dashboard")
        kind = "Dashboard" if dashboard else resource["kind"]
        assert kind not in found
        found[kind] = resource
    return found


@functools.cache
def rendered(example: Path | None) -> Resources:
    """Return what Helm makes of an example; none: of the chart's defaults."""
    return render(yaml.safe_load(example.read_text()) if example else {})


def container(resources: Resources) -> dict[str, Any]:
    """Return the server's container."""
    (found,) = resources["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_kubernetes_accepts_it(example: Path | None, version: str) -> None:
    """Every resource of Kubernetes' own keeps its schema, strictly, in old and new versions."""
    resources = rendered(example)
    own = [resource for kind, resource in resources.items() if kind not in CUSTOM]
    for resource in own:
        kubernetes_validate.validate(resource, version, strict=True)
    assert {"Deployment", "Service", "ServiceAccount", "ConfigMap", "NetworkPolicy"} <= resources.keys()


def test_helm_has_nothing_to_complain_of() -> None:
    """But of the icon that is not there."""
    found = helm.lint(CHART)
    assert [] == found["errors"]
    assert ["icon is recommended"] == [message["error"] for message in found["messages"]]


@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_the_server_accepts_its_settings(example: Path | None, tmp_path: Path) -> None:
    """The file that the chart writes is one that `dragoman serve` reads, on the ports that the chart names."""
    resources = rendered(example)
    file = tmp_path / "dragoman.yaml"
    file.write_text(resources["ConfigMap"]["data"]["dragoman.yaml"])
    settings = config.read_settings({"config": str(file)}, {})
    ports = {port["name"]: port["containerPort"] for port in container(resources)["ports"]}
    assert {"grpc": settings.port, "health": settings.health_port, "metrics": settings.metrics_port} == ports
    grace = resources["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.grace_seconds + settings.drain_seconds
    assert "production" == settings.mode


@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_pods_are_restricted(example: Path | None) -> None:
    """What Kubernetes' own "restricted" standard asks for, and a root that nobody can write, in every container."""
    pod = rendered(example)["Deployment"]["spec"]["template"]["spec"]
    assert (True, {"type": "RuntimeDefault"}) == (
        pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["seccompProfile"]
    )  # fmt: skip
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    contexts = [one["securityContext"] for one in [*pod["containers"], *pod.get("initContainers", [])]]
    assert [wanted] * len(contexts) == contexts
    assert False is pod["automountServiceAccountToken"]


def test_selectors_find_the_pods() -> None:
    """The Service, the budget, the policy and the Deployment mean the same pods."""
    resources = rendered(None)
    labels = resources["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        resources["Deployment"]["spec"]["selector"]["matchLabels"],
        resources["Service"]["spec"]["selector"],
        resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert [True] * len(selectors) == [selector.items() <= labels.items() for selector in selectors]
    assert "None" == resources["Service"]["spec"]["clusterIP"]


def test_monitoring_has_one_source() -> None:
    """Rules, alerts and dashboard are those of deploy/monitoring, word for word."""
    resources = rendered(CHART.parent / "examples/cpu.yaml")
    monitoring = ROOT / "deploy/monitoring"
    groups = [
        group
        for name in ("rules.yml", "alerts.yml")
        for group in yaml.safe_load((monitoring / name).read_text())["groups"]
    ]
    assert groups == resources["PrometheusRule"]["spec"]["groups"]
    dashboard = (monitoring / "dashboard.json").read_text()
    assert json.loads(dashboard) == json.loads(resources["Dashboard"]["data"]["dragoman.json"])
    (endpoint,) = resources["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in resources["Service"]["spec"]["ports"]]
    assert {"prometheus"} == {
        resources[kind]["metadata"]["labels"]["release"] for kind in ("ServiceMonitor", "PrometheusRule", "Dashboard")
    }


def test_scaling_by_what_waits() -> None:
    """HPA and KEDA ask for a metric that the server has; who scales by itself has no fixed replicas."""
    for example, kind in (("cpu", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):
        resources = rendered(CHART.parent / f"examples/{example}.yaml")
        assert "dragoman_requests_waiting" in json.dumps(resources[kind])
        assert "replicas" not in resources["Deployment"]["spec"]
        assert resources["Deployment"]["metadata"]["name"] == resources[kind]["spec"]["scaleTargetRef"]["name"]
    assert 2 == rendered(None)["Deployment"]["spec"]["replicas"]


def test_a_gpu_is_asked_for() -> None:
    """As a limit of the container, with the image that can use it."""
    resources = rendered(CHART.parent / "examples/gpu.yaml")
    found = container(resources)
    assert "1" == found["resources"]["limits"]["nvidia.com/gpu"]
    assert found["image"].endswith("-cuda")


def test_a_change_of_settings_restarts_the_pods() -> None:
    """Settings are read at the start, so their hash stands in the pod."""
    sums = [
        render({"settings": {"max_rows": rows}})["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        for rows in (32, 32, 64)
    ]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replica": 3}, "replica"),
        ({"settings": {"port": 1}}, "port"),
        ({"image": {"variant": "rocm"}}, "variant"),
        ({"tls": {"clientAuthority": True}}, "secret"),
        ({"autoscaling": {"kind": "magic"}}, "kind"),
        ({"models": {"embedded": False}}, "persistentVolumeClaim or initContainer"),
        ({"gpu": {"count": 1}}, "image.variant: cuda"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], says: str) -> None:
    """By the schema or by the templates, with the name of what is wrong."""
    with pytest.raises(helm.HelmError, match=says):
        render(values)
