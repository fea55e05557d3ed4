"""`GET /metrics`, read back by Prometheus' own client for Python; and what the examples make of it."""

import itertools
import json
import math
import re
import threading
import urllib.error
import urllib.request

import pytest
import yaml
from gateway import CLIENT_KEY, ROOT, Gateway, provider
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as open_parser

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
TIMES = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
"""The convention's bounds of times, in seconds."""
TOKENS = [4.0**n for n in range(14)]
"""The same of tokens."""
GENAI = {
    "gen_ai_client_operation_duration_seconds": TIMES,
    "gen_ai_client_operation_time_to_first_chunk_seconds": TIMES,
    "gen_ai_client_operation_time_per_output_chunk_seconds": TIMES,
    "gen_ai_client_token_usage": TOKENS,
    "gen_ai_server_request_duration_seconds": TIMES,
}
COUNTED = ["counter", "histogram"]
"""What never goes backwards."""
STREAM_WORDS = 10


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode(), answer.headers["content-type"]


def post(url, body, **headers):
    """The status of the answer, or none if it broke off."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {CLIENT_KEY}"} | headers
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception:
        return None


def chat(gateway, model, **more):
    return post(f"{gateway.data}/v1/chat/completions", {"model": model, "messages": words(), **more})


def words():
    return [{"role": "user", "content": "Hello there"}]


class Scrape:
    """What one scrape says."""

    def __init__(self, text, parser):
        self.families = list(parser.text_string_to_metric_families(text))
        samples = [sample for family in self.families for sample in family.samples]
        self.values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
        assert len(self.values) == len(samples), "a series stands there twice"

    def value(self, name, **labels):
        """The sum of the samples of this name that have these labels."""
        wanted = labels.items()
        found = [value for (own, has), value in self.values.items() if own == name and wanted <= has]
        assert found, f"there is no {name} {labels}"
        return sum(found)

    def labels(self, name, label):
        return {dict(has)[label] for own, has in self.values if own == name and label in dict(has)}

    def monotone(self):
        """What only grows, by series."""
        counted = {sample.name for family in self.families if family.type in COUNTED for sample in family.samples}
        return {series: value for series, value in self.values.items() if series[0] in counted}


def scrape(gateway, accept=TEXT):
    text, kind = get(f"{gateway.admin}/metrics", accept=accept)
    assert kind == (OPEN if "openmetrics" in accept else TEXT)
    assert text.endswith("\n# EOF\n") == (kind == OPEN)
    return Scrape(text, open_parser if kind == OPEN else text_parser)


def at_rest(gateway):
    """The statistics once nothing is under way, of which a scrape shows the same snapshot for the rest of a second."""

    def rests(stats):
        requests = stats["requests"]
        ended = sum(requests[f"{how}_total"] for how in ("succeeded", "failed", "cancelled"))
        # The connection of a chat ends a moment behind it.
        return requests["in_flight"] == 0 and requests["received_total"] == ended

    return gateway.wait_for(rests)


def same_moment(gateway, accept=TEXT):
    """The statistics and a scrape of one snapshot: two that agree on what is always counted, taken anew until they do."""
    for _ in range(50):
        stats, found = at_rest(gateway), scrape(gateway, accept)
        if found.value("sluicegate_events_total") == sum(stats["events_total"].values()) and found.value(
            "process_cpu_seconds_total"
        ) == pytest.approx(stats["process"]["cpu_us"] / 1e6, abs=1e-9):
            return stats, found
    raise AssertionError("no scrape was of the snapshot that /stats showed")


@pytest.fixture(scope="module")
def busy(simulated, tmp_path_factory):
    """A gateway that everything has happened to."""
    narrow = {"concurrency": 1, "min_concurrency": 1, "buffer_size": 1}
    quiet = {"network_config": {"max_retries": 0}, "breaker": {"enabled": False}}
    providers = {
        "sim": quiet,
        "narrow": {"kind": "sim", "concurrency_and_buffer_size": narrow, "queue": {"policy": "error"}, **quiet},
        "paused": {"kind": "sim"},
        "brittle": {"kind": "sim", "network_config": {"max_retries": 1, "retry_backoff_initial": 1}},
        "nobody": provider("http://127.0.0.1:9"),
        "anthropic": provider(simulated.url, kind="anthropic"),
        "openai": provider(simulated.url),
    }
    plugins = [{"name": "request_log", "config": {}}]
    with Gateway(tmp_path_factory.mktemp("metrics"), {"providers": providers, "plugins": plugins}) as gateway:
        data = gateway.data
        for _ in range(3):
            assert chat(gateway, "sim/echo") == 200
            assert chat(gateway, "openai/echo") == 200
            assert chat(gateway, "anthropic/echo") == 200
        assert chat(gateway, f"sim/lorem-{STREAM_WORDS}+gap-15ms", stream=True) == 200
        assert chat(gateway, f"anthropic/lorem-{STREAM_WORDS}", stream=True) == 200
        assert post(f"{data}/v1/embeddings", {"model": "sim/echo", "input": "Hello"}) == 200
        assert post(f"{data}/v1/completions", {"model": "sim/echo", "prompt": "Hello"}) == 200
        assert post(f"{data}/v1/messages", {"model": "openai/echo", "max_tokens": 20, "messages": words()}) == 200
        said = {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}
        assert post(f"{data}/bedrock/model/sim%2Fecho/converse", said) == 200
        assert chat(gateway, "sim/fail-500") == 500
        assert chat(gateway, "sim/nobody-knows-this") == 404
        assert chat(gateway, "nowhere/model") == 404
        assert chat(gateway, "nobody/model") == 502
        assert chat(gateway, "sim/cut-3", stream=True) is None
        assert chat(gateway, "brittle/fail-503", fallbacks=["sim/echo"]) == 200
        post(f"{gateway.admin}/providers/paused/pause", {}, **{"x-sluicegate-admin": "1"})
        post(f"{gateway.admin}/providers/brittle/breaker/open", {}, **{"x-sluicegate-admin": "1"})
        assert chat(gateway, "brittle/echo") == 503
        crowd = [threading.Thread(target=chat, args=(gateway, "narrow/slow-300ms")) for _ in range(8)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        yield gateway


@pytest.fixture(scope="module")
def seen(busy):
    """One snapshot as JSON, and the same as a scrape in each format."""
    stats, text = same_moment(busy)
    return stats, text, same_moment(busy, OPEN)[1]


def test_both_formats_parse_and_say_the_same(seen):
    _, text, openmetrics = seen
    shown = {family.name.removesuffix("_info"): family.type for family in text.families}
    told = {family.name.removesuffix("_info"): family.type for family in openmetrics.families}
    assert told | {"sluicegate_build": "gauge"} == shown
    assert told["sluicegate_build"] == "info"
    # Of two moments at rest, what requests count is the same; threads and locks go on.
    resting = ("gen_ai_", "sluicegate_requests", "sluicegate_queue_", "sluicegate_attempts", "sluicegate_tokens")
    steady = {series: value for series, value in text.monotone().items() if series[0].startswith(resting)}
    assert len(steady) > 300 and {series: openmetrics.values.get(series) for series in steady} == steady
    for family in openmetrics.families:
        assert family.documentation and (not family.unit or family.name.endswith(f"_{family.unit}"))
        assert not family.name.endswith(("_seconds", "_bytes")) or family.unit


def test_a_scrape_asked_for_like_prometheus_does_is_openmetrics(busy):
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    assert scrape(busy, accept).value("sluicegate_phase", phase="running") == 1


def test_histograms_are_cumulative_and_end_in_their_count(seen):
    for found in seen[1:]:
        checked = 0
        for family in (family for family in found.families if family.type == "histogram"):
            by_series = {}
            for sample in family.samples:
                labels = dict(sample.labels)
                bound = labels.pop("le", None)
                parts = by_series.setdefault(frozenset(labels.items()), {"buckets": []})
                if bound is None:
                    parts[sample.name.removeprefix(family.name)] = sample.value
                else:
                    parts["buckets"].append((float(bound), sample.value))
            for parts in by_series.values():
                bounds, counts = zip(*parts["buckets"])
                assert list(bounds) == sorted(set(bounds)) and bounds[-1] == math.inf
                assert list(counts) == sorted(counts) and counts[-1] == parts["_count"]
                least = sum(low * (b - a) for low, a, b in zip((0, *bounds), (0, *counts), counts))
                # What is kept within 1 % may lie so far above its bound.
                assert parts["_sum"] >= least * 0.98 - 1e-6
                assert parts["_count"] > 0 or parts["_sum"] == 0
                checked += 1
        assert checked > 20


def test_values_are_those_of_the_statistics(seen):
    stats, found, _ = seen
    value, requests = found.value, stats["requests"]
    assert value("sluicegate_requests_received_total") == requests["received_total"]
    for outcome in ("succeeded", "failed", "cancelled"):
        assert value("sluicegate_requests_total", outcome=outcome) == requests[f"{outcome}_total"]
    for code in found.labels("sluicegate_errors_total", "code"):
        assert value("sluicegate_errors_total", code=code) == stats["errors"].get(code, 0)
    assert set(stats["errors"]) >= {"queue_full", "stream_cut", "upstream_error", "model_not_found", "circuit_open"}
    assert value("sluicegate_overhead_seconds_count") == requests["overhead_us"]["count"]
    assert value("sluicegate_request_duration_seconds_count") == requests["total_us"]["count"]
    for name, own in stats["providers"].items():
        queue, jobs = own["queue"], own["jobs"]
        for key in ("depth", "capacity", "high_water", "places_taken"):
            assert value(f"sluicegate_queue_{key}", provider=name) == queue[key]
        for key in ("submitted", "accepted", "blocked"):
            assert value(f"sluicegate_queue_{key}_total", provider=name) == queue[f"{key}_total"]
        for key in found.labels("sluicegate_queue_ended_total", "outcome"):
            assert value("sluicegate_queue_ended_total", provider=name, outcome=key) == queue[f"{key}_total"]
        assert value("sluicegate_queue_ended_total", provider=name) == queue["submitted_total"]
        for key in found.labels("sluicegate_jobs_total", "outcome"):
            assert value("sluicegate_jobs_total", provider=name, outcome=key) == jobs[f"{key}_total"]
        # Each attempt that a worker took is in each of these once.
        assert value("sluicegate_attempts_total", provider=name) == queue["completed_total"]
        assert value("sluicegate_attempts_total", provider=name, code="ok") == jobs["succeeded_total"]
        for key, of in {"queue_wait": queue["wait_us"], "service": jobs["service_us"], "first_token": jobs["first_token_us"]}.items():
            assert value(f"sluicegate_{key}_seconds_count", provider=name) == of["count"]
            total = value(f"sluicegate_{key}_seconds_sum", provider=name) * 1e6
            assert of["mean"] * of["count"] <= total + 1 and total <= (of["mean"] + 1) * of["count"]
        for kind, key in (("input", "in"), ("output", "out")):
            assert value("sluicegate_tokens_total", provider=name, type=kind) == jobs[f"tokens_{key}_total"]
        assert value("sluicegate_retries_total", provider=name) == jobs["retries_total"]
        assert value("sluicegate_fallbacks_total", provider=name) == jobs["fallbacks_total"]
        assert value("sluicegate_workers", provider=name) == len(own["per_worker"])
        assert value("sluicegate_workers", provider=name, state="listening") == own["workers"]["idle"]
        assert value("sluicegate_breaker_state", provider=name) == 1
        assert value("sluicegate_breaker_state", provider=name, state=own["breaker"]["state"]) == 1
        assert value("sluicegate_breaker_short_circuits_total", provider=name) == own["breaker"]["short_circuited_total"]
        assert value("sluicegate_health_state", provider=name, state=own["health"]["state"]) == 1
        assert value("sluicegate_keys", provider=name) == len(own["keys"])
        for key in own["keys"]:
            assert value("sluicegate_key_used_total", provider=name, key=key["name"]) == key["used_total"]
        assert value("sluicegate_upstream_connections_opened_total", provider=name) == own["connections"]["opened_total"]
    for name, pool in stats["pools"].items():
        for key in ("hits", "misses", "returned", "discarded"):
            assert value(f"sluicegate_pool_{key}_total", pool=name) == pool[f"{key}_total"]
        assert value("sluicegate_pool_held_bytes", pool=name) == pool["bytes_held"]
    for name, plugin in stats["plugins"].items():
        assert value("sluicegate_plugin_calls_total", plugin=name) == plugin["calls_total"]
    threads = stats["threads"]
    assert value("sluicegate_threads_limit") == threads["limit"]
    assert value("sluicegate_threads_spawned_total") == threads["spawned_total"]
    kinds = [alert["kind"] for alert in stats["alerts"]]
    assert {kind: value("sluicegate_alerts", kind=kind) for kind in kinds} == {kind: kinds.count(kind) for kind in kinds}
    assert len(set(kinds)) >= 2, "the paused provider and the opened breaker"
    for kind, count in stats["events_total"].items():
        assert value("sluicegate_events_total", kind=kind) == count
    assert value("sluicegate_client_connections_accepted_total") == stats["connections"]["accepted_total"]
    process = stats["process"]
    assert value("process_resident_memory_bytes") == process["rss_bytes"]
    assert value("process_start_time_seconds") == process["started_at_ms"] / 1000
    assert value("process_open_fds") == process["open_fds"] < value("process_max_fds")
    assert value("sluicegate_scale_events_total") == sum(
        own["scaling"]["up_total"] + own["scaling"]["down_total"] for own in stats["providers"].values()
    )


def test_genai_names_attributes_and_buckets_are_the_conventions(seen):
    _, found, openmetrics = seen
    families = {family.name: family for family in openmetrics.families}
    for name, bounds in GENAI.items():
        assert families[name].type == "histogram"
        assert families[name].unit == ("" if name.endswith("usage") else "seconds")
        assert {float(le) for le in found.labels(f"{name}_bucket", "le")} == {*bounds, math.inf}
        for own, has in found.values:
            labels = dict(has)
            if own == f"{name}_count":
                assert labels["gen_ai_operation_name"] in ("chat", "text_completion", "embeddings")
                assert {"provider", "gen_ai_provider_name", "gen_ai_request_model"} <= set(labels)
                assert ("server_address" in labels) == ("server_port" in labels)
    duration = "gen_ai_client_operation_duration_seconds_count"
    assert found.labels(duration, "gen_ai_operation_name") == {"chat", "text_completion", "embeddings"}
    assert {"openai", "anthropic", "sim"} <= found.labels(duration, "gen_ai_provider_name")
    assert found.labels(duration, "server_address") == {"127.0.0.1"}
    assert found.labels(duration, "error_type") >= {"upstream_error", "stream_cut", "upstream_connect_error"}
    assert found.labels("gen_ai_client_token_usage_count", "gen_ai_token_type") == {"input", "output"}


def test_genai_counts_are_what_was_asked(seen):
    stats, found, _ = seen
    value = found.value
    of = {"provider": "sim", "gen_ai_request_model": "echo"}
    duration = "gen_ai_client_operation_duration_seconds_count"
    # Three chats, a Converse, and one that came here from another that failed; requests are counted where they first led.
    assert value(duration, **of, gen_ai_operation_name="chat") == 5
    assert value("gen_ai_server_request_duration_seconds_count", **of, gen_ai_operation_name="chat") == 4
    assert value(duration, **of, gen_ai_operation_name="embeddings") == 1
    assert value(duration, provider="openai", gen_ai_request_model="echo") == 4
    for name, own in stats["providers"].items():
        if own["queue"]["completed_total"]:
            assert value(duration, provider=name) == own["queue"]["completed_total"]
        for kind, key in (("input", "in"), ("output", "out")):
            if own["jobs"][f"tokens_{key}_total"]:
                tokens = value("gen_ai_client_token_usage_sum", provider=name, gen_ai_token_type=kind)
                assert tokens == own["jobs"][f"tokens_{key}_total"]
    # What no provider answered to has no series of its own; what failed before it led anywhere has none at all.
    assert "nobody-knows-this" not in found.labels(duration, "gen_ai_request_model")
    assert value(duration, provider="nobody", gen_ai_request_model="_other", error_type="upstream_connect_error") == 1
    led = value("gen_ai_server_request_duration_seconds_count")
    assert led == stats["requests"]["received_total"] - stats["errors"]["model_not_found"]
    stream = {"provider": "sim", "gen_ai_request_model": f"lorem-{STREAM_WORDS}+gap-15ms"}
    first, gaps = (f"gen_ai_client_operation_time_{what}_chunk_seconds" for what in ("to_first", "per_output"))
    assert value(f"{first}_count", **stream) == 1
    assert value(f"{gaps}_count", **stream) >= STREAM_WORDS - 1
    # The provider waits between its tokens: for so long the chunks are apart, whatever they come together as.
    assert value(f"{gaps}_sum", **stream) >= 0.015 * (STREAM_WORDS - 2)
    whole = {"provider": "openai", "gen_ai_request_model": "echo"}
    assert not [1 for name, has in found.values if name == f"{first}_count" and whole.items() <= has], "it was no stream"


def test_scrapes_under_load_never_go_backwards(busy):
    done = threading.Event()

    def load():
        models = itertools.cycle(["sim/echo", "sim/fail-500", "sim/cut-2", "sim/lorem-5"])
        while not done.is_set():
            chat(busy, next(models), stream=True)

    crowd = [threading.Thread(target=load) for _ in range(4)]
    for one in crowd:
        one.start()
    try:
        before = {}
        for _ in range(20):
            get(f"{busy.admin}/stats?fresh=1")
            now = scrape(busy).monotone()
            shrunk = {series: (value, now.get(series)) for series, value in before.items() if now.get(series, -1) < value}
            assert not shrunk
            before = now
    finally:
        done.set()
        for one in crowd:
            one.join()


def test_a_storm_of_models_is_bounded(busy):
    served = range(300)
    crowd = [
        threading.Thread(target=lambda part: [chat(busy, f"sim/lorem-{n + 1}") for n in served[part::6]], args=(part,))
        for part in range(6)
    ]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    _, found = same_moment(busy)
    name = "gen_ai_client_operation_duration_seconds_count"
    models = {dict(has)["gen_ai_request_model"] for own, has in found.values if own == name and ("provider", "sim") in has}
    # 64, and those of the built-in list that were asked.
    assert "_other" in models and 64 <= len(models) - 1 < 70
    words_seen = found.value(name, provider="sim") - found.value(name, provider="sim", gen_ai_request_model="_other")
    assert words_seen >= 64


def test_an_admin_key_is_asked_for(tmp_path):
    config = {"providers": {"sim": {}}, "server": {"admin_key": "admin-canary"}}
    with Gateway(tmp_path, config) as gateway:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{gateway.admin}/metrics")
        assert refused.value.code == 401
        text, _ = get(f"{gateway.admin}/metrics", authorization="Bearer admin-canary")
        assert Scrape(text, text_parser).value("sluicegate_build_info") == 1


ADDED = {"instance", "job"}
"""What Prometheus itself puts on each series."""


def dashboard():
    """The queries of the dashboard."""
    board = json.loads((ROOT / "examples/grafana/sluicegate.json").read_text())
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "provider", "model"} <= variables
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    assert all(target["datasource"]["uid"] == "${datasource}" for target in targets)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for target in targets))) - {"__rate_interval"}
    assert used <= variables
    legends = [(target["expr"], set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))) for target in targets]
    asked = [variable["query"]["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    for query in asked:
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        legends.append((selector, {label}))
    return legends


def alerts():
    """The queries of the alert rules."""
    rules = yaml.safe_load((ROOT / "examples/prometheus/alerts.yml").read_text())
    all_rules = [rule for group in rules["groups"] for rule in group["rules"]]
    for rule in all_rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
    shown = r"\$labels\.(\w+)"
    return [(rule["expr"], set(re.findall(shown, " ".join(rule["annotations"].values())))) for rule in all_rules]


def test_the_examples_ask_for_what_there_is(seen):
    """Each metric, label and value that dashboard and rules name stands in a scrape, so that none of them can rot."""
    _, found, _ = seen
    has_labels, has_values = {}, {}
    for name, has in found.values:
        has_labels.setdefault(name, set()).update(label for label, _ in has)
        for label, value in has:
            has_values.setdefault((name, label), set()).add(value)
    # A code stands among the attempts only where it occurred; all of them stand among the errors.
    codes = has_values["sluicegate_errors_total", "code"]
    has_values["sluicegate_attempts_total", "code"] |= codes
    all_labels = set().union(*has_labels.values())
    queries = dashboard() + alerts()
    assert len(queries) > 60
    metrics = set()
    for query, shown in queries:
        assert "{{" not in query
        labels = set(ADDED)
        names = re.findall(r"\b((?:sluicegate|gen_ai|process)_\w+|up)\b(?=[\s{\[)]|$)(\{[^}]*\})?", query)
        for name, selector in names:
            if name == "up" or name in all_labels:
                continue
            assert name in has_labels, f"there is no {name}, which {query} asks for"
            metrics.add(name)
            labels |= has_labels[name]
            for label, how, wanted in re.findall(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"", selector):
                assert label in has_labels[name] | ADDED, f"{name} has no {label}, which {query} asks for"
                known = has_values.get((name, label), set())
                literal = [] if "$" in wanted or label in ADDED else re.split(r"\|", wanted)
                assert all(value in known or value == "" for value in literal), f"{name} has no {label} {wanted}: {known}"
        for grouped in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", query):
            assert {label.strip() for label in grouped.split(",")} <= labels, f"{query} groups by {grouped}"
        assert shown <= labels, f"{query} has no {shown - labels}"
    for needed in ("breaker_state", "queue_depth", "workers", "pool_hits_total", "overhead_seconds_bucket", "keys"):
        assert f"sluicegate_{needed}" in metrics
    config = yaml.safe_load((ROOT / "examples/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"] and config["scrape_configs"][0]["metrics_path"] == "/metrics"
