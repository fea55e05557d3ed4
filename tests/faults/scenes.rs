//! What no single fault of a provider shows: queues that are full, pauses, chains, keys, breakers, limits; a scene each,
//! with what is specified, and what was measured.

mod breakers;
mod chains;
mod keys;
mod pauses;
mod queues;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::matrix::is_named;
use super::rows::{AWAITS, Part};
use super::run::{at_rest, said, settled};
use super::upstream::{Act, Asked, Upstream};
use crate::client::{Answer, Client};
use crate::front::Station;
use crate::house::{House, merge, number};

/// One scene.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    name: &'static str,
    needs: &'static [Part],
    /// What is specified, in a few words.
    specified: &'static str,
    /// Plays it; says what was measured, and panics where that is not what is specified.
    play: fn() -> String,
}

/// A gateway between one client and scripted upstreams, whose names are those of its providers.
pub(super) struct Stage {
    pub(super) station: Station,
    /// After the gateway in the order of dropping: it is still there when the gateway ends.
    pub(super) upstreams: Vec<Upstream>,
}

/// A provider whose times are short, `change` put over it.
pub(super) fn provider(upstream: &Upstream, change: Value) -> Value {
    let mut settings = json!({
        "kind": "openai",
        "network_config": {
            "base_url": format!("http://{}", upstream.addr),
            "default_request_timeout_in_seconds": "2s", "first_token_timeout": "2s", "stream_idle_timeout_in_seconds": "2s",
            "retry_backoff_initial": "20ms", "retry_backoff_max": "40ms",
        },
        "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 1 },
        "breaker": { "enabled": false }, "health": { "on_start": false },
    });
    merge(&mut settings, change);
    settings
}

type Script = Box<dyn Fn(&Asked) -> Act + Send + Sync>;

impl Stage {
    /// Providers by name, each with its script and changes of its settings.
    pub(super) fn set(providers: Vec<(&str, Script, Value)>) -> Self {
        let mut settings = serde_json::Map::new();
        let mut upstreams = Vec::new();
        for (name, script, change) in providers {
            let upstream = Upstream::start(script);
            settings.insert(name.to_owned(), provider(&upstream, change));
            upstreams.push(upstream);
        }
        Self { station: Station::on(House::with(json!({ "providers": settings }), &[])), upstreams }
    }

    pub(super) fn client(&self) -> Client {
        Client::connect(self.station.addr)
    }

    /// Asks for a model, with what is put over the body.
    pub(super) fn ask(&self, model: &str, change: Value) -> Answer {
        self.client().chat(&[], &body(model, change)).answer()
    }

    /// How many requests came to an upstream.
    pub(super) fn came(&self, upstream: usize) -> usize {
        self.upstreams[upstream].asked(|_| true).len()
    }

    pub(super) fn stat(&self, path: &str) -> u64 {
        number(&self.station.house.stats(), path)
    }

    /// Waits until everything is free.
    pub(super) fn calm(&self) {
        let left = settled(|| {
            let busy: usize = self.upstreams.iter().map(Upstream::in_flight).sum();
            at_rest(&self.station.house.stats())
                .or_else(|| (busy > 0).then(|| format!("{busy} requests are in flight upstream")))
        });
        assert_eq!(left, None);
    }
}

/// A chat body with what is put over it.
pub(super) fn body(model: &str, change: Value) -> String {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "one two" }] });
    merge(&mut body, change);
    body.to_string()
}

/// A script in its box.
pub(super) fn script(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Script {
    Box::new(script)
}

/// Good answers.
pub(super) fn well() -> Script {
    script(Act::good)
}

/// The codes of the attempts that an error lists.
pub(super) fn outcomes(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let attempts = json["sluicegate"]["attempts"].as_array().expect("a list").iter();
    attempts.map(|attempt| attempt["outcome"].as_str().expect("a code").to_owned()).collect()
}

/// Status and code of an answer.
pub(super) fn end(answer: &Answer) -> (u16, String) {
    (answer.status, if answer.status < 400 { "ok".to_owned() } else { answer.code() })
}

/// Plays every scene, a few at a time, and prints them as a table.
#[test]
fn every_scene_comes_out_as_specified() {
    let mut scenes = [queues::SCENES, pauses::SCENES, chains::SCENES, keys::SCENES, breakers::SCENES].concat();
    scenes.retain(|scene| is_named(scene.name));
    let done = Mutex::new(Vec::new());
    let (send, next) = crossbeam_channel::bounded(scenes.len());
    scenes.iter().enumerate().for_each(|scene| send.send(scene).expect("room for all"));
    drop(send);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let (next, done) = (next.clone(), &done);
            scope.spawn(move || {
                for (n, scene) in next {
                    let awaits = scene.needs.iter().any(|part| AWAITS.contains(part));
                    let played = (!awaits).then(|| catch_unwind(AssertUnwindSafe(scene.play)));
                    done.lock().expect("no panic under it").push((n, played));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic under it");
    done.sort_by_key(|(n, _)| *n);
    println!("\n## Scenes\n\n| scene | specified | measured | |\n| --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for (n, played) in done {
        let Scene { name, needs, specified, .. } = scenes[n];
        let (measured, verdict) = match played {
            None => (String::new(), format!("awaits {needs:?}").to_lowercase()),
            Some(Ok(measured)) => (measured, "ok".to_owned()),
            Some(Err(panic)) => {
                let said = said(&*panic as &(dyn Any + Send)).replace('\n', " ");
                missed.push(format!("{name}: {said}"));
                (String::new(), format!("MISSED: {said}"))
            }
        };
        println!("| {name} | {specified} | {measured} | {verdict} |");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
