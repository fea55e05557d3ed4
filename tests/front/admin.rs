//! The admin plane: what it shows, in its whole shape, and whom it lets in.

use std::sync::Arc;
use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::admin::Admin;
use sluicegate::stats::Stats;
use sluicegate::time::Deadline;

use super::{Client, Station, timed};
use crate::house::{CANARY, FUSE, SLACK, chat, eventually, ms, unrest};

/// A gateway with both planes.
struct Office {
    admin: Option<Admin>,
    stats: Option<Arc<Stats>>,
    addr: std::net::SocketAddr,
    station: Station,
}

impl Office {
    fn on(station: Station) -> Self {
        let connections = station.front().stats();
        let gateway = station.house.gateway();
        let enrich = Box::new(move |snapshot: &mut sluicegate::gateway::Snapshot| {
            snapshot.connections = Some(connections);
        });
        let stats = Arc::new(Stats::start(gateway, enrich).expect("it starts"));
        let listen = "127.0.0.1:0".parse().expect("an address");
        let admin = Admin::start(gateway, listen, Arc::clone(&stats)).expect("it listens");
        Self { addr: admin.addr(), admin: Some(admin), stats: Some(stats), station }
    }

    fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    fn fresh(&self) -> Value {
        self.client().get("/stats?fresh=1").json()
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        let (Some(admin), Some(stats)) = (self.admin.take(), self.stats.take()) else { return };
        if std::thread::panicking() {
            return;
        }
        let stragglers = admin.shutdown(Deadline::after(FUSE));
        assert!(stragglers.is_empty(), "{stragglers:?}");
        Arc::into_inner(stats).expect("the pages have let go").stop(Deadline::after(FUSE));
    }
}

/// Every key of the interface's section 5, which the self-test looks for, too.
const KEYS: &str = include_str!("../../src/cli/selftest/stats.keys");

#[test]
fn stats_have_every_key_of_the_interface_and_no_other_provider() {
    let gate = crate::house::Gate::new();
    let providers = json!({ "p": crate::house::provider(json!({})), "sim": crate::house::sim(json!({})) });
    let office = Office::on(Station::on(crate::house::House::new(providers, &[("p", &gate)])));
    let mut client = office.station.client();
    assert_eq!(client.chat(&[], &chat("sim/echo", false)).answer().status, 200);
    assert!(client.chat(&[], &chat("sim/lorem-3", true)).answer().complete);
    let stats = office.fresh();
    for line in KEYS.lines().filter(|line| !line.starts_with('#')) {
        let (places, keys) = line.split_once(':').expect("a list of keys");
        for place in places.split_whitespace() {
            let section = stats.pointer(place.trim_end_matches('/')).unwrap_or_else(|| panic!("no {place}"));
            let object = section.as_object().unwrap_or_else(|| panic!("{place} is no object: {section}"));
            let missing: Vec<_> = keys.split_whitespace().filter(|key| !object.contains_key(*key)).collect();
            assert!(missing.is_empty(), "{place} lacks {missing:?}");
        }
    }
    assert_eq!(stats["phase"], "running");
    assert_eq!(stats["providers"]["sim"]["phase"], "ready");
    assert_eq!(stats["requests"]["received_total"], 2);
    assert!(stats["alerts"].is_array() && stats["plugins"].is_object() && stats["threads"]["ended"].is_array());
    assert!(!stats.to_string().contains(CANARY));
}

#[test]
fn a_fresh_snapshot_has_what_was_answered_before_it_was_asked_for() {
    let office = Office::on(Station::sim());
    let mut client = office.station.client();
    for asked in 1..=30u64 {
        let stream = asked % 2 == 0;
        assert!(client.chat(&[], &chat("sim/lorem-2", stream)).answer().complete);
        let stats = office.fresh();
        assert_eq!(stats["requests"]["received_total"], asked);
        assert_eq!(stats["requests"]["succeeded_total"], asked, "counters are settled before the last byte");
        assert_eq!(stats["providers"]["sim"]["jobs"]["succeeded_total"], asked);
    }
    eventually("the usual snapshot has it within a second or so", || {
        office.client().get("/stats").json()["requests"]["received_total"] == 30
    });
    eventually("it is at rest", || unrest(&office.fresh()).is_none());
    eventually("there is a rate", || office.fresh()["requests"]["throughput_per_s"].as_f64() > Some(0.0));
}

/// What each second brought, for whoever comes later; what is known already is not told again.
#[test]
fn the_history_has_what_each_second_brought() {
    let office = Office::on(Station::sim());
    let mut client = office.station.client();
    for _ in 0..20 {
        assert_eq!(client.chat(&[], &chat("sim/echo", false)).answer().status, 200);
    }
    assert_eq!(client.chat(&[], &chat("sim/fail-400", false)).answer().status, 400);
    let history = |since: u64| office.client().get(&format!("/history?since={since}")).json();
    let numbers = |column: &Value| column.as_array().expect("a column").iter().map(Value::as_u64).collect::<Vec<_>>();
    let sum = |column: &Value| numbers(column).into_iter().flatten().sum::<u64>();
    eventually("all of it is there, in one second or several", || sum(&history(0)["succeeded"]) == 20);
    let all = history(0);
    let sim = &all["providers"]["sim"];
    assert_eq!((sum(&all["failed"]), sum(&sim["completed"]), sum(&sim["failed"])), (1, 21, 1));
    for column in ["wait_p50_us", "wait_p99_us", "service_p50_us", "service_p99_us"] {
        for (time, jobs) in numbers(&sim[column]).into_iter().zip(numbers(&sim["completed"])) {
            assert_eq!(time.is_some(), jobs > Some(0), "{column} of a second with {jobs:?} jobs");
        }
    }
    let at = numbers(&all["at_ms"]);
    assert!(at.is_sorted() && at.last() <= Some(&all["now_ms"].as_u64()));
    let last = at.last().copied().flatten().expect("there is one");
    eventually("there is more", || !numbers(&history(last)["at_ms"]).is_empty());
    assert!(numbers(&history(last)["at_ms"]).iter().all(|at| *at > Some(last)));
    let help = office.client().get("/help");
    assert!(help.text().contains("GET  /history") && office.client().get("/").text().contains(help.text().trim_end()));
}

#[test]
fn it_answers_at_once_whatever_the_data_plane_does() {
    let (station, gate) =
        Station::gated(json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 64 } }), json!({}));
    let office = Office::on(station);
    scope(|scope| {
        let calls: Vec<_> = (0..60)
            .map(|_| scope.spawn(|| office.station.client().chat(&[], &chat("p/m", false)).answer().status))
            .collect();
        let mut held: Vec<_> = (0..8).map(|_| gate.next()).collect();
        office.station.house.queued(52);
        let mut client = office.client();
        let mut slowest = ms(0);
        for path in
            ["/stats", "/stats?fresh=1", "/livez", "/readyz", "/threads", "/config", "/events?since=0", "/history", "/"]
        {
            for _ in 0..10 {
                let (answer, took) = timed(|| client.get(path));
                assert_eq!(answer.status, 200, "{path}");
                slowest = slowest.max(took);
            }
        }
        assert!(slowest < ms(50) * SLACK, "{slowest:?}");
        let busy = office.fresh();
        assert_eq!(busy["providers"]["p"]["workers"]["busy"], 8);
        assert_eq!(busy["providers"]["p"]["queue"]["depth"], 52);
        assert_eq!(busy["requests"]["in_flight"], 60);
        assert!(busy["providers"]["p"]["per_worker"][0]["request_id"].is_string());
        for _ in 0..52 {
            held.remove(0).answer();
            held.push(gate.next());
        }
        held.into_iter().for_each(crate::house::Arrived::answer);
        calls.into_iter().for_each(|call| assert_eq!(call.join().expect("no panic"), 200));
    });
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let key = "admin-canary-key";
    let (station, _gate) = Station::gated(
        json!({ "network_config": { "extra_headers": { "x-secret": "canary-header" } } }),
        json!({ "keys": ["gw-canary-key"], "admin_key": key }),
    );
    let office = Office::on(station);
    for headers in [&[][..], &["Authorization: Bearer wrong"], &["x-api-key: wrong"]] {
        let answer = office.client().ask("GET", "/config", headers, "").answer();
        assert_eq!(answer.status, 401);
    }
    for path in ["/config", "/stats", "/threads", "/events"] {
        let authorization = format!("Authorization: Bearer {key}");
        let answer = office.client().ask("GET", path, &[&authorization], "").answer();
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("canary-key") && !answer.text().contains("canary-header"), "{}", answer.text());
        assert!(!answer.text().contains(CANARY), "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let authorization = format!("x-api-key: {key}");
    let config = office.client().ask("GET", "/config", &[&authorization], "").answer().json();
    assert_eq!(config["providers"]["p"]["concurrency_and_buffer_size"]["concurrency"], 1);
    assert_eq!(config["providers"]["p"]["network_config"]["first_token_timeout"], "1m");
}

#[test]
fn threads_are_listed_by_name_and_role() {
    let office = Office::on(Station::sim());
    let threads = office.client().get("/threads").json();
    let threads = threads["threads"].as_array().expect("a list");
    for (name, role) in
        [("sim-worker-1", "worker"), ("sim-supervisor", "supervisor"), ("stats", "stats"), ("watcher", "watcher")]
    {
        let row = threads.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {threads:?}"));
        assert_eq!(row["role"], role);
        assert!(row["id"].is_u64() && row["state"].is_string() && row["state_ms"].is_u64());
    }
}

#[test]
fn foreign_pages_are_kept_out() {
    let office = Office::on(Station::sim());
    let own = format!("Host: {}", office.addr);
    for (lines, status) in [
        (&[&*own][..], 200),
        (&["Host: localhost"], 200),
        (&["Host: evil.example"], 403),
        (&["Host: 10.0.0.1"], 403),
        (&[&*own, "Origin: http://evil.example"], 403),
        (&[&*own, "Origin: null"], 403),
        (&[&*own, "Origin: http://localhost"], 200),
        (&[&*own, "Sec-Fetch-Site: cross-site"], 403),
        (&[&*own, "Sec-Fetch-Site: same-site"], 403),
        (&[&*own, "Sec-Fetch-Site: same-origin"], 200),
    ] {
        let mut client = office.client();
        client.send(format!("GET /stats HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")));
        assert_eq!(client.answer().status, status, "{lines:?}");
    }
    for (method, path, headers, status) in [
        ("POST", "/drain", &[][..], 403),
        ("POST", "/drain", &["x-sluicegate-admin: 0"], 403),
        ("POST", "/drain", &["x-sluicegate-admin: 1", "Origin: http://evil.example"], 403),
        ("PUT", "/drain", &["x-sluicegate-admin: 1"], 405),
        ("DELETE", "/stats", &[], 405),
        ("GET", "/nowhere", &[], 404),
        ("POST", "/nowhere", &["x-sluicegate-admin: 1"], 404),
        ("POST", "/metrics", &["x-sluicegate-admin: 1"], 405),
        ("POST", "/reload", &["x-sluicegate-admin: 1"], 409),
        ("GET", "/reload", &[], 405),
        ("POST", "/", &["x-sluicegate-admin: 1"], 405),
        ("POST", "/history", &["x-sluicegate-admin: 1"], 405),
        ("GET", "/history?since=yesterday", &[], 400),
        ("POST", "/reload", &[], 403),
        ("POST", "/providers/sim/pause", &[], 403),
        ("POST", "/providers/nobody/pause", &["x-sluicegate-admin: 1"], 404),
        ("GET", "/providers/sim/resume", &[], 405),
        ("POST", "/providers/sim/breaker/open", &[], 403),
        ("POST", "/providers/nobody/breaker/open", &["x-sluicegate-admin: 1"], 404),
        ("GET", "/providers/sim/breaker/auto", &[], 405),
        ("POST", "/providers/sim/breaker/ajar", &["x-sluicegate-admin: 1"], 404),
        ("POST", "/stats", &["x-sluicegate-admin: 1"], 405),
        ("GET", "/drain", &[], 405),
    ] {
        let answer = office.client().ask(method, path, headers, "").answer();
        assert_eq!(answer.status, status, "{method} {path} {headers:?}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string());
        let allow = answer.header("allow").map(str::to_owned);
        assert_eq!(allow.is_some(), status == 405, "{method} {path}");
        assert!(allow.is_none_or(|allow| !allow.split(", ").any(|allowed| allowed == method)), "{method} {path}");
    }
    assert!(office.station.house.gateway().is_ready());
}

/// A line that a browser sends once is judged each time that it stands there, and one that is no text is foreign.
#[test]
fn what_says_a_second_thing_or_nothing_readable_is_foreign() {
    let office = Office::on(Station::sim());
    let own = format!("Host: {}", office.addr);
    let (port, evil) = (office.addr.port(), "Origin: http://evil.example");
    for (lines, status) in [
        (vec![own.clone(), "Origin: http://localhost".to_owned(), evil.to_owned()], 403),
        (vec![own.clone(), "Sec-Fetch-Site: none".to_owned(), "Sec-Fetch-Site: cross-site".to_owned()], 403),
        (vec![own.clone(), "x-sluicegate-admin: 1".to_owned(), "x-sluicegate-admin: 0".to_owned()], 403),
        (vec![own.clone(), "x-sluicegate-admin: 1".to_owned(), "Origin: http://localhost\u{e9}".to_owned()], 403),
        (vec![own.clone(), "x-sluicegate-admin: 1".to_owned(), "Sec-Fetch-Site: \u{e9}".to_owned()], 403),
        (vec![own.clone(), "x-sluicegate-admin: 1".to_owned(), "Sec-Fetch-Site: cross-site".to_owned()], 403),
        (
            vec![
                format!("Host: [::1]:{port}"),
                "x-sluicegate-admin: 1".to_owned(),
                "Origin: http://[::1]:1".to_owned(),
            ],
            404,
        ),
        (
            vec![
                format!("Host: [::1]:{port}"),
                "x-sluicegate-admin: 1".to_owned(),
                "Origin: https://[::1]:1".to_owned(),
            ],
            403,
        ),
        (vec![format!("Host: evil.example:{port}"), "x-sluicegate-admin: 1".to_owned()], 403),
        (vec![format!("Host: 127.0.0.1.evil.example:{port}"), "x-sluicegate-admin: 1".to_owned()], 403),
        (vec![format!("Host: 0.0.0.0:{port}"), "x-sluicegate-admin: 1".to_owned()], 403),
        (vec![own.clone(), "x-sluicegate-admin:".to_owned()], 403),
        (vec![own.clone(), "x-sluicegate-admin: 1, 1".to_owned()], 403),
        (vec![own, "x-sluicegate-admin: 1".to_owned()], 404),
    ] {
        let mut client = office.client();
        client.send(format!("POST /nowhere HTTP/1.1\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n")));
        assert_eq!(client.answer().status, status, "{lines:?}");
    }
    // A browser asks first whether it may send our header, and is not given leave.
    let asked = ["Origin: http://evil.example", "Access-Control-Request-Method: POST"];
    let answer = office.client().ask("OPTIONS", "/drain", &asked, "").answer();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
    let answer = office.client().ask("OPTIONS", "/drain", &asked[1..], "").answer();
    assert_eq!((answer.status, answer.header("access-control-allow-headers")), (405, None));
}

/// A key is asked for wherever one is configured, whatever the address failed before, and both planes count together.
#[test]
fn the_admin_key_is_asked_for_on_every_page_and_failures_are_counted() {
    let (station, _gate) = Station::gated(json!({}), json!({ "keys": ["gateway"], "admin_key": "right" }));
    let office = Office::on(station);
    // The page alone, which has nothing to hide, and only to look at it.
    for (method, path, status) in [("GET", "/", 200), ("GET", "/?x", 200), ("POST", "/", 401)] {
        let answer = office.client().ask(method, path, &[], "").answer();
        assert_eq!(answer.status, status, "{method} {path}");
        let policy = answer.header("content-security-policy").map(str::to_owned);
        assert_eq!(policy.is_some_and(|policy| policy.starts_with("default-src 'none'")), status == 200);
    }
    for path in [
        "/history",
        "/stats",
        "/config",
        "/threads",
        "/events",
        "/livez",
        "/readyz",
        "/health",
        "/sim/stats",
        "/nowhere",
    ] {
        let seen: Vec<_> =
            [&[][..], &["Authorization: Bearer wrong"], &["api-key: gateway"], &["x-api-key: right", "api-key: no"]]
                .into_iter()
                .map(|lines| office.client().ask("GET", path, lines, "").answer())
                .collect();
        assert!(seen[0].status == 401 && seen.iter().all(|answer| *answer == seen[0]), "{path}: {seen:?}");
        assert_eq!(seen[0].header("www-authenticate"), Some("Bearer"));
    }
    let answer = office.client().ask("POST", "/drain", &["x-sluicegate-admin: 1"], "").answer();
    assert_eq!(answer.status, 401);
    assert!(office.station.client().chat(&[], &chat("p/m", false)).answer().header("retry-after").is_none());
    let mut tries = 0;
    let mut client = loop {
        let mut client = office.client();
        let answer = client.ask("GET", "/stats", &[], "").answer();
        tries += 1;
        assert!(answer.status == 401 && tries < 100);
        if answer.header("retry-after").is_some() {
            break client;
        }
    };
    assert!(client.is_closed());
    assert_eq!(tries, 60 - 43 + 1, "one on the data plane among them");
    let answer = office.station.client().chat(&[], &chat("p/m", false)).answer();
    assert!(answer.status == 401 && answer.header("retry-after").is_some(), "{}", answer.head);
    for line in ["Authorization: bearer right", "x-api-key: right", "api-key: right"] {
        assert_eq!(office.client().ask("GET", "/stats", &[line], "").answer().status, 200, "{line}");
    }
}

#[test]
fn the_admin_key_is_the_one_in_force() {
    let office = Office::on(Station::sim());
    let gateway = office.station.house.gateway();
    let config = |server: Value| {
        let document = json!({ "server": server, "providers": { "sim": crate::house::sim(json!({})) } });
        sluicegate::Config::from_json(&document.to_string(), &|_| None).unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(office.client().get("/stats").status, 200);
    gateway.reload(config(json!({ "admin_key": "new-admin-key" }))).expect("it is right");
    assert_eq!(office.client().get("/stats").status, 401);
    assert_eq!(office.client().ask("GET", "/stats", &["x-api-key: new-admin-key"], "").answer().status, 200);
    gateway.reload(config(json!({}))).expect("it is right");
    assert_eq!(office.client().get("/stats").status, 200);
}

/// Wrong keys in a flood, on top of a data plane that takes nothing more.
#[test]
fn it_answers_at_once_whoever_knocks_at_the_data_plane() {
    let (station, gate) = Station::gated(json!({}), json!({ "keys": ["right"], "max_in_flight": 2 }));
    let office = Office::on(station);
    let mut inside = [office.station.client(), office.station.client()];
    for client in &mut inside {
        client.chat(&["api-key: right"], &chat("p/m", false));
    }
    eventually("both are in", || office.station.house.stats()["requests"]["in_flight"] == 2);
    let (over, flood) = crossbeam_channel::bounded::<()>(0);
    scope(|scope| {
        for number in 0..4 {
            let (flood, office) = (flood.clone(), &office);
            scope.spawn(move || {
                let key = if number == 0 { "api-key: right" } else { "api-key: wrong" };
                let status = if number == 0 { 503 } else { 401 };
                while flood.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                    assert_eq!(office.station.client().chat(&[key], &chat("p/m", false)).answer().status, status);
                }
            });
        }
        let slowest = (0..20)
            .flat_map(|_| ["/stats?fresh=1", "/livez", "/threads"])
            .map(|path| {
                let (answer, took) = timed(|| office.client().get(path));
                assert_eq!(answer.status, 200, "{path}");
                took
            })
            .max();
        drop(over);
        assert!(slowest < Some(ms(50) * SLACK), "{slowest:?}");
    });
    (0..2).for_each(|_| gate.next().answer());
    inside.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
}

#[test]
fn a_drain_is_begun_by_a_post_and_seen_by_probes() {
    let office = Office::on(Station::sim());
    assert_eq!(office.client().get("/readyz").status, 200);
    let answer = office.client().ask("POST", "/drain", &["x-sluicegate-admin: 1"], "").answer();
    assert_eq!((answer.status, &answer.json()["phase"]), (202, &json!("draining")));
    assert_eq!((office.client().get("/readyz").status, office.client().get("/livez").status), (503, 200));
    let health = office.client().get("/health");
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("unavailable")));
    assert_eq!(office.fresh()["phase"], "draining");
    let answer = office.station.client().chat(&[], &chat("sim/echo", false)).answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "shutting_down"));
}

#[test]
fn a_breaker_is_opened_and_closed_by_a_post() {
    let office = Office::on(Station::sim());
    let post = |path: &str| office.client().ask("POST", path, &["x-sluicegate-admin: 1"], "").answer();
    let chat = || office.station.client().chat(&[], &chat("sim/echo", false)).answer();
    assert_eq!(chat().status, 200);
    assert_eq!(post("/providers/sim/breaker/open").json(), json!({ "provider": "sim", "breaker": "open" }));
    let refused = chat();
    assert_eq!((refused.status, refused.code().as_str()), (503, "circuit_open"));
    assert_eq!(refused.header("retry-after"), Some("10"), "as long as it would be open by itself");
    assert_eq!(office.fresh()["providers"]["sim"]["breaker"]["state"], "open");
    assert_eq!(office.client().get("/readyz").status, 503, "its only provider is out of use");
    assert_eq!(post("/providers/sim/breaker/close").json()["breaker"], "closed");
    assert_eq!((chat().status, office.client().get("/readyz").status), (200, 200));
    assert_eq!(post("/providers/sim/breaker/auto").json()["breaker"], "auto");
    assert_eq!(chat().status, 200);
    let events = office.client().get("/events").json();
    let kinds = events["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "breaker");
    assert_eq!(kinds.count(), 2, "{events:#}");

    assert_eq!(post("/providers/nobody/breaker/open").status, 404);
    assert_eq!(office.client().get("/providers/sim/breaker/open").status, 405);
    let bare = office.client().ask("POST", "/providers/sim/breaker/open", &[], "").answer();
    assert_eq!((bare.status, chat().status), (403, 200));
}

/// The data plane may have used up every thread that it may have: what looks after it still gets its own.
#[test]
fn it_answers_when_the_data_plane_has_no_thread_left() {
    let gate = crate::house::Gate::new();
    let settings = crate::house::provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 4, "buffer_size": 100 },
    }));
    // More than there are threads for: what is derived from them ends before they do.
    let server = json!({ "max_in_flight": 1000 });
    let threads = json!({ "max": 64, "idle_timeout": "100ms" });
    let config = json!({ "server": server, "threads": threads, "providers": { "p": settings } });
    let office = Office::on(Station::on(crate::house::House::with(config, &[("p", &gate)])));
    let mut waiting = Vec::new();
    let refused = loop {
        let mut client = office.station.client();
        client.chat(&[], &chat("p/m", false));
        let sent = waiting.len() as u64 + 1;
        let taken = || office.station.house.stats()["requests"]["in_flight"] == sent;
        eventually("it is taken in or refused", || taken() || office.station.front().stats().refused_total > 0);
        if taken() {
            waiting.push(client);
        } else {
            break client.answer();
        }
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    for path in ["/livez", "/readyz", "/stats?fresh=1", "/threads"] {
        let answers: Vec<_> = (0..2).map(|_| office.client().get(path).status).collect();
        assert_eq!(answers, [200, 200], "{path}");
    }
    let mut held: Vec<_> = (0..4).map(|_| gate.next()).collect();
    held.pop().expect("four").panic();
    eventually("the worker that panicked is replaced", || {
        let workers = office.station.house.stats()["providers"]["p"]["workers"].clone();
        workers["panics_total"] == 1 && workers["active"] == 4
    });
    held.into_iter().for_each(crate::house::Arrived::answer);
    (4..waiting.len()).for_each(|_| gate.next().answer());
    let statuses: Vec<_> = waiting.iter_mut().map(|client| client.answer().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), statuses.len() - 1, "{statuses:?}");
}

#[test]
fn planes_that_are_dropped_without_a_word_end_all_the_same() {
    let mut office = Office::on(Station::sim());
    assert_eq!(office.client().get("/livez").status, 200);
    assert_eq!(office.station.client().chat(&[], &chat("sim/echo", false)).answer().status, 200);
    drop(office.admin.take());
    drop(office.stats.take());
    drop(office.station.front.take());
    // The house's own drop sees every thread end.
    drop(office.station.house.take());
}
