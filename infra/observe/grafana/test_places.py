"""Every dashboard is where Grafana looks for it: in the containers and in Kubernetes."""

import unittest
from pathlib import Path

import generate
import yaml
from places import ROOT

LOCAL = ROOT / "local"
COMPONENT = ROOT / "infra/k8s/components/grafana-dashboards"
FOLDER_OF_PROVIDERS = "/etc/grafana/provisioning/dashboards"


def read(file: Path) -> dict:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


class Places(unittest.TestCase):
    def test_grafana_in_a_container_reads_them(self) -> None:
        grafana = read(LOCAL / "compose.yaml")["services"]["grafana"]
        mounts = {inside: LOCAL / outside for outside, inside, *_ in (volume.split(":") for volume in grafana["volumes"])}
        [provider] = read(mounts[FOLDER_OF_PROVIDERS] / "forebay.yml")["providers"]
        self.assertEqual(mounts[provider["options"]["path"]].resolve(), generate.FOLDER)
        home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
        self.assertIn(mounts[str(home.parent)].resolve() / home.name, generate.files())

    def test_prometheus_keeps_the_label_service(self) -> None:
        """The operator puts the name of the Kubernetes Service there, unless the program's own label wins."""
        text = (COMPONENT.parent / "service-monitor/service-monitor.yaml").read_text(encoding="utf-8")
        [monitor] = [one for one in yaml.safe_load_all(text) if one["kind"] == "ServiceMonitor"]
        self.assertEqual([end["port"] for end in monitor["spec"]["endpoints"] if not end.get("honorLabels")], [])

    def test_kubernetes_has_a_config_map_for_each(self) -> None:
        [made] = [(COMPONENT / part).resolve() for part in read(COMPONENT / "kustomization.yaml")["components"]]
        maps = read(made / "kustomization.yaml")["configMapGenerator"]
        self.assertEqual(sorted(made / file for one in maps for file in one["files"]), sorted(generate.files()))


if __name__ == "__main__":
    unittest.main()
