"""What deploy/ ships is accepted by the tools that will read it, and speaks of what the daemon really has.

`scripts/setup operate` installs the tools; a test whose tool is absent says so.
"""
import json
import re
import shutil
import subprocess

import pytest
import requests
import yaml
from conftest import REPQUANTD, ROOT, until

DEPLOY = ROOT / "deploy"


def tool(name):
    return pytest.mark.skipif(not shutil.which(name), reason=f"{name} is absent: scripts/setup operate")


def accepted(*command):
    told = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, cwd=DEPLOY)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.mark.parametrize("unit, most", [("repquantd.service", 2.0), ("repquantd-backup.service", 2.0)])
@tool("systemd-analyze")
def test_systemd_finds_the_units_tight(unit, most):
    told = accepted("systemd-analyze", "security", "--offline=true", "--no-pager", DEPLOY / unit)
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", told)[1]) <= most


@tool("promtool")
def test_prometheus_takes_its_configuration_and_rules():
    assert "12 rules found" in accepted("promtool", "check", "rules", "prometheus-rules.yml")
    accepted("promtool", "check", "config", "prometheus.yml")


@tool("promtool")
def test_every_alarm_fires_where_it_should_and_only_there():
    accepted("promtool", "test", "rules", ROOT / "tests/deploy/rules_test.yml")
    alarms = {rule["alert"] for group in yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())["groups"] for rule in group["rules"]}
    tested = {row["alertname"] for test in yaml.safe_load((ROOT / "tests/deploy/rules_test.yml").read_text())["tests"]
              for row in test["alert_rule_test"] if row["exp_alerts"]}
    assert tested == alarms
    explained = set(re.findall(r"^### (Repquant\w+)", (ROOT / "docs/runbook.md").read_text(), re.M))
    assert explained == alarms, "the runbook has a paragraph for each"


def test_kubernetes_schema_accepts_the_manifests():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is absent: scripts/setup operate")
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert [d["kind"] for d in documents] == ["PersistentVolumeClaim", "PersistentVolumeClaim", "Deployment", "Service", "CronJob"]
    for document in documents:
        validate.validate(document, "1.37", strict=True)
    broken = json.loads(json.dumps(documents[2]))
    broken["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": "8080"}]
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, "1.37", strict=True)


@tool("docker-compose")
def test_compose_accepts_its_file():
    told = yaml.safe_load(accepted("docker-compose", "-f", "compose.yaml", "config"))
    assert set(told["services"]) == {"repquantd", "backup"}


def flags(documents):
    """Options that manifests and units start the daemon with."""
    return set(re.findall(r"--([a-z][a-z-]+)[= \"]", documents))


def test_the_options_that_are_set_exist():
    known = set(re.findall(r"^  --([a-z-]+) ", subprocess.run([REPQUANTD, "--help"], capture_output=True, text=True, check=True).stdout, re.M))
    ours = [(DEPLOY / name).read_text() for name in ("repquantd.service", "repquantd-backup.service")]
    kube = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    ours += [word + " " for word in kube[2]["spec"]["template"]["spec"]["containers"][0]["args"]]
    ours += [word + " " for word in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["backup"]["command"]]
    assert flags(" ".join(ours)) - {"now"} <= known and "data" in known


def metric_names(text):
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\brepquant_[a-z_]+", text)}


def test_board_and_rules_ask_for_series_that_exist(daemon):
    daemon.ended(daemon.job("stage preparing; result model.onnx MODEL")["id"])
    served = metric_names(requests.get(daemon.url + "/metrics", timeout=20).text)
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = metric_names(" ".join(t["expr"] for p in board["panels"] for t in p["targets"]))
    assert asked <= served and len(asked) > 15
    rules = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())
    assert metric_names(" ".join(r["expr"] for g in rules["groups"] for r in g["rules"])) <= served


def test_the_board_is_one_that_grafana_loads():
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert board["schemaVersion"] >= 38 and {v["name"] for v in board["templating"]["list"]} == {"datasource", "instance"}
    panels = board["panels"]
    assert len({p["id"] for p in panels}) == len(panels) and all(p["targets"] and p["title"] for p in panels)
    taken = set()
    for p in panels:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert g["x"] + g["w"] <= 24 and not cells & taken, p["title"]
        taken |= cells


@pytest.mark.long
@tool("prometheus")
def test_a_real_prometheus_scrapes_the_daemon(make_daemon, tmp_path):
    d = make_daemon()
    d.ended(d.job("stage preparing; stage quantizing; layer 1; result model.onnx MODEL")["id"])
    config = (DEPLOY / "prometheus.yml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{d.port}")
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1s, evaluation_interval: 1s}\n" + config)
    shutil.copy(DEPLOY / "prometheus-rules.yml", tmp_path)
    port = d.port + 1 if d.port < 65000 else d.port - 1
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address=127.0.0.1:{port}"],
                                  cwd=tmp_path, stdout=log, stderr=log)
    try:
        def ask(path, **query):
            try:
                return requests.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=query, timeout=10).json()["data"]
            except (requests.ConnectionError, requests.exceptions.JSONDecodeError, KeyError):    # it is not up yet, or says so
                assert server.poll() is None, (tmp_path / "log").read_text()
                return {}

        def series(query):
            return until(lambda: ask("query", query=query).get("result"), 60, query)

        assert series('repquant_jobs{state="succeeded"} == 1')[0]["metric"]["job"] == "repquant"
        assert float(series("repquant_job_stage_seconds_count{stage=\"quantizing\"}")[0]["value"][1]) == 1
        target = ask("targets")["activeTargets"][0]
        assert (target["health"], target["lastError"]) == ("up", "")

        def known():
            return metric_names(" ".join(row["__name__"] for row in ask("series", **{"match[]": '{__name__=~"repquant_.*"}'})))

        def told():
            return metric_names(re.sub(r"^#.*$", "", requests.get(d.url + "/metrics", timeout=20).text, flags=re.M))
        until(lambda: known() == told(), 30, "all series, those too that came after a scrape")
        board = json.loads((DEPLOY / "grafana.json").read_text())
        for expression in [t["expr"] for p in board["panels"] for t in p["targets"]]:
            asked = ask("query", query=expression.replace("$instance", ".*").replace("$__rate_interval", "1m"))
            assert "result" in asked, f"Prometheus refuses {expression}"
        rules = until(lambda: [r for g in ask("rules").get("groups", []) for r in g["rules"] if r["health"] != "unknown"], 60, "rules that ran")
        assert {r["health"] for r in rules} == {"ok"}
    finally:
        server.terminate()
        server.wait(30)
