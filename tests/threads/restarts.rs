//! A panic of a thread of any role: counted, told, and over; the next request is served, and nothing leaks.

use serde_json::{Value, json};
use sluicegate::sync::Role;

use super::{Building, chat_on};
use crate::client::Client;
use crate::house::{eventually, number};

/// How a role is made to begin its next round, on which the panic waits.
fn poke(building: &Building, role: Role) {
    match role {
        // These come round by themselves.
        Role::Supervisor | Role::Watchdog | Role::Stats => {}
        // A connection on which the next request comes late has been parked.
        Role::Watcher => {
            let mut client = building.client();
            chat_on(&mut client, "sim/echo");
            assert_eq!(client.answer().status, 200);
            eventually("it is parked", || building.planes.as_ref().expect("it runs").0.stats().idle == 1);
            chat_on(&mut client, "sim/echo");
            assert_eq!(client.answer().status, 200, "what the watcher saw before its panic is not lost");
        }
        Role::Accept => {
            assert_eq!(building.chat("sim/echo"), Some(200), "a client that waits is accepted all the same")
        }
        Role::Runner => {
            let request = sluicegate::ChatRequest::new("sim/echo", "hi");
            let handle = building.house.gateway().submit(&request).expect("there is a thread");
            assert_eq!(handle.wait().expect_err("its own request is answered").code(), sluicegate::Code::Internal);
        }
        Role::Worker => assert_eq!(building.chat("sim/echo"), Some(500), "its own request is answered"),
        // Either side of the simulated provider: closed, or told so by the gateway.
        Role::Conn => assert!(matches!(building.chat("sim/echo"), None | Some(200 | 502)), "answered or closed"),
        Role::Resolver => assert_eq!(building.chat("named/m"), Some(502)),
        Role::Admin => {
            let mut client = Client::connect(building.admin);
            client.send(format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", building.admin));
            let status = client.read_answer(false).map(|answer| answer.status);
            assert!(matches!(status, None | Some(500 | 502)), "{status:?}");
        }
        Role::Sim => unreachable!("the simulated provider's threads are connections'"),
        role => panic!("nothing here makes {role:?} begin a round"),
    }
}

/// Whom the alert is about.
fn subject(role: Role) -> &'static str {
    match role {
        Role::Accept => "accept",
        Role::Resolver => "resolver-",
        Role::Supervisor => "-supervisor",
        _ => role.as_str(),
    }
}

fn active(stats: &Value, role: Role) -> u64 {
    number(stats, &format!("/threads/by_role/{}/active", role.as_str()))
}

#[test]
fn a_panic_of_any_role_is_counted_alerted_and_costs_one_request_at_most() {
    let building = Building::new(json!({ "health_interval": "20ms" }), json!({}));
    // Whatever starts when it is first needed.
    assert_eq!(building.chat("sim/echo"), Some(200));
    assert_eq!(building.chat("named/m"), Some(502));
    // Past the failure that the resolver remembers for a second, the next look-up is one again.
    let roles = [
        Role::Accept,
        Role::Conn,
        Role::Worker,
        Role::Supervisor,
        Role::Stats,
        Role::Watchdog,
        Role::Watcher,
        Role::Admin,
        Role::Resolver,
    ];
    for role in roles {
        let before = building.house.stats();
        building.house.gateway().threads().inject_panic(role);
        if role == Role::Resolver {
            let panics = number(&before, "/threads/panics_total");
            eventually("the name is looked up again", || {
                poke(&building, role);
                number(&building.house.stats(), "/threads/panics_total") > panics
            });
        } else {
            poke(&building, role);
        }
        let count = number(&before, "/threads/panics_total") + 1;
        eventually(&format!("{role:?}: it is counted"), || {
            number(&building.house.stats(), "/threads/panics_total") == count
        });
        eventually(&format!("{role:?}: it is alerted"), || {
            building.alerts("thread_panic").iter().any(|alert| alert.contains(subject(role)))
        });
        assert_eq!(building.chat("sim/echo"), Some(200), "{role:?}: the next request is served");
        let stats = building.page("/stats?fresh=1").unwrap_or_else(|| panic!("{role:?}: /stats answers"));
        assert_eq!(number(&stats, "/threads/panics_total"), count, "{role:?}: and no second one");
        eventually(&format!("{role:?}: as many are active as before"), || {
            active(&building.house.stats(), role) >= active(&before, role).min(1)
        });
        assert!(active(&building.house.stats(), role) >= 1, "{role:?}");
    }
    let events = building.house.gateway().events().list();
    let told = |role: Role| events.iter().any(|event| event.kind == "panic" && event.subject.contains(subject(role)));
    assert!(roles.into_iter().all(told), "{events:?}");
    let stats = building.house.at_rest();
    assert_eq!(number(&stats, "/threads/panics_total"), roles.len() as u64);
    assert_eq!(number(&stats, "/threads/by_role/worker/active"), 6, "1 + 4 + 1 workers");
}

#[test]
fn the_supervisor_replaces_workers_after_its_own_panic() {
    let building = Building::new(json!({}), json!({}));
    let threads = building.house.gateway().threads();
    let panics = || number(&building.house.stats(), "/threads/panics_total");
    for role in [Role::Supervisor, Role::Supervisor, Role::Supervisor] {
        let before = panics();
        threads.inject_panic(role);
        eventually("a supervisor panicked", || panics() == before + 1);
    }
    threads.inject_panic(Role::Worker);
    assert_eq!(building.chat("sim/echo"), Some(500));
    eventually("the worker was replaced", || {
        let stats = building.house.stats();
        number(&stats, "/providers/sim/workers/active") == 4
            && number(&stats, "/providers/sim/workers/spawned_total") == 5
    });
}
